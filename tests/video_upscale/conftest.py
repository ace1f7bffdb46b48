"""What tests of whole video jobs share."""

import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.upscaler import Upscaler
from subpixel.video.pipeline import encode, work
from video_files import pictures, write
from video_jobs import SEGMENT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bicubic-x2.safetensors"
    bicubic_model(2).save(path)
    return str(path)


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=1)


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", SEGMENT)
    monkeypatch.setattr(work, "SEGMENT_FRAMES", SEGMENT)


@pytest.fixture
def upscale(upscaler, short_segments):
    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


@pytest.fixture
def film(tmp_path):
    """A film with all that Matroska can hold."""
    return write(
        tmp_path / "film.mkv",
        pictures(25),
        sound="aac",
        subtitles="subrip",
        chapters=True,
        attachment=True,
        metadata={"title": "A film", "artist": "me", "COMMENT": "ünïcode"},
    )
