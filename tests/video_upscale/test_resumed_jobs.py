"""Upscaled videos: an interrupted job resumes."""

import time

import av
import numpy as np
import pytest

from subpixel.errors import OutputExists
from subpixel.storage.outputs import identity
from subpixel.video.pipeline import fingerprint, run
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, make_frames, packets, write
from video_jobs import SEGMENT, hidden


class Killed(BaseException):
    """Raised to simulate a kill."""


@pytest.mark.parametrize("after", [0, 3, 12, 24])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_an_interrupted_job_resumes(upscale, monkeypatch, tmp_path, codec, after):
    source = write(tmp_path / "in.mkv", make_frames(25), sound="aac")
    upscale(source, tmp_path / "uninterrupted.mkv", codec=codec)

    def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
        nonlocal count
        if count == after:
            raise Killed
        count += 1
        return original(self, frame, *link)

    count = 0
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(Killed):
            upscale(source, tmp_path / "out.mkv", codec=codec)
    assert not (tmp_path / "out.mkv").exists()
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    # The last complete segment may still be in the encoder, and is lost too.
    assert report.resumed_frames in (after // SEGMENT * SEGMENT, max(0, after // SEGMENT - 1) * SEGMENT)
    assert report.frames == 25
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "uninterrupted.mkv")
    for ours, theirs in zip(
        decoded(tmp_path / "out.mkv"), decoded(tmp_path / "uninterrupted.mkv"), strict=True
    ):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
    assert hidden(tmp_path) == []


def interrupt(upscale, monkeypatch, source, output, after=22):
    """Run a job until two segments are finished, and interrupt it."""
    count = 0

    def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
        nonlocal count
        count += 1
        while count > after and len(list(output.parent.glob(f".{output.name}.subpixel/*/*.segment"))) < 2:
            time.sleep(0.01)
        if count > after:
            raise Killed
        return original(self, frame, *link)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(Killed):
            upscale(source, output)


def test_a_job_with_other_options_or_input_starts_again(upscale, monkeypatch, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(25))
    output = tmp_path / "out.mkv"
    for change in ("the quality", "the input", "the part"):
        interrupt(upscale, monkeypatch, source, output)
        options = {"overwrite": True}
        if change == "the quality":
            options["crf"] = 30
        elif change == "the part":
            options["end"] = 0.9
        else:
            write(source, make_frames(25), options={"crf": "30"})
        report = upscale(source, output, **options)
        assert report.resumed_frames == 0
        assert any("an earlier run had another" in warning for warning in report.warnings)
        output.unlink()
    interrupt(upscale, monkeypatch, source, output)
    assert upscale(source, output).resumed_frames == 20


def test_a_job_with_other_options_that_is_interrupted_keeps_the_segments_of_the_first(
    upscale, monkeypatch, tmp_path
):
    """Also if it ends before its first segment."""
    source, output = write(tmp_path / "in.mkv", make_frames(25)), tmp_path / "out.mkv"
    interrupt(upscale, monkeypatch, source, output)
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", lambda *given: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            upscale(source, output, crf=30)
    assert len(list(tmp_path.glob(".out.mkv.subpixel/*"))) == 4  # lock, input, index and the job
    report = upscale(source, output)
    assert report.resumed_frames == 20
    assert not any("an earlier run" in warning for warning in report.warnings)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "name", "other"), [(fingerprint, "_FRAMES_VERSION", 0), (av, "__version__", "0.0.0")]
)
def test_a_job_of_another_version_starts_again(upscale, monkeypatch, tmp_path, module, name, other):
    """Its frames, or those of its encoder, may be others."""
    source, output = write(tmp_path / "in.mkv", make_frames(25)), tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, other)
        interrupt(upscale, monkeypatch, source, output)
    report = upscale(source, output)
    assert report.resumed_frames == 0
    assert any("an earlier run had another version" in warning for warning in report.warnings)


def test_a_job_that_was_killed_after_the_rename(upscale, monkeypatch, rich_video, tmp_path):
    """The output is complete, and only the folder is left."""
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(run.SegmentFolder, "remove", lambda folder: folder.close())
        upscale(rich_video, output)
    before = identity(output)
    assert hidden(tmp_path) == [".out.mkv.subpixel"]
    assert upscale(rich_video, output).resumed_frames == 25
    assert identity(output) == before
    assert hidden(tmp_path) == []
    with pytest.raises(OutputExists):
        upscale(rich_video, output)


def test_a_job_that_was_killed_while_it_removed_its_folder(upscale, monkeypatch, rich_video, tmp_path):
    output = tmp_path / "out.mkv"

    def kill(folder, ignore_errors):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(Killed):
            upscale(rich_video, output)
    before = identity(output)
    assert not list((tmp_path / ".out.mkv.subpixel").glob("*/*.segment"))
    assert upscale(rich_video, output).frames == 25
    assert identity(output) == before
    assert hidden(tmp_path) == []


def test_another_file_under_the_name_of_the_output_stays(upscale, monkeypatch, rich_video, tmp_path):
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(run.SegmentFolder, "remove", lambda folder: folder.close())
        upscale(rich_video, output)
    output.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        upscale(rich_video, output)
    assert output.read_bytes() == b"mine"
