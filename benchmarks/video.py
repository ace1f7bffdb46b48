"""Time complete video jobs, beside the same job with FFmpeg's bicubic scaler: for `docs/video.md`.

    python benchmarks/video.py CLIP [--frames 300] [--rounds 3]

CLIP is any video. Its frames, resized to 640x360 and repeated as needed, become an H.264 file. This file is
upscaled x3 and encoded with libx264 superfast at CRF 20: by `subpixel upscale` with ESPCN, with the default
model and with a network of one layer, and by the `ffmpeg` of the package imageio-ffmpeg, in turn. Writes
``benchmarks/results/video-KIND.json`` for this kind of processor. Needs `pip install '.[bench]'`.
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
import numpy as np
from shared import host_kind, store

import subpixel
from subpixel.engines.select import available_cpus
from subpixel.models.model import Model
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.resize import bicubic_kernels
from subpixel.sizes import TargetSize
from subpixel.video.pipeline.frames import FrameUpscaler

SIZE, SCALE = (640, 360), 3
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
    """A command that is run to its end: its time, and samples of its memory."""

    def __init__(self, command: list[str], **options: Any) -> None:
        started = time.perf_counter()
        self.memory_mb: list[float] = []
        with subprocess.Popen(command, **options) as process:
            while process.poll() is None:
                with contextlib.suppress(OSError, IndexError, ValueError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    self.memory_mb.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
                time.sleep(0.02)
        self.seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")


def one_layer() -> Model:
    """Bicubic as a network of one layer: its job takes about the time of everything but the network."""
    spec = ModelSpec(SCALE, (Convolution(1, SCALE**2, 5),))
    weights = {
        "layers.0.weight": bicubic_kernels(SCALE)[:, None].astype(np.float32),
        "layers.0.bias": np.zeros(SCALE**2, np.float32),
    }
    return Model(f"bicubic-x{SCALE}", spec, weights)


def upscale_job(source: Path, target: str, model: str | None = f"espcn-t91-x{SCALE}") -> Job:
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
    """Milliseconds for one frame and for its network, and the share of everything but the network."""
    upscaler = subpixel.load(f"espcn-t91-x{SCALE}")
    upscale = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))
    with av.open(str(source)) as file:
        frames = list(itertools.islice(file.decode(video=0), 30))
    times: dict[str, list[float]] = {"frame": [], "network": []}
    for frame in frames:
        started = time.perf_counter()
        large = upscale(frame)
        times["frame"].append(time.perf_counter() - started)
        plane = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
        luma = np.ascontiguousarray(plane.reshape(-1, frame.planes[0].line_size)[:, : frame.width])
        started = time.perf_counter()
        upscaler.engine(luma)
        times["network"].append(time.perf_counter() - started)
        del large
    medians = {name: statistics.median(spent) * 1000 for name, spent in times.items()}
    return {
        "frame_ms": round(medians["frame"], 2),
        "network_ms": round(medians["network"], 2),
        "chroma_and_conversion_share": round(max(0.0, 1 - medians["network"] / medians["frame"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from imageio_ffmpeg import get_ffmpeg_exe

    ffmpeg = get_ffmpeg_exe()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mkv"
        make_clip(options.clip, source, options.frames)
        one = Path(folder) / "one-layer.safetensors"
        one_layer().save(one)
        commands: dict[str, Callable[[], Job]] = {
            "subpixel": lambda: upscale_job(source, str(target)),
            "ffmpeg bicubic": lambda: bicubic_job(ffmpeg, source, target),
            "subpixel to y4m": lambda: upscale_job(source, "-"),
            "default": lambda: upscale_job(source, str(target), None),
            "default to y4m": lambda: upscale_job(source, "-", None),
            "one layer": lambda: upscale_job(source, str(target), str(one)),
            "one layer to y4m": lambda: upscale_job(source, "-", str(one)),
        }
        for model in (f"espcn-t91-x{SCALE}", None, str(one)):
            upscale_job(source, "-", model)  # compiles the network, which is then cached
        jobs: dict[str, list[Job]] = {name: [] for name in commands}
        for number in range(options.rounds):
            for name, command in commands.items():
                jobs[name].append(command())
            print(number, {name: round(runs[-1].seconds, 2) for name, runs in jobs.items()}, flush=True)
        per_frame = frame_times(source)
        make_clip(options.clip, source, 4 * options.frames)
        memory = upscale_job(source, str(target)).memory_mb
    result = summary(jobs, options.frames, per_frame, memory)
    print(result)
    store(f"video-{host_kind()}", result)


def summary(
    jobs: dict[str, list[Job]], frames: int, per_frame: dict[str, float], memory: list[float]
) -> dict[str, Any]:
    """The result to store. ``memory`` has samples of a job with 4 times as many frames as the others."""
    seconds = {name: statistics.median(job.seconds for job in runs) for name, runs in jobs.items()}
    quarter = len(memory) // 4
    return {
        "kind": host_kind(),
        "threads": available_cpus(),
        "frames": frames,
        "jobs": {
            name: {
                "seconds": round(spent, 2),
                "all_seconds": [round(job.seconds, 2) for job in jobs[name]],
                "frames_per_second": round(frames / spent, 1),
                "peak_memory_mb": round(max(max(job.memory_mb, default=0) for job in jobs[name])),
            }
            for name, spent in seconds.items()
        },
        "ratio": round(seconds["subpixel"] / seconds["ffmpeg bicubic"], 2),
        "ratio of default": round(seconds["default"] / seconds["ffmpeg bicubic"], 2),
        **per_frame,
        "chroma_and_conversion_share_of_job": round(
            (per_frame["frame_ms"] - per_frame["network_ms"]) / 1000 * frames / seconds["subpixel"], 3
        ),
        "memory_over_time": {
            "frames": 4 * frames,
            "peak_mb_by_quarter": [
                round(max(memory[start * quarter : (start + 1) * quarter])) for start in range(4)
            ],
        },
    }


if __name__ == "__main__":
    main()
