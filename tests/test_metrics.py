import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from subpixel.evaluation.metrics import psnr_db, ssim


@pytest.fixture(scope="module")
def pair():
    """An 8-bit image, not square, and a noisy version of it."""
    reference = data.camera()[100:180, 150:270]
    noise = np.random.default_rng(0).normal(0, 12, reference.shape)
    return reference, np.clip(reference + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shave", [0, 3])
def test_psnr_matches_scikit_image(pair, shave):
    x, y = (plane[shave:-shave, shave:-shave] if shave else plane for plane in pair)
    expected = peak_signal_noise_ratio(x, y, data_range=255)
    assert psnr_db(*pair, shave=shave) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shave", [0, 3])
def test_ssim_matches_scikit_image(pair, shave):
    x, y = (plane[shave:-shave, shave:-shave] if shave else plane for plane in pair)
    # These arguments are those of Wang's ssim_index.m; the defaults of scikit-image are another measure.
    expected = structural_similarity(
        x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair, shave=shave) == pytest.approx(expected, abs=1e-10)
    assert abs(structural_similarity(x, y, data_range=255) - expected) > 1e-3


def test_psnr_of_known_differences():
    black, off_by_one = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert psnr_db(black, off_by_one, shave=0) == pytest.approx(20 * math.log10(255))
    # Unsigned samples must not wrap around.
    assert psnr_db(off_by_one, black, shave=0) == psnr_db(black, off_by_one, shave=0)


def test_psnr_of_color_includes_every_channel(pair):
    reference, result = pair
    color = np.stack([reference] * 3, axis=-1), np.stack([result, reference, reference], axis=-1)
    assert psnr_db(*color, shave=2) == pytest.approx(psnr_db(reference, result, shave=2) + 10 * math.log10(3))


def test_peak_scales_the_range(pair):
    x, y = (plane / 255 for plane in pair)
    assert psnr_db(x, y, peak=1, shave=1) == pytest.approx(psnr_db(*pair, shave=1), abs=1e-10)
    assert ssim(x, y, peak=1, shave=1) == pytest.approx(ssim(*pair, shave=1), abs=1e-10)


def test_identical_images(pair):
    reference, _ = pair
    assert psnr_db(reference, reference, shave=0) == math.inf
    assert ssim(reference, reference, shave=0) == pytest.approx(1, abs=1e-12)


def test_the_shaved_border_is_ignored(pair):
    reference, result = pair
    changed = result.copy()
    changed[:3], changed[-3:], changed[:, :3], changed[:, -3:] = 0, 255, 0, 255
    assert psnr_db(reference, changed, shave=3) == psnr_db(reference, result, shave=3)
    assert ssim(reference, changed, shave=3) == ssim(reference, result, shave=3)
    assert psnr_db(reference, changed, shave=2) < psnr_db(reference, result, shave=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr_db(np.zeros((4, 4)), np.zeros((4, 5)), shave=0), "shapes differ"),
        (lambda: ssim(np.zeros((14, 14)), np.zeros((14, 14, 1)), shave=0), "shapes differ"),
        (lambda: psnr_db(np.zeros((4, 4)), np.zeros((4, 4)), shave=2), "less than 1x1"),
        (lambda: psnr_db(np.zeros((4, 4)), np.zeros((4, 4)), shave=-1), "cannot shave"),
        (lambda: ssim(np.zeros((16, 20)), np.zeros((16, 20)), shave=3), "less than 11x11"),
        (lambda: ssim(np.zeros((16, 20, 3)), np.zeros((16, 20, 3)), shave=0), "expected planes"),
    ],
)
def test_invalid_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
