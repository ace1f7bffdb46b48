"""Upscale one video with several processes, on one machine or several.

All of them see the folder beside the output. Each encodes segments that are missing there and that no other
process works on, and whoever finds that all are there joins them. A process may end or be killed at any
moment; what it had finished stays. The segments are the same whoever makes them.

A scheduler calls `plan_segments`, then `encode_segments` in each worker with the numbers that it chooses,
then `join_segments`. `subpixel.video.shards` needs no scheduler.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from subpixel import arguments as checks
from subpixel.errors import OtherJob, OutputError, OutputExists
from subpixel.files import PIPE
from subpixel.results import VideoResult
from subpixel.storage.claims import Claims, ClaimState
from subpixel.storage.outputs import refuse_existing
from subpixel.storage.paths import Location, locate, name_of
from subpixel.storage.select import open_storage
from subpixel.video.job import (
    JobOptions,
    OpenedJob,
    check_paths,
    job_options,
    open_job,
    processing_errors,
)
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.source import is_regular
from subpixel.video.pipeline.outputs import (
    forget_other_outputs,
    is_joined,
    remove_job,
    remove_leftovers,
    written_outcome,
)
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.run import (
    count_segments,
    encode_missing,
    find_outcome,
    job_folder,
    join,
    missing_segments,
    segment_count,
)
from subpixel.video.pipeline.segments import SegmentFolder, job_prefix, read_object
from subpixel.video.pipeline.work import ClaimedSegments, NoSegments

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """The segments of a video."""

    count: int | None
    """How many there are; None if only decoding the video to its end shows it."""
    expected_count: int | None
    """About how many there are, by what the file says of its length; None if it says nothing."""
    missing: tuple[int, ...]
    """Those that are not yet encoded, of the expected ones if the count is not known."""
    frames: int | None
    """About how many frames the output will have."""
    seconds: float | None
    """About how long it will be."""
    frame_rate: float
    """Frames per second."""
    width: int
    """Of the output, in pixels."""
    height: int
    digest: str
    """Stands for all that determines the frames; `encode_segments` compares it."""
    is_written: bool
    """Whether the output is complete, and there is nothing to do."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EncodedSegments:
    """What `encode_segments` did."""

    done: tuple[int, ...]
    """The segments that this call encoded, in this order."""
    present: tuple[int, ...]
    """Those that were asked for, and that other processes have encoded."""
    held: tuple[int, ...]
    """Those that were asked for, and that other processes work on. The rest does not exist."""
    frames: int
    """Frames that this call upscaled."""
    copied_frames: float = 0.0
    """How many frames the luma would make that was copied from the frame before."""
    seconds: float
    stages: Mapping[str, float]
    """Seconds of work in each stage; the stages overlap."""


def plan_segments(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    encoder_threads: int | None = None,
    **options: Any,
) -> SegmentPlan:
    """Open a video and plan its segments. Creates the folder beside the output.

    Args:
        input, output: paths.
        encoder_threads: threads of each encoder, on which its packets depend; by default, as many as this
            process has CPUs. Used only if no earlier process has chosen them.
        options: all other arguments of `subpixel.upscale_video`.

    Raises what `upscale_video` raises before it encodes.
    """
    with _opened(input, output, options, encoder_threads=encoder_threads) as (job, folder):
        frames = job.tracker.total_frames
        count = None if folder is None else segment_count(folder)
        expected = count if count is not None or frames is None else count_segments(frames)
        present: Collection[int] = range(expected or 0) if folder is None else folder.segments
        return SegmentPlan(
            count=count,
            expected_count=expected,
            missing=tuple(number for number in range(expected or 0) if number not in present),
            frames=frames,
            seconds=None if frames is None else frames / job.tracker.frame_rate,
            frame_rate=job.tracker.frame_rate,
            width=job.plan.encoder.width,
            height=job.plan.encoder.height,
            digest=job_prefix(job.fingerprint()).rstrip("/"),
            is_written=folder is None,
            warnings=(*(folder.warnings if folder else ()), *job.plan.warnings),
        )


def encode_segments(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    numbers: Collection[int] | None = None,
    *,
    owner: str = "",
    digest: str = "",
    on_segment: Callable[[int], object] = lambda number: None,
    **options: Any,
) -> EncodedSegments:
    """Encode segments that are missing and that no other process works on.

    Args:
        input, output: paths.
        numbers: of the segments, from 0; None means all.
        owner: the name of a scheduler. Segments that others of its workers work on are encoded too: it knows
            that they failed, or wants to be sure.
        digest: that of `plan_segments`, on another machine perhaps.
        on_segment: called with the number of each segment when it is stored.
        options: all other arguments of `subpixel.upscale_video`.

    Raises:
        OtherJob: this process would make other frames than that which made the plan.
        Also what `upscale_video` raises.
    """
    with (
        claims_on(output, owner) as claims,
        _opened(input, output, options, digest=digest) as (job, folder),
    ):
        if folder is None:
            present = tuple(numbers or ())
            seconds = job.tracker.seconds
            return EncodedSegments(
                done=(), present=present, held=(), frames=0, seconds=seconds, stages=job.tracker.stages()
            )
        is_wanted = (lambda number: True) if numbers is None else set(numbers).__contains__
        last = None if numbers is None else max(numbers, default=-1)
        work = ClaimedSegments(folder, claims, is_wanted, last, on_segment)
        if numbers is None or not folder.segments.keys() >= set(numbers):
            encode_missing(job.plan, folder, job.tracker, work)
        folder.refresh()
        wanted = numbers if numbers is not None else range(segment_count(folder) or 0)
        return EncodedSegments(
            done=tuple(work.encoded),
            present=tuple(each for each in wanted if each in folder.segments and each not in work.encoded),
            held=tuple(
                each
                for each in wanted
                if each not in folder.segments and work.state(each) is not ClaimState.FREE
            ),
            frames=job.tracker.frames,
            copied_frames=job.tracker.copied_frames,
            seconds=job.tracker.seconds,
            stages=job.tracker.stages(),
        )


def join_segments(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    owner: str = "",
    keep_folder: bool = False,
    **options: Any,
) -> VideoResult:
    """Write the output from all segments and the other streams of the input, and remove the folder.

    Args:
        input, output: paths.
        owner: see `encode_segments`.
        keep_folder: whether the folder stays until `remove_segments`. As long as it is there, a second call
            returns the result of the first, whose process may have been killed before it could tell.
        options: all other arguments of `subpixel.upscale_video`.

    Raises:
        OutputError: segments are missing.
        Also what `upscale_video` raises.
    """
    with claims_on(output, owner) as claims, _opened(input, output, options) as (job, folder):
        if folder is None:
            return result_of_others(job)
        if segment_count(folder) is None:
            encode_missing(job.plan, folder, job.tracker, NoSegments())
        missing = missing_segments(folder)
        assert missing is not None
        if missing:
            shown = ", ".join(map(str, missing[:10])) + ", ..." * (len(missing) > 10)
            count = segment_count(folder)
            raise OutputError(f"{output}: {len(missing)} of {count} segments are missing ({shown})")
        find_outcome(job.plan, folder, job.tracker)
        assert folder.outcome is not None
        join_claimed(job, folder, claims)
        job.tracker.resumed_frames = folder.outcome["output_frames"]
        job.tracker.report(last=True)
        if not keep_folder:
            remove_job(folder)
        return job.result(DecodeErrors(**folder.outcome))


def remove_segments(output: str | os.PathLike[str], digest: str) -> None:
    """Remove the folder of a job whose output is written; see ``keep_folder`` of `join_segments`.

    Args:
        output: the path.
        digest: see `SegmentPlan`.

    Raises `OutputError` if it cannot be removed.
    """
    storage = open_storage(job_folder(locate(output)))
    fingerprint = read_object(storage, f"{digest}/fingerprint")
    if fingerprint is not None:
        with contextlib.closing(SegmentFolder(storage, fingerprint, alone=False)) as folder:
            remove_job(folder)


def join_claimed(job: OpenedJob, folder: SegmentFolder, claims: Claims) -> None:
    """Join all segments, or wait until another process has done so."""
    output = locate(job.output)
    while True:
        with folder.write_errors():
            claim = claims.take(folder.join_claim)
        if claim is not None:
            break
        if is_joined(folder, output):
            return
        job.tracker.report()
        time.sleep(POLL_SECONDS)
    try:
        if not is_joined(folder, output):
            job.tracker.timed_write(join, job.plan, folder, output, job.options.overwrite)
    finally:
        claims.release(claim)


def result_of_others(job: OpenedJob) -> VideoResult:
    """Return the result of a job whose output other processes have written."""
    outcome = written_outcome(job.storage, job.fingerprint(), locate(job.output))
    if outcome is None:
        raise OutputError(f"{job.output}: was changed while it was read; run the same command again")
    job.tracker.resumed_frames = outcome["output_frames"]
    job.tracker.report(last=True)
    return job.result(DecodeErrors(**outcome))


def claims_on(output: str | os.PathLike[str], group: str = "") -> Claims:
    """Return the claims of a worker in the folder of an output; see `Claims`."""
    return Claims(open_storage(job_folder(locate(output))), group=group)


def shared_paths(input: Any, output: Any) -> tuple[str, str]:
    """Return input and output as text; raise ``ValueError`` if not all processes can see them."""
    checks.check_files(input=input, output=output)
    for name, value in (("input", input), ("output", output)):
        if not isinstance(value, str | os.PathLike):
            raise ValueError(f"several processes need files that all of them see; pass a path as {name}")
        if os.fspath(value) == PIPE:
            raise ValueError(f"several processes need files that all of them see, and the {name} is a pipe")
    source = name_of(input)
    if os.path.exists(source) and not is_regular(source):  # noqa: PTH110 - a name may be too long
        raise ValueError(f"{source}: is a pipe or a device, which only one process can read")
    return source, name_of(output)


@contextlib.contextmanager
def _opened(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    arguments: dict[str, Any],
    *,
    digest: str = "",
    encoder_threads: int | None = None,
) -> Iterator[tuple[OpenedJob, SegmentFolder | None]]:
    """Open a job by the arguments of `upscale_video`."""
    source, target = shared_paths(input, output)
    options = job_options(target, arguments)
    check_paths(source, target, options.overwrite)
    tracker = ProgressTracker(options.progress)
    with opened_job(source, target, options, tracker, digest, encoder_threads) as opened:
        yield opened


@contextlib.contextmanager
def opened_job(
    source: str,
    target: str,
    options: JobOptions,
    tracker: ProgressTracker,
    digest: str = "",
    encoder_threads: int | None = None,
) -> Iterator[tuple[OpenedJob, SegmentFolder | None]]:
    """Open a job and its folder; without the folder if this job has written the output already."""
    tracker.restart()
    with open_job(source, target, options, tracker) as job, processing_errors():
        fingerprint = job.fingerprint()
        if digest and job_prefix(fingerprint) != f"{digest}/":
            raise OtherJob(
                f"{target}: this process would make other frames than the one that planned the work; use the "
                "same versions of subpixel, PyAV and the model everywhere"
            )
        if written_outcome(job.storage, fingerprint, locate(target)) is not None:
            yield job, None
            return
        folder = job.open_folder(fingerprint, alone=False, encoder_threads=encoder_threads)
        try:
            forget_other_outputs(folder, locate(target))
            _refuse_new_output(folder, locate(target), options)
            yield job, folder
        finally:
            folder.close()
            with contextlib.suppress(OutputError):
                if not folder.exists():  # a claim may have been written just when another process removed it
                    remove_leftovers(folder.storage)


def _refuse_new_output(folder: SegmentFolder, output: Location, options: JobOptions) -> None:
    """Raise `OutputExists` if the output was written and the folder removed since the paths were checked."""
    if options.overwrite or folder.segments or is_joined(folder, output):
        return
    try:
        refuse_existing(output)
    except OutputExists:
        remove_job(folder)  # this process has made it anew
        raise
