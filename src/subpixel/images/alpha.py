"""Transparency without fringes.

The colors of wholly transparent pixels are arbitrary, often black, and enlarging would smear them into
their visible neighbors. So they are replaced first by what surrounds them. And a network may answer a
little more or less than the alpha around it, which would make the opaque shimmer and leave ghosts in the
clear, so its answer is held within the range of the small picture's neighborhood.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def fill_hidden_colors(image: NDArray[Any]) -> NDArray[Any]:
    """Give wholly transparent pixels the colors of the visible ones nearby.

    By a push-pull pyramid (Gortler et al., The Lumigraph, 1996, section 3.4): each level holds the means of
    the visible pixels of the level below, two by two, until none is hidden; then the holes are filled from
    coarse to fine.

    Args:
        image: ``(H, W, n)``, the last band alpha, straight; unsigned integers, or floats in [0, 1].

    Returns:
        The same, with the visible pixels and the alpha as they were. The input where nothing is hidden.
    """
    visible = image[..., -1] > 0
    if visible.all() or not visible.any():
        return image
    filled = image.copy()
    rounding = 0.5 if image.dtype.kind == "u" else 0.0
    for band in range(image.shape[2] - 1):  # one by one, for the sake of memory
        colors = _push_pull(image[..., band].astype(np.float32), visible) + np.float32(rounding)
        np.copyto(filled[..., band], colors.astype(image.dtype), where=~visible)
    return filled


def neighborhood_range(plane: Plane) -> tuple[Plane, Plane]:
    """The least and the largest of each sample and its eight neighbors, for a plane ``(H, W)``."""
    lowest, highest = plane, plane
    for axis in (0, 1):
        padding = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
        low, high = (np.moveaxis(np.pad(p, padding, mode="edge"), axis, 0) for p in (lowest, highest))
        lowest = np.moveaxis(np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:]), 0, axis)
        highest = np.moveaxis(np.maximum(np.maximum(high[:-2], high[1:-1]), high[2:]), 0, axis)
    return lowest, highest


def _push_pull(plane: Plane, known: NDArray[np.bool_]) -> Plane:
    if known.all():
        return plane
    height, width = plane.shape
    even = ((0, height % 2), (0, width % 2))
    weights = np.pad(known, even).astype(np.float32)
    sums = _sum_of_cells(np.pad(plane, even) * weights)
    counts = _sum_of_cells(weights)
    means = np.divide(sums, np.maximum(counts, 1), dtype=np.float32)
    coarse = _push_pull(means, counts > 0)
    return np.where(known, plane, _doubled(coarse)[:height, :width])


def _sum_of_cells(plane: Plane) -> Plane:
    """The sums over cells of two by two samples."""
    return plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]


def _doubled(plane: Plane) -> Plane:
    """Twice as large each way, bilinear: 3/4 of the sample itself and 1/4 of the nearer neighbor."""
    for axis in (0, 1):
        padded = np.pad(plane, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        padded = np.moveaxis(padded, axis, 0)
        quarters = padded * np.float32(0.25)
        middle = quarters[1:-1] * np.float32(3)
        pairs = np.stack([middle + quarters[:-2], middle + quarters[2:]], axis=1)
        plane = np.moveaxis(pairs.reshape(-1, *padded.shape[1:]), 0, axis)
    return plane
