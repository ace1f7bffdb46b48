"""What `subpixel upscale` does with each file, and what it says of it."""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import typer

from subpixel.batch import Job
from subpixel.cli.display import Display, abandon_stdout, to_stdout
from subpixel.cli.errors import saying
from subpixel.cli.usage import remarks
from subpixel.errors import SubpixelError
from subpixel.files import PIPE


@dataclass(frozen=True, kw_only=True)
class UpscaleRun:
    """One run over files with the same options."""

    options: Mapping[str, Any]
    """Arguments of both `upscale_image` and `upscale_video`; the next two are those of one."""
    image_options: Mapping[str, Any]
    video_options: Mapping[str, Any]
    overwrite: bool
    as_json: bool
    verbose: bool
    progress: str
    """"auto", "json" or "none"."""
    max_damage: float
    """The share of damaged frames above which a video counts as failed."""

    def work(self, jobs: Sequence[Job], people: Display) -> int:
        """Do all jobs in turn; the number of those that failed."""
        failed = 0
        for number, job in enumerate(jobs):
            people.show(number, job.source.name)
            try:
                with saying(_when_stopped(job)):
                    result = self._upscale(job, number, people)
            except BrokenPipeError:
                abandon_stdout()
                raise typer.Exit(failed > 0) from None
            except Exception as error:
                self._tell_failure(job, error, people)
                # What a codec does not know, a ValueError, is seen only when a video is there to be encoded.
                if isinstance(error, ValueError) and len(jobs) == 1:
                    raise typer.Exit(2) from None
                failed += 1
            else:
                failed += not self._tell(job, result, people)
        return failed

    def _upscale(self, job: Job, number: int, people: Display) -> Any:
        lines = self.progress == "json"
        if job.is_video:
            from subpixel.video.upscale import upscale_video

            return upscale_video(
                job.source,
                job.output,
                overwrite=self.overwrite,
                progress=_video_progress(people, number, job, lines=lines),
                **self.options,
                **self.video_options,
            )
        from subpixel.images.upscale import upscale_image

        return upscale_image(
            job.source,
            job.output,
            overwrite=self.overwrite,
            progress=_picture_progress(people, number, job, lines=lines),
            **self.options,
            **self.image_options,
        )

    def _tell_failure(self, job: Job, error: Exception, people: Display) -> None:
        words = _words(job, error)
        people.say(f"error: {words}")
        if self.verbose and not isinstance(error, (SubpixelError, ValueError)):
            people.say(traceback.format_exc())
        if self.as_json:
            with to_stdout():
                typer.echo(json.dumps({"input": str(job.source), "error": words}))

    def _tell(self, job: Job, result: Any, people: Display) -> bool:
        """Say what was done; whether it counts as done."""
        for notice in (*result.notices, *remarks(job)):
            people.say(f"note: {_name(job)}: {notice}")
        if self.as_json:
            with to_stdout():
                typer.echo(json.dumps(asdict(result)))
        if self.verbose:
            people.say(_reasons(job, result))
        if self.verbose or people.is_terminal or (self.progress == "none" and sys.stderr.isatty()):
            people.say(_summary(job, result))
        if not job.is_video or result.damaged_share <= self.max_damage:
            return True
        people.say(
            f"error: {job.source}: {result.damaged_share:.0%} of it is damaged or missing, more than "
            f"{self.max_damage:.0%}; {job.output} holds what could be made of it"
        )
        return False


def _picture_progress(people: Display, number: int, job: Job, *, lines: bool) -> Callable[[float], None]:
    def show(fraction: float) -> None:
        people.show(number + fraction, job.source.name)
        if lines:
            people.say(json.dumps({"input": str(job.source), "progress": round(fraction, 4)}))

    return show


def _video_progress(people: Display, number: int, job: Job, *, lines: bool) -> Callable[[Any], None]:
    def show(progress: Any) -> None:
        fraction = progress.frames / progress.total if progress.total else 0.0
        if lines:
            metadata = {"progress": round(fraction, 4), **asdict(progress)}
            people.say(json.dumps({"input": str(job.source), **metadata}))
            return
        of = f"/{progress.total}" if progress.total else ""
        detail = (
            f"{progress.frames}{of} frames  {progress.frames_per_second:.1f} fps  "
            f"{progress.speed:.2f}x real time  slowest: {progress.bottleneck}"
        )
        people.show(number + fraction, f"{job.source.name}  {detail}")

    return show


@contextmanager
def compiling_told(people: Display, *, to_all: bool) -> Iterator[None]:
    """Tell a terminal, or ``to_all``, of networks that are compiled: it takes seconds, once on a machine."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if to_all or people.is_terminal:
                people.say(record.getMessage())

    log, said = logging.getLogger("subpixel.engines"), Said()
    before = log.level
    log.addHandler(said)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(said)


def _reasons(job: Job, report: Any) -> str:
    content = f" for {report.content} sources ({report.content_reason})" if report.content else ""
    return f"{job.source}: model {report.model}{content}, engine {report.reason}"


def _when_stopped(job: Job) -> str:
    """What is said where a signal ends the work on a file."""
    if not job.is_video:
        return "interrupted"
    from subpixel.video.upscale import is_resumable

    if not is_resumable(str(job.source), str(job.output)):
        return "interrupted; what goes through a pipe is lost: it cannot be continued, only made anew"
    return "interrupted; what is finished of a video is kept, and the same command goes on from there"


def _name(job: Job) -> str:
    return "stdin" if str(job.source) == PIPE else str(job.source)


def _words(job: Job, error: Exception) -> str:
    """An error for people. It names the file, whatever it comes from."""
    words = str(error)
    if not isinstance(error, (SubpixelError, ValueError)):
        words = f"failed as it never should ({type(error).__name__}: {words}); please report it, with -v"
    beside = job.output.parent / f".{job.output.name[:60]}"
    named = words.startswith((f"{_name(job)}:", f"{job.output}:", "stdout:", str(beside)))
    return words if named else f"{_name(job)}: {words}"


def _summary(job: Job, report: Any) -> str:
    size = f"{report.width} x {report.height}"
    summary = f"{job.source} -> {job.output}: {size}, {report.model}, {report.seconds:.1f} s"
    if not job.is_video:
        return summary
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.stages.items())
    resumed = f", {report.resumed_frames} of them from an earlier run" if report.resumed_frames else ""
    return (
        f"{summary}, {report.frames} frames{resumed}, {report.frames_per_second:.1f} fps; "
        f"seconds of work: {stages}; slowest: {report.bottleneck}"
    )
