"""Luma and chroma of a small picture, and RGB from luma that the network has enlarged and the small chroma.

Bicubic, the matrix and the rounding in one pass over bands that stay in the processor's cache. It equals
`imresize` of Cb and Cr followed by `ycbcr_planes_to_rgb`, but for the order in which 32-bit floats are added:
of 8-bit samples one in 50 000 lies so close to a half that it is rounded the other way.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.color import Matrix, rgb_to_ycbcr, ycbcr_to_rgb
from subpixel.ops.resize import cubic_phases

RADIUS_PX = 2
"""How far bicubic looks beyond a pixel."""

_BAND_SAMPLES = 1 << 15
"""Of one plane in a band; half a dozen planes of float32 have to fit into the second-level cache."""

Plane = NDArray[np.float32]


class _Matrix(NamedTuple):
    """RGB as sums of shares of Y', Cb and Cr, each counted from its own zero."""

    luma: float
    red_of_cr: float
    green_of_cb: float
    green_of_cr: float
    blue_of_cb: float
    zero: tuple[float, float, float]
    """Of Y', Cb and Cr."""


@cache
def _matrix(matrix: Matrix = "bt601") -> _Matrix:
    zero = np.array([16, 128, 128]) / 255
    shares = ycbcr_to_rgb(np.eye(3) + zero, matrix=matrix)
    (luma, _, _), (_, green_of_cb, blue_of_cb), (red_of_cr, green_of_cr, _) = shares.tolist()
    return _Matrix(luma, red_of_cr, green_of_cb, green_of_cr, blue_of_cb, tuple(zero.tolist()))


def split_rgb(image: NDArray[Any]) -> tuple[Plane, Plane, Plane]:
    """`rgb_to_ycbcr` of an image as planes.

    Args:
        image: ``(H, W, 3)``; uint8 or uint16 over their whole range, or floats in [0, 1].

    Returns:
        Y', Cb and Cr, C-contiguous.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    zero = rgb_to_ycbcr(np.zeros(3))
    shares = ((rgb_to_ycbcr(np.eye(3)) - zero) / white).astype(np.float32)
    colors = [image[..., index].astype(np.float32) for index in range(3)]
    term = np.empty_like(colors[0])
    planes = []
    for index in range(3):
        plane = colors[0] * shares[0, index]
        for color, share in zip(colors[1:], shares[1:, index], strict=True):
            plane += np.multiply(color, share, out=term)
        plane += np.float32(zero[index])
        planes.append(plane)
    return planes[0], planes[1], planes[2]


def write_rgb(luma: Plane, cb: Plane, cr: Plane, scale: int, out: NDArray[Any]) -> None:
    """Fill an RGB image from its Y'CbCr, BT.601 of limited range, in [0, 1].

    Args:
        luma: ``(scale*H, scale*W)``.
        cb, cr: ``(H + 4, W + 4)``: with `REACH_PX` pixels around.
        scale: of the luma.
        out: ``(scale*H, scale*W, 3)``; uint8 or uint16, rounded half up, or floats in [0, 1]; clipped.
    """
    constants = _matrix()
    white = float(np.iinfo(out.dtype).max) if out.dtype.kind == "u" else 1.0
    half = 0.5 if out.dtype.kind == "u" else 0.0
    share = np.float32(constants.luma * white)
    offset = np.float32(half - constants.zero[0] * constants.luma * white)
    of_red = np.float32(constants.green_of_cr / constants.red_of_cr)
    of_blue = np.float32(constants.green_of_cb / constants.blue_of_cb)
    # What Cr adds to red and Cb to blue; green's share is made of the two.
    small = [
        ((plane - np.float32(constants.zero[index])) * np.float32(factor * white)).ravel()
        for index, plane, factor in ((2, cr, constants.red_of_cr), (1, cb, constants.blue_of_cb))
    ]
    width = cb.shape[1]
    height, kept = luma.shape[0] // scale, width - 2 * RADIUS_PX
    phases = cubic_phases(scale)
    band = max(1, _BAND_SAMPLES // width)
    buffers = np.zeros((7, band * width), np.float32)  # what is not kept is computed too, and must be numbers
    for top in range(0, height, band):
        count = min(band, height - top)
        # A band's rows lie one behind the other, so that each step is one pass over one piece of memory. A
        # tap to the side is a shift; what it brings from the next row lands in columns that are not kept.
        red_row, blue_row, red, blue, green, gray, term = buffers[:, : count * width]
        for y, down in enumerate(phases):
            rows = slice(top * scale + y, (top + count) * scale, scale)
            for plane, enlarged in zip(small, (red_row, blue_row), strict=True):
                _taps(plane, down, (top + RADIUS_PX) * width, width, enlarged, term)
            for x, across in enumerate(phases):
                inner = slice(0, count * width - 2 * RADIUS_PX)
                for plane, enlarged in ((red_row, red), (blue_row, blue)):
                    _taps(plane, across, RADIUS_PX, 1, enlarged[inner], term)
                np.multiply(luma[rows, x::scale], share, out=gray.reshape(count, width)[:, :kept])
                gray += offset
                np.multiply(red, of_red, out=green)
                np.multiply(blue, of_blue, out=term)
                green += term
                for index, color in enumerate((red, green, blue)):
                    color += gray
                    np.clip(color, 0, np.float32(white), out=color)
                    np.copyto(
                        out[rows, x::scale, index], color.reshape(count, width)[:, :kept], casting="unsafe"
                    )


def _taps(
    plane: Plane, taps: list[tuple[int, float]], start: int, step: int, out: Plane, term: Plane
) -> None:
    """Weighted sums of samples ``step`` apart, around ``start`` and those behind it; all flat."""
    term = term[: out.size]
    for number, (offset, weight) in enumerate(taps):
        first = start + offset * step
        np.multiply(plane[first : first + out.size], np.float32(weight), out=term if number else out)
        if number:
            out += term
