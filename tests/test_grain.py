"""Grain: the estimate of what a network removed, the noise that is added, and the jobs that use it."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import kurtosis
from typer.testing import CliRunner

import subpixel
from subpixel.cli import app
from subpixel.ops.grain import Noise, add_grain, removed_noise, without_bars
from subpixel.ops.resize import imresize
from subpixel.video.media.pixel_formats import plane
from subpixel.video.pipeline import encode, run
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, make_frames, packets, write

GRAY = 0.4


def scene(height=96, width=160):
    """A smooth picture with an edge, in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    smooth = 0.35 + 0.2 * np.sin(x / 40) + 0.1 * np.cos(y / 30)
    return np.where(x > 120, smooth + 0.2, smooth).astype(np.float32)


def noisy(clean, sigma, size=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, clean.shape)
    if size:
        noise = gaussian_filter(noise, size, mode="wrap")
    return (clean + sigma / 255 * noise / noise.std()).astype(np.float32)


def upscaled(plane, scale=2):
    return imresize(plane.astype(float), scale).astype(np.float32)


def flat_noise(strength, scale=2, correlation=(0.0, 0.0), seed=1, side=200):
    """Grain on a gray frame, in levels of 8 bits."""
    large = np.full((side * scale, side * scale), GRAY, np.float32)
    whole = slice(0, side), slice(0, side)
    noise = Noise(np.full(16, strength / 255, np.float32), correlation, whole)
    add_grain(large, noise, 1.0, seed, (side, side))
    return (large - np.float32(GRAY)) * 255


class TestEstimate:
    @pytest.mark.parametrize("sigma", [1.5, 4, 8])
    @pytest.mark.parametrize("scale", [2, 3])
    def test_noise_that_is_removed_completely(self, sigma, scale):
        noise = removed_noise(noisy(scene(192, 320), sigma), upscaled(scene(192, 320), scale))
        assert np.median(noise.strength) * 255 == pytest.approx(sigma, rel=0.08)
        assert max(noise.correlation) < 0.1

    def test_half_of_the_noise_is_left(self):
        clean = scene(192, 320)
        source = noisy(clean, 6)
        left = clean + (source - clean) / 2  # variance 9 of 36 remains
        noise = removed_noise(source, upscaled(left))
        reduced = imresize(upscaled(left).astype(float), 0.5) - clean
        expected = np.sqrt(36 - (reduced * 255).var())
        assert np.median(noise.strength) * 255 == pytest.approx(expected, rel=0.08)

    def test_size_of_the_grains(self):
        clean = scene(192, 320)
        source = noisy(clean, 5, size=0.6)
        residual = source - clean
        expected = (residual[:, 1:] * residual[:, :-1]).mean() / residual.var()
        noise = removed_noise(source, upscaled(clean))
        assert noise.correlation == pytest.approx((expected, expected), abs=0.1)

    def test_strength_by_brightness(self):
        clean = np.full((256, 256), 0.2, np.float32)
        clean[:, 128:] = 0.7
        source = np.where(clean < 0.5, noisy(clean, 6), noisy(clean, 3))
        strength = removed_noise(source, upscaled(clean)).strength * 255
        assert strength[3] == pytest.approx(5.8, abs=0.6)
        assert strength[11] == pytest.approx(3.1, abs=0.4)

    def test_without_noise(self):
        assert removed_noise(scene(), upscaled(scene())) is None
        assert removed_noise(scene(), upscaled(noisy(scene(), 4))) is None  # the network added some

    @pytest.mark.parametrize("shape", [(1, 1), (7, 100), (100, 7), (8, 8)])
    def test_small_frames(self, shape):
        small = np.random.default_rng(0).random(shape, np.float32)
        noise = removed_noise(small, upscaled(gaussian_filter(small, 1)))
        assert (noise is None) == (shape != (8, 8))

    def test_bars_do_not_count(self):
        plain = noisy(scene(192, 320), 5)
        boxed = np.full((232, 340), 16 / 255, np.float32)
        boxed[20:212, 10:330] = plain
        boxed[5, 3] += 1 / 255
        assert without_bars(boxed) == (slice(20, 212), slice(10, 330))
        clean = np.full((232, 340), 16 / 255, np.float32)
        clean[20:212, 10:330] = scene(192, 320)
        large = upscaled(clean)
        noise = removed_noise(boxed, large)
        assert np.median(noise.strength) * 255 == pytest.approx(5, rel=0.1)
        before = large.copy()
        add_grain(large, noise, 1.0, 3, boxed.shape)
        changed = large != before
        assert not changed[:40].any()
        assert not changed[424:].any()
        assert not changed[:, :20].any()
        assert not changed[:, 660:].any()
        assert changed[40:424, 20:660].mean() > 0.99


class TestNoise:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("strength", [1, 5])
    def test_strength_at_every_phase(self, scale, strength):
        noise = flat_noise(strength, scale)
        for row in range(scale):
            for column in range(scale):
                assert noise[row::scale, column::scale].std() == pytest.approx(noise.std(), rel=0.03)
        assert imresize(noise.astype(float), 1 / scale).std() == pytest.approx(strength, rel=0.03)
        assert abs(noise.mean()) < 0.05 * strength
        assert abs(kurtosis(noise, axis=None)) < 0.5

    @pytest.mark.parametrize("correlation", [(0.0, 0.0), (0.2, 0.5)])
    def test_grains_are_as_large_as_in_the_source(self, correlation):
        noise = flat_noise(5, 3, correlation)
        reduced = imresize(noise.astype(float), 1 / 3)
        for axis, expected in enumerate(correlation):
            first, second = (np.take(reduced, range(start, 199 + start), axis) for start in (0, 1))
            assert (first * second).mean() / reduced.var() == pytest.approx(expected, abs=0.06)

    def test_frames_differ_and_are_repeatable(self):
        one, again, other = (flat_noise(5, seed=seed) for seed in (7, 7, 8))
        np.testing.assert_array_equal(one, again)
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02

    def test_share(self):
        large = np.full((64, 64), GRAY, np.float32)
        noise = Noise(np.full(16, 4 / 255, np.float32), (0.0, 0.0), (slice(0, 32), slice(0, 32)))
        half, whole = large.copy(), large.copy()
        add_grain(half, noise, 0.5, 1, (32, 32))
        add_grain(whole, noise, 1.0, 1, (32, 32))
        np.testing.assert_allclose(whole - large, 2 * (half - large), atol=1e-6)

    def test_negative_times(self):
        flat_noise(1, seed=-5)


def noisy_video(path, count=15, format="yuv420p", **options):
    def frames():
        for number, frame in enumerate(make_frames(count, 96, 64, format)):
            depth = 8 if frame.format.components[0].bits == 8 else 10
            plane(frame, 0)[...] = np.round(noisy(scene(64, 96), 6, seed=number) * (2**depth - 1))
            yield frame

    return write(path, frames(), codec="ffv1", **options)


class Killed(BaseException):
    """Raised to simulate a kill."""


OPTIONS = {"model": "default-compressed", "engine": "numpy", "threads": 1, "overwrite": True}


class TestVideos:
    @pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
    def test_noise_comes_back(self, tmp_path, format):
        source = noisy_video(tmp_path / "in.mkv", 2, format)
        spread = []
        for grain in (0, 0.5, "keep"):
            output = tmp_path / f"{grain}.mkv"
            result = subpixel.upscale_video(source, output, grain=grain, codec="ffv1", **OPTIONS)
            assert result.grain == (1 if grain == "keep" else grain)
            frames = decoded(output)
            spread.append(np.std(luma(frames[1])[10:40, 10:60].astype(float) - luma(frames[0])[10:40, 10:60]))
        assert spread[0] < spread[1] < spread[2]

    def test_chroma_does_not_change(self, tmp_path):
        source = noisy_video(tmp_path / "in.mkv", 1)
        frames = []
        for grain in (0, 1):
            subpixel.upscale_video(source, tmp_path / "out.mkv", grain=grain, codec="ffv1", **OPTIONS)
            frames.append(decoded(tmp_path / "out.mkv")[0].to_ndarray())
        height = 128
        assert (frames[0][:height] != frames[1][:height]).any()
        np.testing.assert_array_equal(frames[0][height:], frames[1][height:])

    def test_an_interrupted_job_resumes(self, tmp_path, monkeypatch):
        for module in (encode, run):
            monkeypatch.setattr(module, "SEGMENT_FRAMES", 5)
        source, output = noisy_video(tmp_path / "in.mkv"), tmp_path / "out.mkv"
        subpixel.upscale_video(source, tmp_path / "uninterrupted.mkv", grain="keep", **OPTIONS)

        def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
            if list(tmp_path.glob(".out.mkv.subpixel/*/*.segment")):
                raise Killed
            return original(self, frame, *link)

        def interrupt():
            with monkeypatch.context() as patch:
                patch.setattr(FrameUpscaler, "__call__", upscale_frame)
                with pytest.raises(Killed):
                    subpixel.upscale_video(source, output, grain="keep", **OPTIONS)

        interrupt()
        result = subpixel.upscale_video(source, output, grain=0.5, **OPTIONS)
        assert result.resumed_frames == 0
        assert any("another grain" in warning for warning in result.warnings)
        output.unlink()
        interrupt()
        assert subpixel.upscale_video(source, output, grain=1, **OPTIONS).resumed_frames >= 5
        assert packets(output) == packets(tmp_path / "uninterrupted.mkv")

    def test_a_video_that_is_only_reduced_gets_none(self, tmp_path):
        source = noisy_video(tmp_path / "in.mkv", 1)
        result = subpixel.upscale_video(source, tmp_path / "out.mkv", width=48, grain=1, **OPTIONS)
        assert any("no grain" in warning for warning in result.warnings)
        result = subpixel.upscale_video(source, tmp_path / "art.mkv", model="nearest", grain=1)
        assert any("no grain" in warning for warning in result.warnings)

    @pytest.mark.parametrize("value", [-1, 2, float("nan"), "much"])
    def test_wrong_values(self, value):
        with pytest.raises((ValueError, TypeError), match="grain"):
            subpixel.upscale_video("in.mkv", "out.mkv", grain=value)

    @pytest.mark.parametrize("value", [None, "Keep", "0.5"])
    def test_what_is_no_number_names_the_choices(self, value):
        with pytest.raises(TypeError, match="grain must be 'keep', or a number"):
            subpixel.upscale_video("in.mkv", "out.mkv", grain=value)

    def test_the_command(self, tmp_path):
        source = noisy_video(tmp_path / "in.mkv", 2)
        arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "--engine", "numpy", "--json"]
        for value in ("much", "-0.1", "1.5", "nan"):
            done = CliRunner().invoke(app, [*arguments, f"--grain={value}"])
            assert done.exit_code == 2
            assert "write keep, or a number" in done.stderr
        done = CliRunner().invoke(app, [*arguments, "--grain", "keep", "--sharpness", "0.5"])
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert (result["grain"], result["sharpness"]) == (1, 0.5)
