"""Resampling as in the protocols that measure super-resolution.

`imresize` reproduces MATLAB's function of that name (bicubic, antialiased). Nearly all published numbers use
LR images that it made; `docs/protocol.md` explains why this matters. `blur_and_decimate` is the degradation
in the ESPCN paper.

Both are the same operation with other weights: along one axis after the other, each output sample is a
weighted sum of neighboring input samples, and the weights repeat with a short period (`_Taps`).
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BAND_SAMPLES = 1 << 16
"""Number of samples in one band of `_filter_axis`: 256 KB of float32."""


class _Taps(NamedTuple):
    """The weights and positions of the input samples along one axis.

    With ``period`` rows in ``weights``, output sample ``m * period + p`` is the sum over ``t`` of
    ``weights[p, t]`` times input sample ``first[p] + m * step + t``. Outside of the image, the edge sample is
    repeated.
    """

    first: NDArray[np.intp]
    weights: NDArray[np.float64]
    step: int


def keys_cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate Keys' cubic kernel with a = -0.5 (Keys 1981, equation 15) at distances in samples."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


@lru_cache(maxsize=64)
def _cubic_taps(scale: float, target: int) -> _Taps:
    """Return the bicubic taps for a scale. Downscaling widens the kernel by 1/scale (antialiasing)."""
    ratio = Fraction(scale).limit_denominator(64)
    # At scale 2/3, the weights repeat after 2 output samples, which are 3 input samples. At a scale that is
    # not a simple ratio, each output sample has its own weights, and the step is not used.
    period, step = ratio.as_integer_ratio() if math.isclose(ratio, scale) else (target, 0)
    stretch = min(scale, 1.0)
    # Output sample k is centered on input position (k + 1/2) / scale - 1/2, both from 0.
    center = (np.arange(period) + 0.5) / scale - 0.5
    first = np.floor(center - 2 / stretch).astype(np.intp)
    weights = keys_cubic(stretch * (center - first - np.arange(math.ceil(4 / stretch) + 2)[:, None])).T
    return _Taps(first, weights / weights.sum(axis=1, keepdims=True), step)


def _gaussian_taps(sigma_px: float, scale: int, center: float) -> _Taps:
    """Return the taps of a Gaussian at ``center`` of each ``scale`` samples, cut off at 4 sigma."""
    radius = 4 * sigma_px + 0.5
    offsets = np.arange(math.ceil(center - radius), math.floor(center + radius) + 1)
    weights = np.exp(-0.5 * ((offsets - center) / sigma_px) ** 2)
    return _Taps(offsets[:1], weights[None] / weights.sum(), scale)


def _filter_axis(image: NDArray[Any], axis: int, target: int, taps: _Taps) -> NDArray[Any]:
    """Resample one axis to ``target`` samples, in float32 for float32 and in float64 for all other dtypes."""
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
    # Bands along the other axis keep the running sums in the CPU cache.
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
    """Convert to ``dtype``: integers are rounded half up and clipped, floats do not change."""
    if dtype.kind == "f":
        return samples.astype(dtype, copy=False)
    return np.clip(np.floor(samples + 0.5), 0, np.iinfo(dtype).max).astype(dtype)


def imresize(image: NDArray[Any], scale: float) -> NDArray[Any]:
    """Resize by the factor ``scale`` with MATLAB's antialiased bicubic, ``imresize(image, scale)``.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``; uint8, uint16, float32 or float64.
        scale: output side divided by input side, such as ``1/3`` or ``3``.

    Returns:
        The image with sides ``ceil(scale * side)``, in the input's dtype. The first axis is resized first, as
        in MATLAB when both scales are equal. Integers are rounded half up and clipped after **each** pass, as
        in MATLAB; this changes about 10% of the pixels. Floats are not rounded.

    Raises:
        ValueError: the image has another shape or dtype or no pixels, or the scale is not positive.
    """
    _check(image)
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")
    for axis in (0, 1):
        # Subtract 1e-9, because 1/3 * 3 may be slightly above 1.
        target = math.ceil(image.shape[axis] * scale - 1e-9)
        image = _rounded(_filter_axis(image, axis, target, _cubic_taps(scale, target)), image.dtype)
    return image


@lru_cache(maxsize=8)
def cubic_phases(scale: int) -> list[list[tuple[int, float]]]:
    """Return the taps of `imresize` along one axis, for an integer scale from 1 up.

    Returns:
        For each of the ``scale`` output samples that belong to input sample k, the taps ``(offset, weight)``:
        an offset from k, from -2 to 2, and a weight other than 0.
    """
    taps = _cubic_taps(scale, scale)
    return [
        [(int(first) + tap, float(weight)) for tap, weight in enumerate(weights) if weight]
        for first, weights in zip(taps.first, taps.weights, strict=True)
    ]


def bicubic_kernels(scale: int) -> NDArray[np.float64]:
    """Return `imresize` by an integer scale from 1 up as the kernels of a sub-pixel convolution.

    Returns:
        ``(scale**2, 5, 5)``: one kernel for each phase, in order ``crd``. Pad an image by 2 pixels with its
        edge repeated, correlate, and shuffle: the result equals `imresize` for floats.
    """
    line = np.zeros((scale, 5))
    for phase, taps in enumerate(cubic_phases(scale)):
        for offset, weight in taps:
            line[phase, offset + 2] = weight
    products = line[:, None, :, None] * line[None, :, None, :]
    return products.reshape(scale**2, 5, 5)


def blur_and_decimate(
    image: NDArray[Any], scale: int, sigma_px: float, *, position: Literal["center", "first"] = "center"
) -> NDArray[Any]:
    """Blur with a Gaussian, then take one sample of ``scale`` along each axis: section 3 of the ESPCN paper.

    Each LR pixel is a Gaussian-weighted mean around the center of its block of HR pixels, so the image does
    not shift, as with `imresize`. At an odd scale the center is a pixel, at an even scale it is between two.
    With ``position="first"``, the mean is around the first pixel of the block.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` with sides that are multiples of ``scale``; uint8, uint16, float32
            or float64.
        scale: the integer factor, at least 1.
        sigma_px: standard deviation in HR pixels; the kernel ends at 4 sigma. The paper does not state it, so
            there is no default. Outside of the image, edge pixels are repeated.
        position: where in its block of HR pixels an LR pixel lies.

    Returns:
        The LR image in the input's dtype. Integers are rounded half up once, at the end.

    Raises:
        ValueError: the image has another shape or dtype, its sides are not multiples of the scale, or a
            number is out of range.
    """
    _check(image)
    if scale < 1 or image.shape[0] % scale or image.shape[1] % scale:
        raise ValueError(f"sides of {image.shape} must be multiples of the scale {scale}")
    if not sigma_px > 0:
        raise ValueError(f"sigma_px must be positive, not {sigma_px}")
    taps = _gaussian_taps(sigma_px, scale, (scale - 1) / 2 if position == "center" else 0)
    rows = _filter_axis(image, 0, image.shape[0] // scale, taps)
    return _rounded(_filter_axis(rows, 1, image.shape[1] // scale, taps), image.dtype)
