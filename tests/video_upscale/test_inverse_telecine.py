"""Upscaled videos: a film that was telecined gets its own frames back."""

from fractions import Fraction

import numpy as np
import pytest

from interlaced_files import (
    FILM_RATE,
    VIDEO_RATE,
    combing,
    interlaced,
    marked,
    psnr_db,
    render,
    telecined,
    write_lossless,
)
from subpixel.errors import UnsupportedVideo
from video_files import chroma, decoded, ffmpeg, times, write

MARKS = {"top": "tff", "bottom": "bff"}


@pytest.fixture
def film(upscale, tmp_path):
    """24 frames of a film, and the same upscaled."""
    frames = render(24)
    upscale(write_lossless(tmp_path / "film.mkv", frames, FILM_RATE), tmp_path / "large.mkv", codec="ffv1")
    return frames, decoded(tmp_path / "large.mkv")


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(chroma(ours, index), chroma(theirs, index)) for index in range(3))


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("extension", ["nut", "mkv"])
def test_the_film_is_restored(upscale, film, tmp_path, order, extension):
    frames, large = film
    source = write_lossless(
        tmp_path / f"in.{extension}", marked(telecined(frames, order), MARKS[order]), VIDEO_RATE
    )
    result = upscale(source, tmp_path / "out.mkv", codec="ffv1", inverse_telecine=True)
    assert result.frames == 24
    assert not [warning for warning in result.warnings if "milliseconds" not in warning]
    assert_same(decoded(tmp_path / "out.mkv"), large)
    for number, time in enumerate(times(tmp_path / "out.mkv")):
        assert abs(time - number / FILM_RATE) < Fraction(2, 1000)  # Matroska rounds to milliseconds
    assert decoded(tmp_path / "out.mkv")[0].interlaced_frame is False


def test_a_film_telecined_by_ffmpeg(upscale, film, tmp_path):
    """FFmpeg's filter begins in another phase."""
    large = film[1]
    telecine = ["-vf", "telecine=pattern=32,setfield=tff", "-c:v", "ffv1"]
    ffmpeg("-i", tmp_path / "film.mkv", *telecine, tmp_path / "in.nut")
    assert len(decoded(tmp_path / "in.nut")) == 30
    result = upscale(tmp_path / "in.nut", tmp_path / "out.mkv", codec="ffv1", inverse_telecine=True)
    assert result.frames == 24
    assert_same(decoded(tmp_path / "out.mkv"), large)


def test_times_are_exact_where_the_container_stores_them(upscale, film, tmp_path):
    source = write_lossless(tmp_path / "in.nut", marked(telecined(film[0])), VIDEO_RATE)
    upscale(source, tmp_path / "out.mp4", inverse_telecine=True)
    assert times(tmp_path / "out.mp4") == [number / FILM_RATE for number in range(24)]


def test_yuv4mpeg2_has_the_rate_of_the_film(upscale, film, tmp_path):
    source = write_lossless(tmp_path / "in.nut", marked(telecined(film[0])), VIDEO_RATE)
    upscale(source, tmp_path / "out.y4m", inverse_telecine=True)
    assert b" F24000:1001 " in (tmp_path / "out.y4m").read_bytes()[:100]
    assert_same(decoded(tmp_path / "out.y4m"), film[1])


@pytest.mark.parametrize("left", [1, 2, 7, 28])
def test_frames_that_are_too_few_for_a_cycle_stay(upscale, film, tmp_path, left):
    source = write_lossless(tmp_path / "in.nut", marked(telecined(film[0])[:left]), VIDEO_RATE)
    result = upscale(source, tmp_path / "out.mp4", inverse_telecine=True)
    assert result.frames == left // 5 * 4 + left % 5
    cycles = [number / FILM_RATE for number in range(left // 5 * 4)]
    rest = [number / VIDEO_RATE for number in range(left // 5 * 5, left)]
    assert times(tmp_path / "out.mp4") == [*cycles, *rest]


def test_video_in_the_film_is_deinterlaced(upscale, film, tmp_path):
    """Some scenes, such as titles, are often interlaced video."""
    frames = [*telecined(film[0]), *interlaced(render(60))]
    source = write_lossless(tmp_path / "in.nut", marked(frames), VIDEO_RATE)
    upscale(source, tmp_path / "out.mkv", codec="ffv1", inverse_telecine=True)
    found = decoded(tmp_path / "out.mkv")
    assert len(found) == 48
    assert_same(found[:23], film[1][:23])
    assert combing(found[25:]) < 5


def test_a_time_range(upscale, film, tmp_path):
    """The cycles of five frames begin anywhere in the film."""
    source = write_lossless(tmp_path / "in.nut", marked(telecined(film[0])), VIDEO_RATE)
    start = 7 / VIDEO_RATE
    result = upscale(source, tmp_path / "out.mp4", inverse_telecine=True, start=start, end=27 / VIDEO_RATE)
    assert result.frames == 16
    assert times(tmp_path / "out.mp4") == [number / FILM_RATE for number in range(16)]
    assert combing(decoded(tmp_path / "out.mp4")) < 5


def test_auto_names_it_where_the_frame_rate_fits(upscale, film, tmp_path):
    for rate in (VIDEO_RATE, Fraction(25)):
        source = write_lossless(tmp_path / "in.nut", marked(telecined(film[0])), rate)
        [warning] = upscale(source, tmp_path / "out.mp4", overwrite=True).warnings
        assert ("pass --inverse-telecine" in warning) == (rate == VIDEO_RATE)


def test_frames_too_small_for_the_filters(upscale, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(telecined(render(4, 8, 4))), VIDEO_RATE)
    with pytest.raises(UnsupportedVideo, match="8x4 pixels are too small"):
        upscale(source, tmp_path / "out.mkv", inverse_telecine=True)


def test_other_frame_rates_are_reported(upscale, tmp_path):
    source = write_lossless(tmp_path / "in.mkv", marked(interlaced(render(20))))
    [warning] = upscale(source, tmp_path / "out.mkv", inverse_telecine=True).warnings
    assert "25 frames per second, and telecined film has 29.97" in warning


@pytest.mark.parametrize(("format", "cure"), [("yuv422p10le", "yuv422p"), ("gray", "yuv420p")])
def test_formats_that_cannot_be_matched(upscale, tmp_path, format, cure):
    frames = marked([frame.reformat(format=format) for frame in telecined(render(8))])
    source = write_lossless(tmp_path / "in.mkv", frames, VIDEO_RATE)
    words = rf"in\.mkv: .*only possible for 8-bit.* not for the pixel format {format}; convert .* to {cure} "
    with pytest.raises(UnsupportedVideo, match=words):
        upscale(source, tmp_path / "out.mkv", inverse_telecine=True)


def test_mpeg2_with_loss(upscale, film, tmp_path):
    source = write(
        tmp_path / "in.ts",
        marked(telecined(film[0])),
        codec="mpeg2video",
        rate=VIDEO_RATE,
        options={"flags": "+ildct+ilme", "b": "6000000"},
        time_base=1 / VIDEO_RATE,
    )
    result = upscale(source, tmp_path / "out.mkv", codec="ffv1", inverse_telecine=True)
    assert result.frames == 24
    assert psnr_db(decoded(tmp_path / "out.mkv"), film[1]) > 35
