"""Films on a cluster: planned, encoded in ranges of segments by many machines, and joined."""

import contextlib
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from subpixel.batch import Job
from subpixel.cluster.files import ClusterFile, file_fields
from subpixel.cluster.film_tasks import (
    BeginFilm,
    FilmArguments,
    FilmStep,
    FilmTask,
    JoinFilm,
    SegmentDone,
    SegmentRange,
)
from subpixel.cluster.held import HeldSegments
from subpixel.cluster.rate import TASK_SECONDS, Rate, seconds_of_next_task
from subpixel.cluster.tasks import MAX_FAILURES, Failure, FileOutcome
from subpixel.engines.select import available_cpus
from subpixel.errors import ClusterError, OutputError
from subpixel.results import Progress, VideoResult
from subpixel.video.distributed import EncodedSegments, SegmentPlan, remove_segments
from subpixel.video.pipeline.encode import SEGMENT_FRAMES

_log = logging.getLogger("subpixel.cluster")

AnyTask = TypeVar("AnyTask", bound=FilmTask)

_MAX_PLANS = 10
"""How often a film is planned without a new segment in between. Its length may differ from what its header
says, but not again and again."""


@dataclass(eq=False)
class Film(ClusterFile):
    """A film of a run."""

    plan: SegmentPlan | None = None
    plans: int = 0
    """Since the last segment."""
    waiting: list[int] = field(default_factory=list)
    """Segments to hand out, in order."""
    alone: deque[int] = field(default_factory=deque)
    """Segments that failed: each is a task of its own, which shows whether it is to blame."""
    segment_failures: Counter[int] = field(default_factory=Counter)
    held: set[int] = field(default_factory=set)
    """Segments that processes work on which are not of this run."""
    tasks: set[FilmTask] = field(default_factory=set)
    """Those without a result."""
    active_tasks: set[FilmTask] = field(default_factory=set)
    """Those on which a process may work."""
    written: str = ""
    """The digest of the folder of segments, once the output is written."""
    has_surprise: bool = False
    """Whether segments do not exist that were expected."""
    is_over: bool = False
    avoided: dict[str, str] = field(default_factory=dict)
    """Ids of machines that refused a task of it, and why."""
    began: float = 0.0
    encoded_frames: int = 0
    copied_frames: float = 0.0
    resumed_frames: int = 0
    stages: Counter[str] = field(default_factory=Counter)

    @property
    def frame_pixels(self) -> int:
        """Of the output."""
        assert self.plan is not None
        return self.plan.width * self.plan.height

    @property
    def waiting_pixels(self) -> float:
        """Pixels to make in the segments to hand out."""
        return len(self.waiting) * SEGMENT_FRAMES * self.frame_pixels if self.waiting else 0


class Films:
    """The films of a run, and their tasks."""

    def __init__(
        self, options: Mapping[str, Any], cpus: int, on_progress: Callable[[Job, Progress], object]
    ) -> None:
        """Prepare to upscale films.

        Args:
            options: arguments of `upscale_video`.
            cpus: of a task.
            on_progress: called with the progress of a film.
        """
        self._options = options
        self._cpus = cpus
        self._on_progress = on_progress
        self._owner = f"run-{secrets.token_hex(8)}"
        self._to_begin: deque[Film] = deque()
        self._begun: dict[Film, None] = {}
        """Films that were planned and are not over, in this order."""
        self._to_join: deque[Film] = deque()
        self._held = HeldSegments(self._owner)
        self._rate = Rate()
        """Seconds for a pixel of output."""
        self.outcomes: list[tuple[Job, FileOutcome]] = []

    def add(self, job: Job, *, overwrite: bool) -> None:
        """Add a film."""
        self._to_begin.append(Film(**file_fields(job, overwrite=overwrite)))

    @property
    def is_pending(self) -> bool:
        """Whether there are or will be tasks to hand out."""
        return bool(self._to_begin or self._to_join or any(film.held for film in self._begun)) or any(
            film.waiting or film.alone for film in self._begun
        )

    def next_task(self, cpus: float) -> FilmTask | None:
        """Return the next task; None if there is none now."""
        self._free_held()
        processes = cpus / self._cpus
        if self._to_join:
            film = self._to_join.popleft()
            return self._task(JoinFilm, film, "joining")
        for film in self._begun:
            if film.alone:
                return self._range(film, [film.alone.popleft()])
            if film.waiting:
                return self._next_range(film, processes)
        if self._to_begin:
            film = self._to_begin.popleft()
            # With enough films for all, one that is short is not divided.
            seconds = TASK_SECONDS if len(self._to_begin) >= processes else 0.0
            per_pixel = self._rate.seconds(1.0)
            return self._task(
                BeginFilm, film, "beginning", whole_pixels=seconds / per_pixel if per_pixel else 0.0
            )
        return None

    def _next_range(self, film: Film, processes: float) -> SegmentRange:
        """Take segments that follow each other, for as long as a task should be."""
        segment_seconds = self._rate.seconds(SEGMENT_FRAMES * film.frame_pixels)
        count = 1
        if segment_seconds is not None:
            left = self._rate.seconds(sum(each.waiting_pixels for each in self._begun)) or 0.0
            wanted = TASK_SECONDS if self._to_begin else seconds_of_next_task(left, processes)
            count = max(1, round(wanted / segment_seconds))
        numbers = film.waiting[:count]
        while numbers[-1] - numbers[0] >= len(numbers):
            numbers.pop()
        del film.waiting[: len(numbers)]
        return self._range(film, numbers)

    def _range(self, film: Film, numbers: list[int]) -> SegmentRange:
        assert film.plan is not None
        last = f" to {numbers[-1]}" if len(numbers) > 1 else ""
        frames = len(numbers) * SEGMENT_FRAMES
        return self._task(
            SegmentRange,
            film,
            f"segment {numbers[0]}{last}",
            numbers=numbers,
            digest=film.plan.digest,
            total_frames=frames,
            expected_seconds=self._rate.seconds(frames * film.frame_pixels),
        )

    def _task(self, kind: type[AnyTask], film: Film, name: str, **values: Any) -> AnyTask:
        film.began = film.began or time.perf_counter()
        options = {**self._options, "overwrite": film.overwrite, "threads": self._cpus}
        arguments = FilmArguments(
            film.source, film.output, film.version, self._owner, available_cpus(), options
        )
        task = kind(
            name=f"{film.job.source} ({name})",
            cpus=self._cpus,
            avoided=film.avoided,
            failed_on=film.failed_on,
            film=film,
            arguments=arguments,
            **values,
        )
        film.tasks.add(task)
        film.active_tasks.add(task)
        return task

    def _free_held(self) -> None:
        """Hand out the segments again whose processes have ended, or have finished them."""
        for film in [film for film in self._begun if film.held]:
            assert film.plan is not None
            free = self._held.free(film.output, film.plan.digest, film.held)
            film.held -= free
            film.waiting = sorted({*film.waiting, *free})

    # What comes from tasks

    def on_message(self, task: FilmTask, message: SegmentDone | Progress, node: str) -> None:
        """Take the progress of a task."""
        film: Any = task.film
        if isinstance(message, SegmentDone):
            _log.debug("done: %s segment %d", film.source, message.number)
            task.done.add(message.number)
            film.failures = film.plans = 0
        else:
            task.frames = message.frames
            if task.total_frames is None:
                task.total_frames = message.total_frames
        self._show(film)

    def on_value(self, task: FilmTask, step: FilmStep, node: str) -> None:
        """Take the result of a task."""
        film: Any = task.film
        film.tasks.discard(task)
        if film.is_over:
            return
        if step.encoded is not None:
            self._add_encoded(task, step.encoded)
        if step.result is not None:
            film.written = step.digest
            self._finish(film, self._whole_result(film, step.result))
            return
        if step.plan is not None:
            self._take_plan(film, step.plan)
        self._advance(film)

    def _add_encoded(self, task: FilmTask, encoded: EncodedSegments) -> None:
        film: Any = task.film
        film.encoded_frames += encoded.frames
        film.copied_frames += encoded.copied_frames
        film.stages.update(encoded.stages)
        film.held.update(encoded.held)
        if isinstance(task, SegmentRange):
            self._rate.add(encoded.frames * film.frame_pixels, encoded.seconds)
            known = {*encoded.done, *encoded.present, *encoded.held, *task.done}
            film.has_surprise |= not known.issuperset(task.numbers)

    def _take_plan(self, film: Film, plan: SegmentPlan) -> None:
        if film.plan is None and plan.frames is not None:
            film.resumed_frames = max(0, plan.frames - len(plan.missing) * SEGMENT_FRAMES)
        film.plan, film.has_surprise = plan, False
        film.plans += 1
        film.waiting = [number for number in plan.missing if number not in film.held]
        self._begun[film] = None

    def _advance(self, film: Film) -> None:
        """Go on with a film, if all of its tasks have ended."""
        if film.tasks or film.waiting or film.alone or film.held:
            return
        if film.plans > _MAX_PLANS:
            self._finish(film, ClusterError(f"{film.job.source}: has other frames each time it is decoded"))
        elif film.has_surprise:
            self._to_begin.appendleft(film)
        else:
            self._to_join.append(film)

    def on_failure(self, task: FilmTask, failure: Failure) -> None:
        """Do a task again, or set the film aside."""
        film: Any = task.film
        film.tasks.discard(task)
        if film.is_over:
            return
        if failure.kind == "refused":
            self._finish(film, film.refused(failure))
        elif failure.error is not None and not film.may_pass_elsewhere(failure.error):
            self._finish(film, failure.error)
        elif isinstance(task, SegmentRange):
            self._repeat_range(film, task, failure)
        else:
            self._repeat_step(film, task, failure)

    def _repeat_step(self, film: Film, task: FilmTask, failure: Failure) -> None:
        """Plan or join a film again, unless that has failed too often."""
        _log.debug("failed: %s: %s", task.name, failure.reason)
        if (error := film.count_failure(failure)) is not None:
            self._finish(film, error)
        else:
            (self._to_join if isinstance(task, JoinFilm) else self._to_begin).appendleft(film)

    def on_end(self, task: FilmTask) -> None:
        """Remove the segments of a film that is written, once no process works on it any more.

        Until then, a task that is killed after it has written the output can be repeated.
        """
        film: Any = task.film
        film.active_tasks.discard(task)
        if film.written and not film.active_tasks:
            with contextlib.suppress(OutputError):
                remove_segments(film.output, film.written)

    def _repeat_range(self, film: Film, task: SegmentRange, failure: Failure) -> None:
        """Hand out the segments of a range again. The first that is missing was in work, and is to blame."""
        left = [number for number in task.numbers if number not in task.done]
        if left and failure.kind != "machine":
            blamed = left.pop(0)
            film.segment_failures[blamed] += 1
            _log.debug("failed: %s segment %d: %s", film.source, blamed, failure.reason)
            if failure.node:
                film.failed_on.add(failure.node)
            if film.segment_failures[blamed] == MAX_FAILURES:
                film.failures = MAX_FAILURES - 1
                reason = f"segment {blamed}: {failure.reason}"
                error = film.count_failure(failure._replace(reason=reason))
                assert error is not None
                self._finish(film, error)
                return
            film.alone.append(blamed)
        film.waiting = sorted({*film.waiting, *left})
        self._advance(film)

    # What goes to the user

    def _finish(self, film: Film, outcome: FileOutcome) -> None:
        film.is_over = True
        film.waiting.clear()
        film.alone.clear()
        film.held.clear()
        self._begun.pop(film, None)
        self.outcomes.append((film.job, film.outcome(outcome)))

    def _whole_result(self, film: Film, joined: VideoResult) -> VideoResult:
        """Return the result of a film, with the work of all of its tasks."""
        seconds = time.perf_counter() - film.began
        film.stages.update(joined.stages)
        stages = {name: round(spent, 3) for name, spent in film.stages.items()}
        speed = film.encoded_frames / seconds
        last = Progress(
            fraction=1,
            seconds=seconds,
            frames=joined.frames,
            total_frames=joined.frames,
            frames_per_second=speed,
            bottleneck=max(stages, key=stages.__getitem__, default=""),
        )
        self._on_progress(film.job, last)
        return replace(
            joined,
            seconds=round(seconds, 3),
            resumed_frames=max(0, joined.frames - film.encoded_frames),
            frames_per_second=round(speed, 2),
            copied_share=round(film.copied_frames / max(1, film.encoded_frames), 4),
            stages=stages,
            bottleneck=last.bottleneck,
        )

    def _show(self, film: Film) -> None:
        """Report the progress of a film."""
        running = sum(task.frames for task in film.tasks)
        new = film.encoded_frames + running
        frames, seconds = film.resumed_frames + new, time.perf_counter() - film.began
        total = film.plan.frames if film.plan else max((t.total_frames or 0 for t in film.tasks), default=0)
        total = max(total, frames) if total else None
        rate = new / seconds
        progress = Progress(
            fraction=frames / total if total else 0.0,
            seconds=seconds,
            frames=frames,
            total_frames=total,
            frames_per_second=rate,
            speed=rate / film.plan.frame_rate if film.plan else 0.0,
        )
        self._on_progress(film.job, progress)
