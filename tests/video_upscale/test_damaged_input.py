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
from subpixel.video.media.timeline import Timeline
from video_files import (
    decoded,
    make_frames,
    packets,
    times,
    write,
    write_broadcast,
)


def damage(path, count, seed=0):
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for offset in rng.integers(len(content) // 4, len(content), count):
        content[offset] = rng.integers(256)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi"])
def test_damaged_files_are_upscaled_as_far_as_possible(upscale, tmp_path, extension, seed):
    codecs = {"ts": "mpeg2video", "avi": "mpeg4"}
    source = write(
        tmp_path / f"in.{extension}",
        make_frames(30, 160, 96),
        codec=codecs.get(extension, "libx264"),
        sound="mp2",
        time_base=Fraction(1, 25),
        container_options={"movflags": "faststart"} if extension == "mp4" else None,
    )
    damage(source, 60, seed)
    try:
        report = upscale(source, tmp_path / "out.mkv")
    except UnreadableVideo:
        return
    assert report.frames == len(decoded(tmp_path / "out.mkv"))
    rising = times(tmp_path / "out.mkv")
    assert all(before < after for before, after in pairwise(rising))


def test_damaged_frames_are_counted(model, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(30, 160, 96))
    damage(source, 60)
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert report["damaged_frames"] > 3
    assert result.exit_code == 1
    assert "of the frames are damaged or missing, more than 10%" in result.stderr
    assert "frames were damaged; " in result.stderr
    assert (tmp_path / "out.mkv").exists()
    result = CliRunner().invoke(app, [*arguments, "--overwrite", "--max-damage", "1"])
    assert result.exit_code == 0


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_truncated_files_are_upscaled_as_far_as_readable(upscale, tmp_path, extension):
    source = write(
        tmp_path / f"in.{extension}",
        make_frames(60),
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
def test_missing_frames_are_reported(model, tmp_path, extension):
    options = {"movflags": "faststart"} if extension == "mp4" else None
    source = write(
        tmp_path / f"in.{extension}", make_frames(60), options={"g": "6"}, container_options=options
    )
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert 56 <= report["missing_frames"] + report["frames"] <= 61
    assert result.exit_code == 1
    assert "is cut off: about" in result.stderr


def test_only_the_damaged_packets_of_sound_are_dropped(upscale, monkeypatch, tmp_path):
    """MP4 refuses a truncated packet of AAC from a transport stream."""
    source = write(tmp_path / "in.ts", make_frames(25), sound="aac", time_base=Fraction(1, 90_000))
    whole = len(packets(source)[0])
    count = 0

    def trim(self, packet, trim=Timeline.trim):
        nonlocal count
        count += 1
        kept = trim(self, packet)
        if count % 10:
            return kept
        cut = av.Packet(bytes(kept)[:3])
        cut.pts, cut.dts, cut.time_base, cut.stream = kept.pts, kept.dts, kept.time_base, kept.stream
        return cut

    monkeypatch.setattr(Timeline, "trim", trim)
    report = upscale(source, tmp_path / "out.mp4")
    (warning,) = [warning for warning in report.warnings if "damaged packets of other streams" in warning]
    assert len(packets(tmp_path / "out.mp4")[0]) == whole - int(warning.split()[0])


def test_a_video_that_begins_before_0_is_shifted(upscale, tmp_path):
    """As in a transport stream whose 33-bit clock overflows soon after the start."""
    source = write_broadcast(
        tmp_path / "in.ts",
        make_frames(75),
        container_options={"output_ts_offset": str(2**33 / 90_000 - 1.5)},
    )
    assert times(source)[0] < 0
    report = upscale(source, tmp_path / "out.mp4")
    assert any("begins before 0: all times are shifted by" in warning for warning in report.warnings)
    found = times(tmp_path / "out.mp4")
    assert (found[0], len(found)) == (0, 75)
    sound = packets(tmp_path / "out.mp4")[0][0][1] - found[0]
    assert abs(sound - (packets(source)[0][0][1] - times(source)[0])) < Fraction(1, 1000)


def test_dropped_transparency_is_reported(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(2, format="yuva420p"), codec="ffv1")
    assert "its transparency is dropped" in upscale(source, tmp_path / "out.mkv").warnings


def test_rgb(upscale, tmp_path):
    """FFV1 tags RGB with the RGB matrix, which is wrong for the result."""
    frames = [frame.reformat(format="bgr0") for frame in make_frames(2, format="yuv444p")]
    source = write(tmp_path / "in.mkv", frames, codec="ffv1")
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    large = decoded(tmp_path / "out.mkv")[0]
    assert (large.colorspace, large.color_range) == (1, 1)
    shown = large.reformat(64, 48, "rgb24", interpolation="AREA").to_ndarray().astype(float)
    assert np.abs(shown - decoded(source)[0].to_ndarray(format="rgb24")).mean() < 8


def test_a_change_of_size_is_reported(upscale, tmp_path):
    """A raw H.264 stream continues with larger frames."""
    first = write(tmp_path / "a.h264", make_frames(5))
    second = write(tmp_path / "b.h264", make_frames(5, 96, 64))
    (tmp_path / "in.h264").write_bytes(first.read_bytes() + second.read_bytes())
    report = upscale(tmp_path / "in.h264", tmp_path / "out.mkv")
    assert any("5 frames had another size" in warning for warning in report.warnings)
    assert {(frame.width, frame.height) for frame in decoded(tmp_path / "out.mkv")} == {(128, 96)}
