"""Sharpening without halos: an unsharp mask that is limited to the range of the neighborhood.

The result is ``y + amount * w * (y - blur(y))``, limited to the smallest and the largest of the 3x3 samples
around each one. So an edge becomes steeper, but nothing beside it becomes brighter or darker. ``w`` goes to 0
where the neighborhood has little contrast (`NOISE_CONTRAST`), so that weak noise is hardly amplified and flat
areas stay as they are. All numbers were chosen by measuring, see docs/research/2026-11-29-sharpness.md.

A sample is the same, to the bit, in whichever part of a plane it is computed.
"""

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

BLUR_PER_SCALE = 0.35
"""Standard deviation of the Gaussian blur, in pixels of the result for each pixel of the source."""

STRENGTH = 1.0
"""How much of the difference from the blurred plane is added at ``amount`` 1."""

NOISE_CONTRAST = 16 / 255
"""Range of a neighborhood below which the effect falls in proportion."""

_BAND_SAMPLES = 1 << 16
"""How many samples are worked on at a time, so that they stay in the processor's cache; 256 KB of float32."""


def blur_weights(scale: float) -> NDArray[np.float32]:
    """Return the weights of a blur: that of the sample itself, then that of both samples at each distance.

    The result has at least 2 weights. With a scale of 1 or less they are those for 1.
    """
    sigma = BLUR_PER_SCALE * max(scale, 1.0)
    radius = max(1, round(2 * sigma))
    # Decimal rounds its exponential correctly, so that weights are the same on every machine.
    exponents = [Decimal(-(distance**2) / (2 * sigma * sigma)) for distance in range(radius + 1)]
    weights = np.array([float(exponent.exp()) for exponent in exponents])
    weights /= weights[0] + 2 * weights[1:].sum()
    return weights.astype(np.float32)


def sharpen(plane: Plane, rows: NDArray[np.float32], columns: NDArray[np.float32], amount: float) -> Plane:
    """Sharpen a plane.

    Args:
        plane: ``(H + 2 * r, W + 2 * c)``, float32 in [0, 1]: the samples and those around them, ``r`` and
            ``c`` being ``len(rows) - 1`` and ``len(columns) - 1``.
        rows, columns: the weights of the blur along both axes, see `blur_weights`.
        amount: 0 to 1.

    Returns:
        ``(H, W)``, float32, each sample within the range of the 3x3 samples around it.
    """
    down, across = len(rows) - 1, len(columns) - 1
    height, width = plane.shape[0] - 2 * down, plane.shape[1] - 2 * across
    result = np.empty((height, width), np.float32)
    step = max(1, _BAND_SAMPLES // plane.shape[1])
    work = np.empty((4, step, plane.shape[1]), np.float32)
    for top in range(0, height, step):
        out = result[top : top + step]
        band = plane[top : top + len(out) + 2 * down]
        _sharpen_band(band, rows, columns, np.float32(amount * STRENGTH), work[:, : len(out)], out)
    return result


def _sharpen_band(
    plane: Plane,
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    gain: np.float32,
    work: NDArray[np.float32],
    out: Plane,
) -> None:
    """Fill ``out`` with a sharpened band; ``plane`` has the context, ``work`` is scratch memory."""
    down, across = len(rows) - 1, len(columns) - 1
    height, width = out.shape
    vertical, term = work[0], work[1]
    _blur(plane, rows, 0, height, vertical, term)
    detail, term = out, work[1, :, :width]
    _blur(vertical, columns, 1, width, detail, term)
    samples = plane[down : down + height, across : across + width]
    np.subtract(samples, detail, out=detail)
    detail *= gain
    lowest = _extreme(np.minimum, plane, down, across, work[0], work[2, :, :width])
    highest = _extreme(np.maximum, plane, down, across, work[0], work[3, :, :width])
    contrast = np.subtract(highest, lowest, out=term)
    contrast *= np.float32(1 / NOISE_CONTRAST)
    np.minimum(contrast, np.float32(1), out=contrast)
    detail *= contrast
    detail += samples
    np.maximum(detail, lowest, out=detail)
    np.minimum(detail, highest, out=detail)


def _blur(
    plane: Plane, weights: NDArray[np.float32], axis: int, length: int, out: Plane, term: Plane
) -> None:
    """Fill ``out`` with ``length`` rows (axis 0) or columns (axis 1) of a symmetric filter."""
    radius = len(weights) - 1

    def shifted(by: int) -> Plane:
        span = slice(radius + by, radius + by + length)
        return plane[span] if axis == 0 else plane[:, span]

    np.multiply(shifted(0), weights[0], out=out)
    for distance in range(1, radius + 1):
        np.add(shifted(-distance), shifted(distance), out=term)
        term *= weights[distance]
        out += term


def _extreme(function: np.ufunc, plane: Plane, down: int, across: int, rows: Plane, out: Plane) -> Plane:
    """Fill ``out`` with the smallest or the largest of the 3x3 samples around each one."""
    height, width = out.shape
    function(plane[down - 1 : down - 1 + height], plane[down : down + height], out=rows)
    function(rows, plane[down + 1 : down + 1 + height], out=rows)
    function(rows[:, across - 1 : across - 1 + width], rows[:, across : across + width], out=out)
    function(out, rows[:, across + 1 : across + 1 + width], out=out)
    return out
