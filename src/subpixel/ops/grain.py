"""Grain: gives the noise back that a network removed from a frame, at the same strength and grain size.

`removed_noise` compares the source with the result, reduced to the size of the source, where the frame is
smooth. There, the difference of both variances is the variance of the noise that is missing in the result,
and the differences of the covariances of neighbors give the size of its grains. The strength is estimated by
brightness, because noise of cameras and film depends on it. `add_grain` adds new noise like that.

Everything depends on this frame and its seed alone, and only on arithmetic that is the same everywhere. So a
frame always gets the same grain, and an interrupted job resumes to the same bytes.
"""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.resample import Taps, resample, taps

Plane = NDArray[np.float32]

BLOCK_PX = 8
"""Side of the blocks whose variances are compared."""

_MAX_BANDS = 24
"""How many rows of blocks are compared at most, to save time; they are spread over the frame."""

_LEVELS = 16
"""How many levels of brightness have an estimate of their own."""

_SMOOTH_SHARE = 4
"""One in so many blocks of each level counts: those that are the smoothest."""

_PRIOR_BLOCKS = 24
"""The mean over all levels counts as much as so many blocks, so that rare levels do not flicker."""

_MAX_RATIO = 2.0
"""How much larger the variance of a level may be than that of the frame. More is taken for texture."""

_MIN_STRENGTH = 0.25 / 255
"""Standard deviations below this are taken for rounding."""

_BAR_RANGE = 2.5 / 255
"""Range of the samples of a row or column of a bar at most; compression makes it slightly uneven."""

_MAX_CORRELATION = 0.6
"""Of neighbors; mixing three samples cannot make much more."""

_CORRELATION_STEPS = 10
"""Correlations are rounded to 1 / this, so that few fields of noise are needed."""

_SPARE_PX = 256
"""A field is larger than a frame by so many pixels. Each frame gets a part of it at another place."""

_MAX_STEP_PX = 32
"""Where more pixels of the result make whole pixels of the source, all parts of a field are alike."""

_BAND_SAMPLES = 1 << 16


class Noise(NamedTuple):
    """What noise a network removed from a frame."""

    strength: NDArray[np.float32]
    """Standard deviation by brightness, at `_LEVELS` levels whose centers are spread evenly over [0, 1]."""
    correlation: tuple[float, float]
    """Of vertical and of horizontal neighbors, in pixels of the source."""
    inside: tuple[slice, slice]
    """Rows and columns of the source without bars of one color at its edges, which get no grain."""


def removed_noise(small: Plane, large: Plane) -> Noise | None:
    """Estimate the noise of a frame that is missing in its upscaled result.

    Args:
        small: luma of the source, ``(h, w)``, float32 in [0, 1].
        large: luma of the result, ``(H, W)``, float32 in [0, 1], in no direction smaller.

    Returns:
        The noise; None if there is none, or the frame is too small for an estimate.
    """
    inside = without_bars(small)
    rows = _block_rows(inside[0])
    width = (inside[1].stop - inside[1].start) // BLOCK_PX * BLOCK_PX
    columns = slice(inside[1].start, inside[1].start + width)
    if not rows or columns.start == columns.stop:
        return None
    rows_taps, columns_taps = (
        taps("bicubic", to, side) for to, side in zip(large.shape, small.shape, strict=True)
    )
    blocks, reduced = [], []
    for span in rows:
        blocks.append(_blocks(small[span, columns]))
        reduced.append(_blocks(resample(large, rows_taps, columns_taps, (span, columns), (0, 0))))
    return _compare(np.concatenate(blocks), np.concatenate(reduced), inside)


def without_bars(plane: Plane) -> tuple[slice, slice]:
    """Return the rows and columns of a plane without those at its edges that are of one color."""
    rows = np.flatnonzero(np.ptp(plane, axis=1) > _BAR_RANGE)
    columns = np.flatnonzero(np.ptp(plane, axis=0) > _BAR_RANGE)
    if not len(rows) or not len(columns):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _block_rows(rows: slice) -> list[slice]:
    """Rows of blocks, spread over ``rows``."""
    count = (rows.stop - rows.start) // BLOCK_PX
    used = min(count, _MAX_BANDS)
    tops = [rows.start + count * number // used * BLOCK_PX for number in range(used)]
    return [slice(top, top + BLOCK_PX) for top in tops]


def _blocks(band: Plane) -> Plane:
    """Cut a row of blocks into ``(n, BLOCK_PX, BLOCK_PX)``."""
    return band.reshape(BLOCK_PX, -1, BLOCK_PX).swapaxes(0, 1)


def _compare(blocks: Plane, reduced: Plane, inside: tuple[slice, slice]) -> Noise | None:
    """Estimate the noise from the blocks of the source, and those of the reduced result."""
    means = reduced.mean(axis=(1, 2))
    half = BLOCK_PX // 2
    quadrants = reduced.reshape(-1, 2, half, 2, half).mean(axis=(2, 4)).reshape(-1, 4)
    roughness = quadrants.max(axis=1) - quadrants.min(axis=1)
    levels = np.clip(means * _LEVELS, 0, _LEVELS - 1).astype(np.intp)
    smooth = np.zeros(len(blocks), bool)
    for level in np.unique(levels):
        (members,) = np.nonzero(levels == level)
        count = -(-len(members) // _SMOOTH_SHARE)
        smooth[members[np.argsort(roughness[members], kind="stable")[:count]]] = True
    missing = _moments(blocks[smooth]) - _moments(reduced[smooth])
    levels = levels[smooth]
    variance, down, across = np.median(missing, axis=0)
    if variance <= 0:
        return None
    by_level = np.full(_LEVELS, variance)
    for level in np.unique(levels):
        of_level = missing[levels == level, 0]
        count = len(of_level)
        by_level[level] = (count * np.median(of_level) + _PRIOR_BLOCKS * variance) / (count + _PRIOR_BLOCKS)
    strength = np.sqrt(np.clip(by_level, 0, _MAX_RATIO * variance)).astype(np.float32)
    strength[strength < _MIN_STRENGTH] = 0
    correlation = tuple(float(np.clip(each / variance, 0, _MAX_CORRELATION)) for each in (down, across))
    return Noise(strength, (correlation[0], correlation[1]), inside) if strength.any() else None


def _moments(blocks: Plane) -> NDArray[np.float64]:
    """The variance of each block, and the covariances of its vertical and of its horizontal neighbors."""
    values = blocks.astype(np.float64)
    values -= values.mean(axis=(1, 2), keepdims=True)
    variance = (values * values).mean(axis=(1, 2))
    down = (values[:, 1:] * values[:, :-1]).mean(axis=(1, 2))
    across = (values[:, :, 1:] * values[:, :, :-1]).mean(axis=(1, 2))
    return np.stack([variance, down, across], axis=1)


def add_grain(large: Plane, noise: Noise, share: float, seed: int, source: tuple[int, int]) -> None:
    """Add grain to a frame, in place.

    Args:
        large: luma, ``(H, W)``, float32 in [0, 1]. The result may leave that range.
        noise: from `removed_noise`.
        share: how much of the noise to add, 0 to 1.
        seed: an integer, another one for each frame.
        source: height and width of the source.
    """
    steps = [round(each * _CORRELATION_STEPS) for each in noise.correlation]
    field = _field(large.shape[0], large.shape[1], source, (steps[0], steps[1]))
    rows, columns = (
        slice(span.start * to // side, -(-span.stop * to // side))
        for span, to, side in zip(noise.inside, large.shape, source, strict=True)
    )
    place = int(np.random.PCG64(seed % 2**64).random_raw())
    # Whole pixels of the source keep the place of the frame's pixels between them, on which variances depend.
    steps_px = [_step_px(side, to) for side, to in zip(source, large.shape, strict=True)]
    top, left = (
        (place >> shift) % (_SPARE_PX // step_px) * step_px
        for shift, step_px in zip((0, 16), steps_px, strict=True)
    )
    part = field[top : top + large.shape[0], left : left + large.shape[1]]
    part = part[:: -1 if place >> 32 & 1 else 1, :: -1 if place >> 33 & 1 else 1]
    centers = (np.arange(_LEVELS) + 0.5) / _LEVELS
    table = (share * _interpolated(np.arange(256) / 255, centers, noise.strength)).astype(np.float32)
    step = max(1, _BAND_SAMPLES // large.shape[1])
    for first in range(rows.start, rows.stop, step):
        band = slice(first, min(first + step, rows.stop)), columns
        luma = large[band]
        brightness = np.multiply(luma, np.float32(255))
        np.clip(brightness, 0, 255, out=brightness)
        luma += table[brightness.astype(np.uint8)] * part[band]


def _interpolated(
    places: NDArray[np.float64], centers: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Do the same as ``np.interp``, in operations that compilers cannot fuse on some machines."""
    after = np.clip(np.searchsorted(centers, places), 1, len(centers) - 1)
    before = after - 1
    share = np.clip((places - centers[before]) / (centers[after] - centers[before]), 0, 1)
    return np.asarray(values[before] * (1 - share) + values[after] * share)


@lru_cache(maxsize=4)
def _field(height: int, width: int, source: tuple[int, int], correlation: tuple[int, int]) -> Plane:
    """Noise of mean 0, larger than a frame by `_SPARE_PX`, see `_noise_taps`.

    Independent samples, one for each pixel of the source, are resized to the size of the result by Lanczos.
    The neighbors of a pixel are mixed in to reach the correlation.
    """
    axes = [
        _noise_taps(side, to, each / _CORRELATION_STEPS)
        for side, to, each in zip(source, (height, width), correlation, strict=True)
    ]
    target = [len(each.first) for each in axes]
    white = _white(axes[0].length, axes[1].length)
    return resample(white, axes[0], axes[1], (slice(0, target[0]), slice(0, target[1])), (0, 0))


def _step_px(length: int, target: int) -> int:
    """The fewest pixels of the result that are whole pixels of the source; 1 if they are many."""
    step_px = Fraction(target, length).numerator
    return step_px if step_px <= _MAX_STEP_PX else 1


def _noise_taps(length: int, target: int, correlation: float) -> Taps:
    """Taps from independent samples to noise along one axis of a frame.

    All samples of the noise have the same variance. Reduced by bicubic to the size of the source, as in
    `removed_noise`, it has variance 1 and, as nearly as possible, the correlation.
    """
    ratio = Fraction(target, length)
    whole = ratio.denominator
    spare = -(-_SPARE_PX * length // (target * whole)) * whole
    target = int((length + spare) * ratio)
    length += spare
    first, weights, _, _ = taps("lanczos", length, target)
    reducing = taps("bicubic", target, length)
    best, best_error = np.zeros(0), np.inf
    for mixed in np.linspace(-0.4, 1, 29):
        rows = np.zeros((len(weights) + 2, weights.shape[1]))
        for offset, weight in enumerate((mixed, 1.0, mixed)):
            rows[offset : offset + len(weights)] += weight * weights
        rows /= np.sqrt((rows**2).sum(axis=0))
        variance, covariance = _reduced_moments(first, rows, reducing)
        if (error := abs(covariance / variance - correlation)) < best_error:
            best, best_error = rows / np.sqrt(variance), error
    beyond = len(best)
    return Taps(first - 1 + beyond, best.astype(np.float32), length + 2 * beyond)


def _reduced_moments(
    first: NDArray[np.intp], weights: NDArray[np.float64], reducing: Taps
) -> tuple[float, float]:
    """The variance of reduced noise in the middle of an axis, and the covariance of neighbors there."""
    middle = len(reducing.first) // 2
    sums: NDArray[np.float64] = np.zeros((2, reducing.length + len(weights)))
    for number in range(2):
        for tap, weight in enumerate(reducing.weights[:, middle + number]):
            sample = np.clip(reducing.first[middle + number] + tap, 0, reducing.length - 1)
            start = first[sample] - first[0]
            sums[number, start : start + len(weights)] += weight * weights[:, sample]
    return float((sums[0] * sums[0]).sum()), float((sums[0] * sums[1]).sum())


def _white(height: int, width: int) -> Plane:
    """Independent samples of mean 0 and variance 1: sums of four random bytes, nearly Gaussian.

    Bits of PCG64 are the same in all versions of NumPy, unlike samples of distributions.
    """
    count = -(-height * width // 2)
    raw = np.random.PCG64(0).random_raw(count).astype("<u8").view(np.uint8)
    sums = raw.reshape(-1, 4).sum(axis=1, dtype=np.int32)[: height * width].reshape(height, width)
    variance = 4 * (256**2 - 1) / 12
    return np.asarray((sums - 510) / np.sqrt(variance), np.float32)
