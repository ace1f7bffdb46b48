"""Upscale the planes of a frame of pixel art."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.pixel_art import PixelArtFamily
from subpixel.errors import UnsupportedVideo

Plane = NDArray[Any]


def upscale_planes(
    small: Sequence[Plane], large: Sequence[Plane], family: PixelArtFamily, target: tuple[int, int]
) -> None:
    """Fill the planes ``large`` with ``small``, upscaled by a rule.

    Args:
        small: luma, and Cb and Cr if there are any, each ``(H, W)``, uint8 or uint16.
        large: planes for the result, of the same dtype.
        family: the rule.
        target: height and width of upscaled luma. Where ``large`` is larger, its last pixels repeat.

    Raises:
        UnsupportedVideo: the rule compares whole pixels, and chroma has a lower resolution than luma.
    """
    if all(plane.shape == small[0].shape for plane in small):
        result = _upscale(np.stack(small, axis=-1), family, target)
        for index, plane in enumerate(large):
            _fill(plane, result[..., index])
        return
    if family.models[0].halo_px:
        raise UnsupportedVideo(
            f"{family.models[0].rule} compares whole pixels, and the color of this video has a lower "
            "resolution than its brightness (4:2:0 or 4:2:2); use -m nearest, or convert it to 4:4:4"
        )
    height, width = small[0].shape
    factor = target[0] // height
    is_integer = target == (height * factor, width * factor)
    for source, plane in zip(small, large, strict=True):
        sides = (source.shape[0] * factor, source.shape[1] * factor) if is_integer else plane.shape
        _fill(plane, _upscale(source[..., None], family, (sides[0], sides[1]))[..., 0])


def _upscale(pixels: NDArray[Any], family: PixelArtFamily, target: tuple[int, int]) -> NDArray[Any]:
    """Upscale ``(H, W, C)`` without alpha."""
    height, width = pixels.shape[:2]
    upsampling = family.upsampling((height, width), target)
    result = np.empty((*target, pixels.shape[2]), pixels.dtype)
    context_px = upsampling.context_px
    padding = [(context_px, context_px), (context_px, context_px), (0, 0)]
    part = slice(0, target[0]), slice(0, target[1])
    padded = np.pad(pixels, padding, mode="edge")
    upsampling.upscale(padded, part, (-context_px, -context_px), result, alpha=False)
    return result


def _fill(plane: Plane, result: Plane) -> None:
    """Copy a result, of which the plane may need less, or one row or column more."""
    height, width = (min(sides) for sides in zip(plane.shape, result.shape, strict=True))
    missing = [(0, plane.shape[0] - height), (0, plane.shape[1] - width)]
    plane[...] = np.pad(result[:height, :width], missing, mode="edge")
