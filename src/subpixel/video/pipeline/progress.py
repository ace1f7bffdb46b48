"""Progress of a video job: frames, speed, and the stage that sets the pace."""

import threading
import time
from collections.abc import Callable

from subpixel.results import Progress
from subpixel.video.pipeline.stages import Pipeline

_REPORT_SECONDS = 0.1


class ProgressTracker:
    """Count frames and seconds, and report them at most ten times a second.

    Also owns the job's `Pipeline`, whose stages it times.
    """

    def __init__(self, on_progress: Callable[[Progress], object]) -> None:
        self.pipeline = Pipeline()
        self.resumed_frames = 0
        """Frames that an earlier run had encoded."""
        self.frames = 0
        """Frames that this run has upscaled."""
        self.copied_frames = 0.0
        """How many frames the luma would make that was copied from the frame before."""
        self.frame_rate = 25.0
        """Frames per second of the video."""
        self.total_frames: int | None = None
        """About how many frames the result will have; None if unknown."""
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._last_report = 0.0
        self._write_seconds = 0.0

    def restart(self) -> None:
        """Begin a new pipeline; frames and seconds count on."""
        self.pipeline = Pipeline()

    def count_frame(self, copied_share: float = 0.0) -> None:
        """Count one upscaled frame, of whose luma a share was copied; threads may call it."""
        with self._lock:
            self.frames += 1
            self.copied_frames += copied_share

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self._started

    @property
    def frames_per_second(self) -> float:
        """Speed of this run."""
        return self.frames / self.seconds

    def timed_write(self, write: Callable[..., object], *arguments: object) -> None:
        """Call ``write``, and count its time as that of the stage "write"."""
        started = time.perf_counter()
        write(*arguments)
        self._write_seconds += time.perf_counter() - started

    def stages(self) -> dict[str, float]:
        """Return the seconds that each stage has worked. Stages overlap."""
        seconds = {**self.pipeline.seconds(), "write": self._write_seconds}
        return {name: round(spent, 3) for name, spent in seconds.items()}

    @property
    def bottleneck(self) -> str:
        """The stage that has worked longest."""
        stages = self.stages()
        return max(stages, key=stages.__getitem__)

    def report(self, *, last: bool = False) -> None:
        """Call ``on_progress``, unless the last call was less than 0.1 s ago and this is not the last."""
        now = self.seconds
        if now - self._last_report < _REPORT_SECONDS and not last:
            return
        self._last_report = now
        frames = self.resumed_frames + self.frames
        rate = self.frames_per_second
        total = frames if last else self.total_frames and max(self.total_frames, frames)
        self._on_progress(
            Progress(
                fraction=1.0 if last else frames / total if total else 0.0,
                seconds=now,
                frames=frames,
                total_frames=total,
                frames_per_second=rate,
                speed=rate / self.frame_rate,
                bottleneck=self.bottleneck,
            )
        )
