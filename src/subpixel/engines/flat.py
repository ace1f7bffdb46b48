"""Flat areas stay flat: where the input is constant, so is the output.

A network with a residual adds a correction to each pixel. On flat areas the correction should be 0, but it
never is
exactly: white paper would get specks of 254. So the correction is left out where all pixels within
`FLAT_RADIUS_PX` have one value. This is part of the definition of such networks
(`subpixel.models.spec.ModelSpec`). It costs no PSNR (``benchmarks/flat.py``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.models.spec import FLAT_RADIUS_PX


def is_flat(tensor: NDArray[Any]) -> NDArray[np.bool_]:
    """Find the flat pixels: those with one value within `FLAT_RADIUS_PX` rows and columns.

    Args:
        tensor: ``(channels, H, W)``, any dtype. Only pixels inside of it are compared.

    Returns:
        ``(H, W)``: whether all channels are flat.
    """
    radius = FLAT_RADIUS_PX
    padded = np.pad(tensor, [(0, 0), (radius, radius), (radius, radius)], mode="edge")
    # Compare the pixels of each row first, then the constant runs of adjacent rows.
    runs = _all_of(padded[:, :, 1:] == padded[:, :, :-1], 2 * radius, axis=2)
    inner = padded[:, :, radius:-radius]
    pairs = runs[:, 1:] & runs[:, :-1] & (inner[:, 1:] == inner[:, :-1])
    flat: NDArray[np.bool_] = np.all(_all_of(pairs, 2 * radius, axis=1), axis=0)
    return flat


def _all_of(values: NDArray[np.bool_], count: int, axis: int) -> NDArray[np.bool_]:
    """Whether ``count`` consecutive values are all true; the axis becomes ``count - 1`` shorter."""
    values = np.moveaxis(values, axis, -1)
    result = values[..., : values.shape[-1] - count + 1].copy()
    for start in range(1, count):
        result &= values[..., start : values.shape[-1] - count + 1 + start]
    return np.moveaxis(result, -1, axis)


def copy_flat_areas(tensor: NDArray[Any], result: NDArray[Any], context_px: int = 0) -> None:
    """Repeat the input's samples in the output, in place, where the input is flat (see `is_flat`).

    Args:
        tensor: the input, ``(channels, H, W)``.
        result: the output without the context, ``(channels, scale*H, scale*W)``, of the same dtype.
        context_px: width of the border of ``tensor`` that is read but has no output.
    """
    inside = tuple(slice(context_px, side - context_px) for side in tensor.shape[1:])
    flat, tensor = is_flat(tensor)[inside], tensor[:, *inside]
    scale = result.shape[1] // tensor.shape[1]
    for row in np.flatnonzero(flat.any(axis=1)):
        columns = np.flatnonzero(flat[row])
        hr_columns = (columns[:, None] * scale + np.arange(scale)).ravel()
        samples = tensor[:, row, columns].repeat(scale, axis=-1)
        for down in range(scale):
            result[:, row * scale + down, hr_columns] = samples
