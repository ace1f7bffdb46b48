"""Time complete video jobs, beside the same job with FFmpeg's bicubic scaler: for `docs/video.md`.

    python benchmarks/video.py CLIP [--frames 900] [--rounds 3]

CLIP is any video. Its frames, resized to 640x360 and repeated as needed, become an H.264 file. This file is
upscaled x3 and encoded with libx264 superfast at CRF 20: by `subpixel upscale` with the default model and
with ESPCN, and by the `ffmpeg` of the package imageio-ffmpeg, in turn. Prints the ratios of their times, and
of their CPU times, which other load changes less. Writes ``benchmarks/results/video-KIND.json`` for this kind
of processor. Takes about 4 minutes on two cores. Needs `pip install '.[bench]'`.
"""

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from shared import children_cpu_seconds, host_kind, store

import subpixel
from subpixel.engines.select import available_cpus
from subpixel.sizes import TargetSize
from subpixel.video.media.pixel_formats import plane
from subpixel.video.pipeline.frames import FrameUpscaler

SIZE, SCALE = (640, 360), 3
ESPCN = f"espcn-t91-x{SCALE}"
ENCODER = {"preset": "superfast", "crf": "20"}


def frames_of(clip: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of the clip at 640x360, forwards and backwards in turn, without end."""
    with av.open(str(clip)) as source:
        frames = [
            frame.reformat(*SIZE, format="yuv420p", interpolation="BICUBIC")
            for frame in itertools.islice(source.decode(video=0), 250)
        ]
    while True:
        yield from frames
        frames.reverse()


def make_clip(clip: Path, target: Path, count: int) -> None:
    with av.open(str(target), "w") as output:
        stream = output.add_stream(
            "libx264", Fraction(30000, 1001), options={"crf": "18", "preset": "medium"}
        )
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, frame in enumerate(itertools.islice(frames_of(clip), count)):
            frame.pts, frame.time_base = number * 1001, Fraction(1, 30000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


class Job:
    """A command that is run to its end: its time, its CPU time, and samples of its memory."""

    def __init__(self, command: list[str], **options: Any) -> None:
        started, cpu_started = time.perf_counter(), children_cpu_seconds()
        self.memory_mb: list[float] = []
        with subprocess.Popen(command, **options) as process:
            while process.poll() is None:
                with contextlib.suppress(OSError, IndexError, ValueError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    self.memory_mb.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
                time.sleep(0.02)
        self.seconds = time.perf_counter() - started
        self.cpu_seconds = children_cpu_seconds() - cpu_started
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")


def upscale_job(source: Path, target: str, model: str | None = None) -> Job:
    network = ["-m", model] if model else ["-s", str(SCALE)]
    command = [sys.executable, "-m", "subpixel", "upscale", str(source), "-o", target, *network]
    if target == "-":
        return Job(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    encoder = ["--codec", "libx264", "--preset", ENCODER["preset"], "--crf", ENCODER["crf"]]
    return Job([*command, *encoder, "--overwrite"], stderr=subprocess.DEVNULL)


def bicubic_job(ffmpeg: str, source: Path, target: Path) -> Job:
    width, height = (side * SCALE for side in SIZE)
    scaler = ["-vf", f"scale={width}:{height}:flags=bicubic"]
    encoder = ["-c:v", "libx264", "-preset", ENCODER["preset"], "-crf", ENCODER["crf"]]
    return Job([ffmpeg, "-v", "error", "-y", "-i", str(source), *scaler, *encoder, str(target)])


def frame_times(source: Path) -> dict[str, float]:
    """CPU time of one frame on one thread by the default model, and of its network alone, in ms."""
    upscaler = subpixel.load("default-compressed", scale=SCALE, threads=1)
    upscale = FrameUpscaler(upscaler.family, TargetSize(scale=SCALE))
    with av.open(str(source)) as file:
        frames = list(itertools.islice(file.decode(video=0), 30))
    times: dict[str, list[float]] = {"frame": [], "network": []}
    for frame in frames:
        started = time.thread_time()
        large = upscale(frame)
        times["frame"].append(time.thread_time() - started)
        started = time.thread_time()
        upscaler.engine(plane(frame, 0))
        times["network"].append(time.thread_time() - started)
        del large
    return {f"{name}_cpu_ms": round(statistics.median(spent) * 1000, 2) for name, spent in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from imageio_ffmpeg import get_ffmpeg_exe

    ffmpeg = get_ffmpeg_exe()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mkv"
        commands: dict[str, Callable[[], Job]] = {
            "ffmpeg bicubic": lambda: bicubic_job(ffmpeg, source, target),
            "default": lambda: upscale_job(source, str(target)),
            "subpixel": lambda: upscale_job(source, str(target), ESPCN),
            "default to y4m": lambda: upscale_job(source, "-"),
            "subpixel to y4m": lambda: upscale_job(source, "-", ESPCN),
        }
        make_clip(options.clip, source, 2)
        for command in commands.values():
            command()  # compiles the network, which is then cached
        make_clip(options.clip, source, options.frames)
        jobs: dict[str, list[Job]] = {name: [] for name in commands}
        for number in range(options.rounds):
            for name, command in commands.items():
                jobs[name].append(command())
            print(number, {name: round(runs[-1].seconds, 2) for name, runs in jobs.items()}, flush=True)
        per_frame = frame_times(source)
    result = summary(jobs, options.frames, per_frame)
    print(result)
    for name in ("default", "subpixel"):
        ratio, cpu_ratio = result["ratios"][name], result["cpu_ratios"][name]
        print(f"{name}: {ratio} times FFmpeg's bicubic job, {cpu_ratio} times its CPU time")
    store(f"video-{host_kind()}", result)


def summary(jobs: dict[str, list[Job]], frames: int, per_frame: dict[str, float]) -> dict[str, Any]:
    """The result to store. Ratios are medians of those of each round."""

    def ratios(seconds: Callable[[Job], float]) -> dict[str, float]:
        pairs = {name: zip(jobs[name], jobs["ffmpeg bicubic"], strict=True) for name in jobs}
        return {
            name: round(statistics.median(seconds(job) / seconds(bicubic) for job, bicubic in pairs[name]), 2)
            for name in ("default", "subpixel")
        }

    memory = jobs["default"][-1].memory_mb
    quarter = len(memory) // 4
    seconds = {name: statistics.median(job.seconds for job in runs) for name, runs in jobs.items()}
    return {
        "kind": host_kind(),
        "threads": available_cpus(),
        "frames": frames,
        "jobs": {
            name: {
                "seconds": round(spent, 2),
                "all_seconds": [round(job.seconds, 2) for job in jobs[name]],
                "cpu_seconds": round(statistics.median(job.cpu_seconds for job in jobs[name]), 2),
                "frames_per_second": round(frames / spent, 1),
                "peak_memory_mb": round(max(max(job.memory_mb, default=0) for job in jobs[name])),
            }
            for name, spent in seconds.items()
        },
        "ratios": ratios(lambda job: job.seconds),
        "cpu_ratios": ratios(lambda job: job.cpu_seconds),
        **per_frame,
        "memory_over_time": {
            "frames": frames,
            "peak_mb_by_quarter": [
                round(max(memory[start * quarter : (start + 1) * quarter])) for start in range(4)
            ],
        },
    }


if __name__ == "__main__":
    main()
