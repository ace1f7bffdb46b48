"""One palette for all frames of an animation."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_COLORS = 255
"""One of the 256 entries of a GIF's palette is for transparency."""
TRANSPARENT = 255
"""The index of transparent pixels, and of those that stay as they are."""

_CLEAR = 1 << 24
"""The packed value of a transparent pixel."""
_SAMPLES = 1 << 19
"""About how many pixels the palette is computed from."""
_SIDE = 4
_CELLS = 256 // _SIDE
"""Cells of colors for each channel, and values in each."""
_ROUNDS = 8
_BLOCK = 1 << 9
"""How many colors are compared with the palette at once."""
_SHARE_TO_KEEP = 0.5
"""A color that makes up so much of an entry's pixels is stored exactly: else flat areas would change."""


def pack(samples: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Join the samples of each pixel into one number: red, green and blue, or `_CLEAR` if it is transparent.

    Args:
        samples: ``(H, W)`` or ``(H, W, 1 to 4)``; a pixel whose alpha is below one half is transparent.

    Returns:
        ``(H, W)``.
    """
    pixels = samples if samples.ndim == 3 else samples[..., None]
    channels = pixels.shape[2]
    red, green, blue = (0, 1, 2) if channels > 2 else (0, 0, 0)
    packed: NDArray[np.uint32] = pixels[..., red].astype(np.uint32) << np.uint32(16)
    packed |= pixels[..., green].astype(np.uint32) << np.uint32(8)
    packed |= pixels[..., blue]
    if channels in (2, 4):
        packed[pixels[..., -1] < 128] = _CLEAR
    return packed


class Palette(NamedTuple):
    """Colors, and which of them stands for which color of the frames."""

    colors: NDArray[np.uint8]
    """``(N, 3)``, N up to `MAX_COLORS`, or one more without `transparent`."""
    lookup: NDArray[np.uint8]
    """The index for each packed color that occurs."""
    transparent: int | None = TRANSPARENT
    """None if all 256 entries are colors."""

    def indices(self, pixels: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Map packed pixels to indices, without dithering."""
        return self.lookup[pixels]


class PaletteBuilder:
    """Counts the colors of frames, and chooses the palette."""

    def __init__(self) -> None:
        self._counts = np.zeros(_CLEAR + 1, np.uint32)
        self._before: NDArray[np.uint32] | None = None

    def add(self, pixels: NDArray[np.uint32]) -> None:
        """Count the pixels of a frame that differ from the frame before; what stands still counts once."""
        changed = pixels if self._before is None else pixels[pixels != self._before]
        colors, counts = np.unique(changed, return_counts=True)
        self._counts[colors] += counts.astype(np.uint32)
        self._before = pixels

    def palette(self) -> Palette:
        """Choose the palette. It is exact for up to 255 colors, or 256 if all pixels are opaque."""
        lookup = np.full(_CLEAR + 1, TRANSPARENT, np.uint8)
        if self.is_exact:
            packed = np.flatnonzero(self._counts[:_CLEAR])
            lookup[packed] = np.arange(len(packed))
            return Palette(_unpack(packed), lookup, None if len(packed) > MAX_COLORS else TRANSPARENT)
        cells = _group(self._counts)
        entries = _improved(_median_cut(cells.means, cells.weights), cells.means, cells.weights)
        colors = _with_exact_colors(entries, cells)
        of_cells = np.full(_CELLS**3, TRANSPARENT, np.uint8)
        of_cells[cells.numbers] = _nearest(cells.means, colors)
        shape = (_CELLS, _SIDE) * 3
        table = np.broadcast_to(of_cells.reshape(_CELLS, 1, _CELLS, 1, _CELLS, 1), shape)
        lookup[:_CLEAR].reshape(shape)[...] = table
        lookup[_pack_colors(colors)] = np.arange(len(colors))
        return Palette(colors, lookup)

    @property
    def is_exact(self) -> bool:
        """Whether the palette has every color of the frames."""
        is_opaque = not self._counts[_CLEAR]
        return int(np.count_nonzero(self._counts[:_CLEAR])) <= MAX_COLORS + is_opaque


def _unpack(packed: NDArray[Any]) -> NDArray[np.uint8]:
    return np.stack([packed >> 16, packed >> 8 & 0xFF, packed & 0xFF], axis=1).astype(np.uint8)


def _pack_colors(colors: NDArray[Any]) -> NDArray[np.int64]:
    packed: NDArray[np.int64] = colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return packed


class _Cells(NamedTuple):
    """Colors in groups: a photograph has millions of them. A cell holds `_SIDE` values of each channel."""

    numbers: NDArray[Any]
    """Which cells occur."""
    weights: NDArray[Any]
    """Pixels in each of these."""
    means: NDArray[np.float32]
    """``(N, 3)``."""
    most_frequent: NDArray[Any]
    """The packed color that most of the pixels have."""
    largest_counts: NDArray[Any]
    """How many have it."""


def _group(counts: NDArray[np.uint32]) -> _Cells:
    """Group the counts of all packed colors."""
    offsets = np.stack(np.meshgrid(*[np.arange(_SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    parts = []
    slab_length = _CLEAR // _CELLS
    for red in range(_CELLS):  # in slabs, to save memory
        slab = counts[red * slab_length : (red + 1) * slab_length]
        slab = slab.reshape(_SIDE, _CELLS, _SIDE, _CELLS, _SIDE).transpose(1, 3, 0, 2, 4)
        in_cells = slab.reshape(_CELLS**2, _SIDE**3)
        used = np.flatnonzero(in_cells.any(1))
        in_cells = in_cells[used]
        weights = in_cells.sum(1, dtype=np.float64)
        first = np.stack([np.full(len(used), red), used // _CELLS, used % _CELLS], axis=1) * _SIDE
        most = in_cells.argmax(1)
        parts.append(
            _Cells(
                used + red * _CELLS**2,
                weights,
                (first + in_cells @ offsets / weights[:, None]).astype(np.float32),
                _pack_colors(first + offsets[most]),
                in_cells.max(1, initial=0),
            )
        )
    return _Cells(*map(np.concatenate, zip(*parts, strict=True)))


def _median_cut(colors: NDArray[np.float32], weights: NDArray[Any]) -> NDArray[np.float32]:
    """Choose `MAX_COLORS` colors by Pillow's median cut."""
    # Cells that are too rare for a sample of their own share one.
    samples_until = np.floor(np.cumsum(weights) * (_SAMPLES / weights.sum())).astype(np.int64)
    repeats = np.diff(samples_until, prepend=0)
    samples = np.repeat(np.rint(colors).astype(np.uint8), repeats, axis=0)
    reduced = Image.fromarray(samples[None]).quantize(MAX_COLORS, Image.Quantize.MEDIANCUT)
    return np.array(reduced.getpalette(), np.float32).reshape(-1, 3)[:MAX_COLORS]


def _improved(
    entries: NDArray[np.float32], colors: NDArray[np.float32], weights: NDArray[Any]
) -> NDArray[np.float32]:
    """Move each entry to the mean of the colors that are nearest to it (k-means, Lloyd's algorithm)."""
    for _ in range(_ROUNDS):
        nearest = _nearest(colors, entries)
        total = np.bincount(nearest, weights, len(entries))
        used = total > 0
        sums = [np.bincount(nearest, weights * colors[:, channel], len(entries)) for channel in range(3)]
        entries = (np.stack(sums, axis=1)[used] / total[used, None]).astype(np.float32)
    return entries


def _with_exact_colors(entries: NDArray[np.float32], cells: _Cells) -> NDArray[np.uint8]:
    """Round entries, or replace them by the color that most of their pixels have."""
    nearest = _nearest(cells.means, entries)
    total = np.bincount(nearest, cells.weights, len(entries))
    order = np.argsort(cells.largest_counts, kind="stable")
    most = np.zeros(len(entries), np.int64)
    most[nearest[order]] = order  # of several values for one entry, the last stays: the most frequent color
    exact = cells.largest_counts[most] > total * _SHARE_TO_KEEP
    result = np.rint(entries).astype(np.uint8)
    result[exact] = _unpack(cells.most_frequent[most[exact]])
    return result


def _nearest(colors: NDArray[np.float32], palette: NDArray[Any]) -> NDArray[np.uint8]:
    """The index of the nearest entry for each color, by the Euclidean distance in RGB."""
    entries = palette.astype(np.float32)
    squares = (entries**2).sum(1)
    result = np.empty(len(colors), np.uint8)
    distances, term = np.empty((2, _BLOCK, len(entries)), np.float32)
    for start in range(0, len(colors), _BLOCK):
        twice = 2 * colors[start : start + _BLOCK]
        block = distances[: len(twice)]
        block[...] = squares
        # Channel by channel: the order of additions in a matrix product depends on the machine.
        for channel in range(3):
            block -= np.multiply.outer(twice[:, channel], entries[:, channel], out=term[: len(twice)])
        result[start : start + _BLOCK] = block.argmin(1)
    return result
