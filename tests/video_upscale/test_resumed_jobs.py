"""Upscaled videos: an interrupted job resumes."""

import time

import numpy as np
import pytest

from subpixel.errors import OutputExists
from subpixel.video.pipeline import work
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, packets, pictures, write
from video_jobs import SEGMENT, hidden


class Killed(BaseException):
    """What a test puts in the place of a kill."""


@pytest.mark.parametrize("after", [0, 3, 12, 24])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_job_goes_on(upscale, monkeypatch, tmp_path, codec, after):
    source = write(tmp_path / "in.mkv", pictures(25), sound="aac")
    upscale(source, tmp_path / "whole.mkv", codec=codec)

    def enlarge(self, frame, enlarge=FrameUpscaler.__call__):
        nonlocal made
        if made == after:
            raise Killed
        made += 1
        return enlarge(self, frame)

    made = 0
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", enlarge)
        with pytest.raises(Killed):
            upscale(source, tmp_path / "out.mkv", codec=codec)
    assert not (tmp_path / "out.mkv").exists()
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    # What had not passed encoder and disk by then is lost with its segment.
    assert report.resumed_frames in (after // SEGMENT * SEGMENT, max(0, after // SEGMENT - 1) * SEGMENT)
    assert report.frames == 25
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")
    for ours, theirs in zip(decoded(tmp_path / "out.mkv"), decoded(tmp_path / "whole.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
    assert hidden(tmp_path) == []


def stopped(upscale, monkeypatch, source, output, after=22):
    """A job that stopped with two segments done."""
    made = 0

    def enlarge(self, frame, enlarge=FrameUpscaler.__call__):
        nonlocal made
        made += 1
        while made > after and len(list(output.parent.glob(f".{output.name}.subpixel/*.packets"))) < 2:
            time.sleep(0.01)
        if made > after:
            raise Killed
        return enlarge(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", enlarge)
        with pytest.raises(Killed):
            upscale(source, output)


def test_what_decides_the_picture_decides_what_is_kept(upscale, monkeypatch, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(25))
    output = tmp_path / "out.mkv"
    for change in ("the quality", "the input", "the part"):
        stopped(upscale, monkeypatch, source, output)
        options = {"overwrite": True}
        if change == "the quality":
            options["crf"] = 30
        elif change == "the part":
            options["end"] = 0.9
        else:
            write(source, pictures(25), options={"crf": "30"})
        report = upscale(source, output, **options)
        assert report.resumed_frames == 0
        assert any("an earlier run had another" in notice for notice in report.warnings)
        output.unlink()
    stopped(upscale, monkeypatch, source, output)
    assert upscale(source, output).resumed_frames == 20


def test_a_job_that_was_killed_at_its_very_end(upscale, monkeypatch, film, tmp_path):
    """The output has its name, but the folder is still there: nothing is left to do."""
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(work.Journal, "remove", lambda journal: journal.close())
        upscale(film, output)
    before = output.stat()
    assert hidden(tmp_path) == [".out.mkv.subpixel"]
    assert upscale(film, output).resumed_frames == 25
    assert output.stat() == before
    assert hidden(tmp_path) == []
    with pytest.raises(OutputExists):
        upscale(film, output)


def test_a_job_that_was_killed_while_it_tidied_up(upscale, monkeypatch, film, tmp_path):
    output = tmp_path / "out.mkv"

    def killed(folder, ignore_errors):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(Killed):
            upscale(film, output)
    before = output.stat()
    assert not list((tmp_path / ".out.mkv.subpixel").glob("*.packets"))
    assert upscale(film, output).frames == 25
    assert output.stat() == before
    assert hidden(tmp_path) == []


def test_another_file_in_the_place_of_the_output_stays(upscale, monkeypatch, film, tmp_path):
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(work.Journal, "remove", lambda journal: journal.close())
        upscale(film, output)
    output.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        upscale(film, output)
    assert output.read_bytes() == b"mine"
