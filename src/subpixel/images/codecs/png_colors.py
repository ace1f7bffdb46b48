"""Converts the color space chunks of PNG to an ICC profile, which other formats can store."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from subpixel.images.icc import Point, make_profile

_D65: Point = (0.3127, 0.3290)
_BT709 = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
"""Chromaticities x and y of white, red, green and blue."""
_PRIMARIES: dict[int, tuple[Point, ...]] = {
    1: _BT709,
    4: ((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    9: (_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    12: (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}
"""Chromaticities by their number in ITU-T H.273."""
_SRGB_TRANSFER, _LINEAR = 13, 8
_BT709_TRANSFERS = (1, 6, 14, 15)
_GAMMAS = {4: 2.2, 5: 2.8, _LINEAR: 1.0}
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_GAMMA = 0.45455
_CURVE_POINTS = 4096
SPACE_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")


def icc_profile(chunks: Mapping[bytes, bytes], gray: bool) -> tuple[bytes | None, str | None]:
    """Make an ICC profile from cICP, or else from gAMA and cHRM.

    Args:
        chunks: bodies of the chunks by their type.
        gray: whether the image is grayscale.

    Returns:
        The profile, and a warning. The profile is None for sRGB, which is the default for images without a
        profile, and where none can be made; then there is a warning. Otherwise the warning is None.
    """
    if cicp := chunks.get(b"cICP"):
        return _from_cicp(cicp, gray)
    if b"sRGB" in chunks:
        return None, None
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")) / 100_000
    points = _BT709
    if len(body := chunks.get(b"cHRM", b"")) == 32:
        numbers = [value / 100_000 for value in struct.unpack(">8I", body)]
        points = tuple(zip(numbers[::2], numbers[1::2], strict=True))  # type: ignore[assignment]
    if not gamma and points == _BT709:
        return None, None
    nearly_srgb = abs((gamma or _SRGB_GAMMA) - _SRGB_GAMMA) < 0.003
    if nearly_srgb and np.allclose(points, _BT709, atol=0.002):
        return None, None
    profile = _make_profile(points, _srgb_curve() if nearly_srgb else 1 / (gamma or _SRGB_GAMMA), gray)
    return profile, None if profile else "its color space (gAMA, cHRM) is invalid and was dropped"


def srgb_profile(gray: bool) -> bytes:
    """Make a profile of sRGB, or of its curve for grayscale."""
    profile = _make_profile(_BT709, _srgb_curve(), gray)
    assert profile is not None
    return profile


def _from_cicp(cicp: bytes, gray: bool) -> tuple[bytes | None, str | None]:
    if len(cicp) != 4:
        return None, "its color space (cICP) is damaged and was dropped"
    primaries, transfer, matrix, full_range = cicp
    if primaries == 1 and transfer == _SRGB_TRANSFER and full_range:
        return None, None
    curve = {_SRGB_TRANSFER: _srgb_curve(), **dict.fromkeys(_BT709_TRANSFERS, _bt709_curve())}.get(transfer)
    known = primaries in _PRIMARIES and (curve is not None or transfer in _GAMMAS)
    profile = None
    if known and matrix == 0 and full_range == 1:
        profile = _make_profile(_PRIMARIES[primaries], _GAMMAS[transfer] if curve is None else curve, gray)
    if profile:
        return profile, None
    numbers = f"H.273 primaries {primaries}, transfer {_HDR.get(transfer, transfer)}"
    return (
        None,
        f"only PNG, AVIF and lossless JPEG XL can store its color space (cICP: {numbers}); "
        "colors will look different; write PNG or AVIF",
    )


def _make_profile(points: tuple[Point, ...], curve: NDArray[np.float64] | float, gray: bool) -> bytes | None:
    try:
        return make_profile(points, curve, gray)
    except ValueError:
        return None


def _srgb_curve() -> NDArray[np.float64]:
    return srgb_to_linear(np.linspace(0, 1, _CURVE_POINTS))


def srgb_to_linear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert samples in [0, 1] to linear light, by the curve of IEC 61966-2-1."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _bt709_curve() -> NDArray[np.float64]:
    """The inverse of ITU-R BT.709-6, item 1.2."""
    x = np.linspace(0, 1, _CURVE_POINTS)
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))
