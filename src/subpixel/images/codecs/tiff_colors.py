"""From the samples of a TIFF page, as they are stored, to gray or RGB over the whole range."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from subpixel.errors import UnsupportedImage
from subpixel.images.pillow import cmyk_to_srgb, lab_to_srgb

_KIND = tifffile.PHOTOMETRIC
_EXTRA = tifffile.EXTRASAMPLE
_COLORS = {
    _KIND.MINISWHITE: 1,
    _KIND.MINISBLACK: 1,
    _KIND.RGB: 3,
    _KIND.PALETTE: 1,
    _KIND.SEPARATED: 4,
    _KIND.YCBCR: 3,
    _KIND.CIELAB: 3,
    _KIND.ICCLAB: 3,
}
_CMYK_INKS = 1


def refuse_unknown(path: Path, page: Any) -> None:
    """Raise `UnsupportedImage` for a page whose colors are none that are known here."""
    inks = page.tags.get("InkSet")
    known = page.photometric in _COLORS and page.samplesperpixel >= _COLORS[page.photometric]
    if not known or (page.photometric == _KIND.SEPARATED and inks and inks.value != _CMYK_INKS):
        name = getattr(page.photometric, "name", page.photometric)
        raise UnsupportedImage(
            f"{path}: is a {page.bitspersample}-bit TIFF of color kind {name} with {page.samplesperpixel} "
            "bands; convert it to RGB"
        )


def interpreted(samples: NDArray[Any], page: Any, by_libtiff: bool, notices: list[str]) -> Any:
    """Samples ``(H, W, n)`` as ``(H, W)``, ``(H, W, 2)``, ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16.

    Args:
        samples: of the page.
        page: of tifffile's, which `refuse_unknown` let pass.
        by_libtiff: whether they are libtiff's, which has made RGB of YCbCr and of palettes, turned the gray
            that begins with white, and spread fewer bits than 8.
        notices: told what had to be changed.
    """
    photometric = page.photometric
    if by_libtiff:
        same = (_KIND.SEPARATED, _KIND.RGB)
        photometric = (
            photometric if photometric in same else _KIND.RGB if samples.shape[2] > 2 else _KIND.MINISBLACK
        )
    elif photometric != _KIND.PALETTE:
        samples = _over_whole_range(samples, page.bitspersample)
    count = _COLORS[photometric]
    colors, alpha, left_out = samples[..., :count], None, False
    extras = [_EXTRA(extra) for extra in page.extrasamples] or [_EXTRA.UNSPECIFIED] * (
        samples.shape[2] - count
    )
    for index, extra in enumerate(extras[: samples.shape[2] - count], count):
        if extra != _EXTRA.UNSPECIFIED and alpha is None:
            alpha = samples[..., index : index + 1]
            if extra == _EXTRA.ASSOCALPHA and not by_libtiff:
                colors = _straight(colors, alpha)
        else:
            left_out = True
    if left_out:
        notices.append("channels beyond its colors and its transparency were left out")
    colors = _as_rgb(colors, photometric, page, notices)
    if alpha is None:
        return colors[..., 0] if colors.shape[2] == 1 else colors
    if alpha.dtype != colors.dtype:  # colors that come out at 8 bits only, or a palette of 16
        alpha = alpha >> 8 if colors.dtype == np.uint8 else alpha.astype(np.uint16) * 257
    return np.concatenate([colors, alpha.astype(colors.dtype)], axis=2)


def _over_whole_range(samples: NDArray[Any], depth: int) -> Any:
    if samples.dtype == np.bool_:
        return np.where(samples, np.uint8(255), np.uint8(0))
    if depth % 8 == 0:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    largest, white = (1 << depth) - 1, np.iinfo(samples.dtype).max
    return ((samples.astype(np.uint32) * white + largest // 2) // largest).astype(
        samples.dtype.newbyteorder("=")
    )


def _straight(colors: NDArray[Any], alpha: NDArray[Any]) -> Any:
    """Colors that were multiplied by their alpha, divided by it again."""
    white = np.iinfo(colors.dtype).max
    wide = alpha.astype(np.uint32)
    straight = (colors * np.uint32(white) + wide // 2) // np.maximum(wide, 1)
    return np.minimum(straight, white).astype(colors.dtype)


def _as_rgb(colors: NDArray[Any], kind: int, page: Any, notices: list[str]) -> Any:
    if kind == _KIND.MINISWHITE:
        return np.iinfo(colors.dtype).max - colors
    if kind == _KIND.PALETTE:
        return _palette(page)[colors[..., 0]]
    if kind not in (_KIND.SEPARATED, _KIND.CIELAB, _KIND.ICCLAB, _KIND.YCBCR):
        return colors
    deep = colors.dtype.itemsize > 1
    eight = np.ascontiguousarray(colors >> 8 if deep else colors, np.uint8)
    if kind == _KIND.YCBCR:
        notices += ["reduced to 8 bits per sample"] * deep
        return np.asarray(Image.frombytes("YCbCr", eight.shape[1::-1], eight.tobytes()).convert("RGB"))
    cmyk = kind == _KIND.SEPARATED
    depth = ", at 8 bits per sample" if deep else ""
    notices.append(f"converted from {'CMYK' if cmyk else 'LAB'} to RGB{depth}")
    if cmyk:
        return cmyk_to_srgb(eight, page.iccprofile)
    if kind == _KIND.ICCLAB:  # counts a and b from 128
        eight = eight ^ np.array([0, 128, 128], np.uint8)
    return lab_to_srgb(eight)


def _palette(page: Any) -> Any:
    """``(n, 3)``; of 8 bits if that loses nothing: most files hold them times 257, some as they are."""
    palette = page.colormap.T.astype(np.uint16)
    if palette.max() < 256:
        return palette.astype(np.uint8)
    if (palette % 257 == 0).all() or (palette % 256 == 0).all():
        return (palette >> 8).astype(np.uint8)
    return palette
