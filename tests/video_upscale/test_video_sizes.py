"""Videos of a size that the caller asks for."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import subpixel
from interpolating import bicubic_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.images.tiles import upscale_array
from subpixel.sizes import TargetSize
from subpixel.upscaler import Upscaler
from subpixel.video import job
from subpixel.video.pipeline import frames
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, make_frames, write


@pytest.mark.parametrize(
    ("asked", "sides"),
    [
        ({"scale": 1.5}, (96, 72)),
        ({"size": "100x100"}, (100, 75)),
        ({"height": 60}, (80, 60)),
        ({"size": (90, 80), "fit": "exact"}, (90, 80)),
        ({"size": (90, 80), "fit": "cover"}, (107, 80)),
        ({"scale": 5}, (320, 240)),
        ({"width": 32}, (32, 24)),
    ],
)
def test_frames_have_the_size(tmp_path, asked, sides):
    upscaler = Upscaler([bicubic_model(2), bicubic_model(3)], "numpy", threads=1)
    if "scale" in asked:
        upscaler, asked = Upscaler(list(upscaler.family.models), "numpy", threads=1, **asked), {}
    source = write(tmp_path / "in.mkv", make_frames(3), codec="ffv1")
    result = subpixel.upscale_video(source, tmp_path / "out.mkv", upscaler=upscaler, codec="ffv1", **asked)
    assert (result.width, result.height) == sides
    results = decoded(tmp_path / "out.mkv")
    assert [(frame.width, frame.height) for frame in results] == [sides] * 3
    for small, large in zip(decoded(source), results, strict=True):
        upsampling = upscaler.family.upsampling((48, 64), sides[::-1])
        np.testing.assert_array_equal(luma(large), upscale_array(luma(small), upsampling))


@pytest.mark.parametrize("asked", [{"scale": 1.5}, {"scale": 6}, {"height": 31}, {"height": 48}])
@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
def test_bands_change_nothing(asked, format, monkeypatch):
    family = Upscaler([bicubic_model(2), bicubic_model(3)], "numpy", threads=1).family
    upscale = FrameUpscaler(family, TargetSize(**asked))
    frame = next(make_frames(1, format=format))
    expected = luma(upscale(frame))
    monkeypatch.setattr(frames, "_BAND_SAMPLES", 1)
    monkeypatch.setattr(frames, "_MIN_BAND_ROWS", 7)
    np.testing.assert_array_equal(luma(upscale(frame)), expected)


def test_a_video_that_is_only_reduced_has_a_warning(tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(2))
    for height, words in ((24, "only reduced"), (48, "nothing was upscaled")):
        result = subpixel.upscale_video(source, tmp_path / f"{height}.mkv", height=height, engine="numpy")
        assert any(words in warning for warning in result.warnings)


def test_an_odd_side_is_not_resumed_as_an_even_one(tmp_path, monkeypatch):
    source = write(tmp_path / "in.mkv", make_frames(2, 33, 16), codec="ffv1")
    upscaler = Upscaler(bicubic_model(3), "numpy", threads=1)
    out, digests = tmp_path / "out.mkv", []

    def interrupted(storage, fingerprint, *, alone):
        digests.append(fingerprint)
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "SegmentFolder", interrupted)
    for asked in ({}, {"width": 100}):  # 99 and one repeated pixel, and 100
        with pytest.raises(KeyboardInterrupt):
            subpixel.upscale_video(source, out, upscaler=upscaler, codec="libx264", **asked)
    assert digests[0] != digests[1]


def test_deep_samples(tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(2, format="yuv420p10le"), codec="ffv1")
    upscaler = Upscaler(bicubic_model(2), "numpy", threads=1)
    subpixel.upscale_video(source, tmp_path / "out.mkv", upscaler=upscaler, codec="ffv1", height=72)
    small, large = (luma(decoded(path)[0]) for path in (source, tmp_path / "out.mkv"))
    expected = Image.fromarray(NumpyEngine(bicubic_model(2))(small.astype(np.float32) / 1023))
    expected = np.asarray(expected.resize((96, 72), Image.Resampling.LANCZOS)) * 1023
    inner = slice(8, -8)
    assert np.abs(large[inner, inner] - expected[inner, inner]).max() <= 1


def test_anamorphic_videos_keep_their_pixels_or_get_square_ones(tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(2, 72, 48), sample_aspect_ratio=Fraction(4, 3))
    upscaler = Upscaler([bicubic_model(2), bicubic_model(3)], "numpy", threads=1)
    for square, sides, aspect in ((False, (144, 96), Fraction(4, 3)), (True, (192, 96), 1)):
        out = tmp_path / f"{square}.mkv"
        subpixel.upscale_video(source, out, upscaler=upscaler, square_pixels=square)
        with av.open(out) as container:
            stream = container.streams.video[0]
            assert ((stream.width, stream.height), stream.sample_aspect_ratio or 1) == (sides, aspect)
    result = subpixel.upscale_video(
        source, tmp_path / "out.mkv", upscaler=upscaler, square_pixels=True, size="120x120"
    )
    assert (result.width, result.height) == (120, 60)


@pytest.mark.parametrize("asked", [{"width": 72}, {"height": 96}, {"size": "72x1000"}])
def test_sizes_of_a_rotated_video_are_those_on_the_screen(tmp_path, asked):
    source = write(tmp_path / "in.mp4", make_frames(2), rotation=90)  # 64x48, shown as 48x64
    upscaler = Upscaler([bicubic_model(2), bicubic_model(3)], "numpy", threads=1)
    result = subpixel.upscale_video(source, tmp_path / "out.mp4", upscaler=upscaler, **asked)
    assert (result.width, result.height) == (96, 72)
    assert decoded(tmp_path / "out.mp4")[0].rotation == decoded(source)[0].rotation


def test_too_much_names_the_file(tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(2))
    with pytest.raises(subpixel.InputError, match=r"in\.mkv: .*x16"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", width=64 * 17, engine="numpy")
    assert not (tmp_path / "out.mkv").exists()
