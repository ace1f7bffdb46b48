"""`subpixel upscale --shard I/N`: which files are the share, and that no two processes do one of them."""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from subpixel.batch import BatchPlan, Job
from subpixel.errors import InputError, OutputError
from subpixel.files import PIPE
from subpixel.storage.base import Storage
from subpixel.storage.claims import Claims, ClaimState
from subpixel.storage.paths import Location, ObjectPath
from subpixel.storage.select import open_storage

_CLAIMS_FOLDER = ".subpixel-claims"
"""In the folder of an output; has the claims on the images in work."""
_POLL_SECONDS = 0.5


class Shard(NamedTuple):
    """The I-th of N shards, I from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @classmethod
    def parse(cls, text: str, inputs: Sequence[Location], output: str | None, cluster: str | None) -> "Shard":
        """Return the shard of an option; raise ValueError if it is none, or not for these inputs."""
        parts = text.split("/")
        given = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
        if len(given) != 2 or not 1 <= given[0] <= given[1]:
            raise ValueError(
                f"--shard {text!r}: write I/N, I from 1 to N, such as 1/8 for the first of eight"
            )
        if PIPE in (output, *map(str, inputs)):
            raise ValueError("--shard is for files, which all shards see, and - is a pipe; name files")
        if cluster is not None:
            raise ValueError("--cluster distributes all files itself; leave out --shard")
        return cls(*given)

    def share_of(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs of this shard: every N-th by position, or a single video, which all shards share.

        So that the shares of all shards are disjoint and complete, ``jobs`` must be all of the run, also
        those that are done.
        """
        return list(jobs) if is_shared(jobs) else list(jobs[self.number - 1 :: self.total])


def is_shared(jobs: Sequence[Job]) -> bool:
    """Return whether all shards do the same job, each some segments of it."""
    return len(jobs) == 1 and jobs[0].is_video


def refuse_unreadable(plan: BatchPlan) -> None:
    """Raise `InputError` if a folder cannot be read: its files are missing in the positions of this shard."""
    if plan.unreadable:
        raise InputError(f"{plan.unreadable[0]}; all shards must see the same files")


@dataclass(frozen=True)
class ShardRun:
    """How a run does its share."""

    shard: Shard
    files: int
    """How many files all shards have together."""
    is_shared: bool
    """Whether all shards do the same video."""

    @property
    def segments(self) -> tuple[int, int]:
        """The shard of each video: all segments, unless the shards share one."""
        return self.shard if self.is_shared else (1, 1)

    def fraction_of(self, frames: int | None) -> float:
        """Return which part of a file is for this shard: 1, or less if all shards do the same video.

        Args:
            frames: of the video; None if that is not known.
        """
        if not self.is_shared:
            return 1.0
        if not frames:
            return 1 / self.shard.total
        from subpixel.video.pipeline.run import count_segments

        segments = count_segments(frames)
        return len(range(self.shard.number - 1, segments, self.shard.total)) / segments

    @property
    def note(self) -> str:
        """What the shard does not do, for users; empty if that is clear."""
        if self.shard.number <= self.files or self.is_shared:
            return ""
        files = "is only 1 file" if self.files == 1 else f"are only {self.files} files"
        return f"shard {self.shard} has nothing to do, as there {files}"


class HeldError(Exception):
    """It is not yet known whether the process that works on a file is alive."""


class ClaimedFiles:
    """Keeps processes that do the same share from doing a file twice."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        """Note which outputs exist."""
        self._before = {job: _identity(job.output) for job in jobs}
        self._watched: dict[Job, Claims] = {}

    def close(self) -> None:
        """Stop watching the claims of others, and remove those of processes that were killed."""
        for claims in self._watched.values():
            claims.close()
        own = {job.output for job in self._before}
        for folder in {output.parent for output in own}:
            with suppress(OSError), Claims(open_storage(folder / _CLAIMS_FOLDER)) as claims:
                _remove_dead(folder, own, claims)

    @contextmanager
    def claim(self, job: Job, *, wait: bool = False) -> Iterator[str]:
        """Claim a file during the body, and yield an empty text; or yield why it is left to another process.

        Videos claim their segments themselves.

        Args:
            job: of the file.
            wait: whether to wait until it is known that the process which has it is alive, or dead.

        Raises:
            HeldError: that is not known, and ``wait`` is false.
            OutputError: claims cannot be written beside the output.
        """
        with ExitStack() as stack:
            if (left := self._reason_to_leave(job)) or job.is_video:
                yield left
                return
            storage = open_storage(job.output.parent / _CLAIMS_FOLDER)
            try:
                holder = self._take(job, storage, stack, wait=wait)
            except OSError as error:
                raise OutputError(
                    f"{storage.location}: could not be written ({error.strerror or error})"
                ) from error
            if holder:
                yield f"it is in work by {holder}"
                return
            yield self._reason_to_leave(job)  # it may have been completed before it was claimed

    def _take(self, job: Job, storage: Storage, stack: ExitStack, *, wait: bool) -> str:
        """Claim a file until ``stack`` is closed; return who has it if that is another process, else ""."""
        claims = self._watched.pop(job, None) or Claims(storage)
        name = f"{job.output.name}.claim"
        while claims.take(name) is None:
            state = claims.state(name)
            if state is ClaimState.UNKNOWN and not wait:
                self._watched[job] = claims
                raise HeldError
            if state is ClaimState.LIVING:
                claims.close()
                return claims.holder(name) or "another process"
            time.sleep(_POLL_SECONDS)
        stack.callback(storage.prune)
        stack.callback(claims.close)
        return ""

    def _reason_to_leave(self, job: Job) -> str:
        changed = _identity(job.output) != self._before[job]
        return "another process has written it" if changed else ""


def _identity(output: Location) -> tuple[int | str, ...] | None:
    """Return what distinguishes a file from a replacement of it; None if it is missing."""
    try:
        if isinstance(output, ObjectPath):
            return (output.status().version,)
        status = os.stat(output)  # noqa: PTH116 - a name may be too long
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _remove_dead(folder: Location, own: Collection[Location], claims: Claims) -> None:
    storage = open_storage(folder / _CLAIMS_FOLDER)
    entries = storage.entries()
    for name, _ in entries:
        is_own = folder / name.removesuffix(".claim") in own
        if is_own and claims.state(name) is ClaimState.DEAD and (claim := claims.take(name)):
            claims.release(claim)
    if entries:
        storage.prune()
