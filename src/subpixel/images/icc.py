"""Makes ICC profiles of color spaces that primaries and a tone curve define (ICC.1:2010, version 4.3)."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
"""Chromaticities x and y."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""From XYZ to the responses of cones (annex E)."""
_HEADER_BYTES = 128
_DATE = (2000, 1, 1, 0, 0, 0)
"""Constant, so that the same input gives the same file."""
_LARGEST = 32767
"""Of the numbers with 16 bits before the point."""


def make_profile(points: Sequence[Point], curve: NDArray[np.float64] | float, gray: bool) -> bytes:
    """Make a profile of a display.

    Args:
        points: white, red, green and blue.
        curve: linear light for equally spaced samples, both from 0 to 1; or a gamma.
        gray: make a profile for grayscale, which uses only the white of the points.

    Raises:
        ValueError: no display has these chromaticities, or such a gamma.
    """
    white, *primaries = (np.array([x, y, 1 - x - y]) for x, y in points)
    try:
        with np.errstate(all="raise"):
            white = white / white[1]
            adapt = _adaptation(white)
            columns = np.stack(primaries, axis=1)
            colors = adapt @ columns * np.linalg.solve(columns, white)
        numbers = [_numbers(color) for color in (_D50, *adapt, *colors.T)]
        tone = _curve(curve)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise ValueError(f"no display has the chromaticities {points} and this gamma") from error
    tags = {
        b"desc": _text("Made by Subpixel"),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + numbers[0],
        b"chad": b"sf32\0\0\0\0" + b"".join(numbers[1:4]),
    }
    if gray:
        tags[b"kTRC"] = tone
    else:
        for name, number in zip((b"r", b"g", b"b"), numbers[4:], strict=True):
            tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + number
            tags[name + b"TRC"] = tone
    return _assemble(tags, b"GRAY" if gray else b"RGB ")


def _adaptation(white: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that adapts XYZ from a white to D50, the white of profiles."""
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapt: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD)
    return adapt


def _assemble(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """Write the header, the table of tags, and the tags. Equal tags are stored once."""
    offset = _HEADER_BYTES + 4 + 12 * len(tags)
    table, offsets, bodies = struct.pack(">I", len(tags)), dict[bytes, int](), b""
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        if padded not in offsets:
            offsets[padded] = offset + len(bodies)
            bodies += padded
        table += struct.pack(">4sII", name, offsets[padded], len(body))
    header = struct.pack(
        ">I4sI4s4s4s6H4s4xI4xI8xI", offset + len(bodies), bytes(4), 0x04300000, b"mntr", space, b"XYZ ",
        *_DATE, b"acsp", 0, 0, 0,
    ) + _numbers(_D50)  # fmt: skip
    return header.ljust(_HEADER_BYTES, b"\0") + table + bodies


def _numbers(values: NDArray[np.float64]) -> bytes:
    """Numbers with 16 bits after the point."""
    if np.abs(values).max() > _LARGEST:
        raise ArithmeticError
    return struct.pack(f">{len(values)}i", *np.round(values * 65536).astype(int))


def _curve(curve: NDArray[np.float64] | float) -> bytes:
    if isinstance(curve, float):
        return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _numbers(np.array([curve]))
    values = np.round(curve * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + values.tobytes()


def _text(text: str) -> bytes:
    body = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(body), 28) + body
