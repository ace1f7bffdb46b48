"""Flat stays flat: where a picture does not vary, neither does what it becomes.

A network with a residual adds something to each pixel. On flat areas it should add nothing, and never quite
does: white paper comes out speckled with 254. So such a network adds nothing where all pixels within
`FLAT_RADIUS_PX` have one value; this is part of its definition (`subpixel.models.spec.ModelSpec`). It costs
no PSNR: ``benchmarks/flat.py``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.models.spec import FLAT_RADIUS_PX


def is_flat(tensor: NDArray[Any]) -> NDArray[np.bool_]:
    """Where all pixels within `FLAT_RADIUS_PX`, in rows and columns, have one value.

    Args:
        tensor: ``(channels, H, W)``, of any dtype. What lies beyond it counts for nothing.

    Returns:
        ``(H, W)``. Where there are several channels, each of them must be flat.
    """
    around = FLAT_RADIUS_PX
    padded = np.pad(tensor, [(0, 0), (around, around), (around, around)], mode="edge")
    # In a row 2 * FLAT_REACH_PX neighbors must be alike, and then as many in a column of such runs.
    runs = _all_of(padded[:, :, 1:] == padded[:, :, :-1], 2 * around, axis=2)
    inner = padded[:, :, around:-around]
    pairs = runs[:, 1:] & runs[:, :-1] & (inner[:, 1:] == inner[:, :-1])
    flat: NDArray[np.bool_] = np.all(_all_of(pairs, 2 * around, axis=1), axis=0)
    return flat


def _all_of(values: NDArray[np.bool_], count: int, axis: int) -> NDArray[np.bool_]:
    """Whether ``count`` values in succession are all true; ``count - 1`` fewer than there are."""
    values = np.moveaxis(values, axis, -1)
    result = values[..., : values.shape[-1] - count + 1].copy()
    for start in range(1, count):
        result &= values[..., start : values.shape[-1] - count + 1 + start]
    return np.moveaxis(result, -1, axis)


def keep_flat(tensor: NDArray[Any], result: NDArray[Any]) -> None:
    """Give the large picture, in place, the small one's samples where that `is_flat`.

    Args:
        tensor: ``(channels, H, W)``.
        result: ``(channels, scale*H, scale*W)``, of the same dtype.
    """
    keep_where(is_flat(tensor), tensor, result)


def keep_where(flat: NDArray[np.bool_], tensor: NDArray[Any], result: NDArray[Any]) -> None:
    """The same where ``flat``, ``(H, W)``, says so."""
    scale = result.shape[1] // tensor.shape[1]
    for row in np.flatnonzero(flat.any(axis=1)):
        columns = np.flatnonzero(flat[row])
        wide = (columns[:, None] * scale + np.arange(scale)).ravel()
        samples = tensor[:, row, columns].repeat(scale, axis=-1)
        for down in range(scale):
            result[:, row * scale + down, wide] = samples
