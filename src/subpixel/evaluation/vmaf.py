"""VMAF and VMAF-NEG of a clip, measured by an FFmpeg that has libvmaf: that of the package imageio-ffmpeg.

Both are measured on all frames and pixels of the luma of HR and of the result, by the models for 1080p,
``vmaf_v0.6.1`` and ``vmaf_v0.6.1neg``. NEG gives no credit for sharpening.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError

MODELS = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
"""The models by the names of their scores."""


@dataclass(frozen=True)
class VmafScores:
    """The means over the frames of a clip, each at most 100."""

    vmaf: float
    vmaf_neg: float


class VmafMeter:
    """Collects the frames of a clip in temporary files, and measures them; a context manager."""

    def __init__(self) -> None:
        """Find an FFmpeg that has libvmaf.

        Raises:
            EngineError: there is none.
        """
        self._ffmpeg = _ffmpeg()
        self._temporary = tempfile.TemporaryDirectory(prefix="subpixel-vmaf-")
        folder = Path(self._temporary.name)
        self._hr, self._sr = (folder / "hr.yuv").open("wb"), (folder / "sr.yuv").open("wb")
        self._shape = 0, 0

    def __enter__(self) -> "VmafMeter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files."""
        self._hr.close()
        self._sr.close()
        self._temporary.cleanup()

    def add(self, hr: NDArray[np.uint8], sr: NDArray[np.uint8]) -> None:
        """Add the next frame and its result, both ``(H, W)`` uint8."""
        self._shape = height, width = hr.shape
        # VMAF reads luma only, but does not take gray. Chroma has half the sides of luma, rounded up.
        gray = bytes([128]) * (2 * -(-width // 2) * -(-height // 2))
        for file, plane in ((self._hr, hr), (self._sr, sr)):
            file.write(plane.tobytes() + gray)

    def scores(self) -> VmafScores:
        """Measure all frames that were added.

        Raises:
            EngineError: FFmpeg failed.
        """
        self._hr.flush()
        self._sr.flush()
        height, width = self._shape
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{width}x{height}", "-i"]
        models = "|".join(f"version={model}\\:name={name}" for name, model in MODELS.items())
        measure = f"libvmaf=model='{models}':log_fmt=json:log_path=scores.json"
        command = [self._ffmpeg, "-v", "error", "-nostdin", *raw, "sr.yuv", *raw, "hr.yuv"]
        folder = Path(self._temporary.name)
        done = subprocess.run(
            [*command, "-lavfi", measure, "-f", "null", "-"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise EngineError(f"FFmpeg could not measure VMAF ({done.stderr.strip()[-500:]})")
        pooled = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["pooled_metrics"]
        return VmafScores(*(float(pooled[name]["mean"]) for name in MODELS))


def _ffmpeg() -> str:
    """The path of an FFmpeg with libvmaf: that of imageio-ffmpeg, or of its variable IMAGEIO_FFMPEG_EXE."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError:
        raise EngineError(
            "VMAF needs imageio-ffmpeg, which is not installed: run `pip install 'subpixel[evaluate]'`"
        ) from None
    try:
        program = str(get_ffmpeg_exe())
        listed = subprocess.run(
            [program, "-hide_banner", "-filters"], capture_output=True, text=True, check=True
        )
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"VMAF needs an FFmpeg, and none can be run ({error})") from None
    if " libvmaf " not in listed.stdout:
        raise EngineError(f"{program}: has no libvmaf; set IMAGEIO_FFMPEG_EXE to an FFmpeg that has it")
    return program
