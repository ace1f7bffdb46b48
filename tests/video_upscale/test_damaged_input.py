"""Upscaled videos: damaged and unusual input."""

import json
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.errors import UnreadableVideo
from subpixel.video.media.source import Source
from video_files import (
    decoded,
    packets,
    pictures,
    times,
    write,
    write_broadcast,
)


def decode_errors(path, places, seed=0):
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(content) // 4, len(content), places):
        content[place] = rng.integers(256)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi"])
def test_damaged_files_give_what_they_can(upscale, tmp_path, extension, seed):
    codecs = {"ts": "mpeg2video", "avi": "mpeg4"}
    source = write(
        tmp_path / f"in.{extension}",
        pictures(30, 160, 96),
        codec=codecs.get(extension, "libx264"),
        sound="mp2",
        time_base=Fraction(1, 25),
        container_options={"movflags": "faststart"} if extension == "mp4" else None,
    )
    decode_errors(source, 60, seed)
    try:
        report = upscale(source, tmp_path / "out.mkv")
    except UnreadableVideo:
        return
    assert report.frames == len(decoded(tmp_path / "out.mkv"))
    rising = times(tmp_path / "out.mkv")
    assert all(before < after for before, after in pairwise(rising))


def test_damage_is_counted(model, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(30, 160, 96))
    decode_errors(source, 60)
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert report["damaged_frames"] > 3
    assert result.exit_code == 1
    assert "of it is damaged or missing, more than 10%" in result.stderr
    assert "frames were damaged, of" in result.stderr
    assert (tmp_path / "out.mkv").exists()
    result = CliRunner().invoke(app, [*arguments, "--overwrite", "--max-damage", "1"])
    assert result.exit_code == 0


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_truncated_files_give_what_was_readable(upscale, tmp_path, extension):
    source = write(
        tmp_path / f"in.{extension}",
        pictures(60),
        codec="mpeg2video" if extension == "ts" else "libx264",
        options={"g": "6"},
        time_base=Fraction(1, 25),
        container_options={"movflags": "faststart"} if extension == "mp4" else None,
    )
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 2 // 3])
    report = upscale(source, tmp_path / "out.mkv")
    assert 20 < report.frames < 60
    assert len(decoded(tmp_path / "out.mkv")) == report.frames


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_what_is_missing_is_told(model, tmp_path, extension):
    options = {"movflags": "faststart"} if extension == "mp4" else None
    source = write(tmp_path / f"in.{extension}", pictures(60), options={"g": "6"}, container_options=options)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert 56 <= report["missing_frames"] + report["frames"] <= 61
    assert result.exit_code == 1
    assert "is cut off: about" in result.stderr


def test_damaged_sound_costs_itself_alone(upscale, monkeypatch, tmp_path):
    """The last packet of AAC in a transport stream, cut in two, is one that no other container takes."""
    source = write(tmp_path / "in.ts", pictures(25), sound="aac", time_base=Fraction(1, 90_000))
    whole = len(packets(source)[0])
    count = 0

    def copied(self, packet, copied=Source.copied):
        nonlocal count
        count += 1
        kept = copied(self, packet)
        if count % 10:
            return kept
        time_range = av.Packet(bytes(kept)[:3])
        time_range.pts, time_range.dts, time_range.time_base, time_range.stream = (
            kept.pts,
            kept.dts,
            kept.time_base,
            kept.stream,
        )
        return time_range

    monkeypatch.setattr(Source, "copied", copied)
    report = upscale(source, tmp_path / "out.mp4")
    (notice,) = [notice for notice in report.warnings if "damaged packets of other streams" in notice]
    assert len(packets(tmp_path / "out.mp4")[0]) == whole - int(notice.split()[0])


def test_a_film_that_begins_before_0_is_moved(upscale, tmp_path):
    """As those do whose clock runs over soon after they begin."""
    source = write_broadcast(
        tmp_path / "in.ts",
        pictures(75),
        container_options={"output_ts_offset": str(2**33 / 90_000 - 1.5)},
    )
    assert times(source)[0] < 0
    report = upscale(source, tmp_path / "out.mp4")
    assert any("begins before 0: all is moved by" in notice for notice in report.warnings)
    found = times(tmp_path / "out.mp4")
    assert (found[0], len(found)) == (0, 75)
    sound = packets(tmp_path / "out.mp4")[0][0][1] - found[0]
    assert abs(sound - (packets(source)[0][0][1] - times(source)[0])) < Fraction(1, 1000)


def test_transparency_that_is_lost_is_told(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(2, format="yuva420p"), codec="ffv1")
    assert "its transparency is left out" in upscale(source, tmp_path / "out.mkv").warnings


def test_rgb(upscale, tmp_path):
    """FFV1 says that its RGB has the matrix of RGB, which the result has not."""
    frames = [frame.reformat(format="bgr0") for frame in pictures(2, format="yuv444p")]
    source = write(tmp_path / "in.mkv", frames, codec="ffv1")
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    large = decoded(tmp_path / "out.mkv")[0]
    assert (large.colorspace, large.color_range) == (1, 1)
    shown = large.reformat(64, 48, "rgb24", interpolation="AREA").to_ndarray().astype(float)
    assert np.abs(shown - decoded(source)[0].to_ndarray(format="rgb24")).mean() < 8


def test_a_change_of_size_is_told(upscale, tmp_path):
    """A stream of H.264 that goes on with larger frames."""
    first = write(tmp_path / "a.h264", pictures(5))
    second = write(tmp_path / "b.h264", pictures(5, 96, 64))
    (tmp_path / "in.h264").write_bytes(first.read_bytes() + second.read_bytes())
    report = upscale(tmp_path / "in.h264", tmp_path / "out.mkv")
    assert any("5 frames had another size" in notice for notice in report.warnings)
    assert {(frame.width, frame.height) for frame in decoded(tmp_path / "out.mkv")} == {(128, 96)}


def test_interlaced_is_told(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(5), options={"x264-params": "tff=1", "flags": "+ildct+ilme"})
    assert decoded(source)[0].interlaced_frame
    assert upscale(source, tmp_path / "out.mkv").warnings[0].startswith("interlaced")
