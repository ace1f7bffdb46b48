import numpy as np
import pytest
from skimage import data

from image_files import upscaled
from interpolating import bicubic_model
from random_models import random_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.images import tiles as planes
from subpixel.images.alpha import fill_hidden_colors, neighborhood_range
from subpixel.models.networks import espcn
from subpixel.ops.color import rgb_to_ycbcr, ycbcr_to_rgb
from subpixel.ops.resize import imresize


@pytest.fixture(scope="module")
def engine():
    """A random network with a halo of 4, unlike the resampler."""
    return NumpyEngine(random_model(espcn(3)), threads=2)


@pytest.fixture(scope="module")
def bicubic():
    return NumpyEngine(bicubic_model(2), threads=2)


def photo(dtype=np.float32):
    rgb = data.astronaut()[90:131, 200:253]
    return (rgb / 255).astype(dtype) if np.dtype(dtype).kind == "f" else rgb


def through(engine, plane):
    """The result of the engine for a plane padded by the halo of 4, without the padding."""
    return engine(np.pad(plane, 4, mode="edge"))[12:-12, 12:-12]


def test_luma_through_the_network_and_color_through_bicubic(engine):
    image = photo()
    ycbcr = rgb_to_ycbcr(image)
    expected = np.dstack(
        [through(engine, ycbcr[..., 0]), imresize(ycbcr[..., 1], 3), imresize(ycbcr[..., 2], 3)]
    )
    np.testing.assert_allclose(upscaled(image, engine), ycbcr_to_rgb(expected).clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("shape", [(41, 53), (41, 53, 1), (41, 53, 2), (41, 53, 5)])
def test_other_channels_are_independent_planes(engine, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    channels = image.reshape(41, 53, -1)
    expected = np.dstack([through(engine, channels[..., k]) for k in range(channels.shape[2])])
    result = upscaled(image, engine)
    assert result.shape == (123, 159, *shape[2:])
    np.testing.assert_allclose(result.reshape(expected.shape), expected.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiles_equal_the_complete_image(engine, monkeypatch, channels, alpha):
    image = np.random.default_rng(0).integers(0, 256, (37, 50, channels + alpha), np.uint8)
    whole = upscaled(image, engine, alpha=alpha)
    monkeypatch.setattr(planes, "TILE_SIDE_PX", 11)
    pieces = upscaled(image, engine, alpha=alpha)
    assert np.abs(whole.astype(int) - pieces).max() <= 1, "more than rounding"
    assert (whole != pieces).mean() < 1e-3


def test_no_dark_border(bicubic):
    """The zero padding of the network alone would darken the border."""
    white = np.full((9, 12, 3), 255, np.uint8)
    assert (upscaled(white, bicubic) == 255).all()
    assert bicubic(white[..., 0]).min() < 250


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 7, 3), (9, 1, 4)])
def test_tiny(engine, shape):
    image = np.full(shape, 0.5, np.float32)
    result = upscaled(image, engine, alpha=len(shape) == 3 and shape[2] == 4)
    assert result.shape == (3 * shape[0], 3 * shape[1], *shape[2:])


def test_sixteen_bits_are_not_reduced_on_the_way(bicubic):
    """A ramp of 1024 values, a quarter of an 8-bit step apart, keeps many values."""
    ramp = np.broadcast_to(np.arange(1024, dtype=np.uint16) * 64, (16, 1024))
    for image in (ramp, np.dstack([ramp] * 3)):
        result = upscaled(image, bicubic)
        assert result.dtype == np.uint16
        expected = imresize(image.astype(np.float64), 2)
        inside = (slice(4, -4), slice(4, -4))
        assert np.abs(result[inside] - expected[inside]).max() <= 2
        assert len(np.unique(result[inside])) > 2000


def test_reduces_once(bicubic):
    image = photo()
    deep = np.round(image * 65535).astype(np.uint16)
    expected = np.floor(upscaled(image, bicubic) * 255 + 0.5)
    result = upscaled(deep, bicubic, dtype=np.uint8)
    assert result.dtype == np.uint8
    assert (result == expected).mean() > 0.999


def test_floats_are_clipped(bicubic):
    stripes = (np.indices((20, 20))[1] // 5 % 2).astype(np.float32)
    assert imresize(stripes, 2).max() > 1.01
    for dtype in (np.float32, np.float64):
        result = upscaled(stripes.astype(dtype), bicubic)
        assert result.dtype == dtype
        assert result.min() == 0
        assert result.max() == 1


def test_progress(engine, monkeypatch):
    monkeypatch.setattr(planes, "TILE_SIDE_PX", 20)
    seen = []
    upscaled(photo(), engine, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == 1


def test_errors_of_the_engine_are_raised(engine, monkeypatch):
    def fail(tensor):
        raise RuntimeError("out of order")

    monkeypatch.setattr(engine, "run", fail)
    with pytest.raises(RuntimeError, match="out of order"):
        upscaled(photo(), engine)


class TestAlpha:
    @staticmethod
    def disc(color, hidden):
        """A soft-edged disc of one color, with another color hidden around it."""
        distance = np.hypot(*(np.indices((40, 48)) - [[[20]], [[24]]]))
        alpha = (13 - distance).clip(0, 1)
        image = np.zeros((40, 48, 4), np.uint8)
        image[...] = hidden
        image[alpha > 0, :3] = color
        image[..., 3] = np.round(alpha * 255)
        return image

    @pytest.mark.parametrize("hidden", [0, 255])
    def test_no_fringe(self, bicubic, hidden):
        color = np.array([200, 120, 40])
        result = upscaled(self.disc(color, hidden), bicubic, alpha=True).astype(int)
        visible = result[..., 3] > 0
        assert np.abs(result[visible][:, :3] - color).max() <= 1

    def test_fringe_without_filling(self, bicubic):
        image = self.disc((200, 120, 40), 0)
        result = upscaled(image[..., :3], bicubic).astype(int)
        visible = upscaled(image[..., 3], bicubic) > 0
        assert np.abs(result[visible] - [200, 120, 40]).max() > 20

    def test_clear_and_opaque_areas_stay_so(self, engine):
        image = self.disc((200, 120, 40), 0)
        alpha = upscaled(image, engine, alpha=True)[..., 3]  # by a random network
        lowest, highest = neighborhood_range(image[..., 3].astype(np.float32))
        assert (alpha >= lowest.repeat(3, 0).repeat(3, 1)).all()
        assert (alpha <= highest.repeat(3, 0).repeat(3, 1)).all()
        assert (alpha[:9] == 0).all()
        assert (alpha[57:63, 69:75] == 255).all()

    @pytest.mark.parametrize("value", [0, 77, 255])
    def test_constant_alpha_stays_constant(self, engine, value):
        image = np.dstack([photo(np.uint8), np.full((41, 53), value, np.uint8)])
        assert (upscaled(image, engine, alpha=True)[..., 3] == value).all()

    def test_gray_and_alpha(self, bicubic):
        image = self.disc((90, 90, 90), 0)[..., [0, 3]]
        result = upscaled(image, bicubic, alpha=True).astype(int)
        assert result.shape == (80, 96, 2)
        assert np.abs(result[result[..., 1] > 0][:, 0] - 90).max() <= 1

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_filling_keeps_visible_pixels(self, dtype):
        image = self.disc((200, 120, 40), 9).astype(dtype)
        if dtype == np.float32:
            image /= 255
        filled = fill_hidden_colors(image)
        visible = image[..., 3] > 0
        assert filled.dtype == dtype
        np.testing.assert_array_equal(filled[visible], image[visible])
        np.testing.assert_array_equal(filled[..., 3], image[..., 3])
        np.testing.assert_allclose(
            filled[..., :3], np.broadcast_to(image[20, 24, :3], (40, 48, 3)), rtol=1e-5
        )

    def test_filling_uses_near_colors(self):
        image = np.zeros((33, 65, 2), np.float32)
        image[16, 8] = (0.2, 1)
        image[16, 56] = (0.8, 1)
        filled = fill_hidden_colors(image)[..., 0]
        assert abs(filled[16, 4] - 0.2) < 0.1
        assert abs(filled[16, 60] - 0.8) < 0.1
        assert filled.min() >= 0.2 - 1e-6
        assert filled.max() <= 0.8 + 1e-6

    def test_no_visible_pixel(self):
        image = np.zeros((5, 5, 4), np.uint8)
        assert fill_hidden_colors(image) is image
