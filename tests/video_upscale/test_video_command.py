"""`subpixel upscale` on videos as a process: signals, pipes, output."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from subpixel.cli import app
from video_files import (
    decoded,
    luma,
    make_frames,
    packets,
    times,
    write,
)
from video_jobs import SEGMENT, assert_same_packets, hidden

PATCHED = f"""
import sys
from subpixel.video.pipeline import encode, run
encode.SEGMENT_FRAMES = run.SEGMENT_FRAMES = {SEGMENT}
from subpixel.__main__ import main
sys.argv[0] = "subpixel"
main()
"""


def command(model, *arguments):
    options = ["--model", model, "--engine", "numpy", "--threads", "1"]
    return [sys.executable, "-c", PATCHED, "upscale", *map(str, arguments), *options]


@pytest.fixture
def long_video(tmp_path):
    """A video that takes some seconds."""
    return write(tmp_path / "long.mkv", make_frames(150, 160, 120), sound="aac")


def wait_for_segments(folder, count, process):
    while len(list(folder.glob("*/*.segment"))) < count:
        assert process.poll() is None, "ended too early"
        time.sleep(0.01)


def test_kill_9(model, long_video, tmp_path):
    uninterrupted, output = tmp_path / "uninterrupted.mkv", tmp_path / "out.mkv"
    subprocess.run(command(model, long_video, "-o", uninterrupted), check=True)
    folder = tmp_path / ".out.mkv.subpixel"
    for segments in (1, 5, 9):
        with subprocess.Popen(command(model, long_video, "-o", output)) as process:
            wait_for_segments(folder, segments, process)
            process.kill()
        assert not output.exists()
    done = subprocess.run(
        [*command(model, long_video, "-o", output), "--json"], capture_output=True, check=True, text=True
    )
    assert json.loads(done.stdout)["resumed_frames"] >= 80
    assert packets(output) == packets(uninterrupted)
    assert times(output) == times(uninterrupted)
    for ours, theirs in zip(decoded(output), decoded(uninterrupted), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_job(model, long_video, tmp_path, signum, code):
    output, folder = tmp_path / "out.mkv", tmp_path / ".out.mkv.subpixel"
    with subprocess.Popen(
        command(model, long_video, "-o", output), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_segments(folder, 2, process)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert "the same command resumes this video" in errors
    assert "Traceback" not in errors
    assert not output.exists()
    assert not list(folder.glob("*.part"))
    done = subprocess.run(
        [*command(model, long_video, "-o", output), "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["resumed_frames"] >= SEGMENT


@pytest.mark.parametrize("some_data", [False, True])
def test_a_signal_stops_the_job_while_stdin_is_silent(model, long_video, tmp_path, some_data):
    with subprocess.Popen(
        command(model, "-", "-o", tmp_path / "out.mkv"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        if some_data:
            content = long_video.read_bytes()
            process.stdin.write(content[: len(content) // 2])
            process.stdin.flush()
        while "libavformat" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None, "ended too early"
            time.sleep(0.05)
        time.sleep(1)  # until it reads
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()  # it ends, though stdin stays open
        process.stdin.close()
    assert process.returncode == 130
    assert b"interrupted" in errors and b"Traceback" not in errors
    assert not (tmp_path / "out.mkv").exists()


def test_a_full_disk(model, long_video, tmp_path):
    """The limit applies to each file: a segment fits, the output does not."""
    import resource

    output = tmp_path / "out.mkv"
    arguments = [*command(model, long_video, "-o", output), "--codec", "ffv1"]
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
    done = subprocess.run([*arguments, "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["resumed_frames"] > 0
    assert len(decoded(output)) == 150


def test_pipes(model, rich_video, tmp_path):
    """stdin and stdout, as YUV4MPEG2 and as Matroska."""
    done = subprocess.run(
        command(model, rich_video, "-o", "-", "--crf", "10"), capture_output=True, check=False
    )
    assert done.returncode == 2, "y4m is not encoded, and has no quality"
    assert b"rawvideo has no crf" in done.stderr
    done = subprocess.run(command(model, rich_video, "-o", "-"), capture_output=True, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W128 H96 F25:1")
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    assert len(decoded(tmp_path / "out.y4m")) == 25
    done = subprocess.run(
        command(model, "-", "-o", "-", "--container", "mkv"),
        input=rich_video.read_bytes(),
        capture_output=True,
        check=True,
    )
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert_same_packets(rich_video, tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv") == times(rich_video)
    again = tmp_path / "again.mp4"
    subprocess.run(command(model, "-", "-o", again), input=(tmp_path / "out.y4m").read_bytes(), check=True)
    assert (decoded(again)[0].width, len(decoded(again))) == (256, 25)


def test_mp4_through_a_pipe(model, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(25), sound="aac")
    done = subprocess.run(
        command(model, source, "-o", "-", "--container", "mp4"), capture_output=True, check=True
    )
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert times(tmp_path / "out.mp4") == times(source)
    assert [data for data, _ in packets(tmp_path / "out.mp4")[0]] == [data for data, _ in packets(source)[0]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_adts_aac_through_a_pipe(model, tmp_path):
    """Only the packets of ADTS configure AAC, so the muxer cannot write the header first."""
    source = write(tmp_path / "in.ts", make_frames(12), sound="aac", time_base=Fraction(1, 90_000))
    output = tmp_path / "out.mkv"
    with output.open("wb") as stdout:
        subprocess.run([*command(model, source, "-o", "-", "--container", "mkv")], stdout=stdout, check=True)
    with av.open(str(source)) as before, av.open(str(output)) as after:
        sounds = [[frame.to_ndarray() for frame in file.decode(audio=0)] for file in (before, after)]
    assert len(sounds[0]) > 10
    np.testing.assert_array_equal(sounds[1], sounds[0])
    refused = subprocess.run(
        [*command(model, source, "-o", "-", "--container", "mp4")], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "MP4 cannot hold stream 1 (audio, aac); write .mkv, or" in refused.stderr


@pytest.mark.parametrize("container", ["y4m", "mkv"])
def test_a_full_stdout(model, rich_video, container):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(model, rich_video, "-o", "-", "--container", container),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "error: stdout: could not be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("container", ["y4m", "mkv"])
def test_a_closed_pipe_ends_the_job_without_an_error(model, long_video, container):
    with subprocess.Popen(
        command(model, long_video, "-o", "-", "--container", container),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert len(process.stdout.read(20_000)) == 20_000
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert b"error" not in errors and b"Traceback" not in errors


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe(model, rich_video, tmp_path):
    os.mkfifo(tmp_path / "in.mkv")
    with subprocess.Popen(command(model, tmp_path / "in.mkv", "-o", tmp_path / "out.mkv")) as process:
        (tmp_path / "in.mkv").write_bytes(rich_video.read_bytes())
    assert process.returncode == 0
    assert times(tmp_path / "out.mkv") == times(rich_video)


@pytest.mark.parametrize(
    "name", ["12:30.mkv", "-dash.mkv", "100%d.mkv", "ünï ☃.mkv", "new\nline.mkv", "n" * 240 + ".mkv"]
)
def test_unusual_file_names(upscale, rich_video, tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(rich_video.read_bytes())
    assert upscale(tmp_path / "in" / name, tmp_path / name).frames == 25
    assert len(decoded(tmp_path / name)) == 25


def test_json_and_stdout_exclude_each_other(model, rich_video):
    result = CliRunner().invoke(app, ["upscale", str(rich_video), "-o", "-", "--json"])
    assert result.exit_code == 2
    assert "--json and -o - both write to stdout" in result.stderr


def test_json_and_verbose_output(model, rich_video, tmp_path):
    arguments = ["-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy", "--json", "-v"]
    result = CliRunner().invoke(app, ["upscale", str(rich_video), *arguments])
    report = json.loads(result.stdout)
    assert report["input"] == str(rich_video)
    assert (report["width"], report["height"], report["frames"], report["scale"]) == (128, 96, 25, 2)
    assert set(report["stages"]) == {"demux", "decode", "deinterlace", "upscale", "encode", "write"}
    assert report["bottleneck"] in report["stages"]
    assert "25 frames" in result.stderr and "slowest: " in result.stderr


def test_json_progress(model, long_video, tmp_path):
    arguments = ["-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy", "--progress", "json"]
    result = CliRunner().invoke(app, ["upscale", str(long_video), *arguments])
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line["progress"] for line in lines] == sorted(line["progress"] for line in lines)
    assert (lines[-1]["frames"], lines[-1]["total"], lines[-1]["progress"]) == (150, 150, 1)
    assert {"frames_per_second", "speed", "bottleneck", "seconds", "input"} <= set(lines[-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codec", "x264"], "unknown codec 'x264'"),
        (["--codec", "libx264", "--codec-option", "foo=1"], "libx264 has no option 'foo'"),
        (["--codec-option", "foo"], "write NAME=VALUE"),
        (["--preset", "quick"], "unknown preset 'quick'"),
        (["--start", "soon"], "'soon' is not a time"),
        (["--start", "2", "--end", "0:01"], "must be after the start"),
        (["--container", "avi"], "unknown container 'avi'"),
        (["--progress", "loud"], "unknown --progress 'loud'"),
    ],
)
def test_wrong_usage(model, rich_video, tmp_path, arguments, words):
    result = CliRunner().invoke(
        app, ["upscale", str(rich_video), "-o", str(tmp_path / "out.mkv"), "-m", model, *arguments]
    )
    assert result.exit_code == 2
    assert words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]


def test_a_folder_of_images_and_videos(model, rich_video, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "-m", model, "--engine", "numpy"]
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "film.mkv"]


def test_an_option_that_one_codec_lacks_fails_for_that_video_only(model, rich_video, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    write(videos / "a.y4m", make_frames(3), codec="wrapped_avframe")
    rich_video.rename(videos / "b.mkv")
    arguments = ["upscale", str(videos), "-o", str(tmp_path / "out"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--crf", "30", "--json"])
    assert result.exit_code == 1
    assert f"error: {videos / 'a.y4m'}: rawvideo has no crf" in result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert "no crf" in first["error"]
    assert second["frames"] == 25
