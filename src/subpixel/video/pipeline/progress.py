"""How far a job is, how fast it goes, and which stage sets the pace."""

import threading
import time
from collections.abc import Callable

from subpixel.results import Progress
from subpixel.video.pipeline.stages import Line

_REPORT_SECONDS = 0.1


class ProgressTracker:
    """Counts frames and seconds, and tells of them now and then."""

    def __init__(self, listener: Callable[[Progress], object]) -> None:
        self.line = Line()
        self.resumed = 0
        """Frames that an earlier run made."""
        self.made = 0
        """Frames that this run made."""
        self.rate = 25.0
        """Frames in a second of film."""
        self.total: int | None = None
        self._listener = listener
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._told = 0.0
        self._writing = 0.0

    def made_one(self) -> None:
        """Count a frame; from any thread."""
        with self._lock:
            self.made += 1

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.perf_counter() - self._started

    @property
    def frames_per_second(self) -> float:
        """Of this run."""
        return self.made / self.seconds

    def writing(self, write: Callable[..., object], *arguments: object) -> None:
        """Call ``write``, and count its time as that of the last stage."""
        started = time.perf_counter()
        write(*arguments)
        self._writing += time.perf_counter() - started

    def stages(self) -> dict[str, float]:
        """For how many seconds each stage worked; they overlap."""
        seconds = {**self.line.seconds(), "write": self._writing}
        return {name: round(spent, 3) for name, spent in seconds.items()}

    @property
    def bottleneck(self) -> str:
        """The stage that worked longest."""
        stages = self.stages()
        return max(stages, key=stages.__getitem__)

    def tell(self, *, last: bool = False) -> None:
        """Tell the listener, unless that was done just before."""
        now = self.seconds
        if now - self._told < _REPORT_SECONDS and not last:
            return
        self._told = now
        done = self.resumed + self.made
        rate = self.frames_per_second
        total = done if last else self.total and max(self.total, done)
        self._listener(
            Progress(
                fraction=1.0 if last else done / total if total else 0.0,
                seconds=now,
                frames=done,
                total_frames=total,
                frames_per_second=rate,
                speed=rate / self.rate,
                bottleneck=self.bottleneck,
            )
        )
