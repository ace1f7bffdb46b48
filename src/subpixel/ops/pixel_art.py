"""Rules that upscale pixel art. They compare whole pixels and copy them, so they make no new colors.

Pixels are ``(H, W, C)`` of any dtype; alpha is a channel as any other. Beyond the border, `scale2x` and
`scale3x` take the outermost pixels.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Mask = NDArray[np.bool_]


def nearest(pixels: Pixels, scale: int) -> Pixels:
    """Repeat each pixel ``scale`` times per axis."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


class _Neighborhood(NamedTuple):
    """The 3x3 neighbors of each pixel, named by their directions, and which of them are equal."""

    pixels: Pixels
    """With one more pixel on each side."""

    def at(self, row: int, column: int) -> Pixels:
        """The neighbors at an offset from -1 to 1."""
        height, width = self.pixels.shape[0] - 2, self.pixels.shape[1] - 2
        return self.pixels[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    def equal(self, first: tuple[int, int], second: tuple[int, int]) -> Mask:
        """Whether the neighbors at two offsets are equal in all channels."""
        one, other = self.at(*first), self.at(*second)
        equal: Mask = one[..., 0] == other[..., 0]
        for channel in range(1, one.shape[-1]):  # several times faster than `all`
            equal &= one[..., channel] == other[..., channel]
        return equal


_UP, _DOWN, _LEFT, _RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
_CENTER = (0, 0)
_CORNERS = [(_UP, _LEFT), (_UP, _RIGHT), (_DOWN, _LEFT), (_DOWN, _RIGHT)]
"""The two edges that meet at a corner: upper left, upper right, lower left, lower right."""


def _neighborhood(pixels: Pixels) -> _Neighborhood:
    return _Neighborhood(np.pad(pixels, [(1, 1), (1, 1), (0, 0)], mode="edge"))


def _corner_masks(near: _Neighborhood) -> list[Mask]:
    """For each of `_CORNERS`, whether its two neighbors are equal, and opposite neighbors are not."""
    straight = near.equal(_UP, _DOWN) | near.equal(_LEFT, _RIGHT)
    return [near.equal(*corner) & ~straight for corner in _CORNERS]


def scale2x(pixels: Pixels) -> Pixels:
    """Upscale by 2 with the rule Scale2x, which follows edges.

    Source: Andrea Mazzoleni, "Scale2x" (2001), https://www.scale2x.it/algorithm. The same as EPX (Eric
    Johnston).
    """
    near = _neighborhood(pixels)
    result = nearest(pixels, 2)
    for number, (mask, (vertical, _)) in enumerate(zip(_corner_masks(near), _CORNERS, strict=True)):
        row, column = divmod(number, 2)
        np.copyto(result[row::2, column::2], near.at(*vertical), where=mask[..., None])
    return result


def scale3x(pixels: Pixels) -> Pixels:
    """Upscale by 3 with the rule Scale3x, which follows edges. For the source, see `scale2x`."""
    near = _neighborhood(pixels)
    upper_left, upper_right, lower_left, lower_right = _corner_masks(near)
    differs = {(row, column): ~near.equal(_CENTER, (row, column)) for row in (-1, 1) for column in (-1, 1)}
    # For each of the nine pixels that are not always the source: where it is replaced, and by which neighbor.
    replaced = {
        (0, 0): (upper_left, _LEFT),
        (0, 1): (upper_left & differs[-1, 1] | upper_right & differs[-1, -1], _UP),
        (0, 2): (upper_right, _RIGHT),
        (1, 0): (upper_left & differs[1, -1] | lower_left & differs[-1, -1], _LEFT),
        (1, 2): (upper_right & differs[1, 1] | lower_right & differs[-1, 1], _RIGHT),
        (2, 0): (lower_left, _LEFT),
        (2, 1): (lower_left & differs[1, 1] | lower_right & differs[1, -1], _DOWN),
        (2, 2): (lower_right, _RIGHT),
    }
    result = nearest(pixels, 3)
    for (row, column), (mask, neighbor) in replaced.items():
        np.copyto(result[row::3, column::3], near.at(*neighbor), where=mask[..., None])
    return result
