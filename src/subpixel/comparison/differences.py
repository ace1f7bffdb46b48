"""Where results differ most: the parts of an image that are worth a look."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_SPOTS = 8

_SIDE_SHARE = 7
"""A spot is about this share of the shorter side of the image."""

_MIN_SIDE_PX, _MAX_SIDE_PX = 12, 64
"""Of a spot, in pixels of the input."""

_MIN_DIFFERENCE = 0.25
"""Mean difference in steps of 255 below which nothing is found."""


class Spot(NamedTuple):
    """A square in which two results differ."""

    x: int
    """In pixels of the result, from the left, as the others."""
    y: int
    width: int
    height: int
    difference: float
    """Mean absolute difference over its pixels, in steps of 8-bit luma."""


def find_spots(
    first: NDArray[np.uint8], second: NDArray[np.uint8], scale: int, count: int = MAX_SPOTS
) -> list[Spot]:
    """Find squares that do not overlap in which two results differ most, the largest difference first.

    Args:
        first, second: luma ``(scale*H, scale*W)`` of the results.
        scale: squares lie on the pixel grid of the input.
        count: how many at most.
    """
    height, width = (side // scale for side in first.shape)
    differences = np.maximum(first, second) - np.minimum(first, second)
    means = differences.reshape(height, scale, width, scale).mean((1, 3), dtype=np.float64)
    shorter = min(height, width)
    side = min(max(shorter // _SIDE_SHARE, _MIN_SIDE_PX), _MAX_SIDE_PX, shorter)
    scores = _window_means(means, side)
    found: list[Spot] = []
    while len(found) < count:
        y, x = np.unravel_index(int(scores.argmax()), scores.shape)
        score = float(scores[y, x])
        if score < _MIN_DIFFERENCE:
            break
        px = side * scale
        found.append(Spot(int(x) * scale, int(y) * scale, px, px, round(score, 2)))
        scores[max(0, y - side + 1) : y + side, max(0, x - side + 1) : x + side] = -1
    return found


def _window_means(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Means of all ``side`` x ``side`` windows of ``(H, W)``: ``(H - side + 1, W - side + 1)``."""
    sums = np.pad(plane, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    result: NDArray[np.float64] = total / side**2
    return result
