"""Enlarging an image: its planes through the network or the resampler, tile by tile.

Luma goes through the network, for there the eye sees detail; Cb and Cr through bicubic. Alpha, and each band
of an image that is neither gray nor RGB, goes through the network as a gray plane.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from subpixel.engines.base import Engine, Tile, enlarged, from_float, tiles, to_float
from subpixel.images.alpha import fill_hidden_colors, neighborhood_range
from subpixel.images.chroma import RADIUS_PX, split_rgb, write_rgb
from subpixel.images.picture import Strips
from subpixel.images.workers import Workers

TILE_SIDE_PX = 384
"""Smaller than an engine's own tiles: several are in work at once, each with its colors at full size."""

TILES_AT_ONCE = 8
"""At most, so that memory stays bounded on a machine of many CPUs."""

STRIP_BYTES = 1 << 24
"""Of the enlarged picture; three or four strips are in work at once."""

_LEAST_STRIP_ROWS, _MOST_STRIP_ROWS = 48, 384


def enlarge(
    image: NDArray[Any],
    engine: Engine,
    *,
    alpha: bool = False,
    dtype: DTypeLike | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Enlarge an image by the engine's scale.

    Args:
        image: ``(H, W)`` or ``(H, W, n)``; three bands, beside alpha, are RGB, any other number are planes of
            their own. uint8 and uint16 span their whole range, floats are in [0, 1].
        engine: for a network of one channel.
        alpha: whether the last band is alpha, straight.
        dtype: of the result, when it is not the input's; samples are rounded once, to this.
        progress: called with the fraction done.

    Returns:
        ``(scale*H, scale*W)`` or ``(scale*H, scale*W, n)``, integers rounded half up, all clipped to their
        range. Memory beyond input and output is bounded by the tile, unless hidden colors need filling.
    """
    scale = engine.model.scale
    height, width = (side * scale for side in image.shape[:2])
    result = np.empty((height, width, *image.shape[2:]), dtype or image.dtype)
    with Workers(workers_for(engine)) as workers:
        for _ in _made(image, engine, alpha, result.dtype, progress, workers, into=result):
            pass
    return result


def enlarged_strips(
    image: NDArray[Any],
    engine: Engine,
    workers: Workers,
    *,
    alpha: bool = False,
    dtype: DTypeLike | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Strips:
    """The same, from top to bottom, strip by strip: for who needs no more of the result at a time."""
    scale = engine.model.scale
    height, width = (side * scale for side in image.shape[:2])
    kind = np.dtype(dtype or image.dtype)
    made = _made(image, engine, alpha, kind, progress, workers)
    rows = scale * strip_rows(image.shape, scale, kind)
    return Strips((height, width, *image.shape[2:]), kind, rows, made)


def workers_for(engine: Engine) -> int:
    """How many threads work on a picture, each of them on a tile of its own."""
    return min(engine.threads, TILES_AT_ONCE)


def strip_rows(shape: tuple[int, ...], scale: int, dtype: np.dtype[Any]) -> int:
    """How many rows of an image of a shape are enlarged at a time: a multiple of 16.

    Few, for the sake of memory, but not so few that the network reads more of their neighbors than of them.
    """
    bytes_per_row = math.prod(shape[1:]) * scale**2 * dtype.itemsize
    fitting = min(STRIP_BYTES // bytes_per_row, _MOST_STRIP_ROWS, shape[0])
    return max(-(-fitting // 16) * 16, _LEAST_STRIP_ROWS)


def _made(
    image: NDArray[Any],
    engine: Engine,
    alpha: bool,
    dtype: np.dtype[Any],
    progress: Callable[[float], None],
    workers: Workers,
    into: NDArray[Any] | None = None,
) -> Iterator[NDArray[Any]]:
    """Enlarge strip by strip, one strip ahead; the strips are views of ``into``, if that is given."""
    scale = engine.model.scale
    halo_px = max(engine.model.spec.halo_px, RADIUS_PX)
    bands = image if image.ndim == 3 else image[..., None]
    if alpha:
        bands = fill_hidden_colors(bands)
    height, width, count = bands.shape

    rows = strip_rows(image.shape, scale, dtype)
    cuts = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
    plan = [(cut, _tiles_of(cut, height, width, halo_px)) for cut in cuts]
    done, total = 0, sum(len(tiles_of_strip) for _, tiles_of_strip in plan)

    def work(tile: Tile, strip: NDArray[Any]) -> None:
        piece = _continued(bands[tile.read], tile, halo_px)
        rows, columns = (enlarged(span, scale) for span in tile.keep)
        _enlarge_tile(piece, engine, alpha, halo_px, strip[rows, columns])

    def finished(strip: NDArray[Any], tasks: "list[Future[None]]") -> NDArray[Any]:
        nonlocal done
        for task in tasks:
            task.result()
            done += 1
            progress(min(1.0, done / total))
        return strip

    pending: deque[tuple[NDArray[Any], list[Future[None]]]] = deque()
    for cut, tiles_of_strip in plan:
        if into is None:
            strip = np.empty(((cut.stop - cut.start) * scale, width * scale, *image.shape[2:]), dtype)
        else:
            strip = into[enlarged(cut, scale)]
        cells = strip.reshape(*strip.shape[:2], count)
        tasks = [workers.submit(work, tile, cells) for tile in tiles_of_strip]
        pending.append((strip, tasks))
        if len(pending) > 1:
            yield finished(*pending.popleft())
    while pending:
        yield finished(*pending.popleft())


def _tiles_of(rows: slice, height: int, width: int, halo_px: int) -> list[Tile]:
    """The tiles of a strip: what they read counts in the picture, what they keep in the strip."""
    result = []
    for tile in tiles(rows.stop - rows.start, width, 0, TILE_SIDE_PX):
        place = (slice(rows.start + tile.keep[0].start, rows.start + tile.keep[0].stop), tile.keep[1])
        read, crop = [], []
        for kept, side in zip(place, (height, width), strict=True):
            first, last = max(kept.start - halo_px, 0), min(kept.stop + halo_px, side)
            read.append(slice(first, last))
            crop.append(slice(kept.start - first, kept.stop - first))
        result.append(Tile((read[0], read[1]), tile.keep, (crop[0], crop[1])))
    return result


def _continued(piece: NDArray[Any], tile: Tile, halo_px: int) -> NDArray[Any]:
    """A tile's pixels, with its outermost ones repeated where its halo lies beyond the picture.

    A network takes what lies beyond its input for black, which would draw a dark rim along white paper.
    """
    missing = [
        (halo_px - crop.start, halo_px - (read.stop - read.start - crop.stop))
        for read, crop in zip(tile.read, tile.crop, strict=True)
    ]
    return np.pad(piece, [*missing, (0, 0)], mode="edge")


def _enlarge_tile(piece: NDArray[Any], engine: Engine, alpha: bool, halo_px: int, out: NDArray[Any]) -> None:
    """Fill ``out``, ``(scale*H, scale*W, n)``, from a piece ``(H + 2*halo_px, W + 2*halo_px, n)``."""
    scale = engine.model.scale
    kept = slice(halo_px * scale, -halo_px * scale)
    colors = piece.shape[2] - alpha
    if colors == 3:
        luma, *chroma = split_rgb(piece[..., :3])
        near = slice(halo_px - RADIUS_PX, RADIUS_PX - halo_px or None)
        cb, cr = (plane[near, near] for plane in chroma)
        write_rgb(_through_network(luma, engine)[kept, kept], cb, cr, scale, out[..., :3])
    else:
        for band in range(colors):
            _store(_through_network(to_float(piece[..., band]), engine)[kept, kept], out[..., band])
    if alpha:
        _store(_enlarged_alpha(to_float(piece[..., -1]), engine)[kept, kept], out[..., -1])


def _store(plane: NDArray[np.float32], out: NDArray[Any]) -> None:
    out[...] = from_float(np.clip(plane, 0, 1), out.dtype)


def _enlarged_alpha(plane: NDArray[np.float32], engine: Engine) -> NDArray[np.float32]:
    scale = engine.model.scale
    if plane.min() == plane.max():
        return plane.repeat(scale, 0).repeat(scale, 1)
    lowest, highest = neighborhood_range(plane)
    result = _through_network(plane, engine)
    cells = result.reshape(len(plane), scale, plane.shape[1], scale)
    np.clip(cells, lowest[:, None, :, None], highest[:, None, :, None], out=cells)
    return result


def _through_network(plane: NDArray[np.float32], engine: Engine) -> NDArray[np.float32]:
    result: NDArray[np.float32] = engine.run(np.ascontiguousarray(plane[None]))[0]
    return result
