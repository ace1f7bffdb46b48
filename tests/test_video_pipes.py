"""Videos through pipes: prompt output, and errors about what a pipe cannot do."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from video_files import make_frames, times, write

TIMEOUT_S = 40
"""The limit for events that normally happen at once."""


def command(model, *arguments):
    options = ["--model", model, "--engine", "numpy", "--threads", "1"]
    return [sys.executable, "-m", "subpixel", "upscale", *map(str, arguments), *options]


def upscale(model, *arguments, **metadata):
    return subprocess.run(command(model, *arguments), capture_output=True, text=True, check=False, **metadata)


def noise(path, count=10):
    """Write a video that is larger than FFmpeg's buffer for a pipe."""
    frames = list(make_frames(count, 320, 240))
    for frame in frames:
        samples = np.frombuffer(frame.planes[0], np.uint8)
        samples[...] = np.random.default_rng(frame.pts).integers(16, 235, samples.size)
    write(path, frames, options={"qp": "4"}, sound="aac")
    assert path.stat().st_size > 300_000
    return path


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize("named", [False, True])
def test_an_index_at_the_end_is_named_as_the_reason(model, tmp_path, extension, named):
    source = noise(tmp_path / f"in.{extension}")
    output = tmp_path / "out.mkv"
    if named:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        pipe = tmp_path / f"pipe.{extension}"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
            feeder = subprocess.Popen(["sh", "-c", f"cat > '{pipe}'"], stdin=cat.stdout)
            done = upscale(model, pipe, "-o", output)
            feeder.wait()
    else:
        with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
            done = upscale(model, "-", "-o", output, stdin=cat.stdout)
    name = pipe if named else "stdin"
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name}: the index of this MP4 (moov) is at its end")
    assert "name the file instead" in line and "+faststart" in line
    assert not output.exists()


def test_an_index_at_the_beginning(model, tmp_path):
    source = tmp_path / "first.mp4"
    with av.open(str(noise(tmp_path / "in.mp4"))) as before:
        output = av.open(str(source), "w", container_options={"movflags": "faststart"})
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in before.streams]
        for packet in before.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
        output.close()
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
        done = upscale(model, "-", "-o", tmp_path / "out.mkv", stdin=cat.stdout)
    assert done.returncode == 0, done.stderr
    assert times(tmp_path / "out.mkv") == [Fraction(number, 25) for number in range(10)]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "y4m"])
def test_results_are_written_before_the_input_ends(model, tmp_path, container):
    """Half of a video with a single key frame gives half of the result at once."""
    source = write(tmp_path / "in.mkv", make_frames(150), sound="mp2")
    content = source.read_bytes()
    with subprocess.Popen(
        command(model, "-", "-o", "-", "--container", container),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        came = threading.Event()

        def feed():
            process.stdin.write(content[: len(content) * 2 // 3])
            process.stdin.flush()
            came.wait(TIMEOUT_S)
            process.stdin.write(content[len(content) * 2 // 3 :])
            process.stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        early = b""
        until = time.monotonic() + TIMEOUT_S / 2
        while len(early) < 5000 and time.monotonic() < until:
            if select.select([process.stdout], [], [], 0.1)[0]:
                early += os.read(process.stdout.fileno(), 65536)
        came.set()
        rest = process.stdout.read()
        feeder.join()
    assert len(early) >= 5000, "no output before the end of the input"
    output = tmp_path / f"out.{container}"
    output.write_bytes(early + rest)
    assert times(output) == [Fraction(number, 25) for number in range(150)]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("pipe", ["stdin", "stdout"])
def test_a_signal_does_not_promise_to_resume(model, tmp_path, pipe, signum):
    source = write(tmp_path / "in.mkv", make_frames(150, 160, 120))
    ends = {"stdin": ("-", tmp_path / "out.mkv"), "stdout": (source, "-")}[pipe]
    with subprocess.Popen(
        command(model, ends[0], "-o", ends[1]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        if pipe == "stdout":
            process.stdout.read(10_000)
        else:
            process.stdin.write(source.read_bytes()[:60_000])
            process.stdin.flush()
            until = time.monotonic() + TIMEOUT_S
            while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.05)  # until the output has its temporary file, so the job has begun
        process.send_signal(signum)
        errors = process.stderr.read().decode()
        process.stdout.close()
        process.stdin.close()
    assert process.returncode == 128 + signum
    assert "interrupted; a job with a pipe cannot be resumed" in errors
    assert "resumes" not in errors and "Traceback" not in errors
