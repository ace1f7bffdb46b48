"""Conversion of decoded images to sRGB, for formats that store no color profile."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.images.codecs import png_colors
from subpixel.images.image import DecodedImage

_BLOCK_PIXELS = 1 << 18
_INVISIBLE = 1 / 255
_RELATIVE_COLORIMETRIC = 1
_GRID = 17
"""Points per channel at which a profile is compared with sRGB."""


def convert_to_srgb(image: DecodedImage) -> list[str]:
    """Convert an image through its color profile, or its CICP colors, in place, and drop the profile.

    Returns:
        Warnings. An image that has the colors of sRGB is not changed. Colors without a profile (PQ, HLG) are
        not converted; whoever writes the file warns about them.
    """
    metadata = image.metadata
    gray = image.samples.ndim == 2 or image.samples.shape[2] < 3
    profile = metadata.icc
    if not profile or metadata.cicp:
        profile = png_colors.icc_profile(dict(metadata.png_chunks), gray)[0] or profile
    if not profile:
        return []
    try:
        changed = _convert(image, profile, gray)
    except Exception:  # the profile is damaged, or for other colors
        metadata.icc = None
        return ["its color profile cannot be used and was dropped"]
    metadata.icc = None
    metadata.png_chunks = tuple(
        chunk for chunk in metadata.png_chunks if chunk[0] not in png_colors.SPACE_CHUNKS
    )
    return ["converted from its color profile to sRGB"] if changed else []


def _convert(image: DecodedImage, profile: bytes, gray: bool) -> bool:
    """Convert the colors. Returns False if there was nothing to convert."""
    levels = np.linspace(0, 65535, _GRID).astype(np.uint16)
    grid = (
        levels[:, None] if gray else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(_GRID, -1, 3)
    )
    grid = grid[..., 0] if gray and grid.ndim == 3 else grid
    difference = np.abs(_transformed(grid, profile, gray).astype(int) - grid)
    if difference.max() <= _INVISIBLE * 65535:
        return False
    samples = image.samples = np.array(image.samples)  # decoded samples may be a view of read-only memory
    colors = samples if samples.ndim == 2 else samples[..., : 1 if gray else 3]
    colors = colors[..., 0] if gray and colors.ndim == 3 else colors
    rows = max(1, _BLOCK_PIXELS // samples.shape[1])
    for top in range(0, len(samples), rows):
        part = colors[top : top + rows]
        part[...] = _transformed(np.ascontiguousarray(part), profile, gray)
    return True


def _transformed(samples: NDArray[Any], profile: bytes, gray: bool) -> NDArray[Any]:
    """Convert ``(H, W)`` gray or ``(H, W, 3)`` RGB samples, uint8 or uint16."""
    from imagecodecs import cms_transform

    space = "gray" if gray else "rgb"
    target = png_colors.srgb_profile(gray)
    result: NDArray[Any] = cms_transform(
        samples, profile, target, colorspace=space, outcolorspace=space, outdtype=samples.dtype,
        intent=_RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    return result.reshape(samples.shape)
