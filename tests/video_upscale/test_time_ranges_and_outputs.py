"""Upscaled videos: time ranges of the input, and paths of the output."""

from fractions import Fraction

import av
import numpy as np
import pytest

from subpixel.errors import OutputError, OutputExists, OutputIsInput
from video_files import decoded, luma, make_frames, packets, times, write, write_broadcast

# Time ranges


def test_a_time_range(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv",
        make_frames(50),
        sound="aac",
        subtitles="subrip",
        chapters=True,
        options={"g": "12"},
    )
    report = upscale(source, tmp_path / "out.mkv", start=Fraction("0.41"), end=1.0)
    assert report.frames == 14
    found = times(tmp_path / "out.mkv")
    assert found == [time - Fraction("0.41") for time in times(source) if Fraction("0.41") <= time < 1]
    shown = luma(decoded(tmp_path / "out.mkv")[0])
    small = luma(decoded(source)[11])
    assert np.abs(shown[::2, ::2].astype(float) - small).mean() < 6
    with av.open(str(tmp_path / "out.mkv")) as file:
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"])
            for chapter in file.chapters()
        ]
        assert chapters == [(0, Fraction("0.09")), (Fraction("0.09"), Fraction("0.59"))]
    sound, words = packets(tmp_path / "out.mkv")
    assert 0 <= sound[0][1] < Fraction(1, 40)
    assert Fraction("0.56") < sound[-1][1] < Fraction("0.59")
    # The first subtitle is on the screen at the start of the range.
    assert words == [(b"Hello", 0), (b"World", Fraction("0.29"))]


def test_a_time_range_of_a_file_without_an_index(upscale, tmp_path):
    """Seeking in a transport stream may end after the key frame that is needed."""
    source = write_broadcast(
        tmp_path / "in.ts",
        make_frames(75, 160, 96),
        options={"g": "25"},
    )
    start = times(source)[0]
    for begin in (Fraction("0.2"), Fraction(1), Fraction("2.6")):
        report = upscale(source, tmp_path / "out.mkv", start=begin, overwrite=True)
        # The sound begins a little earlier, and so does the file.
        assert abs(report.frames - (75 - 25 * begin)) <= 2
        assert times(tmp_path / "out.mkv")[0] < Fraction(1, 25)
    assert start >= 0


def test_the_frame_on_the_screen_at_the_start_of_a_range(upscale, tmp_path):
    slides = [0, 60 * 12800, 120 * 12800]
    source = write(tmp_path / "in.mp4", make_frames(3), times=slides)
    upscale(source, tmp_path / "out.mp4", start=70, end=130)
    assert times(tmp_path / "out.mp4") == [0, 50]
    upscale(source, tmp_path / "one.mp4", start=61, end=62)
    assert times(tmp_path / "one.mp4") == [0]


# Paths


def test_existing_outputs(upscale, rich_video, tmp_path):
    output = tmp_path / "out.mkv"
    output.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="exists already"):
        upscale(rich_video, output)
    assert output.read_bytes() == b"mine"
    upscale(rich_video, output, overwrite=True)
    assert len(decoded(output)) == 25
    with pytest.raises(OutputIsInput):
        upscale(rich_video, rich_video, overwrite=True)


def test_wrong_arguments_are_refused_before_the_work(upscale, rich_video, tmp_path):
    with pytest.raises(OutputError, match=r"known: \.mp4"):
        upscale(rich_video, tmp_path / "out.avi")
    with pytest.raises(ValueError, match="unknown preset"):
        upscale(rich_video, tmp_path / "out.mkv", preset="quick")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]
