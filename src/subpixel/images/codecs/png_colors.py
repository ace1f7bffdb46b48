"""The color space that PNG states in chunks of its own, as an ICC profile for formats that know no other."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

_D65: Point = (0.3127, 0.3290)
_BT709 = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
"""The chromaticities x and y of white, red, green and blue."""
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
"""By their number in ITU-T H.273."""
_SRGB_TRANSFER, _LINEAR = 13, 8
_BT709_TRANSFERS = (1, 6, 14, 15)
_GAMMAS = {4: 2.2, 5: 2.8, _LINEAR: 1.0}
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_GAMMA = 0.45455
_CURVE_POINTS = 4096


def profile(chunks: Mapping[bytes, bytes], gray: bool) -> tuple[bytes | None, str | None]:
    """An ICC profile for cICP, or else gAMA and cHRM.

    Args:
        chunks: bodies by their type.
        gray: whether the picture is.

    Returns:
        The profile; None for sRGB, which is what a picture without one is taken for. And in words for people
        what cannot be said in one.
    """
    if cicp := chunks.get(b"cICP"):
        return _by_numbers(cicp, gray)
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
    made = _made(points, _srgb_curve() if nearly_srgb else None, 1 / (gamma or _SRGB_GAMMA), gray)
    return made, None if made else "its color space (gAMA, cHRM) makes no sense and was left out"


def _by_numbers(cicp: bytes, gray: bool) -> tuple[bytes | None, str | None]:
    if len(cicp) != 4:
        return None, "its color space (cICP) is damaged and was left out"
    primaries, transfer, matrix, full_range = cicp
    if primaries == 1 and transfer == _SRGB_TRANSFER and full_range:
        return None, None
    curve = {_SRGB_TRANSFER: _srgb_curve(), **dict.fromkeys(_BT709_TRANSFERS, _bt709_curve())}.get(transfer)
    known = primaries in _PRIMARIES and (curve is not None or transfer in _GAMMAS)
    made = None
    if known and matrix == 0 and full_range == 1:
        made = _made(_PRIMARIES[primaries], curve, _GAMMAS.get(transfer, 1.0), gray)
    if made:
        return made, None
    what = f"H.273 primaries {primaries}, transfer {_HDR.get(transfer, transfer)}"
    return (
        None,
        f"its color space (cICP: {what}) has no place outside PNG; colors will look different; write PNG",
    )


def _made(
    points: tuple[Point, ...], curve: NDArray[np.float64] | None, gamma: float, gray: bool
) -> bytes | None:
    from imagecodecs import cms_profile

    white, *primaries = ((*point, 1.0) for point in points)
    options: dict[str, Any] = {"gamma": gamma}
    if curve is not None:
        options = {"transferfunction": np.round(curve * 65535).astype(np.uint16)}
    if not gray:
        options["primaries"] = tuple(value for primary in primaries for value in primary)
    try:
        made = bytearray(cms_profile("gray" if gray else "rgb", whitepoint=white, **options))
    except Exception:  # points that no colors can have
        return None
    # When it was made, which would make the same picture another file each time.
    made[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(made)


def _srgb_curve() -> NDArray[np.float64]:
    """IEC 61966-2-1, to linear light."""
    x = np.linspace(0, 1, _CURVE_POINTS)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _bt709_curve() -> NDArray[np.float64]:
    """The inverse of ITU-R BT.709-6, item 1.2."""
    x = np.linspace(0, 1, _CURVE_POINTS)
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))
