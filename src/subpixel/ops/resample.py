"""Resampling to any size in pixels, also of single parts of the result.

`resize.imresize` resizes a complete image by one factor, as MATLAB does. Here the target is a size in pixels,
and each part of the result needs only a part of the source. A sample is equal to the bit in all parts: its
weights depend on its position in the complete image, and they are added in a fixed order.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.resize import keys_cubic

Kernel = Literal["bicubic", "lanczos"]
"""``bicubic``: Keys' cubic convolution with a = -0.5. ``lanczos``: sinc with a sinc window of radius 3."""

Plane = NDArray[np.float32]

_BAND_SAMPLES = 1 << 15
"""Number of samples in one band, so that it stays in the CPU cache: 128 KB of float32."""


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3.0, _sinc(x) * _sinc(x / 3.0), 0.0)


def _sinc(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``sin(pi x) / (pi x)``, the same to the bit on every machine, which ``np.sinc`` is not.

    The sine is that of the distance from the nearest integer, by its Taylor series, whose error is below the
    rounding of float64.
    """
    whole = np.rint(x)
    angle = np.pi * (x - whole)
    square = angle * angle
    series = np.ones_like(x)
    for factor in range(22, 0, -2):
        series = 1 - square * series / (factor * (factor + 1))
    sine = np.where(whole % 2 == 0, angle, -angle) * series
    return np.divide(sine, np.pi * x, out=np.ones_like(x), where=x != 0)


_KERNELS: dict[Kernel, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], int]] = {
    "bicubic": (keys_cubic, 2),
    "lanczos": (_lanczos, 3),
}
"""Each kernel as a function of the distance in samples, and its radius."""


class Taps(NamedTuple):
    """The weights and positions of the source samples along one axis.

    Sample k of the result is the sum over t of ``weights[t, k]`` times sample ``first[k] + t`` of the source.
    Outside of the source, its edge sample is repeated, or the source starts again.
    """

    first: NDArray[np.intp]
    weights: NDArray[np.float32]
    length: int
    """Number of samples of the source."""
    wraps: bool = False
    """Whether the source starts again outside of it."""


def radius(kernel: Kernel, length: int, target: int) -> float:
    """Return a kernel's radius in samples of the source."""
    return _KERNELS[kernel][1] * max(1.0, length / target)


@lru_cache(maxsize=64)
def taps(kernel: Kernel, length: int, target: int, *, wraps: bool = False) -> Taps:
    """Return the taps that resize an axis of ``length`` samples to ``target``.

    If the target is smaller, the kernel is wider by ``length / target`` (antialiasing). The ends of the
    result are at the ends of the source, as with `resize.imresize`.
    """
    function, _ = _KERNELS[kernel]
    ratio = length / target
    stretch = max(1.0, ratio)
    half = radius(kernel, length, target)
    center = (np.arange(target) + 0.5) * length / target - 0.5
    first = np.floor(center - half).astype(np.intp) + 1
    offsets = np.arange(math.ceil(2 * half))[:, None]
    weights = function((first + offsets - center) / stretch)
    weights /= weights.sum(axis=0)
    return Taps(first, weights.astype(np.float32), length, wraps)


def continued(taps: Taps, count: int) -> Taps:
    """Return the taps of a result that wraps, with ``count`` more samples at each end."""
    if not count:
        return taps
    target = len(taps.first)
    repeats, index = np.divmod(np.arange(-count, target + count), target)
    first = taps.first[index] + repeats * taps.length
    return Taps(first, np.ascontiguousarray(taps.weights[:, index]), taps.length, taps.wraps)


@lru_cache(maxsize=64)
def area_taps(length: int, target: int) -> Taps:
    """Return the taps that average the part of the source that each sample of the result covers.

    The same for larger targets: where samples of the source meet, the result mixes them by area.
    """
    edges = np.arange(target + 1) * length
    first, last = edges[:-1] // target, -(-edges[1:] // target)
    samples = first + np.arange((last - first).max())[:, None]
    covered = np.minimum(edges[1:], (samples + 1) * target) - np.maximum(edges[:-1], samples * target)
    return Taps(first.astype(np.intp), (np.maximum(covered, 0) / length).astype(np.float32), length)


def resample(
    plane: Plane, rows: Taps, columns: Taps, part: tuple[slice, slice], origin: tuple[int, int]
) -> Plane:
    """Compute a part of a resized plane.

    Args:
        plane: ``(H, W)``, float32: at least the part of the source that the result needs.
        rows, columns: the taps of both axes.
        part: the rows and columns of the result to compute.
        origin: row and column of the first sample of ``plane`` in the source. Negative if the plane is padded
            there; the padding is read only along axes that wrap.

    Returns:
        ``part`` of the result, float32, C-contiguous; not clipped.
    """
    lower = _along_rows(plane, rows, part[0], origin[0])
    return np.ascontiguousarray(_along_rows(lower.T, columns, part[1], origin[1]).T)


def positions(taps: Taps, span: slice, origin: int, length: int) -> NDArray[np.intp]:
    """Return the samples that a part of the result is the sum of, as places in a part of the source.

    Args:
        taps: of the axis.
        span: the samples of the result.
        origin: where in the source its part starts; see `resample`.
        length: of the part of the source.

    Returns:
        ``(number of taps, length of span)``, from 0 to ``length - 1``.
    """
    result = taps.first[span] + np.arange(len(taps.weights))[:, None]
    if not taps.wraps:
        np.clip(result, 0, taps.length - 1, out=result)
    result -= origin
    return np.clip(result, 0, length - 1, out=result)


def _along_rows(plane: NDArray[Any], taps: Taps, span: slice, origin: int) -> Plane:
    plane = np.ascontiguousarray(plane)
    indices, weights = positions(taps, span, origin, len(plane)), taps.weights[:, span, None]
    width = plane.shape[1]
    count = indices.shape[1]
    result = np.empty((count, width), np.float32)
    term = np.empty(_BAND_SAMPLES + width, np.float32)
    step = max(1, _BAND_SAMPLES // width)
    for top in range(0, count, step):
        band = slice(top, top + step)
        out = result[band]
        product = term[: out.size].reshape(out.shape)
        for tap, index in enumerate(indices):
            target = product if tap else out
            np.take(plane, index[band], axis=0, out=target, mode="clip")  # without a buffer, unlike "raise"
            target *= weights[tap, band]
            if tap:
                out += product
    return result
