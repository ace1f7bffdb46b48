"""Fixtures of the tests that run whole video jobs."""

import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.upscaler import Upscaler
from subpixel.video.pipeline import encode, run
from video_files import make_frames, write
from video_jobs import SEGMENT


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=1)


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", SEGMENT)
    monkeypatch.setattr(run, "SEGMENT_FRAMES", SEGMENT)


@pytest.fixture
def upscale(upscaler, short_segments):
    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


@pytest.fixture
def rich_video(tmp_path):
    """A Matroska file with sound, subtitles, chapters, an attachment and metadata."""
    return write(
        tmp_path / "film.mkv",
        make_frames(25),
        sound="aac",
        subtitles="subrip",
        chapters=True,
        attachment=True,
        metadata={"title": "A film", "artist": "me", "COMMENT": "ünïcode"},
    )
