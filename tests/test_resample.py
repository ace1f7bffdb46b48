import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from subpixel.ops.pixel_shuffle import pixel_shuffle
from subpixel.ops.resize import bicubic_kernels, blur_and_decimate, imresize

SETS = {
    "Set5": ("baby", "bird", "butterfly", "head", "woman"),
    "Set14": (
        *("baboon", "barbara", "bridge", "coastguard", "comic", "face", "flowers"),
        *("foreman", "lenna", "man", "monarch", "pepper", "ppt3", "zebra"),
    ),
}


def keys(x):
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resize_columns(rows, scale):
    """Compute MATLAB's imresize along one axis, one output sample at a time, in Python floats."""
    length, stretch = len(rows[0]), min(scale, 1)
    resized = [[] for _ in rows]
    for k in range(math.ceil(length * scale - 1e-9)):
        center = (k + 0.5) / scale - 0.5
        radius = math.ceil(2 / stretch) + 1
        taps = range(math.floor(center) - radius, math.floor(center) + radius + 1)
        weights = [keys(stretch * (center - tap)) for tap in taps]
        for row, out in zip(rows, resized, strict=True):
            values = [row[min(max(tap, 0), length - 1)] for tap in taps]
            out.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return resized


def resize(image, scale, *, integers):
    for _ in range(2):  # the columns of the transposed image are its rows
        image = np.array(resize_columns(image.T.tolist(), scale))
        image = np.clip(np.floor(image + 0.5), 0, 255) if integers else image
    return image


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("test_set", "name"), [(s, name) for s, names in SETS.items() for name in names])
def test_downscaling_equals_matlab_to_the_bit(datasets, test_set, name, scale):
    folder = datasets / test_set
    hr = np.asarray(Image.open(folder / "HR" / f"{name}.png"))
    height, width = (side // scale * scale for side in hr.shape[:2])
    matlab = np.asarray(Image.open(folder / "LR_bicubic_matlab" / f"X{scale}" / f"{name}x{scale}.png"))
    np.testing.assert_array_equal(imresize(hr[:height, :width], 1 / scale), matlab)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2, 3, 4, 0.9, 2 / 3, 1.5, 0.3777, math.pi])
@pytest.mark.parametrize("shape", [(24, 17), (1, 1), (2, 5)])
def test_matches_a_plain_loop(photo, scale, shape):
    image = photo[100 : 100 + shape[0], 200 : 200 + shape[1], 1]
    expected = resize(image / 255, scale, integers=False)
    result = imresize(image / 255, scale)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(imresize((image / 255).astype(np.float32), scale), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 2, 4])
def test_rounds_after_each_pass(photo, scale):
    # At powers of two every weight is a binary fraction, so that even ties must agree.
    image = photo[100:124, 200:216, 1]
    result = imresize(image, scale)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, resize(image, scale, integers=True))
    assert np.any(result != np.clip(np.floor(resize(image, scale, integers=False) + 0.5), 0, 255))


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2, 3, 4])
def test_matches_pillow_away_from_the_edges(photo, scale):
    # Pillow's bicubic is the same antialiased kernel; it drops the taps outside of the image instead.
    image = (photo[:240, :300, 0] / 255).astype(np.float32)
    size = (round(300 * scale), round(240 * scale))
    pillow = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    inside = (slice(math.ceil(3 * max(scale, 1)), -math.ceil(3 * max(scale, 1))),) * 2
    difference = np.abs(imresize(image, scale) - pillow)
    assert difference[inside].max() < 1e-5
    assert difference.max() > 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1 / 3, 0.7, 2, 3])
def test_constants_and_dtypes_do_not_change(dtype, scale):
    value = dtype(0.25 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max)
    for shape in [(7, 11), (7, 11, 3)]:
        result = imresize(np.full(shape, value), scale)
        assert result.dtype == dtype
        assert result.shape == (math.ceil(7 * scale), math.ceil(11 * scale), *shape[2:])
        np.testing.assert_allclose(result, value, rtol=1e-6)


def test_channels_are_resized_separately(photo):
    image = photo[:30, :40]
    for channel in range(3):
        np.testing.assert_array_equal(
            imresize(image, 1 / 2)[..., channel], imresize(image[..., channel], 1 / 2)
        )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_upsampled_tile_equals_the_upsampled_image(photo, scale):
    plane = (photo[:300, :400, 0] / 255).astype(np.float32)
    whole = imresize(plane, scale)
    tile = imresize(plane[98:202, 148:252], scale)  # 100 x 100 pixels and 2 more on each side
    kept = tile[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    np.testing.assert_array_equal(kept, whole[100 * scale : 200 * scale, 150 * scale : 250 * scale])


@pytest.mark.parametrize("scale", [1, 3, 5])
@pytest.mark.parametrize("sigma_px", [0.3, 0.8, 1.6])
def test_blur_matches_scipy_at_odd_scales(photo, scale, sigma_px):
    image = photo[:45, :60] / 255
    blurred = gaussian_filter(image, sigma_px, mode="nearest", truncate=4, axes=(0, 1))
    middle = scale // 2
    result = blur_and_decimate(image, scale, sigma_px)
    np.testing.assert_allclose(result, blurred[middle::scale, middle::scale], rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [2, 4])
def test_blur_matches_scipy_on_a_doubled_grid_at_even_scales(photo, scale):
    # Between two samples, a Gaussian equals one of twice the width on a grid with zeros between the samples.
    image = photo[:40, :60, 0] / 255
    padded = np.pad(image, 20, mode="edge")
    doubled = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
    doubled[::2, ::2] = padded
    weight = np.zeros_like(doubled)
    weight[::2, ::2] = 1
    sums, weights = (gaussian_filter(grid, 2.4, mode="nearest", truncate=4) for grid in (doubled, weight))
    start = 2 * 20 + scale - 1
    steps = tuple(slice(start, start + 2 * side, 2 * scale) for side in image.shape)
    expected = sums[steps] / weights[steps]
    np.testing.assert_allclose(blur_and_decimate(image, scale, 1.2), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_blur_does_not_shift_the_image(scale):
    ramp = np.add.outer(np.arange(60.0), 2 * np.arange(72.0))
    inside = (slice(4, -4),) * 2
    np.testing.assert_allclose(
        blur_and_decimate(ramp, scale, 1.0)[inside], imresize(ramp, 1 / scale)[inside], rtol=0, atol=1e-11
    )


def test_blur_rounds_once(photo):
    image = photo[:48, :48]
    result = blur_and_decimate(image, 3, 1.0)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.floor(blur_and_decimate(image.astype(float), 3, 1.0) + 0.5))


@pytest.mark.parametrize(
    "call",
    [
        lambda: imresize(np.zeros((4, 4)), 0),
        lambda: imresize(np.zeros((4, 0)), 2),
        lambda: imresize(np.zeros(4), 2),
        lambda: imresize(np.zeros((4, 4), np.int16), 2),
        lambda: blur_and_decimate(np.zeros((4, 5)), 2, 1.0),
        lambda: blur_and_decimate(np.zeros((4, 4)), 2, 0.0),
        lambda: blur_and_decimate(np.zeros((4, 4), np.bool_), 2, 1.0),
    ],
)
def test_invalid_arguments_are_refused(call):
    with pytest.raises(ValueError, match=r"expected|must be"):
        call()


@pytest.mark.parametrize("scale", range(1, 9))
def test_bicubic_as_a_subpixel_convolution(scale):
    image = np.random.default_rng(scale).random((9, 12))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 2, mode="edge"), (5, 5))
    phases = np.einsum("yxij,pij->pyx", windows, bicubic_kernels(scale))
    np.testing.assert_allclose(pixel_shuffle(phases, scale)[0], imresize(image, scale), atol=1e-12)
