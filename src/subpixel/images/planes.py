"""Enlarging an image: its planes through the network or the resampler, tile by tile.

Luma goes through the network, for there the eye sees detail; Cb and Cr through bicubic. Alpha, and each band
of an image that is neither grey nor RGB, goes through the network as a grey plane.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from subpixel.color import rgb_to_ycbcr, ycbcr_planes_to_rgb
from subpixel.engines.base import Engine, Tile, enlarged, from_float, tiles, to_float
from subpixel.images.alpha import fill_hidden_colours, neighbourhood_range
from subpixel.resample import imresize

TILE_SIDE_PX = 256
"""Smaller than an engine's own tiles: several are in work at once, each with its colours at full size."""

TILES_AT_ONCE = 4
"""At most, so that memory stays bounded on a machine of many CPUs; the network spreads over all of them."""

_BICUBIC_REACH_PX = 2


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
        range. Memory beyond input and output is bounded by the tile, unless hidden colours need filling.
    """
    scale = engine.model.scale
    bands = image if image.ndim == 3 else image[..., None]
    if alpha:
        bands = fill_hidden_colours(bands)
    height, width, count = bands.shape
    result = np.empty((height * scale, width * scale, count), dtype or image.dtype)

    halo_px = max(engine.model.description.halo_px, _BICUBIC_REACH_PX)

    def work(tile: Tile) -> None:
        piece = _continued(to_float(bands[tile.read]), tile, halo_px)
        inside = slice(halo_px * scale, -halo_px * scale)
        rows, columns = (enlarged(span, scale) for span in tile.keep)
        for band, plane in enumerate(_enlarged_planes(piece, engine, alpha, (inside, inside))):
            result[rows, columns, band] = from_float(np.clip(plane, 0, 1, out=plane), result.dtype)

    pool = ThreadPoolExecutor(min(engine.threads, TILES_AT_ONCE))
    try:
        tasks = [pool.submit(work, tile) for tile in tiles(height, width, halo_px, TILE_SIDE_PX)]
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()
            progress(done / len(tasks))
    finally:
        pool.shutdown(cancel_futures=True)
    return result if image.ndim == 3 else result[..., 0]


def _continued(piece: NDArray[np.float32], tile: Tile, halo_px: int) -> NDArray[np.float32]:
    """A tile's pixels, with its outermost ones repeated where its halo lies beyond the picture.

    A network takes what lies beyond its input for black, which would draw a dark rim along white paper.
    """
    missing = [
        (halo_px - crop.start, halo_px - (read.stop - read.start - crop.stop))
        for read, crop in zip(tile.read, tile.crop, strict=True)
    ]
    return np.pad(piece, [*missing, (0, 0)], mode="edge")


def _enlarged_planes(
    piece: NDArray[np.float32], engine: Engine, alpha: bool, kept: tuple[slice, slice]
) -> Iterator[NDArray[np.float32]]:
    """The bands of a piece, ``(H, W, n)``, each enlarged and cut to what is kept; the caller owns them."""
    colours = piece.shape[2] - alpha
    if colours == 3:
        luma, *chroma = np.moveaxis(rgb_to_ycbcr(piece[..., :3]), -1, 0)
        y = _through_network(luma, engine)[kept]
        cb, cr = (imresize(np.ascontiguousarray(plane), engine.model.scale)[kept] for plane in chroma)
        yield from ycbcr_planes_to_rgb(y, cb, cr)
    else:
        yield from (_through_network(piece[..., band], engine)[kept] for band in range(colours))
    if alpha:
        yield _enlarged_alpha(piece[..., -1], engine)[kept]


def _enlarged_alpha(plane: NDArray[np.float32], engine: Engine) -> NDArray[np.float32]:
    scale = engine.model.scale
    if plane.min() == plane.max():
        return plane.repeat(scale, 0).repeat(scale, 1)
    lowest, highest = neighbourhood_range(plane)
    result = _through_network(plane, engine)
    cells = result.reshape(len(plane), scale, plane.shape[1], scale)
    np.clip(cells, lowest[:, None, :, None], highest[:, None, :, None], out=cells)
    return result


def _through_network(plane: NDArray[np.float32], engine: Engine) -> NDArray[np.float32]:
    result: NDArray[np.float32] = engine.run(np.ascontiguousarray(plane[None]))[0]
    return result
