"""Finds what differs between two frames, as rectangles of luma that the network has to compute again.

A pixel of the result depends only on the pixels within the network's halo. Where these are equal in two
frames, to the bit, so are the results, and the old one can be copied.

Frames are compared in cells of 8 x 8 pixels, since 8 samples fill one or two machine words.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL_PX = 8
"""Side of a cell."""

CALL_PX = 400
"""The fixed cost of a rectangle, as the number of pixels that a network computes in the same time."""

MIN_SAVING = 0.05
"""The least share of a network's work that has to be saved; otherwise the whole frame is computed."""

Rectangle = tuple[slice, slice]
"""Rows and columns in LR pixels, with start and stop."""

_Band = tuple[int, int, int]
"""First row, end, and columns as the bits of an integer, all in cells."""


def changed_rectangles(before: NDArray[Any], after: NDArray[Any], halo_px: int) -> list[Rectangle]:
    """Return what has to be computed again, as ``(rows, columns)`` of the input.

    Args:
        before: the plane ``(H, W)`` whose result is known, uint8 or uint16; samples of a row are adjacent.
        after: another plane of the same shape and dtype, likewise.
        halo_px: of the network.

    Returns:
        Rectangles that do not overlap; the whole plane if fewer pixels would save little. Empty if the planes
        are equal.
    """
    cells = _different_cells(before, after)
    if not cells.any():
        return []
    height, width = after.shape
    whole = [(slice(0, height), slice(0, width))]
    if cells.all():
        return whole
    cells = _grown(cells, -(-halo_px // CELL_PX))
    if np.count_nonzero(cells) > (1 - MIN_SAVING) * cells.size:
        return whole
    bands = _bands(cells, halo_px)
    work = sum(_work(bottom - top, columns, halo_px) for top, bottom, columns in bands)
    if work > (1 - MIN_SAVING) * _work(cells.shape[0], (1 << cells.shape[1]) - 1, halo_px):
        return whole
    return [
        (
            slice(top * CELL_PX, min(bottom * CELL_PX, height)),
            slice(left * CELL_PX, min(right * CELL_PX, width)),
        )
        for top, bottom, left, right in _boxes(bands)
    ]


def other_rectangles(rectangles: Sequence[Rectangle], shape: tuple[int, int]) -> Iterator[Rectangle]:
    """Yield the rest of a plane ``(H, W)`` as rectangles that do not overlap; see `changed_rectangles`."""
    height, width = shape
    edges = {0, height, *(edge for rows, _ in rectangles for edge in (rows.start, rows.stop))}
    for top, bottom in pairwise(sorted(edges)):
        left = 0
        inside = [columns for rows, columns in rectangles if rows.start <= top < rows.stop]
        for columns in sorted(inside, key=lambda columns: columns.start):
            if columns.start > left:
                yield slice(top, bottom), slice(left, columns.start)
            left = columns.stop
        if left < width:
            yield slice(top, bottom), slice(left, width)


def hr_part(rectangle: Rectangle, scale: int) -> Rectangle:
    """Return the pixels of the result that belong to a rectangle."""
    rows, columns = rectangle
    return (
        slice(rows.start * scale, rows.stop * scale),
        slice(columns.start * scale, columns.stop * scale),
    )


def with_context(rectangle: Rectangle, context_px: int) -> Rectangle:
    """Return a rectangle and the context around it, in pixels of a plane that has this context itself."""
    rows, columns = rectangle
    return (
        slice(rows.start, rows.stop + 2 * context_px),
        slice(columns.start, columns.stop + 2 * context_px),
    )


def _different_cells(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.bool_]:
    """Compare two planes; return which cells differ. The last row and column of cells may be incomplete."""
    width = after.shape[1]
    inside = width // CELL_PX * CELL_PX
    old, new = (plane[:, :inside].view(np.uint64) for plane in (before, after))
    words = _by_cells(old ^ new)
    different: NDArray[np.bool_] = np.logical_or.reduce(
        words.reshape(len(words), -1, after.itemsize) != 0, axis=2
    )
    if inside < width:
        beside = _by_cells(before[:, inside:] ^ after[:, inside:]).any(axis=1, keepdims=True)
        different = np.concatenate([different, beside], axis=1)
    return different


def _by_cells(words: NDArray[Any]) -> NDArray[Any]:
    """Combine each 8 rows by "or"; the last ones may be fewer. This is twice as fast as ``reduceat``."""
    height, width = words.shape
    inside = height // CELL_PX * CELL_PX
    result: NDArray[Any] = np.bitwise_or.reduce(
        words[:inside].reshape(inside // CELL_PX, CELL_PX, width), axis=1
    )
    if inside < height:
        last = np.bitwise_or.reduce(words[inside:], axis=0, keepdims=True)
        result = np.concatenate([result, last])
    return result


def _grown(cells: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Add all cells within ``radius`` rows and columns."""
    for _ in range(2):
        rows = cells.copy()
        for distance in range(1, radius + 1):
            rows[distance:] |= cells[:-distance]
            rows[:-distance] |= cells[distance:]
        cells = rows.T
    return cells


def _bands(cells: NDArray[np.bool_], halo_px: int) -> list[_Band]:
    """Cut cells into bands of rows. Rectangles as high as a band then cover little more than the cells."""
    bands: list[_Band] = []
    packed = np.packbits(cells, axis=1, bitorder="little")
    for row, columns in enumerate(int.from_bytes(line.tobytes(), "little") for line in packed):
        columns |= columns << 1 & columns >> 1  # computing a gap of one cell costs less than two halos
        if bands:
            top, bottom, above = bands[-1]
            if columns == above or _work(row + 1 - top, above | columns, halo_px) <= (
                _work(bottom - top, above, halo_px) + _work(1, columns, halo_px)
            ):
                bands[-1] = top, row + 1, above | columns
                continue
        bands.append((row, row + 1, columns))
    return bands


def _work(rows: int, columns: int, halo_px: int) -> int:
    """Return the work for a band in pixels. Layers compute half of the halo on average."""
    runs = (columns & ~(columns << 1)).bit_count()
    return (rows * CELL_PX + halo_px) * (columns.bit_count() * CELL_PX + runs * halo_px) + runs * CALL_PX


def _boxes(bands: list[_Band]) -> list[tuple[int, int, int, int]]:
    """Return the rectangles of bands in cells: top, bottom, left and right."""
    boxes: list[tuple[int, int, int, int]] = []
    above: dict[tuple[int, int], int] = {}
    for top, _, columns in bands:
        tops = {}
        for run in _runs(columns):
            tops[run] = above.pop(run, top)  # equal runs of two bands become one rectangle
        boxes += [(first, top, *run) for run, first in above.items()]
        above = tops
    return boxes + [(first, bands[-1][1], *run) for run, first in above.items()]


def _runs(columns: int) -> Iterator[tuple[int, int]]:
    """Yield first and end of each run of bits that are set."""
    end = 0
    while columns >> end:
        first = end + (columns >> end & -(columns >> end)).bit_length() - 1
        rest = ~(columns >> first)
        end = first + (rest & -rest).bit_length() - 1
        yield first, end
