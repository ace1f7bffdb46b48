"""Where a frame differs from the one before."""

import numpy as np
from numpy.typing import NDArray


def bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns of the smallest rectangle around the set pixels; the first pixel if none is."""
    found = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    rows, columns = (slice(int(each[0]), int(each[-1]) + 1) if each.size else slice(0, 1) for each in found)
    return rows, columns
