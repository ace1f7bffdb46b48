"""Upscale one video with several processes that need no scheduler: each has a fixed share of its segments."""

import time
from dataclasses import dataclass, field
from typing import Any

from subpixel import arguments as checks
from subpixel.errors import InputError, OutputError
from subpixel.files import remove_empty_folders_on_error
from subpixel.results import VideoResult
from subpixel.storage.claims import Claims, ClaimState
from subpixel.storage.paths import locate
from subpixel.storage.select import open_storage
from subpixel.video.distributed import (
    POLL_SECONDS,
    claims_on,
    join_claimed,
    opened_job,
    result_of_others,
    shared_paths,
)
from subpixel.video.job import JobOptions, OpenedJob, check_paths
from subpixel.video.pipeline.outputs import end_shard, is_joined, remove_job, remove_leftovers
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.run import (
    encode_missing,
    errors_so_far,
    find_outcome,
    job_folder,
    missing_segments,
)
from subpixel.video.pipeline.segments import DamagedSegment, SegmentFolder
from subpixel.video.pipeline.work import ClaimedSegments

Shard = tuple[int, int]
"""The number of a shard, from 1, and how many there are."""

_MAX_ATTEMPTS = 3
"""To encode a segment that is free, without any new frame."""


def check_shard(shard: Shard) -> Shard:
    """Return a shard; raise ``TypeError`` or ``ValueError`` if it is none."""
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise TypeError(f"shard must be (number, count), such as (1, 8), not {shard!r}")
    number, count = shard
    checks.check_integers(shard=number)
    checks.check_integers(shard=count)
    if not 1 <= number <= count:
        raise ValueError(f"shard {number} of {count}: the number must be from 1 to the count")
    return number, count


def upscale_shard(input: Any, output: Any, options: JobOptions, shard: Shard) -> VideoResult:
    """Encode one shard's segments, and join all if none is missing; see `upscale_video`.

    Segments of this share that another process works on are left to it, as soon as it was seen to be alive.
    """
    source, target = shared_paths(input, output)
    with remove_empty_folders_on_error(target):
        check_paths(source, target, options.overwrite)
        with claims_on(target) as claims:
            result = _run_shard(source, target, options, claims, shard)
        remove_leftovers(open_storage(job_folder(locate(target))))
    return result


@dataclass(frozen=True)
class _Share:
    """The segments that a shard encodes."""

    shard: Shard
    damaged: set[int] = field(default_factory=set)
    """Segments of other shards, which may have ended, that were found to be damaged."""

    def __contains__(self, number: int) -> bool:
        index, count = self.shard
        return number % count == index - 1 or number in self.damaged

    def missing(self, folder: SegmentFolder) -> list[int] | None:
        """Return which of them are not stored; None if it is not known how many segments there are."""
        missing = missing_segments(folder)
        return None if missing is None else [number for number in missing if number in self]


def _run_shard(source: str, target: str, options: JobOptions, claims: Claims, shard: Shard) -> VideoResult:
    """Decode the input as often as other processes leave segments of this share, usually once."""
    tracker, attempts = ProgressTracker(options.progress), 0
    share = _Share(shard)
    while True:
        frames = tracker.frames
        with opened_job(source, target, options, tracker) as (job, folder):
            if folder is None:
                written = result_of_others(job)
                _end_late(job, shard)
                return written
            try:
                result = _encode_share(job, folder, claims, share)
            except DamagedSegment as error:
                share.damaged.add(error.number)
                continue
            except OutputError:
                # Another process may have taken this one for dead, joined all and removed the folder.
                if not is_joined(folder, locate(target)):
                    raise
                result = job.result(errors_so_far(folder))
                end_shard(folder, shard, locate(target))
            if result is not None:
                return result
            attempts = 0 if tracker.frames > frames else attempts + 1
            if attempts == _MAX_ATTEMPTS:
                raise InputError("it has other frames each time that it is decoded")


def _encode_share(job: OpenedJob, folder: SegmentFolder, claims: Claims, share: _Share) -> VideoResult | None:
    """Encode and perhaps join; return None if meanwhile another process left segments of this share."""
    output = locate(job.output)
    job.plan.warnings += folder.warnings
    own = [segment for number, segment in folder.segments.items() if number in share]
    job.tracker.resumed_frames = sum(segment.frames for segment in own)
    if job.tracker.total_frames is not None:
        job.tracker.total_frames = -(-job.tracker.total_frames // share.shard[1])
    work = ClaimedSegments(folder, claims, share.__contains__)
    if share.missing(folder) != []:
        encode_missing(job.plan, folder, job.tracker, work)
    if not _wait_for_others(job, folder, work, share):
        return None
    missing = missing_segments(folder)
    assert missing is not None
    is_written = is_joined(folder, output)
    if not missing and not is_written:
        find_outcome(job.plan, folder, job.tracker)
        join_claimed(job, folder, claims)
        is_written = True
    if is_written or not share.missing(folder):
        end_shard(folder, share.shard, output)
    job.tracker.report(last=True)
    return job.result(errors_so_far(folder), missing_segments=0 if is_written else len(missing))


def _wait_for_others(job: OpenedJob, folder: SegmentFolder, work: ClaimedSegments, share: _Share) -> bool:
    """Wait until it is known of each missing segment of a share whether the process that has it is alive.

    Returns:
        False if one has become free.
    """
    while True:
        folder.refresh()
        if is_joined(folder, locate(job.output)):
            return True
        left = share.missing(folder) or []
        if any(work.is_free(number) for number in left):
            # Another process may have joined all and removed the folder since.
            return is_joined(folder, locate(job.output))
        if all(work.state(number) is ClaimState.LIVING for number in left):
            return True
        job.tracker.report()
        time.sleep(POLL_SECONDS)


def _end_late(job: OpenedJob, shard: Shard) -> None:
    """Record that a shard has ended which found the output written."""
    output = locate(job.output)
    folder = SegmentFolder(job.storage, job.fingerprint(), alone=False)
    try:
        if is_joined(folder, output):
            end_shard(folder, shard, output)
        else:  # another shard has removed the folder meanwhile
            remove_job(folder)
    finally:
        folder.close()
