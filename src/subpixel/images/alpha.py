"""Upscaling transparency without artifacts.

Fully transparent pixels have arbitrary colors, often black. Upscaling would blend them into their visible
neighbors as fringes, so they are first replaced by the colors around them. A network also overshoots: it
would make opaque areas slightly transparent, and clear areas slightly visible. So upscaled alpha is limited
to the range of its neighborhood in the input.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


_CONTEXT_PX = 64
"""How far across the border of an image that wraps hidden pixels get their colors from."""


def fill_hidden_colors(image: NDArray[Any], wraps: tuple[bool, bool] = (False, False)) -> NDArray[Any]:
    """Give fully transparent pixels the colors of visible pixels nearby.

    Uses a push-pull pyramid (Gortler et al., The Lumigraph, 1996, section 3.4): each level averages the
    visible pixels of 2x2 cells of the level below, until no pixel is hidden; then the holes are filled from
    coarse to fine.

    Args:
        image: ``(H, W, C)``, the last channel straight alpha; unsigned integers, or floats in [0, 1].
        wraps: for rows and for columns, whether the image continues with its opposite side.

    Returns:
        A copy with unchanged alpha and visible pixels; the input itself if no pixel is hidden, or all are.
    """
    visible = image[..., -1] > 0
    if visible.all() or not visible.any():
        return image
    if any(wraps):
        rows_px, columns_px = (_CONTEXT_PX * wrap for wrap in wraps)
        wider = np.pad(image, [(rows_px, rows_px), (columns_px, columns_px), (0, 0)], mode="wrap")
        filled = fill_hidden_colors(wider)
        return filled[rows_px : rows_px + image.shape[0], columns_px : columns_px + image.shape[1]]
    filled = image.copy()
    rounding = 0.5 if image.dtype.kind == "u" else 0.0
    for channel in range(image.shape[2] - 1):  # one at a time to save memory
        colors = _push_pull(image[..., channel].astype(np.float32), visible) + np.float32(rounding)
        np.copyto(filled[..., channel], colors.astype(image.dtype), where=~visible)
    return filled


def neighborhood_range(plane: Plane) -> tuple[Plane, Plane]:
    """The minimum and the maximum of each 3x3 neighborhood of a plane ``(H, W)``."""
    lowest, highest = plane, plane
    for axis in (0, 1):
        padding = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
        low, high = (np.moveaxis(np.pad(p, padding, mode="edge"), axis, 0) for p in (lowest, highest))
        lowest = np.moveaxis(np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:]), 0, axis)
        highest = np.moveaxis(np.maximum(np.maximum(high[:-2], high[1:-1]), high[2:]), 0, axis)
    return lowest, highest


def range_under(plane: Plane, spans: tuple[list[slice], list[slice]]) -> tuple[Plane, Plane]:
    """The minimum and the maximum of the pixels under each pixel of a resized plane, and of their neighbors.

    Args:
        plane: ``(H, W)``.
        spans: for each row and each column of the result, the rows or columns of ``plane`` that it covers,
            except the last ones.

    Returns:
        Two planes of the size of the result.
    """
    lowest, highest = neighborhood_range(plane)
    for axis in (0, 1):
        # The reductions between the stop of a span and the start of the next one are left out.
        edges = [edge for span in spans[axis] for edge in (span.start, span.stop)]
        kept = (slice(None),) * axis + (slice(None, None, 2),)
        lowest = np.minimum.reduceat(lowest, edges, axis)[kept]
        highest = np.maximum.reduceat(highest, edges, axis)[kept]
    return lowest, highest


def _push_pull(plane: Plane, known: NDArray[np.bool_]) -> Plane:
    if known.all():
        return plane
    height, width = plane.shape
    even = ((0, height % 2), (0, width % 2))
    weights = np.pad(known, even).astype(np.float32)
    sums = _sum_2x2(np.pad(plane, even) * weights)
    counts = _sum_2x2(weights)
    means = np.divide(sums, np.maximum(counts, 1), dtype=np.float32)
    coarse = _push_pull(means, counts > 0)
    return np.where(known, plane, _upsample_2x(coarse)[:height, :width])


def _sum_2x2(plane: Plane) -> Plane:
    """Sums over 2x2 cells."""
    return plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]


def _upsample_2x(plane: Plane) -> Plane:
    """Upsample by 2, bilinear: 3/4 of the sample and 1/4 of its nearer neighbor per axis."""
    for axis in (0, 1):
        padded = np.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        padded = np.moveaxis(padded, axis, 0)
        quarters = padded * np.float32(0.25)
        middle = quarters[1:-1] * np.float32(3)
        pairs = np.stack([middle + quarters[:-2], middle + quarters[2:]], axis=1)
        plane = np.moveaxis(pairs.reshape(-1, *padded.shape[1:]), 0, axis)
    return plane
