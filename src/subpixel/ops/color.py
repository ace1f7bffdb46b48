"""RGB <-> Y'CbCr and luma, with the matrix and the range always explicit.

Both matrices follow from two numbers, the shares of red and blue in luma (ITU-R BT.601-7 section 2.5.1,
BT.709-6 section 3.2). The limited range puts Y in 16..235 and Cb, Cr in 16..240 of 255, centered on 128;
MATLAB's ``rgb2ycbcr`` is BT.601 in that range. The full range uses 0..255 with the same center, as JPEG does.
"""

from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Matrix = Literal["bt601", "bt709"]
"""Which recommendation's luma: ``bt601`` for still images and SD video, ``bt709`` for HD video."""

_SHARES: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}

F = TypeVar("F", np.float32, np.float64)


@cache
def _forward(matrix: Matrix, limited: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 3 x 3 matrix that takes an RGB row vector in [0, 1] to (Y, Cb, Cr), and the offset to add."""
    if matrix not in _SHARES:
        raise ValueError(f"unknown matrix {matrix!r}; known: {', '.join(_SHARES)}")
    red, blue = _SHARES[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    spans, offset = ((219, 224, 224), (16, 128, 128)) if limited else ((255, 255, 255), (0, 128, 128))
    return np.stack([luma, cb, cr], axis=1) * spans / 255, np.array(offset) / 255


def rgb_to_ycbcr(rgb: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[F]:
    """Turn RGB into Y'CbCr.

    Args:
        rgb: ``(..., 3)``, float32 or float64, gamma-encoded, black at 0 and white at 1; values beyond pass.
        matrix: whose luma.
        limited: Y in [16/255, 235/255] and Cb, Cr in [16/255, 240/255]; otherwise all in [0, 1]. Gray has
            Cb = Cr = 128/255 in both.

    Returns:
        ``(..., 3)`` with the input's dtype, in the order Y, Cb, Cr; not clipped.
    """
    _check_color(rgb)
    forward, offset = _forward(matrix, limited)
    result = rgb @ forward.astype(rgb.dtype)
    result += offset.astype(rgb.dtype)
    return result


def ycbcr_to_rgb(ycbcr: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[F]:
    """Turn Y'CbCr into RGB: the inverse of `rgb_to_ycbcr`, not clipped (Y'CbCr holds more than RGB can)."""
    _check_color(ycbcr)
    planes = ycbcr_planes_to_rgb(*np.moveaxis(ycbcr, -1, 0), matrix=matrix, limited=limited)
    return np.stack(planes, axis=-1)


def ycbcr_planes_to_rgb(
    y: NDArray[F], cb: NDArray[F], cr: NDArray[F], *, matrix: Matrix = "bt601", limited: bool = True
) -> tuple[NDArray[F], ...]:
    """`ycbcr_to_rgb` of planes of any one shape, which is faster than colors side by side; planes again."""
    forward, offset = _forward(matrix, limited)
    backward = np.linalg.inv(forward)
    constants = -offset @ backward
    kind = y.dtype.type
    result = []
    for color in range(3):
        plane = y * kind(backward[0, color])
        for chroma, share in zip((cb, cr), backward[1:, color], strict=True):
            if abs(share) > 1e-9:  # red has no share of Cb, nor blue of Cr
                plane += chroma * kind(share)
        plane += kind(constants[color])
        result.append(plane)
    return tuple(result)


def luma(image: NDArray[Any], *, matrix: Matrix = "bt601", limited: bool = True) -> NDArray[np.float64]:
    """The luma of an image, unrounded.

    Args:
        image: ``(H, W)`` gray or ``(H, W, 3)`` RGB; uint8 and uint16 span their whole range, floats are in
            [0, 1].
        matrix: whose luma.
        limited: RGB white is 235/255 and black 16/255; otherwise 1 and 0.

    Returns:
        ``(H, W)``, float64. A gray image is its own luma, whatever the range: its samples are divided by
        their dtype's largest value and nothing else.
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
    """The luma of an 8-bit image as MATLAB's ``rgb2ycbcr`` gives it: BT.601, 16..235, rounded half up.

    Args:
        image: ``(H, W)`` gray, returned as it is, or ``(H, W, 3)`` RGB; uint8.

    Returns:
        ``(H, W)``, uint8. The sum is taken in integers, so that ties fall the same way on every machine.
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
