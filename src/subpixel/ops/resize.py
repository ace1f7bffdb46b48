"""Resampling by the rules that super-resolution is measured with.

`imresize` follows MATLAB's function of that name (bicubic, antialiased), which made the low-resolution
images of nearly every published number: `docs/protocol.md` tells why it matters. `blur_and_decimate` is
the degradation that the ESPCN paper describes.

Both are the same operation with other weights: along one axis after the other, each output sample is a
weighted sum of neighboring input samples, and the weights recur with a short period (`_Taps`).
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BAND_SAMPLES = 1 << 16
"""How many samples are worked on at a time; 256 KB of float32."""


class _Taps(NamedTuple):
    """What makes the output samples along one axis.

    With ``period`` rows in ``weights``, output sample ``m * period + p`` is the sum over ``t`` of
    ``weights[p, t]`` times input sample ``first[p] + m * step + t``. Beyond the edge lies the edge sample.
    """

    first: NDArray[np.intp]
    weights: NDArray[np.float64]
    step: int


def _keys_cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981, equation 15), for distances in samples."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


@lru_cache(maxsize=64)
def _cubic_taps(scale: float, target: int) -> _Taps:
    """The bicubic taps for resizing by ``scale``; shrinking widens the kernel by 1/scale (antialiasing)."""
    ratio = Fraction(scale).limit_denominator(64)
    # Scaling by 2/3, output k + 2 lies over the input 3 samples on. Without such a ratio every output
    # sample has weights of its own, and the step is never taken.
    period, step = ratio.as_integer_ratio() if math.isclose(ratio, scale) else (target, 0)
    stretch = min(scale, 1.0)
    # Output sample k covers the input around (k + 1/2) / scale - 1/2, both counted from 0.
    center = (np.arange(period) + 0.5) / scale - 0.5
    first = np.floor(center - 2 / stretch).astype(np.intp)
    weights = _keys_cubic(stretch * (center - first - np.arange(math.ceil(4 / stretch) + 2)[:, None])).T
    return _Taps(first, weights / weights.sum(axis=1, keepdims=True), step)


def _gaussian_taps(sigma_px: float, scale: int) -> _Taps:
    """The taps of a Gaussian around the middle of every ``scale`` samples, cut off at 4 sigma."""
    center = (scale - 1) / 2
    reach = 4 * sigma_px + 0.5
    offsets = np.arange(math.ceil(center - reach), math.floor(center + reach) + 1)
    weights = np.exp(-0.5 * ((offsets - center) / sigma_px) ** 2)
    return _Taps(offsets[:1], weights[None] / weights.sum(), scale)


def _filter_axis(image: NDArray[Any], axis: int, target: int, taps: _Taps) -> NDArray[Any]:
    """Apply ``taps`` along one axis to get ``target`` samples, in float32 for float32 and else in float64."""
    dtype = np.float32 if image.dtype == np.float32 else np.float64
    period, width = taps.weights.shape
    length = image.shape[axis]
    before = max(0, -int(taps.first.min()))
    after = max(0, int(taps.first.max()) + (target - 1) // period * taps.step + width - length)
    padding = [(0, 0)] * image.ndim
    padding[axis] = (before, after)
    result = np.empty([target if a == axis else n for a, n in enumerate(image.shape)], dtype)
    source = np.moveaxis(np.pad(image, padding, mode="edge"), axis, 0)
    moved = np.moveaxis(result, axis, 0)
    # In bands along the other axis, so that the running sums stay in the processor's cache.
    band = max(64, _BAND_SAMPLES // length)
    for start in range(0, moved.shape[1], band):
        across = slice(start, start + band)
        for phase, (first, weights) in enumerate(zip(taps.first + before, taps.weights, strict=True)):
            out = moved[phase::period, across]
            total = np.zeros_like(out)
            term = np.empty_like(out)
            for tap in np.flatnonzero(weights):
                part = source[first + tap :: taps.step or 1, across][: len(out)]
                total += np.multiply(part, dtype(weights[tap]), out=term)
            out[...] = total
    return result


def _check(image: NDArray[Any]) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"expected an image of shape (H, W) or (H, W, C), not {image.shape}")
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise ValueError(f"expected uint8, uint16, float32 or float64 samples, not {image.dtype}")


def _rounded(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Samples as ``dtype``: integers rounded half up and clipped, floats as they are."""
    if dtype.kind == "f":
        return samples.astype(dtype, copy=False)
    return np.clip(np.floor(samples + 0.5), 0, np.iinfo(dtype).max).astype(dtype)


def imresize(image: NDArray[Any], scale: float) -> NDArray[Any]:
    """Resize by the factor ``scale`` with MATLAB's antialiased bicubic, ``imresize(image, scale)``.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``; uint8, uint16, float32 or float64.
        scale: output side over input side, such as ``1/3`` or ``3``. Output sides are
            ``ceil(scale * side)``.

    Returns:
        The dtype of the input. Rows are resized first, then columns (for MATLAB: the axis with the smaller
        scale, the first when they are equal); integers are rounded half up and clipped after **each** pass,
        as MATLAB does, which decides about 10% of the pixels; floats are not rounded.
    """
    _check(image)
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")
    for axis in (0, 1):
        # 1e-9 forgives 1/3 * 3 coming out above 1.
        target = math.ceil(image.shape[axis] * scale - 1e-9)
        image = _rounded(_filter_axis(image, axis, target, _cubic_taps(scale, target)), image.dtype)
    return image


@lru_cache(maxsize=8)
def cubic_phases(scale: int) -> list[list[tuple[int, float]]]:
    """`imresize` by an integer factor from 1 up along one axis.

    Returns:
        For each of the ``scale`` samples that lie over input sample k, the taps that make it: their place
        counted from k, and their weight, which is not 0. They reach 2 samples at most.
    """
    taps = _cubic_taps(scale, scale)
    return [
        [(int(first) + tap, float(weight)) for tap, weight in enumerate(weights) if weight]
        for first, weights in zip(taps.first, taps.weights, strict=True)
    ]


def bicubic_kernels(scale: int) -> NDArray[np.float64]:
    """`imresize` by an integer factor from 1 up as a sub-pixel convolution.

    Returns:
        ``(scale**2, 5, 5)``: the taps of each phase, in order ``crd``. Correlated with an image whose edge is
        repeated by 2 pixels, and shuffled, they give what `imresize` gives for floats.
    """
    line = np.zeros((scale, 5))
    for phase, taps in enumerate(cubic_phases(scale)):
        for place, weight in taps:
            line[phase, place + 2] = weight
    products = line[:, None, :, None] * line[None, :, None, :]
    return products.reshape(scale**2, 5, 5)


def blur_and_decimate(image: NDArray[Any], scale: int, sigma_px: float) -> NDArray[Any]:
    """Gaussian blur, then one sample in ``scale`` along each axis: the ESPCN paper's degradation (section 3).

    Each LR pixel is a Gaussian-weighted mean around the middle of the HR pixels that it stands for, so that
    the picture stays where `imresize` leaves it. At an odd scale that middle is a pixel, at an even one it
    lies between two.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` with sides that are multiples of ``scale``; uint8, uint16, float32
            or float64.
        scale: the integer factor.
        sigma_px: standard deviation in HR pixels; the kernel is cut off at 4 sigma. The paper does not state
            it, so there is no default. The edge is replicated.

    Returns:
        The dtype of the input, integers rounded half up once at the end.
    """
    _check(image)
    if scale < 1 or image.shape[0] % scale or image.shape[1] % scale:
        raise ValueError(f"sides of {image.shape} must be multiples of the scale {scale}")
    if not sigma_px > 0:
        raise ValueError(f"sigma_px must be positive, not {sigma_px}")
    taps = _gaussian_taps(sigma_px, scale)
    rows = _filter_axis(image, 0, image.shape[0] // scale, taps)
    return _rounded(_filter_axis(rows, 1, image.shape[1] // scale, taps), image.dtype)
