"""PSNR and SSIM, as super-resolution papers compute them."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW_PX = 11
"""Side of the window of SSIM, and of the smallest plane that it can measure."""


def psnr_db(reference: NDArray[Any], result: NDArray[Any], *, peak: float = 255, shave: int) -> float:
    """Peak signal-to-noise ratio: ``10 log10(peak**2 / mean squared error)``.

    Args:
        reference: ``(H, W)`` or ``(H, W, C)``; integers or floats, from 0 to ``peak``.
        result: the same shape and range.
        peak: the largest value that a sample can have (not the largest in the image).
        shave: number of pixels left out along each border; in the literature, the scale.

    Returns:
        dB; infinity for identical images.

    Raises:
        ValueError: the shapes differ, or nothing is left after shaving.
    """
    reference, result = _shaved(reference, result, shave, least=1)
    mse = float(np.mean((reference - result) ** 2))
    return 10 * math.log10(peak**2 / mse) if mse else math.inf


def ssim(reference: NDArray[Any], result: NDArray[Any], *, peak: float = 255, shave: int) -> float:
    """Mean structural similarity (Wang et al. 2004), with the constants of the authors' ``ssim_index.m``.

    The window is a Gaussian of 11 x 11 pixels with sigma 1.5. K1 = 0.01 and K2 = 0.03. Variances are those of
    the population. The image is not downsampled, and only windows that are completely inside it count.

    Args:
        reference: ``(H, W)``; integers or floats, from 0 to ``peak``.
        result: the same shape and range.
        peak: the largest value that a sample can have.
        shave: number of pixels left out along each border.

    Returns:
        At most 1, the value for identical images.

    Raises:
        ValueError: the shapes differ, or what is left after shaving is smaller than a window.
    """
    if reference.ndim != 2:
        raise ValueError(f"expected planes of shape (H, W), not {reference.shape}")
    x, y = _shaved(reference, result, shave, least=SSIM_WINDOW_PX)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = _window_means(x), _window_means(y)
    variance_x = _window_means(x * x) - mean_x**2
    variance_y = _window_means(y * y) - mean_y**2
    covariance = _window_means(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


def _window_means(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian-weighted mean of each window inside the plane."""
    radius = SSIM_WINDOW_PX // 2
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 1.5) ** 2)
    weights /= weights.sum()
    height, width = (side - 2 * radius for side in plane.shape)
    rows = np.zeros((height, plane.shape[1]))
    for tap, weight in enumerate(weights):
        rows += weight * plane[tap : tap + height]
    means = np.zeros((height, width))
    for tap, weight in enumerate(weights):
        means += weight * rows[:, tap : tap + width]
    return means


def _shaved(
    reference: NDArray[Any], result: NDArray[Any], shave: int, least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images in float64 without their borders; ValueError if a side is below ``least`` pixels."""
    if reference.shape != result.shape:
        raise ValueError(f"the shapes differ: {reference.shape} and {result.shape}")
    if reference.ndim not in (2, 3) or shave < 0:
        raise ValueError(f"cannot shave {shave} pixels off the border of an image of shape {reference.shape}")
    height, width = reference.shape[:2]
    if min(height, width) - 2 * shave < least:
        raise ValueError(f"{width}x{height} without a border of {shave} is less than {least}x{least} pixels")
    inside = (slice(shave, height - shave), slice(shave, width - shave))
    return reference[inside].astype(np.float64), result[inside].astype(np.float64)
