"""Upscaled videos: interlaced frames become progressive ones.

The sources are woven of frames that are known, so the results are compared with those frames, upscaled alike.
"""

from fractions import Fraction

import numpy as np
import pytest

from interlaced_files import combing, interlaced, line_doubled, marked, psnr_db, render, write_lossless
from subpixel.errors import UnsupportedVideo
from subpixel.video.media.pixel_formats import bit_depth, planar_format
from subpixel.video.pipeline import run
from subpixel.video.pipeline.deinterlace import Deinterlacing
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import chroma, decoded, luma, make_frames, times, write
from video_jobs import SEGMENT

MARKS = {"top": "tff", "bottom": "bff"}
INSIDE = slice(2, -2)
"""Without the first and the last frames, which have neighbors on one side only."""


@pytest.fixture
def upscaled(upscale, tmp_path):
    """Upscale frames, and return the results."""

    def upscaled(frames, rate=Fraction(25)):
        upscale(write_lossless(tmp_path / "truth.mkv", frames, rate), tmp_path / "large.mkv", codec="ffv1")
        large = decoded(tmp_path / "large.mkv")
        (tmp_path / "large.mkv").unlink()
        return large

    return upscaled


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("mode", ["auto", "frames", "fields"])
def test_fields_become_frames(upscale, upscaled, tmp_path, mode, order):
    frames = render(24)
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(frames, order), MARKS[order]))
    assert decoded(source)[0].interlaced_frame
    result = upscale(source, tmp_path / "out.mkv", codec="ffv1", deinterlace=mode)
    found = decoded(tmp_path / "out.mkv")
    rate = 2 if mode == "fields" else 1
    assert len(found) == result.frames == 12 * rate
    assert times(tmp_path / "out.mkv") == [Fraction(number, 25 * rate) for number in range(12 * rate)]
    assert not any(frame.interlaced_frame for frame in found)

    truth = upscaled(frames[:: 2 // rate])
    upscale(source, tmp_path / "combed.mkv", codec="ffv1", deinterlace="off")
    combed = decoded(tmp_path / "combed.mkv")
    doubled = upscaled([line_doubled(frame) for frame in interlaced(frames)])
    assert combing(found) < 1.5 * combing(truth) < 0.01 * combing(combed)
    found, truth = found[INSIDE], truth[INSIDE]
    for plane in (luma, chroma):
        others = [frames[INSIDE] for frames in (combed, doubled)] if rate == 1 else []
        assert all(psnr_db(found, truth, plane) > psnr_db(other, truth, plane) + 3 for other in others)
    assert psnr_db(found, truth) > 45


def test_auto_tells_what_it_did(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv", make_frames(5), options={"x264-params": "tff=1", "flags": "+ildct+ilme"}
    )
    [warning] = upscale(source, tmp_path / "auto.mkv").warnings
    assert "5 of 5 frames are interlaced, and were deinterlaced" in warning
    [warning] = upscale(source, tmp_path / "off.mkv", deinterlace="off").warnings
    assert "5 of 5 frames are interlaced, and were upscaled as they are" in warning
    assert upscale(source, tmp_path / "frames.mkv", deinterlace="frames").warnings == ()


@pytest.mark.parametrize("extension", ["mp4", "mov", "y4m"])
def test_progressive_video_is_untouched(upscale, tmp_path, extension):
    source = write(tmp_path / "in.mkv", make_frames(25), sound="aac" if extension != "y4m" else None)
    outputs = {mode: tmp_path / f"{mode}.{extension}" for mode in ("auto", "off")}
    for mode, output in outputs.items():
        assert upscale(source, output, deinterlace=mode).warnings == ()
    assert outputs["auto"].read_bytes() == outputs["off"].read_bytes()


def test_progressive_frames_between_interlaced_ones_are_untouched(upscale, tmp_path):
    frames = render(30)
    progressive, woven_frames = marked(frames[:20], "prog"), marked(interlaced(frames[:20]))
    mixed = [*progressive[:4], *woven_frames[4:8], *progressive[8:12]]
    source = write_lossless(tmp_path / "in.mkv", mixed)
    assert [frame.interlaced_frame for frame in decoded(source)] == [False] * 4 + [True] * 4 + [False] * 4
    result = upscale(source, tmp_path / "auto.mkv", codec="ffv1")
    assert any("4 of 12 frames are interlaced, and were deinterlaced" in each for each in result.warnings)
    upscale(source, tmp_path / "off.mkv", codec="ffv1", deinterlace="off")
    assert times(tmp_path / "auto.mkv") == times(tmp_path / "off.mkv")
    pairs = list(zip(decoded(tmp_path / "auto.mkv"), decoded(tmp_path / "off.mkv"), strict=True))
    same = [all(np.array_equal(chroma(a, i), chroma(b, i)) for i in range(3)) for a, b in pairs]
    assert same == [True] * 4 + [False] * 4 + [True] * 4


def test_field_order_overrides_what_the_file_says(upscale, upscaled, tmp_path):
    frames = render(24)
    truth = upscaled(frames)[INSIDE]
    for mark in ("tff", "prog"):
        source = write_lossless(tmp_path / "in.mkv", marked(interlaced(frames, "bottom"), mark))
        wrong = upscale(source, tmp_path / "wrong.mkv", codec="ffv1", deinterlace="fields")
        upscale(source, tmp_path / "right.mkv", codec="ffv1", deinterlace="fields", field_order="bottom")
        found = [decoded(tmp_path / name)[INSIDE] for name in ("wrong.mkv", "right.mkv")]
        assert psnr_db(found[1], truth) > psnr_db(found[0], truth) + 10
        assert any("--field-order" in warning for warning in wrong.warnings) == (mark == "prog")
        (tmp_path / "wrong.mkv").unlink()
        (tmp_path / "right.mkv").unlink()


def test_a_field_order_without_interlaced_frames_is_reported(upscale, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(12), "bottom"), "prog"))
    [warning] = upscale(source, tmp_path / "auto.mkv", field_order="bottom").warnings
    assert "the field order changed nothing" in warning
    assert "--deinterlace frames" in warning
    marks = marked(interlaced(render(12), "bottom"), "tff")
    [warning] = upscale(
        write_lossless(tmp_path / "marked.mkv", marks), tmp_path / "b.mkv", field_order="bottom"
    ).warnings
    assert "were deinterlaced" in warning


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_interlaced_codecs_in_a_transport_stream(upscale, upscaled, tmp_path, codec):
    frames = render(40)
    options = {"flags": "+ildct+ilme", **({"x264-params": "tff=1"} if codec == "libx264" else {"q": "2"})}
    source = write(
        tmp_path / "in.ts",
        marked(interlaced(frames)),
        codec=codec,
        options={**options, "b": "4000000"},
        time_base=Fraction(1, 25),
    )
    result = upscale(source, tmp_path / "out.mkv", codec="ffv1", deinterlace="fields")
    assert result.frames == 40
    assert psnr_db(decoded(tmp_path / "out.mkv")[INSIDE], upscaled(frames)[INSIDE]) > 32


def test_irregular_times_and_a_time_range(upscale, tmp_path):
    """Each field is shown for half the time of its frame, and the times of a part begin at 0."""
    pts = [0, 40, 80, 130, 170, 290, 330]
    source = write(
        tmp_path / "in.mkv",
        marked(interlaced(render(14))),
        codec="ffv1",
        times=pts,
        time_base=Fraction(1, 1000),
    )
    upscale(source, tmp_path / "frames.mkv")
    assert times(tmp_path / "frames.mkv") == [Fraction(time, 1000) for time in pts]
    upscale(source, tmp_path / "fields.mkv", deinterlace="fields")
    halves = [0, 20, 40, 60, 80, 105, 130, 150, 170, 230, 290, 310, 330, 350]
    assert times(tmp_path / "fields.mkv") == [Fraction(time, 1000) for time in halves]
    result = upscale(source, tmp_path / "part.mkv", deinterlace="fields", start=0.08, end=0.29)
    assert result.frames == 6
    assert times(tmp_path / "part.mkv") == [Fraction(time, 1000) for time in (0, 25, 50, 70, 90, 150)]


def test_a_time_range_that_ends_within_a_tick(upscale, tmp_path):
    """AVI's ticks are whole frames, and less than one is left of the last frame."""
    frames = marked(interlaced(render(40)))
    source = write(tmp_path / "in.avi", frames, codec="ffv1", time_base=Fraction(1, 25))
    upscale(source, tmp_path / "out.mp4", deinterlace="fields", end=0.41)
    assert times(tmp_path / "out.mp4") == [Fraction(number, 50) for number in range(22)]


def test_a_job_that_was_killed_after_the_rename(upscale, monkeypatch, tmp_path):
    """The output is complete, and its number of frames is still known."""
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(60))))
    with monkeypatch.context() as patch:
        patch.setattr(run.SegmentFolder, "remove", lambda folder: folder.close())
        first = upscale(source, tmp_path / "out.mkv", deinterlace="fields")
    second = upscale(source, tmp_path / "out.mkv", deinterlace="fields")
    assert (first.frames, second.frames, second.resumed_frames) == (60, 60, 60)


@pytest.mark.parametrize("mode", ["auto", "fields"])
def test_a_single_frame(upscale, tmp_path, mode):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(2))))
    upscale(source, tmp_path / "out.mkv", deinterlace=mode)
    expected = [Fraction(0), Fraction(1, 50)] if mode == "fields" else [Fraction(0)]
    assert times(tmp_path / "out.mkv") == expected


def test_odd_sides(upscale, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(8, 51, 37))))
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    found = decoded(tmp_path / "out.mkv")
    assert (found[0].width, found[0].height) == (102, 74)
    assert combing(found) < 3


def test_frames_too_small_for_the_filter(upscale, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(4, 8, 4))))
    with pytest.raises(UnsupportedVideo, match=r"in\.mkv: .*8x4 pixels are too small.*--deinterlace off"):
        upscale(source, tmp_path / "out.mkv")
    assert upscale(source, tmp_path / "out.mkv", deinterlace="off").frames == 2


def test_a_change_of_size(upscale, tmp_path):
    """A raw MPEG-2 stream continues with larger frames."""
    parts = []
    for number, (width, height) in enumerate([(96, 64), (128, 96)]):
        path = tmp_path / f"{number}.m2v"
        write(
            path,
            marked(interlaced(render(10, width, height))),
            codec="mpeg2video",
            options={"flags": "+ildct+ilme"},
            time_base=Fraction(1, 25),
        )
        parts.append(path.read_bytes())
    (tmp_path / "in.m2v").write_bytes(b"".join(parts))
    result = upscale(tmp_path / "in.m2v", tmp_path / "out.mkv", deinterlace="fields")
    assert result.frames == 2 * len(decoded(tmp_path / "in.m2v"))
    assert any("resized" in warning for warning in result.warnings)
    seconds = times(tmp_path / "out.mkv")
    assert seconds == sorted(set(seconds))


@pytest.mark.parametrize("format", ["yuv422p", "uyvy422", "nv16", "gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("color_range", [1, 2])
def test_the_range_and_the_depth_of_samples_stay(format, color_range):
    """FFmpeg's filters convert formats that they do not take, but to limited range."""
    ranges = {"src_color_range": color_range, "dst_color_range": color_range}
    frames = [frame.reformat(format=format, **ranges) for frame in marked(interlaced(render(12)))]
    planar = [frame.reformat(format=planar_format(frame.format), **ranges) for frame in frames]
    for number, frame in enumerate(frames):
        frame.color_range, frame.pts, frame.duration = color_range, number, 1
    found = list(Deinterlacing(mode="fields").apply(frames))
    assert len(found) == 12
    assert [frame.pts for frame in found] == list(range(12))
    depth = 2.0 ** (bit_depth(found[0].format) - bit_depth(planar[0].format))
    for number in range(2, 4):
        for index in range(len(planar[0].planes)):
            lines = slice(number % 2, None, 2)
            kept = chroma(found[number], index)[lines] / depth
            assert np.abs(kept - chroma(planar[number // 2], index)[lines]).max() < 1


class Killed(BaseException):
    """Raised to simulate a kill."""


@pytest.mark.parametrize(
    "options", [{}, {"deinterlace": "fields"}, {"inverse_telecine": True}], ids=["auto", "fields", "telecine"]
)
def test_an_interrupted_job_resumes_with_the_same_bytes(upscale, monkeypatch, tmp_path, options):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(70))))
    upscale(source, tmp_path / "uninterrupted.mp4", **options)

    def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
        nonlocal count
        if count == 2 * SEGMENT + 6:
            raise Killed
        count += 1
        return original(self, frame, *link)

    count = 0
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(Killed):
            upscale(source, tmp_path / "out.mp4", **options)
    result = upscale(source, tmp_path / "out.mp4", **options)
    assert result.resumed_frames >= SEGMENT
    assert result.frames == len(decoded(tmp_path / "out.mp4"))
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "uninterrupted.mp4").read_bytes()


def test_a_job_with_another_mode_starts_again(upscale, monkeypatch, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(60))))

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "join", kill)
        with pytest.raises(Killed):
            upscale(source, tmp_path / "out.mkv")
    result = upscale(source, tmp_path / "out.mkv", deinterlace="fields")
    assert (result.resumed_frames, result.frames) == (0, 60)
    assert any("another deinterlacing" in warning for warning in result.warnings)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="unknown deinterlace 'yes'; known: auto, off, frames, fields"):
        Deinterlacing(mode="yes")
    with pytest.raises(ValueError, match="unknown field_order"):
        Deinterlacing(field_order="tff")
    with pytest.raises(ValueError, match="which is off"):
        Deinterlacing(mode="off", field_order="top")
    with pytest.raises(ValueError, match="leave out the option deinterlace"):
        Deinterlacing(mode="fields", inverse_telecine=True)
