"""Converts the stored samples of a TIFF page to gray or RGB over the whole range."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from subpixel.errors import UnsupportedImage
from subpixel.images.pillow import cmyk_to_srgb, lab_to_srgb

_PHOTOMETRIC = tifffile.PHOTOMETRIC
_EXTRA = tifffile.EXTRASAMPLE
_COLOR_CHANNELS = {
    _PHOTOMETRIC.MINISWHITE: 1,
    _PHOTOMETRIC.MINISBLACK: 1,
    _PHOTOMETRIC.RGB: 3,
    _PHOTOMETRIC.PALETTE: 1,
    _PHOTOMETRIC.SEPARATED: 4,
    _PHOTOMETRIC.YCBCR: 3,
    _PHOTOMETRIC.CIELAB: 3,
    _PHOTOMETRIC.ICCLAB: 3,
}
_CMYK_INKS = 1


def check_supported(path: Path, page: Any) -> None:
    """Check that the colors of a page can be converted to gray or RGB.

    Raises:
        UnsupportedImage: they cannot.
    """
    inks = page.tags.get("InkSet")
    known = page.photometric in _COLOR_CHANNELS and page.samplesperpixel >= _COLOR_CHANNELS[page.photometric]
    if not known or (page.photometric == _PHOTOMETRIC.SEPARATED and inks and inks.value != _CMYK_INKS):
        name = getattr(page.photometric, "name", page.photometric)
        raise UnsupportedImage(
            f"{path}: is a {page.bitspersample}-bit TIFF with color space {name} and {page.samplesperpixel} "
            "channels; convert it to RGB"
        )


def to_gray_or_rgb(samples: NDArray[Any], page: Any, by_libtiff: bool, warnings: list[str]) -> Any:
    """Convert the samples of a TIFF page to gray or RGB, with alpha if there is one.

    Args:
        samples: ``(H, W, C)``.
        page: a page of tifffile that passed `check_supported`.
        by_libtiff: whether libtiff decoded the samples. It has already converted YCbCr and palettes to RGB,
            inverted gray with white at 0, and scaled fewer than 8 bits to 8.
        warnings: receives what was converted or dropped.

    Returns:
        ``(H, W)``, ``(H, W, 2)``, ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16 over the whole range.
    """
    photometric = page.photometric
    if by_libtiff:
        if photometric not in (_PHOTOMETRIC.SEPARATED, _PHOTOMETRIC.RGB):
            photometric = _PHOTOMETRIC.RGB if samples.shape[2] > 2 else _PHOTOMETRIC.MINISBLACK
    elif photometric != _PHOTOMETRIC.PALETTE:
        samples = _scale_to_whole_range(samples, page.bitspersample)
    count = _COLOR_CHANNELS[photometric]
    colors, alpha, dropped = samples[..., :count], None, False
    extras = [_EXTRA(extra) for extra in page.extrasamples] or [_EXTRA.UNSPECIFIED] * (
        samples.shape[2] - count
    )
    for index, extra in enumerate(extras[: samples.shape[2] - count], count):
        if extra != _EXTRA.UNSPECIFIED and alpha is None:
            alpha = samples[..., index : index + 1]
            if extra == _EXTRA.ASSOCALPHA and not by_libtiff:
                colors = _unpremultiply(colors, alpha)
        else:
            dropped = True
    if dropped:
        warnings.append("channels beyond its colors and its transparency were dropped")
    colors = _as_rgb(colors, photometric, page, warnings)
    if alpha is None:
        return colors[..., 0] if colors.shape[2] == 1 else colors
    if alpha.dtype != colors.dtype:  # colors were reduced to 8 bits, or come from a palette of 16 bits
        alpha = alpha >> 8 if colors.dtype == np.uint8 else alpha.astype(np.uint16) * 257
    return np.concatenate([colors, alpha.astype(colors.dtype)], axis=2)


def _scale_to_whole_range(samples: NDArray[Any], depth: int) -> Any:
    if samples.dtype == np.bool_:
        return np.where(samples, np.uint8(255), np.uint8(0))
    if depth % 8 == 0:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    largest, white = (1 << depth) - 1, np.iinfo(samples.dtype).max
    return ((samples.astype(np.uint32) * white + largest // 2) // largest).astype(
        samples.dtype.newbyteorder("=")
    )


def _unpremultiply(colors: NDArray[Any], alpha: NDArray[Any]) -> Any:
    """Divide colors by the alpha that they were multiplied by."""
    white = np.iinfo(colors.dtype).max
    wide = alpha.astype(np.uint32)
    result = (colors * np.uint32(white) + wide // 2) // np.maximum(wide, 1)
    return np.minimum(result, white).astype(colors.dtype)


def _as_rgb(colors: NDArray[Any], photometric: int, page: Any, warnings: list[str]) -> Any:
    if photometric == _PHOTOMETRIC.MINISWHITE:
        return np.iinfo(colors.dtype).max - colors
    if photometric == _PHOTOMETRIC.PALETTE:
        return _palette(page)[colors[..., 0]]
    if photometric in (_PHOTOMETRIC.MINISBLACK, _PHOTOMETRIC.RGB):
        return colors
    deep = colors.dtype.itemsize > 1
    eight = np.ascontiguousarray(colors >> 8 if deep else colors, np.uint8)
    if photometric == _PHOTOMETRIC.YCBCR:
        warnings += ["reduced to 8 bits per sample"] * deep
        return np.asarray(Image.frombytes("YCbCr", eight.shape[1::-1], eight.tobytes()).convert("RGB"))
    cmyk = photometric == _PHOTOMETRIC.SEPARATED
    depth = ", at 8 bits per sample" if deep else ""
    warnings.append(f"converted from {'CMYK' if cmyk else 'LAB'} to RGB{depth}")
    if cmyk:
        return cmyk_to_srgb(eight, page.iccprofile)
    if photometric == _PHOTOMETRIC.ICCLAB:  # its a and b are unsigned, with an offset of 128
        eight = eight ^ np.array([0, 128, 128], np.uint8)
    return lab_to_srgb(eight)


def _palette(page: Any) -> Any:
    """The palette ``(n, 3)``, uint8 if that is lossless. Most files store 8-bit colors times 257."""
    palette = page.colormap.T.astype(np.uint16)
    if palette.max() < 256:
        return palette.astype(np.uint8)
    if (palette % 257 == 0).all() or (palette % 256 == 0).all():
        return (palette >> 8).astype(np.uint8)
    return palette
