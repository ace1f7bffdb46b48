"""Sharpness: the operation, and that images, arrays, frames and videos share it."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter
from skimage import data
from typer.testing import CliRunner

import subpixel
from image_files import smooth_image
from interpolating import bicubic_model
from random_models import random_model
from subpixel.cli import app
from subpixel.engines.base import from_float
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.pixel_art import find_rules
from subpixel.engines.upsampling import Upsampling
from subpixel.images import tiles
from subpixel.images.tiles import upscale_array
from subpixel.models.networks import espcn
from subpixel.ops import sharpen as sharpening
from subpixel.ops.sharpen import NOISE_CONTRAST, blur_weights, sharpen
from subpixel.upscaler import Upscaler
from subpixel.video.pipeline import encode, run
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, make_frames, packets, write


def photo(height=46, width=61):
    return np.ascontiguousarray(data.astronaut()[30 : 30 + height, 180 : 180 + width])


def text():
    page = Image.new("L", (60, 40), 190)
    ImageDraw.Draw(page).text((3, 3), "Halo?\nNone.", fill=60)
    return np.asarray(page)


def sharpened(plane, scale, amount):
    weights = blur_weights(scale)
    return sharpen(np.pad(plane, len(weights) - 1, mode="edge"), weights, weights, amount)


def upsampling(sharpness, source=(46, 61), target=None, model=None):
    model = bicubic_model(2) if model is None else model
    return Upsampling([NumpyEngine(model, threads=2)], source, target, sharpness=sharpness)


class TestOperation:
    @pytest.mark.parametrize("scale", [0.5, 1, 2, 2.7, 3, 4, 16])
    @pytest.mark.parametrize("amount", [0.3, 1])
    def test_equals_scipy(self, scale, amount):
        plane = photo()[..., 0].astype(np.float32) / 255
        sigma = 0.35 * max(scale, 1)
        blurred = gaussian_filter(plane.astype(float), sigma, radius=max(1, round(2 * sigma)), mode="nearest")
        lowest, highest = minimum_filter(plane, 3), maximum_filter(plane, 3)
        weight = np.minimum(1, (highest - lowest) / NOISE_CONTRAST)
        expected = np.clip(plane + amount * weight * (plane - blurred), lowest, highest)
        np.testing.assert_allclose(sharpened(plane, scale, amount), expected, atol=2e-6)

    def test_bands_change_nothing(self, monkeypatch):
        plane = photo()[..., 0].astype(np.float32) / 255
        expected = sharpened(plane, 3, 0.7)
        for samples in (1, 200, 1000):
            monkeypatch.setattr(sharpening, "_BAND_SAMPLES", samples)
            np.testing.assert_array_equal(sharpened(plane, 3, 0.7), expected)

    def test_more_makes_edges_steeper(self):
        plane = gaussian_filter(text().astype(np.float32) / 255, 1)
        steepest = [np.abs(np.diff(sharpened(plane, 3, amount))).max() for amount in (0.2, 0.5, 1)]
        assert np.abs(np.diff(plane)).max() < steepest[0] < steepest[1] < steepest[2]

    def test_weak_noise_is_hardly_amplified(self):
        noise = np.random.default_rng(0).normal(0.5, 1 / 255, (200, 200)).astype(np.float32)
        smooth = gaussian_filter(noise, 0.8)
        assert sharpened(smooth, 2, 1).std() < 1.1 * smooth.std()


class TestImages:
    @pytest.mark.parametrize("target", [None, (73, 101), (46, 61), (20, 90)])
    def test_no_halos(self, target):
        plain = upscale_array(text(), upsampling(0, (40, 60), target and (target[0], min(target[1], 120))))
        result = upscale_array(text(), upsampling(1, (40, 60), plain.shape))
        assert (result != plain).any()
        assert (result >= minimum_filter(plain, 3)).all()
        assert (result <= maximum_filter(plain, 3)).all()

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("target", [None, (73, 101), (120, 61)])
    def test_tiles_change_nothing(self, channels, dtype, target, monkeypatch):
        image = photo()
        if channels == 4:
            image = np.dstack([image, photo(92, 61)[46:, :, 0]])
        image = image[..., 0] if channels == 1 else image
        image = image.astype(dtype) * (257 if dtype == np.uint16 else 1)
        image = image / np.float32(255) if dtype == np.float32 else image
        scale = 3 if target == (120, 61) else 2
        how = upsampling(0.8, (46, 61), target, random_model(espcn(scale)))
        expected = upscale_array(image, how, alpha=channels == 4)
        assert (expected != upscale_array(image, upsampling(0, (46, 61), target, how.engines[0].model))).any()
        monkeypatch.setattr(tiles, "TILE_SIDE_PX", 13)
        monkeypatch.setattr(tiles, "_MIN_STRIP_ROWS", 16)
        monkeypatch.setattr(tiles, "STRIP_BYTES", 1)
        np.testing.assert_array_equal(upscale_array(image, how, alpha=channels == 4), expected)

    @pytest.mark.parametrize("target", [(80, 120), (60, 90), (40, 60), (20, 90)])
    def test_textures_have_no_seams(self, target):
        image = photo(40, 60)
        rolled = [2 * side // small for side, small in zip(target, (40, 60), strict=True)]
        how = Upsampling([NumpyEngine(random_model(espcn(2)))], (40, 60), target, "both", sharpness=1)
        expected = np.roll(upscale_array(image, how), rolled, (0, 1))
        np.testing.assert_array_equal(upscale_array(np.roll(image, (2, 2), (0, 1)), how), expected)

    @pytest.mark.parametrize("target", [None, (73, 101), (46, 30)])
    def test_flat_stays_flat(self, target):
        for color in ((255, 255, 255), (0, 0, 0), (200, 30, 77)):
            image = np.full((46, 61, 3), color, np.uint8)
            plain = upscale_array(image, upsampling(0, target=target))
            np.testing.assert_array_equal(upscale_array(image, upsampling(1, target=target)), plain)

    def test_alpha_is_not_sharpened(self):
        image = np.dstack([photo(), photo(92, 61)[46:, :, 0]])
        plain, result = (upscale_array(image, upsampling(sharpness), alpha=True) for sharpness in (0, 1))
        np.testing.assert_array_equal(result[..., 3], plain[..., 3])
        assert (result[..., :3] != plain[..., :3]).any()

    def test_only_luma_is_sharpened(self):
        plain, result = (upscale_array(photo(), upsampling(sharpness)) for sharpness in (0, 1))
        change = result.astype(int) - plain
        inside = ((result > 0) & (result < 255)).all(axis=2)
        assert np.ptp(change, axis=2)[inside].max() <= 1

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 2)])
    def test_tiny(self, size):
        result = upscale_array(np.full((*size, 3), 99, np.uint8), upsampling(1, size))
        assert (result == result[0, 0]).all()


class TestUpscaler:
    @pytest.mark.parametrize("format", ["gray", "gray16le"])
    @pytest.mark.parametrize("size", [None, (100, 70), (64, 48)])
    def test_frames_equal_arrays(self, format, size):
        upscaler = Upscaler(bicubic_model(2), "numpy", threads=1, sharpness=0.6)
        small = next(make_frames(1, format=format))
        (large,) = upscaler.frames([small], size=size)
        np.testing.assert_array_equal(luma(large), upscaler(luma(small), size=size))

    def test_files_equal_arrays(self, tmp_path):
        Image.fromarray(photo()).save(tmp_path / "in.png")
        options = {"scale": 2, "engine": "numpy", "sharpness": 0.4}
        result = subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", model="fast", **options)
        assert result.sharpness == 0.4
        with Image.open(tmp_path / "out.png") as image:
            expected = subpixel.load("fast", **options)(photo())
            np.testing.assert_array_equal(np.asarray(image), expected)

    def test_it_is_part_of_the_identity(self):
        plain, sharp = (subpixel.load("fast", engine="numpy", threads=1, sharpness=each) for each in (0, 0.5))
        assert plain != sharp == pickle.loads(pickle.dumps(sharp))
        assert repr(sharp) == "<Upscaler fast-x2: x2, numpy fp32, 1 thread, sharpness 0.5>"
        assert (plain(photo()) != sharp(photo())).any()
        with pytest.raises(ValueError, match="not both"):
            subpixel.upscale_image("in.png", "out.png", upscaler=plain, sharpness=0.5)

    def test_pixel_art_is_not_sharpened(self):
        for call in (
            lambda: subpixel.load("nearest", sharpness=0.5),
            lambda: Upscaler(find_rules("epx"), sharpness=0.5),
            lambda: subpixel.upscale_image("in.png", "out.png", content="pixel-art", sharpness=0.5),
        ):
            with pytest.raises(ValueError, match="sharpness"):
                call()

    @pytest.mark.parametrize("value", [-0.1, 1.01, float("nan")])
    def test_out_of_range(self, value):
        for call in (
            lambda: subpixel.load("fast", sharpness=value),
            lambda: Upscaler(bicubic_model(2), sharpness=value),
            lambda: subpixel.upscale_image("in.png", "out.png", sharpness=value),
            lambda: subpixel.upscale_video("in.mp4", "out.mp4", sharpness=value),
        ):
            with pytest.raises(ValueError, match="sharpness"):
                call()
        with pytest.raises(TypeError, match="sharpness"):
            subpixel.load("fast", sharpness="much")


class Killed(BaseException):
    """Raised to simulate a kill."""


class TestVideos:
    def test_frames_are_sharpened(self, tmp_path):
        source = write(tmp_path / "in.mkv", make_frames(3), codec="ffv1")
        options = {"model": "fast", "engine": "numpy", "sharpness": 1}
        result = subpixel.upscale_video(source, tmp_path / "out.mkv", codec="ffv1", **options)
        assert result.sharpness == 1
        upscaler = subpixel.load(**options)
        for small, large in zip(decoded(source), decoded(tmp_path / "out.mkv"), strict=True):
            np.testing.assert_array_equal(luma(large), upscaler(luma(small)))

    def test_an_interrupted_job_resumes_only_with_the_same_sharpness(self, tmp_path, monkeypatch):
        for module in (encode, run):
            monkeypatch.setattr(module, "SEGMENT_FRAMES", 5)
        source = write(tmp_path / "in.mkv", make_frames(15))
        output = tmp_path / "out.mkv"
        options = {"model": "fast", "engine": "numpy", "threads": 1, "overwrite": True}
        subpixel.upscale_video(source, tmp_path / "uninterrupted.mkv", sharpness=0.5, **options)

        def interrupt():
            def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
                if list(tmp_path.glob(".out.mkv.subpixel/*/*.segment")):
                    raise Killed
                return original(self, frame, *link)

            with monkeypatch.context() as patch:
                patch.setattr(FrameUpscaler, "__call__", upscale_frame)
                with pytest.raises(Killed):
                    subpixel.upscale_video(source, output, sharpness=0.5, **options)

        interrupt()
        other = subpixel.upscale_video(source, output, sharpness=0.25, **options)
        assert other.resumed_frames == 0
        assert any("another sharpness" in warning for warning in other.warnings)
        output.unlink()
        interrupt()
        assert subpixel.upscale_video(source, output, sharpness=0.5, **options).resumed_frames >= 5
        assert packets(output) == packets(tmp_path / "uninterrupted.mkv")


def upscale(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), "--engine", "numpy"])


class TestCommand:
    def test_images(self, tmp_path):
        Image.fromarray(photo()).save(tmp_path / "in.png")
        written = []
        for sharpness in (0, 1):
            output = tmp_path / f"{sharpness}.png"
            done = upscale(tmp_path / "in.png", "-o", output, "--sharpness", sharpness, "--json")
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["sharpness"] == sharpness
            written.append(output.read_bytes())
        assert written[0] != written[1]

    @pytest.mark.parametrize("value", ["-1", "1.5", "nan", "much"])
    def test_out_of_range(self, tmp_path, value):
        Image.fromarray(smooth_image()).save(tmp_path / "in.png")
        done = upscale(tmp_path / "in.png", "-o", tmp_path / "out.png", f"--sharpness={value}")
        assert done.exit_code == 2
        assert "sharpness" in done.stderr


def test_rounding_of_samples_outside_the_range():
    """The limits keep samples in [0, 1], as the clipped input was."""
    plane = np.clip(photo()[..., 0] / np.float32(128), 0, 1).astype(np.float32)
    result = sharpened(plane, 2, 1)
    assert (result.min(), result.max()) == (plane.min(), plane.max())
    assert from_float(result, np.dtype(np.uint8)).max() == 255
