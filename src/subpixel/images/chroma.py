"""Conversion of RGB to luma and chroma, and back with chroma upsampled on the way.

The result equals `imresize` of Cb and Cr followed by `ycbcr_planes_to_rgb`, except for the order of additions
in float32: one in 50 000 of the 8-bit samples is so close to a half that it is rounded the other way.

The functions in NumPy define the result. `subpixel.engines.color` computes the same, to the bit, in machine
code, where there is any for the processor and the shape.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.color import kernel
from subpixel.ops.color import Matrix, rgb_to_ycbcr, ycbcr_weights
from subpixel.ops.resize import cubic_phases

RADIUS_PX = 2
"""The radius of bicubic interpolation in input pixels."""

Plane = NDArray[np.float32]


class _Matrix(NamedTuple):
    """Coefficients of RGB from Y', Cb and Cr, after their offsets are subtracted."""

    luma: float
    red_of_cr: float
    green_of_cb: float
    green_of_cr: float
    blue_of_cb: float
    offsets: tuple[float, float, float]
    """Y', Cb and Cr of black."""


@cache
def _matrix(matrix: Matrix = "bt601") -> _Matrix:
    (luma, _, red_of_cr), (_, green_of_cb, green_of_cr), (_, blue_of_cb, _) = ycbcr_weights(matrix)
    return _Matrix(luma, red_of_cr, green_of_cb, green_of_cr, blue_of_cb, (16 / 255, 128 / 255, 128 / 255))


def split_rgb(image: NDArray[Any]) -> tuple[Plane, Plane, Plane]:
    """Convert an RGB image to planes, as `rgb_to_ycbcr` does.

    Args:
        image: ``(H, W, 3)``, or ``(H, W, 4)``, whose last channel is ignored; uint8 or uint16 over the whole
            range, or floats in [0, 1].

    Returns:
        Y', Cb and Cr, each ``(H, W)`` in [0, 1], float32, C-contiguous.
    """
    return kernel.split(image, _split_coefficients(image.dtype)) or split_rgb_in_numpy(image)


@cache
def _split_coefficients(dtype: np.dtype[Any]) -> Plane:
    """For each plane, the factors of red, green and blue, and the offset; ``(3, 4)``, float32."""
    offsets = rgb_to_ycbcr(np.zeros(3))
    factors = (rgb_to_ycbcr(np.eye(3)) - offsets) / (np.iinfo(dtype).max if dtype.kind == "u" else 1)
    return np.ascontiguousarray(np.vstack([factors, offsets]).T, np.float32)


def split_rgb_in_numpy(image: NDArray[Any]) -> tuple[Plane, Plane, Plane]:
    """Do `split_rgb` in NumPy."""
    colors = [image[..., index].astype(np.float32) for index in range(3)]
    term = np.empty_like(colors[0])
    planes = []
    for *factors, offset in _split_coefficients(image.dtype):
        plane = colors[0] * factors[0]
        for color, factor in zip(colors[1:], factors[1:], strict=True):
            plane += np.multiply(color, factor, out=term)
        plane += offset
        planes.append(plane)
    return planes[0], planes[1], planes[2]


def write_rgb(luma: Plane, cb: Plane, cr: Plane, scale: int, out: NDArray[Any]) -> None:
    """Fill an RGB image from upscaled luma and small chroma; BT.601 of limited range, float32 in [0, 1].

    Args:
        luma: ``(scale*H, scale*W)``.
        cb, cr: ``(H + 4, W + 4)``, with `RADIUS_PX` pixels of context on each side.
        scale: ratio of luma to chroma.
        out: ``(scale*H, scale*W, 3)``, or 4 channels, of which the last does not change; uint8 or uint16,
            rounded half up, or floats in [0, 1]; clipped.
    """
    conversion = _Conversion(out.dtype)
    if not kernel.write(luma, cb, cr, scale, out, conversion.coefficients()):
        write_rgb_in_numpy(luma, cb, cr, scale, out)


def write_rgb_in_numpy(luma: Plane, cb: Plane, cr: Plane, scale: int, out: NDArray[Any]) -> None:
    """Do `write_rgb` in NumPy."""
    conversion = _Conversion(out.dtype)
    small = conversion.chroma(cb, cr)
    phases = cubic_phases(scale)
    for y, down in enumerate(phases):
        rows = [_filtered(plane, down) for plane in small]
        for x, across in enumerate(phases):
            red, blue = (_filtered(plane.T, across).T for plane in rows)
            conversion.write(luma[y::scale, x::scale], red, blue, out[y::scale, x::scale])


def write_resampled_rgb(luma: Plane, cb: Plane, cr: Plane, out: NDArray[Any]) -> None:
    """The same as `write_rgb`, for Cb and Cr that have the size of luma already."""
    conversion = _Conversion(out.dtype)
    if not kernel.write(luma, cb, cr, 1, out, conversion.coefficients()):
        write_resampled_rgb_in_numpy(luma, cb, cr, out)


def write_resampled_rgb_in_numpy(luma: Plane, cb: Plane, cr: Plane, out: NDArray[Any]) -> None:
    """Do `write_resampled_rgb` in NumPy."""
    conversion = _Conversion(out.dtype)
    conversion.write(luma, *conversion.chroma(cb, cr), out)


class _Conversion:
    """Converts Y'CbCr to RGB of a dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        matrix = _matrix()
        self._white = white = np.float32(np.iinfo(dtype).max if dtype.kind == "u" else 1)
        half = 0.5 if dtype.kind == "u" else 0.0
        self._gain = np.float32(matrix.luma * float(white))
        self._offset = np.float32(half - matrix.offsets[0] * matrix.luma * float(white))
        self._green_of_red = np.float32(matrix.green_of_cr / matrix.red_of_cr)
        self._green_of_blue = np.float32(matrix.green_of_cb / matrix.blue_of_cb)
        _, neutral_cb, neutral_cr = matrix.offsets
        self._red = np.float32(neutral_cr), np.float32(matrix.red_of_cr * float(white))
        self._blue = np.float32(neutral_cb), np.float32(matrix.blue_of_cb * float(white))

    def coefficients(self) -> Plane:
        """All of them, in the order of `subpixel.engines.color.program.WRITE_COEFFICIENTS`."""
        of_green = self._green_of_red, self._green_of_blue
        return np.array([self._gain, self._offset, *of_green, self._white, *self._red, *self._blue])

    def chroma(self, cb: Plane, cr: Plane) -> tuple[Plane, Plane]:
        """What Cr adds to red, and Cb to blue. The chroma of green is a combination of both."""
        red, blue = (
            (plane - neutral) * factor for plane, (neutral, factor) in ((cr, self._red), (cb, self._blue))
        )
        return red, blue

    def write(self, luma: Plane, red: Plane, blue: Plane, out: NDArray[Any]) -> None:
        """Fill three channels of ``out``, ``(H, W, C)``, from luma and what `chroma` returned, ``(H, W)``."""
        gray = luma * self._gain
        gray += self._offset
        green = red * self._green_of_red
        green += blue * self._green_of_blue
        for index, color in enumerate((red, green, blue)):
            total = np.clip(color + gray, 0, self._white)
            np.copyto(out[..., index], total, casting="unsafe")


def _filtered(plane: Plane, taps: list[tuple[int, float]]) -> Plane:
    """Apply filter taps along the rows of a plane with `RADIUS_PX` rows of context on each side."""
    first, *others = (
        plane[RADIUS_PX + offset : len(plane) - RADIUS_PX + offset] * np.float32(weight)
        for offset, weight in taps
    )
    for term in others:
        first += term
    return first
