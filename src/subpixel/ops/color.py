"""Conversion between RGB and Y'CbCr, and luma, with explicit matrix and range.

A matrix follows from two numbers, the weights of red and blue in luma (ITU-R BT.601-7 section 2.5.1, BT.709-6
section 3.2). In the limited range, Y is in 16..235 and Cb, Cr in 16..240 of 255, centered on 128; MATLAB's
``rgb2ycbcr`` is BT.601 in this range. In the full range, all are in 0..255 with the same center, as in JPEG.
"""

from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Matrix = Literal["bt601", "bt709"]
"""The recommendation that defines luma: ``bt601`` for images and SD video, ``bt709`` for HD video."""

_WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}

F = TypeVar("F", np.float32, np.float64)


@cache
def _forward(matrix: Matrix, limited: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 3 x 3 matrix from an RGB row vector in [0, 1] to (Y, Cb, Cr), and the offset to add."""
    red, blue = _luma_weights(matrix)
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr], axis=1) * _spans(limited) / 255, np.array(_offset(limited)) / 255


@cache
def ycbcr_weights(matrix: Matrix, limited: bool = True) -> tuple[tuple[float, float, float], ...]:
    """Return the weights of Y, Cb and Cr in R, in G and in B, the inverse of `_forward`.

    By the formulas of the recommendations: a numerical inverse is not the same to the bit on every machine.
    """
    red, blue = _luma_weights(matrix)
    green = 1 - red - blue
    of_luma, of_chroma, _ = (255 / span for span in _spans(limited))
    cb, cr = 2 * (1 - blue) * of_chroma, 2 * (1 - red) * of_chroma
    return (of_luma, 0.0, cr), (of_luma, -cb * blue / green, -cr * red / green), (of_luma, cb, 0.0)


def _luma_weights(matrix: Matrix) -> tuple[float, float]:
    if matrix not in _WEIGHTS:
        raise ValueError(f"unknown matrix {matrix!r}; known: {', '.join(_WEIGHTS)}")
    return _WEIGHTS[matrix]


def _spans(limited: bool) -> tuple[int, int, int]:
    return (219, 224, 224) if limited else (255, 255, 255)


def _offset(limited: bool) -> tuple[int, int, int]:
    return (16, 128, 128) if limited else (0, 128, 128)


def rgb_to_ycbcr(rgb: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[F]:
    """Convert RGB to Y'CbCr.

    Args:
        rgb: ``(..., 3)``, float32 or float64, gamma-encoded, black at 0 and white at 1; other values are
            allowed.
        matrix: the recommendation that defines luma.
        limited: Y in [16/255, 235/255] and Cb, Cr in [16/255, 240/255]; otherwise all in [0, 1]. In both,
            gray has Cb = Cr = 128/255.

    Returns:
        ``(..., 3)`` in the input's dtype, in the order Y, Cb, Cr; not clipped.
    """
    _check_color(rgb)
    forward, offset = _forward(matrix, limited)
    result = rgb @ forward.astype(rgb.dtype)
    result += offset.astype(rgb.dtype)
    return result


def ycbcr_to_rgb(ycbcr: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[F]:
    """Convert Y'CbCr to RGB, the inverse of `rgb_to_ycbcr`. Colors outside of RGB are not clipped."""
    _check_color(ycbcr)
    planes = ycbcr_planes_to_rgb(*np.moveaxis(ycbcr, -1, 0), matrix=matrix, limited=limited)
    return np.stack(planes, axis=-1)


def ycbcr_planes_to_rgb(
    y: NDArray[F], cb: NDArray[F], cr: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True
) -> tuple[NDArray[F], ...]:
    """Convert planes of one shape like `ycbcr_to_rgb`, but faster; return the planes R, G and B."""
    backward, offset = ycbcr_weights(matrix, limited), _forward(matrix, limited)[1]
    dtype = y.dtype.type
    result = []
    for weights in backward:
        plane = y * dtype(weights[0])
        for chroma, weight in zip((cb, cr), weights[1:], strict=True):
            if weight:  # red does not depend on Cb, nor blue on Cr
                plane += chroma * dtype(weight)
        plane += dtype(-sum(value * weight for value, weight in zip(offset.tolist(), weights, strict=True)))
        result.append(plane)
    return tuple(result)


def luma(image: NDArray[Any], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[np.float64]:
    """Compute the luma of an image, not rounded.

    Args:
        image: ``(H, W)`` gray or ``(H, W, 3)`` RGB; uint8 and uint16 use their full range, floats
            are in [0, 1].
        matrix: the recommendation that defines luma.
        limited: white is 235/255 and black 16/255; otherwise 1 and 0.

    Returns:
        ``(H, W)``, float64. A gray image is its own luma in both ranges: integers are divided by their
        maximum, and nothing else.
    """
    _check_image(image)
    samples = image.astype(np.float64)
    if image.dtype.kind == "u":
        samples /= np.iinfo(image.dtype).max
    if image.ndim == 2:
        return samples
    forward, offset = _forward(matrix, limited)
    result: NDArray[np.float64] = samples @ forward[:, 0] + offset[0]
    return result


def luma_8bit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute the luma of an 8-bit image like MATLAB's ``rgb2ycbcr``: BT.601, 16..235, rounded half up.

    Args:
        image: ``(H, W)`` gray, which is returned unchanged, or ``(H, W, 3)`` RGB; uint8.

    Returns:
        ``(H, W)``, uint8. The sum is an integer, so ties are rounded the same way on every machine.
    """
    _check_image(image)
    if image.dtype != np.uint8:
        raise ValueError(f"expected uint8 samples, not {image.dtype}")
    if image.ndim == 2:
        return image
    # 219 * (0.299, 0.587, 0.114), in thousandths.
    total = image.astype(np.uint32) @ np.array([65_481, 128_553, 24_966], np.uint32)
    return ((total + (16 * 255_000 + 127_500)) // 255_000).astype(np.uint8)


def _check_color(pixels: NDArray[Any]) -> None:
    if pixels.ndim < 1 or pixels.shape[-1] != 3:
        raise ValueError(f"expected pixels of shape (..., 3), not {pixels.shape}")
    if pixels.dtype not in (np.float32, np.float64):
        raise ValueError(f"expected float32 or float64 samples, not {pixels.dtype}")


def _check_image(image: NDArray[Any]) -> None:
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"expected an image of shape (H, W) or (H, W, 3), not {image.shape}")
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise ValueError(f"expected uint8, uint16, float32 or float64 samples, not {image.dtype}")
