"""The jobs of `subpixel upscale`, and what is printed for each."""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from subpixel.batch import ExistingOutputs, Job, reason_to_skip, reasons_to_skip
from subpixel.cli.display import Display, discard_stdout, ignore_closed_stdout
from subpixel.cli.errors import signal_message
from subpixel.cli.upscale_jobs import JobsProgress, MemoryBudget, run_in_order
from subpixel.cli.upscale_messages import error_message, name_of, reasons, summary_of, what_is_missing
from subpixel.cli.upscale_rates import Compilations, Rates
from subpixel.cli.upscale_shard import ClaimedFiles, HeldError, ShardRun
from subpixel.cli.upscale_summary import Summary, printable
from subpixel.cli.usage import warnings_for
from subpixel.errors import OutputError, SubpixelError
from subpixel.results import ImageResult, Progress, VideoResult
from subpixel.storage.local_copies import Paths, as_paths
from subpixel.storage.outputs import refuse_existing, refuse_input
from subpixel.storage.paths import Location, ObjectPath, is_file, locate

if TYPE_CHECKING:
    from subpixel.selection import ModelOptions
    from subpixel.sizes import TargetSize


class Skipped(NamedTuple):
    """The outcome of a job that is not run."""

    reason: str


Outcome = ImageResult | VideoResult | Skipped | Exception


@dataclass(frozen=True, kw_only=True)
class UpscaleRun:
    """Runs jobs with the same options."""

    options: Mapping[str, Any]
    """Arguments of both `upscale_image` and `upscale_video`."""
    image_options: Mapping[str, Any]
    """Arguments of `upscale_image` only."""
    video_options: Mapping[str, Any]
    """Arguments of `upscale_video` only."""
    model_options: "ModelOptions"
    """The model of ``options``."""
    target: "TargetSize"
    """The size of ``options``."""
    existing: ExistingOutputs
    images_at_once: int
    rates: Rates
    """Where the times of jobs are added."""
    as_json: bool
    verbose: bool
    progress: str
    """"auto", "json" or "none"."""
    max_damage: float
    """A video with a larger share of damaged frames counts as failed."""
    on_cluster: bool = False
    """Whether the machines of the cluster do the jobs to which this process is connected."""
    shard: ShardRun | None = None
    """Which share this is; None for all."""

    def run(self, jobs: Sequence[Job], display: Display) -> Summary:
        """Run all jobs, and report them in order; on a cluster, in the order in which they are completed.

        Raises `typer.Exit` if the reader of stdout has closed it, or if the only job shows that an option is
        wrong.
        """
        summary, progress = Summary(len(jobs)), JobsProgress(display)
        left = dict.fromkeys(jobs)

        def message() -> str:
            return self._interruption(summary, progress.done, next(iter(left), None))

        run = self._outcomes_on_cluster if self.on_cluster else self._outcomes
        with signal_message(message), closing(run(jobs, progress)) as outcomes:
            for job, outcome in outcomes:
                self._report(job, outcome, summary, display)
                del left[job]
        return summary

    def _outcomes_on_cluster(
        self, jobs: Sequence[Job], progress: JobsProgress
    ) -> Generator[tuple[Job, Outcome], None, None]:
        from subpixel.cli.upscale_cluster import outcomes_on_cluster
        from subpixel.cluster.run import RunOptions

        def show(job: Job, shown: Progress) -> None:
            line = _video_progress if job.is_video else _image_progress
            line(progress, job, as_lines=self.progress == "json")(shown)

        to_do = []
        for job, reason in zip(jobs, reasons_to_skip(jobs, self.existing), strict=True):
            if reason:
                progress.skip()
                yield job, Skipped(reason)
            else:
                to_do.append(job)
        run = RunOptions(
            options=self.options,
            image_options=self.image_options,
            video_options=self.video_options,
            existing=self.existing,
        )
        if to_do:
            yield from outcomes_on_cluster(to_do, run, progress, show)

    def _outcomes(
        self, jobs: Sequence[Job], progress: JobsProgress
    ) -> Generator[tuple[Job, Outcome], None, None]:
        memory = MemoryBudget(self.image_options["max_memory_mib"])

        def outcome_of(job: Job) -> Outcome:
            if reason := reason_to_skip(job, self.existing):
                progress.skip()
                return Skipped(reason)
            done = False
            try:
                with self._input(job) as paths:
                    source = locate(paths.input)
                    with memory.reserve(self._memory_mib(job._replace(source=source))):
                        result = self._upscale(job, source, progress)
                result = replace(result, input=paths.input_name)
                done = not (isinstance(result, VideoResult) and result.missing_segments)
                if done and (self.shard is None or not job.is_video):
                    self.rates.add(job, result, self.video_options.get("preset"))
                return result
            except Exception as error:
                return error
            finally:
                progress.finish(job, done=done)

        if self.shard is not None:
            yield from self._outcomes_of_shard(jobs, outcome_of, progress)
        else:
            yield from self._run(jobs, outcome_of, progress)

    def _run(
        self, jobs: Iterable[Job], outcome_of: Callable[[Job], Outcome], progress: JobsProgress
    ) -> Iterator[tuple[Job, Outcome]]:
        for are_videos, group in groupby(jobs, lambda job: job.is_video):
            if are_videos:
                yield from ((job, outcome_of(job)) for job in group)
            else:
                with self.rates.timing_images():
                    yield from run_in_order(outcome_of, group, self.images_at_once, progress)

    def _outcomes_of_shard(
        self, jobs: Sequence[Job], outcome_of: Callable[[Job], Outcome], progress: JobsProgress
    ) -> Iterator[tuple[Job, Outcome]]:
        """Run the jobs that no other process works on, and at the end those of processes that are dead."""
        with closing(ClaimedFiles(jobs)) as claimed:

            def claimed_outcome_of(job: Job, *, wait: bool = False) -> Outcome:
                try:
                    with claimed.claim(job, wait=wait) as left:
                        if not left:
                            return outcome_of(job)
                        progress.finish(job, done=True)
                        return Skipped(left)
                except (OutputError, HeldError) as error:
                    return error

            held = []
            for job, outcome in self._run(jobs, claimed_outcome_of, progress):
                if isinstance(outcome, HeldError):
                    held.append(job)
                else:
                    yield job, outcome
            for job in held:
                yield job, claimed_outcome_of(job, wait=True)

    @contextmanager
    def _input(self, job: Job) -> Iterator[Paths]:
        """Yield the paths of a job, with a local copy of an image that is in a bucket: it is read twice."""
        is_copied = not job.is_video and isinstance(job.source, ObjectPath)
        if is_copied:
            refuse_input(job.output, job.source)
            if self.existing == "refuse":
                refuse_existing(job.output)
        with as_paths(job.source, job.output, copies_object=is_copied) as paths:
            yield paths

    def _memory_mib(self, job: Job) -> int:
        """About how much memory an image needs, in MiB; 0 if it runs alone, or cannot be read."""
        if job.is_video or self.images_at_once == 1:
            return 0
        from subpixel.images.plan import checked_options, preview_image

        try:
            options = checked_options(job.output, None, overwrite=True, **self.image_options)
            return preview_image(job.source, job.output, self.model_options, self.target, options).memory_mib
        except (SubpixelError, ValueError):
            return 0

    def _upscale(self, job: Job, source: Location, progress: JobsProgress) -> ImageResult | VideoResult:
        progress.update(job, 0)
        as_lines = self.progress == "json"
        overwrite = self.existing == "overwrite" or (self.existing == "newer" and is_file(job.output))
        if job.is_video:
            from subpixel.video.upscale import upscale_video

            return upscale_video(
                source,
                job.output,
                overwrite=overwrite,
                progress=_video_progress(progress, job, as_lines=as_lines),
                shard=self.shard.segments if self.shard else None,
                **self.options,
                **self.video_options,
            )
        from subpixel.images.upscale import upscale_image

        return upscale_image(
            source,
            job.output,
            overwrite=overwrite,
            progress=_image_progress(progress, job, as_lines=as_lines),
            **self.options,
            **self.image_options,
        )

    def _interruption(self, summary: Summary, done: int, job: Job | None) -> str:
        """The message if a signal interrupts the run at a job, or at its end."""
        resumable = False
        if job is None:
            return "interrupted"
        if job.is_video:
            from subpixel.video.job import is_resumable

            resumable = is_resumable(str(job.source), str(job.output))
        if summary.total > 1:
            message = summary.interruption(done, self.existing)
            video = printable(name_of(job))
            return f"{message}; {video} resumes from its finished part" if resumable else message
        if not job.is_video:
            return "interrupted"
        if resumable:
            return "interrupted; the same command resumes this video, whose finished part is kept"
        return "interrupted; a job with a pipe cannot be resumed, only run again"

    def _report(self, job: Job, outcome: Outcome, summary: Summary, display: Display) -> None:
        """Print the outcome of a job, and count it."""
        if isinstance(outcome, BrokenPipeError):
            discard_stdout()
            raise typer.Exit(bool(summary.failed))
        if isinstance(outcome, Skipped):
            self._report_skipped(job, outcome, display)
            summary.skipped += 1
        elif isinstance(outcome, Exception):
            self._report_failure(job, outcome, display)
            # Only the encoder knows that an option is wrong, and it is opened with the first frame.
            if isinstance(outcome, ValueError) and summary.total == 1:
                raise typer.Exit(2)
            summary.failed.append(name_of(job))
        elif self._report_result(job, outcome, display):
            if isinstance(outcome, VideoResult) and outcome.missing_segments:
                summary.unfinished += 1
            else:
                summary.add_done(job)
        else:
            summary.failed.append(name_of(job))

    def _report_skipped(self, job: Job, skipped: Skipped, display: Display) -> None:
        from subpixel.video.upscale import has_unfinished_job

        if job.is_video and has_unfinished_job(job.output):
            display.print(
                f"note: {printable(job.output)}: exists and is left, though an interrupted run was replacing "
                "it; --overwrite resumes that"
            )
        if self.verbose:
            display.print(printable(f"{job.source}: skipped, {skipped.reason}: {job.output}"))
        if self.as_json:
            line = {"input": str(job.source), "output": str(job.output), "skipped": skipped.reason}
            with ignore_closed_stdout():
                typer.echo(json.dumps(line))

    def _report_failure(self, job: Job, error: Exception, display: Display) -> None:
        message = error_message(job, error)
        display.print(printable(f"error: {message}"))
        if self.verbose and not isinstance(error, (SubpixelError, ValueError)):
            display.print("".join(traceback.format_exception(error)).rstrip())
        if self.as_json:
            with ignore_closed_stdout():
                typer.echo(json.dumps({"input": str(job.source), "error": message}))

    def _report_result(self, job: Job, result: ImageResult | VideoResult, display: Display) -> bool:
        """Print the result of a job; return whether it counts as a success."""
        for warning in (*result.warnings, *warnings_for(job, result.frames)):
            display.print(printable(f"note: {name_of(job)}: {warning}"))
        if self.as_json:
            with ignore_closed_stdout():
                # "notices" is the name of "warnings" in version 0.1; it is removed in 0.3.
                typer.echo(json.dumps({**asdict(result), "notices": result.warnings}))
        if isinstance(result, VideoResult) and result.missing_segments:
            display.print(f"note: {printable(name_of(job))}: {what_is_missing(job, result.missing_segments)}")
        if self.verbose:
            display.print(printable(reasons(job, result)))
        if self.verbose or display.is_terminal or (self.progress == "none" and sys.stderr.isatty()):
            display.print(printable(summary_of(job, result)))
        if not isinstance(result, VideoResult) or result.damaged_share <= self.max_damage:
            return True
        message = (
            f"error: {job.source}: {result.damaged_share:.0%} of the frames are damaged or missing, more "
            f"than {self.max_damage:.0%} (--max-damage); {job.output} contains what could be decoded"
        )
        display.print(printable(message))
        return False


def _image_progress(jobs: JobsProgress, job: Job, *, as_lines: bool) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        total = progress.total_frames
        jobs.update(job, progress.fraction, f"{progress.frames}/{total} frames" if total else "")
        if as_lines:
            line: dict[str, Any] = {"input": str(job.source), "progress": round(progress.fraction, 4)}
            if total:
                line |= {"frames": progress.frames, "total": total}
            jobs.print(json.dumps(line))

    return show


def _video_progress(jobs: JobsProgress, job: Job, *, as_lines: bool) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if as_lines:
            fields = asdict(progress)
            fraction, total = fields.pop("fraction"), fields.pop("total_frames")
            line = {"input": str(job.source), "progress": round(fraction, 4), **fields, "total": total}
            jobs.print(json.dumps(line))
            return
        of = f"/{progress.total_frames}" if progress.total_frames else ""
        detail = (
            f"{progress.frames}{of} frames  {progress.frames_per_second:.1f} fps  "
            f"{progress.speed:.2f}x real time  slowest: {progress.bottleneck}"
        )
        jobs.update(job, progress.fraction, detail)

    return show


@contextmanager
def log_compilation(display: Display, compilations: Compilations, *, always: bool) -> Iterator[None]:
    """Print when a network is compiled, on a terminal or ``always``: it takes seconds at its first use.

    The engine logs a second message, for debugging, when it is compiled.
    """

    class DisplayHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno < logging.INFO:
                compilations.end()
                return
            compilations.begin()
            if always or display.is_terminal:
                display.print(record.getMessage())

    logger, handler = logging.getLogger("subpixel.engines"), DisplayHandler()
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level_before)
        logger.removeHandler(handler)
