"""Upscaling the samples of an image, tile by tile.

The network upscales luma, where the eye sees detail. Bicubic interpolation upscales Cb and Cr. Alpha, and
each channel of an image that is neither gray nor RGB, goes through the network as a gray plane. Pixel art is
different: rules copy whole pixels.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from subpixel.engines.base import from_float, tiles, to_float
from subpixel.engines.pixel_art import AnyUpsampling
from subpixel.engines.upsampling import Upsampling
from subpixel.images.alpha import fill_hidden_colors, neighborhood_range, range_under
from subpixel.images.chroma import RADIUS_PX, split_rgb, write_resampled_rgb, write_rgb
from subpixel.images.image import Strips
from subpixel.images.workers import Workers

TILE_SIDE_PX = 384
"""Smaller than the tiles of an engine: several are in memory at once, each with all colors of its output."""

MAX_THREADS = 8
"""Each has a tile in memory, so this bounds memory on a machine with many CPUs."""

STRIP_BYTES = 1 << 24
"""Target size of an output strip; three or four strips are in memory at once."""

_MIN_REDUCED_TILE_PX = 16
"""Sides of a tile of a reduction, in pixels of the result."""

_MIN_STRIP_ROWS, _MAX_STRIP_ROWS = 48, 384


def upscale_array(
    image: NDArray[Any],
    upsampling: AnyUpsampling,
    *,
    alpha: bool = False,
    dtype: DTypeLike | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Upscale an image.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``. Three channels besides alpha are RGB; otherwise the channels are
            independent planes. uint8 and uint16 use their whole range, floats are in [0, 1].
        upsampling: from the height and width of the image to those of the result.
        alpha: whether the last channel is straight alpha.
        dtype: of the result, by default that of the input. Samples are rounded once, to this dtype.
        progress: called with the completed fraction, up to 1.

    Returns:
        An image of the size ``upsampling.target`` with the same channels, clipped to the range of the dtype;
        integers are rounded half up. Memory beyond input and output is bounded by the tile size, unless the
        image has fully transparent pixels.
    """
    result = np.empty((*upsampling.target, *image.shape[2:]), dtype or image.dtype)
    with Workers(worker_count(upsampling)) as workers:
        for _ in _computed_strips(image, upsampling, alpha, result.dtype, progress, workers, into=result):
            pass
    return result


def upscale_strips(
    image: NDArray[Any],
    upsampling: AnyUpsampling,
    workers: Workers,
    *,
    alpha: bool = False,
    dtype: DTypeLike | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Strips:
    """Upscale an image strip by strip, so that the complete result is never in memory.

    The arguments are those of `upscale_array`, and ``workers``, the threads that compute.
    """
    output_dtype = np.dtype(dtype or image.dtype)
    strips = _computed_strips(image, upsampling, alpha, output_dtype, progress, workers)
    channels = image.shape[2:]
    rows = strip_rows(upsampling, channels[0] if channels else 1, output_dtype)
    return Strips((*upsampling.target, *channels), output_dtype, rows, strips)


def worker_count(upsampling: AnyUpsampling) -> int:
    """The number of threads that work on an image, each on one tile at a time."""
    return min(upsampling.threads, MAX_THREADS)


def strip_rows(upsampling: AnyUpsampling, channels: int, dtype: np.dtype[Any]) -> int:
    """The number of output rows in a strip, a multiple of 16.

    A strip has few rows to save memory, but enough that its context remains a minor part of the work.
    """
    height, target_height = upsampling.source[0], upsampling.target[0]
    bytes_of_lr_row = upsampling.target[1] * channels * dtype.itemsize * target_height / height
    rows = min(int(STRIP_BYTES / bytes_of_lr_row), _MAX_STRIP_ROWS, height)
    lr_rows = max(-(-rows // 16) * 16, _MIN_STRIP_ROWS)
    if upsampling.reduces:
        return max(16, lr_rows * target_height // height // 16 * 16)
    return lr_rows * upsampling.factor


def _computed_strips(
    image: NDArray[Any],
    upsampling: AnyUpsampling,
    alpha: bool,
    dtype: np.dtype[Any],
    progress: Callable[[float], None],
    workers: Workers,
    into: NDArray[Any] | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield output strips, and compute one strip ahead. If ``into`` is given, the strips are views of it."""
    pixels = image if image.ndim == 3 else image[..., None]
    if alpha and isinstance(upsampling, Upsampling) and not upsampling.is_identity:
        pixels = fill_hidden_colors(pixels, upsampling.wraps)
    channels = pixels.shape[2]
    height, width = upsampling.target

    rows = strip_rows(upsampling, channels, dtype)
    spans = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
    tiles_of = [_tiles(span, upsampling) for span in spans]
    completed, total = 0, sum(map(len, tiles_of))

    def compute(tile: _Tile, strip: NDArray[Any]) -> None:
        cut, out = tile.cut_out(pixels, upsampling.wraps), strip[tile.keep]
        if isinstance(upsampling, Upsampling):
            _upscale_tile(cut, tile, upsampling, alpha, out)
        else:
            upsampling.upscale(cut, tile.part, tile.origin, out, alpha=alpha)

    def wait_for(strip: NDArray[Any], futures: "list[Future[None]]") -> NDArray[Any]:
        nonlocal completed
        for future in futures:
            future.result()
            completed += 1
            progress(completed / total)
        return strip

    pending: deque[tuple[NDArray[Any], list[Future[None]]]] = deque()
    for span, tiles_of_strip in zip(spans, tiles_of, strict=True):
        if into is None:
            strip = np.empty((span.stop - span.start, width, *image.shape[2:]), dtype)
        else:
            strip = into[span]
        out = strip.reshape(*strip.shape[:2], channels)
        futures = [workers.submit(compute, tile, out) for tile in tiles_of_strip]
        pending.append((strip, futures))
        if len(pending) > 1:
            yield wait_for(*pending.popleft())
    while pending:
        yield wait_for(*pending.popleft())


def largest_tile_px(upsampling: AnyUpsampling, channels: int, dtype: np.dtype[Any]) -> int:
    """How many LR pixels the largest tile of an image reads, with the context around it."""
    rows = min(strip_rows(upsampling, channels, dtype), upsampling.target[0])
    sizes = [[span.stop - span.start for span in tile.read] for tile in _tiles(slice(0, rows), upsampling)]
    return max(int(height * width) for height, width in sizes)


class _Tile(NamedTuple):
    """A part of the result, and the LR pixels that it needs."""

    part: tuple[slice, slice]
    """Rows and columns of the result."""
    keep: tuple[slice, slice]
    """The same, counted in the strip."""
    read: tuple[slice, slice]
    """Rows and columns of the image, with their context. They may be outside of the image."""

    @property
    def origin(self) -> tuple[int, int]:
        """Row and column of the image that the first pixel of `cut_out` stands for; may be negative."""
        return self.read[0].start, self.read[1].start

    def cut_out(self, image: NDArray[Any], wraps: tuple[bool, bool]) -> NDArray[Any]:
        """The pixels to read. Outside of the image, these are its outermost pixels, or the opposite side.

        The network pads with zeros, which would darken the border of a white page.
        """
        pixels, added = image, [(0, 0)] * image.ndim
        for axis, (span, side) in enumerate(zip(self.read, image.shape[:2], strict=True)):
            inside = slice(max(span.start, 0), min(span.stop, side))
            if inside == span or not wraps[axis]:
                pixels = pixels[inside] if axis == 0 else pixels[:, inside]
                added[axis] = (inside.start - span.start, span.stop - inside.stop)
            else:
                pixels = np.take(pixels, np.arange(span.start, span.stop), axis, mode="wrap")
        return np.pad(pixels, added, "edge") if any(map(any, added)) else pixels


def _tiles(rows: slice, upsampling: AnyUpsampling) -> list[_Tile]:
    """The tiles of a strip, which is ``rows`` of the result."""
    context_px = _context_px(upsampling)
    # Without a reduction, a tile covers whole LR pixels.
    unit = 1 if upsampling.reduces else upsampling.factor
    # Where several networks follow each other, the last one sees many more pixels than the first.
    side_px = TILE_SIDE_PX * 4 // max(4, upsampling.factor)
    # A strong reduction needs a context of six samples of the result; smaller tiles would read it many times.
    least = _MIN_REDUCED_TILE_PX if upsampling.reduces else 1
    side = max(least, side_px * upsampling.target[1] // upsampling.source[1] // unit)
    result = []
    for tile in tiles((rows.stop - rows.start) // unit, upsampling.target[1] // unit, 0, side):
        keep = tuple(slice(span.start * unit, span.stop * unit) for span in tile.keep)
        part = slice(keep[0].start + rows.start, keep[0].stop + rows.start), keep[1]
        under = [upsampling.pixels_under(part[axis], axis) for axis in (0, 1)]
        read = [slice(span.start - context_px, span.stop + context_px) for span in under]
        result.append(_Tile(part, (keep[0], keep[1]), (read[0], read[1])))
    return result


def _context_px(upsampling: AnyUpsampling) -> int:
    """How many LR pixels around those under a part are needed for all of its planes."""
    return max(upsampling.context_px, RADIUS_PX)


def _upscale_tile(
    pixels: NDArray[Any], tile: _Tile, upsampling: Upsampling, alpha: bool, out: NDArray[Any]
) -> None:
    """Fill ``out``, ``(H, W, n)``, a part of the result, from the pixels under it and their context."""
    part, origin = tile.part, tile.origin

    def upsampled(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        return upsampling.finish(upsampling.upsample(plane), part, origin)

    colors = pixels.shape[2] - alpha
    if colors == 3 and not upsampling.is_identity:
        luma, cb, cr = split_rgb(pixels)
        if upsampling.reduces:
            cb, cr = (upsampling.resample(plane, part, origin) for plane in (cb, cr))
            write_resampled_rgb(upsampled(luma), cb, cr, out)
        else:
            beyond = _context_px(upsampling) - RADIUS_PX
            near = slice(beyond, -beyond or None)
            write_rgb(upsampled(luma), cb[near, near], cr[near, near], upsampling.factor, out)
    elif upsampling.is_one_network and pixels.dtype == out.dtype and out.dtype.kind == "u":  # as in videos
        for channel in range(colors):
            large = upsampling.upsample_samples(pixels[..., channel])
            out[..., channel] = upsampling.crop(large, part, origin)
    else:
        for channel in range(colors):
            _store(upsampled(to_float(pixels[..., channel])), out[..., channel])
    if alpha:
        _store(_upsample_alpha(to_float(pixels[..., -1]), tile, upsampling), out[..., -1])


def _store(plane: NDArray[np.float32], out: NDArray[Any]) -> None:
    out[...] = from_float(np.clip(plane, 0, 1), out.dtype)


def _upsample_alpha(plane: NDArray[np.float32], tile: _Tile, upsampling: Upsampling) -> NDArray[np.float32]:
    """Compute a tile of alpha. Each sample is in the range of the pixels under it and of their neighbors."""
    factor = upsampling.factor
    if plane.min() == plane.max():
        return np.full([span.stop - span.start for span in tile.part], plane[0, 0])
    large = upsampling.upsample(plane)
    if not upsampling.reduces:
        lowest, highest = neighborhood_range(plane)
        cells = large.reshape(len(plane), factor, plane.shape[1], factor)
        np.clip(cells, lowest[:, None, :, None], highest[:, None, :, None], out=cells)
        return upsampling.crop(large, tile.part, tile.origin)
    lowest, highest = range_under(
        plane, (_spans_under(tile, upsampling, 0), _spans_under(tile, upsampling, 1))
    )
    return np.clip(upsampling.crop(large, tile.part, tile.origin), lowest, highest)


def _spans_under(tile: _Tile, upsampling: Upsampling, axis: int) -> list[slice]:
    """For each row or column of a tile's part, those of the pixels of `_Tile.cut_out` that it covers."""
    first = tile.origin[axis]
    under = (
        upsampling.pixels_under(slice(index, index + 1), axis)
        for index in range(tile.part[axis].start, tile.part[axis].stop)
    )
    return [slice(span.start - first, span.stop - first) for span in under]
