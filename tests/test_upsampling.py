"""Any size: networks one behind the other, then a reduction."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from interpolating import bicubic_model
from random_models import random_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.upsampling import Upsampling, factors_for
from subpixel.images import tiles
from subpixel.images.tiles import upscale_array
from subpixel.models.networks import espcn
from subpixel.ops.resample import resample, taps

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def photo(height=46, width=61):
    return np.ascontiguousarray(data.astronaut()[30 : 30 + height, 180 : 180 + width])


def whole(plane, kernel, height, width):
    rows, columns = taps(kernel, plane.shape[0], height), taps(kernel, plane.shape[1], width)
    return resample(plane, rows, columns, (slice(0, height), slice(0, width)), (0, 0))


@pytest.mark.parametrize("kernel", PILLOW)
@pytest.mark.parametrize(("height", "width"), [(34, 45), (46, 61), (101, 97), (13, 200), (17, 16)])
def test_resampling_equals_pillow_away_from_the_edges(kernel, height, width):
    plane = photo()[..., 1].astype(np.float32)
    expected = np.asarray(Image.fromarray(plane).resize((width, height), PILLOW[kernel]))
    edges = tuple(
        slice(3 * max(1, -(-t // s)), -3 * max(1, -(-t // s))) for s, t in ((46, height), (61, width))
    )
    np.testing.assert_allclose(whole(plane, kernel, height, width)[edges], expected[edges], atol=1e-3)


@pytest.mark.parametrize("kernel", PILLOW)
def test_a_part_is_the_same_as_in_the_whole(kernel):
    plane = photo()[..., 0].astype(np.float32)
    rows, columns = taps(kernel, 46, 31), taps(kernel, 61, 93)
    expected = whole(plane, kernel, 31, 93)
    part = slice(11, 19), slice(40, 71)
    result = resample(plane[6:40, 15:60], rows, columns, part, (6, 15))
    np.testing.assert_array_equal(result, expected[part])
    continued = np.pad(plane, ((7, 7), (9, 9)), constant_values=np.nan)  # what is beyond the edge is not read
    result = resample(continued, rows, columns, (slice(0, 31), slice(0, 93)), (-7, -9))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("ratio", "available", "expected"),
    [
        (0.5, [2, 3, 4], ()),
        (1, [2, 3, 4], ()),
        (1.01, [2, 3, 4], (2,)),
        (2, [2, 3, 4], (2,)),
        (2.25, [2, 3, 4], (3,)),
        (3.01, [2, 3, 4], (4,)),
        (5, [2, 3, 4], (3, 2)),
        (6.5, [2, 3, 4], (4, 2)),
        (8.5, [2, 3, 4], (3, 3)),
        (9.5, [2, 3, 4], (4, 3)),
        (16, [2, 3, 4], (4, 4)),
        (5, [2], (2, 2, 2)),
        (1.5, [3], (3,)),
    ],
)
def test_as_few_networks_as_possible(ratio, available, expected):
    assert factors_for(ratio, available) == expected


def test_too_much_is_refused():
    with pytest.raises(ValueError, match="x16"):
        factors_for(16.1, [2, 3, 4])
    with pytest.raises(ValueError, match="keeps the size"):
        factors_for(2, [1])


@pytest.mark.parametrize("scales", [(2,), (3, 2)])
@pytest.mark.parametrize("target", [(69, 92), (70, 61), (47, 120)])
def test_a_size_equals_the_networks_and_then_pillow(scales, target):
    engines = [NumpyEngine(random_model(espcn(scale), scale)) for scale in scales]
    gray = photo()[..., 0].astype(np.float32) / 255
    large = gray
    for engine in engines:
        halo_px = engine.model.spec.halo_px
        large = engine(np.pad(large.clip(0, 1), halo_px, mode="edge"), context_px=halo_px)
    expected = np.asarray(Image.fromarray(large).resize(target[::-1], Image.Resampling.LANCZOS)).clip(0, 1)
    result = upscale_array(gray, Upsampling(engines, gray.shape, target))
    inner = slice(12, -12)
    np.testing.assert_allclose(result[inner, inner], expected[inner, inner], atol=2e-4)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_change_nothing(channels, dtype, monkeypatch):
    image = photo()
    if channels == 4:
        image = np.dstack([image, photo(92, 61)[46:, :, 0]])
    image = image[..., 0] if channels == 1 else image
    image = image.astype(dtype) * (257 if dtype == np.uint16 else 1)
    upsampling = Upsampling([NumpyEngine(random_model(espcn(2)), threads=2)], (46, 61), (73, 101))
    expected = upscale_array(image, upsampling, alpha=channels == 4)
    monkeypatch.setattr(tiles, "TILE_SIDE_PX", 13)
    monkeypatch.setattr(tiles, "_MIN_STRIP_ROWS", 16)
    monkeypatch.setattr(tiles, "STRIP_BYTES", 1)
    np.testing.assert_array_equal(upscale_array(image, upsampling, alpha=channels == 4), expected)


@pytest.mark.parametrize("target", [(73, 101), (92, 100), (46, 30), (7, 9)])
def test_flat_stays_flat(target):
    upsampling = Upsampling([NumpyEngine(bicubic_model(2))], (46, 61), target)
    for color in ((255, 255, 255), (0, 0, 0), (200, 30, 77)):
        image = np.full((46, 61, 3), color, np.uint8)
        expected = upscale_array(image, Upsampling([NumpyEngine(bicubic_model(2))], (46, 61)))[0, 0]
        result = upscale_array(image, upsampling)
        assert result.shape == (*target, 3)
        assert (result == expected).all()


@pytest.mark.parametrize(("scales", "target"), [((2,), (73, 101)), ((), (23, 30)), ((3, 2), (200, 299))])
def test_opaque_stays_opaque_and_clear_stays_clear(scales, target):
    alpha = np.zeros((46, 61), np.uint8)
    alpha[10:36, 12:50] = 255
    alpha[20:30, 20:40] = 128
    image = np.dstack([photo(), alpha])
    result = upscale_array(
        image, Upsampling([NumpyEngine(bicubic_model(s)) for s in scales], (46, 61), target), alpha=True
    )
    for value in (0, 255, 128):
        # A pixel of the result is flat where all pixels under it, and two more around, have one value.
        differs = (alpha != value).astype(np.uint8) * 255
        near = np.asarray(
            Image.fromarray(differs).resize(target[::-1], Image.Resampling.BOX, reducing_gap=None)
        )
        near = np.asarray(
            Image.fromarray(near).filter(ImageFilter.MaxFilter(2 * (1 + 2 * target[0] // 46) + 1))
        )
        inner = near == 0
        assert inner.any()
        assert (result[..., 3][inner] == value).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_same_size_gives_the_same_samples(dtype, channels):
    image = np.random.default_rng(1).integers(0, 2, (20, 31, channels)) * photo(20, 31)[..., :1]
    image = (image / 255).astype(dtype) if dtype == np.float32 else image.astype(dtype) * 200
    result = upscale_array(image, Upsampling([], (20, 31)), alpha=channels == 4)
    np.testing.assert_array_equal(result, image)


def test_without_a_network_it_only_reduces():
    image = photo()[..., 0]
    result = upscale_array(image, Upsampling([], image.shape, (23, 30)))
    expected = Image.fromarray(image).resize((30, 23), Image.Resampling.LANCZOS)
    assert np.abs(result[4:-4, 4:-4].astype(int) - np.asarray(expected)[4:-4, 4:-4]).max() <= 1


def test_more_than_the_networks_make_is_refused():
    with pytest.raises(ValueError, match="x2"):
        Upsampling([NumpyEngine(bicubic_model(2))], (10, 10), (20, 21))


def test_a_strong_reduction_reads_the_image_few_times():
    upsampling = Upsampling([], (1000, 8000), (5, 40))
    read = [
        (rows.stop - rows.start) * (columns.stop - columns.start)
        for rows, columns in (tile.read for tile in tiles._tiles(slice(0, 5), upsampling))
    ]
    assert sum(read) < 4 * 1000 * 8000
