"""Store the encoded segments of a job, so that it can be interrupted, and done by several machines at once.

A job's folder is beside its output. In it, each job has a subfolder, whose name is a digest of the job's
fingerprint: everything that determines the encoded frames, such as the input's content, the model and the
options. So jobs with other options never mix. All files are created once, in one step, and never changed:

    lock                      of a process that does the job alone
    input.KEY                 the digest of the input's content, so that it is not computed again
    index.KEY                 the packets of its video stream, likewise
    DIGEST/fingerprint        of the job
    DIGEST/choices            what depends on the machine that began, and holds for all that join it
    DIGEST/000000.segment     an encoded segment
    DIGEST/000000.claim       the process that works on a segment
    DIGEST/outcome            the decode errors of the input, once they are known of all its frames
    DIGEST/written.SIZE.TIME  the output of this size and time is complete
    DIGEST/done.I.N           shard I of N has ended

Files are used only if they match their digests. Otherwise, after a crash, a power failure or an edit by hand,
they are made again, so that no damaged data gets into the output.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from subpixel.errors import OutputError
from subpixel.files import lock
from subpixel.storage.base import Storage
from subpixel.storage.claims import Claims, ClaimState
from subpixel.storage.local import LocalStorage
from subpixel.video.media.index import PacketIndex
from subpixel.video.pipeline.segment_file import (
    DamagedError,
    PacketEntry,
    Segment,
    SegmentFile,
    digest_of,
    from_line,
    read_packets,
    read_segment,
    to_line,
)

_FOLDER_DIGITS = 12
_READ_AT_ONCE = 8
"""How many segments are read at once, to find damaged ones soon."""
_POLL_SECONDS = 0.5
_SEGMENT, _CLAIM, _LOCK = ".segment", ".claim", "lock"


class DamagedSegment(OutputError):  # noqa: N818 - the name says what is wrong
    """A segment was damaged after it was found; it is removed, and has to be encoded again."""

    number: int


class SegmentFolder:
    """The folder of a job."""

    def __init__(self, storage: Storage, fingerprint: Mapping[str, Any], *, alone: bool = True) -> None:
        """Open or create the folder, and find the intact segments of the same job.

        Args:
            storage: the folder beside the output.
            fingerprint: everything that determines the encoded frames. It must survive a round trip through
                JSON, so it has lists instead of tuples, and its keys are strings.
            alone: whether no other process may use the folder at the same time. Then each segment is read to
                check it.

        Raises:
            OutputError: another process uses the folder, or it cannot be written.
        """
        self.storage = storage
        self.fingerprint = fingerprint
        self.segments: dict[int, Segment] = {}
        self.outcome: dict[str, Any] | None = None
        """The decode errors of the input, once they are known of all its frames; else None."""
        self.index: PacketIndex | None = None
        """The packets of the input's video stream; None until `OpenedJob.open_folder` has read them."""
        self.count: int | None = None
        """How many segments there are; None if only decoding the input shows it."""
        self.frames: int | None = None
        """How many frames they should have together; likewise."""
        self.discard_reason = ""
        """Why stored segments of this job could not be reused, for users; empty if all were."""
        self.other_jobs = ""
        """How other jobs differ whose segments are in the folder, for users; empty without any."""
        self._alone = alone
        self._job = digest_of(fingerprint)
        self.prefix = job_prefix(fingerprint)
        self._locks = contextlib.ExitStack()
        try:
            with self.write_errors():
                self._exclude_others()
                self.other_jobs = self._other_jobs()
                if alone:
                    self._remove_strays()
                self.create("fingerprint", fingerprint)
                self._refresh()
                self.outcome = self.read("outcome")
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        """The path or URL, for messages."""
        return self.storage.location

    def pin(self, choices: dict[str, Any]) -> dict[str, Any]:
        """Store what depends on this machine, and return what holds: that of the process which was first."""
        with self.write_errors():
            return self.create("choices", choices)

    def exists(self) -> bool:
        """Return whether the folder is still there: a process that joined the segments removes it."""
        return self.read("fingerprint") is not None

    def claim(self, number: int) -> str:
        """Return the name of the claim of a segment in the storage."""
        return claim_of(self.prefix, number)

    @property
    def join_claim(self) -> str:
        """The name of the claim of the process that joins the segments, in the storage."""
        return f"{self.prefix}join{_CLAIM}"

    @property
    def warnings(self) -> list[str]:
        """What of the folder could not be used, for users."""
        warnings = []
        if self.discard_reason:
            warnings.append(f"{self.discard_reason}; the affected frames are upscaled again")
        if self.other_jobs and self._alone:
            warnings.append(
                f"an earlier run had another {self.other_jobs}; all frames are upscaled again. "
                "Its segments stay until this job is complete, so that its command can still resume"
            )
        elif self.other_jobs:
            warnings.append(
                f"another call for the same output had another {self.other_jobs}; its segments are left, and "
                "not used. To share the work, pass the same options to all calls"
            )
        return warnings

    def refresh(self) -> None:
        """Find the segments that other processes have finished. Damaged ones are removed."""
        with self.write_errors():
            self._refresh()

    def _refresh(self) -> None:
        present = {
            int(name.removesuffix(_SEGMENT))
            for name in self.names()
            if name.endswith(_SEGMENT) and name.removesuffix(_SEGMENT).isdecimal()
        }
        new = sorted(present - set(self.segments))
        with ThreadPoolExecutor(min(_READ_AT_ONCE, len(new) or 1)) as pool:
            list(pool.map(self.find, new))
        for number in set(self.segments) - present:
            del self.segments[number]

    def find(self, number: int) -> bool:
        """Return whether a segment is stored; a damaged one is removed."""
        if number in self.segments:
            return True
        name = self.file(number)
        try:
            with self.storage.open(name) as file:
                segment = read_segment(file)
                if (segment.job, segment.number) != (self._job, number):
                    raise DamagedError
                if self._alone and isinstance(self.storage, LocalStorage):
                    file.seek(0)
                    for _ in read_packets(file, segment):
                        pass
        except FileNotFoundError:
            return False
        except DamagedError:
            self.discard_reason = f"segment {number} is damaged"
            self.storage.delete(name)
            return False
        self.segments[number] = segment
        return True

    def discard(self, reason: str) -> None:
        """Remove all segments of this job, and what was pinned for it."""
        with self.write_errors():
            self.remove_job()
            self.create("fingerprint", self.fingerprint)
        self.segments, self.outcome, self.discard_reason = {}, None, reason

    def start_segment(self, number: int) -> "SegmentWriter":
        """Start to write a segment."""
        return SegmentWriter(self, number, self._job)

    def record_outcome(self, outcome: dict[str, Any]) -> None:
        """Record the decode errors of the input, which was decoded to its end."""
        with self.write_errors():
            self.outcome = self.create("outcome", outcome)

    def packets(self) -> Iterator[tuple[PacketEntry, bytes]]:
        """Yield the packets of all segments in decoding order.

        Raises `DamagedSegment` if a file was damaged since it was checked.
        """
        for number in sorted(self.segments):
            name = self.file(number)
            try:
                with self.storage.open(name) as file:
                    yield from read_packets(file, self.segments[number])
            except DamagedError:
                self.storage.delete(name)
                del self.segments[number]
                error = DamagedSegment(
                    f"{self.location}: segment {number} is damaged; run the same command again"
                )
                error.number = number
                raise error from None

    def close(self) -> None:
        """Let other processes use the folder."""
        self._locks.close()

    def names(self) -> list[str]:
        """Return the names of this job's files, without the subfolder."""
        return [entry.name.removeprefix(self.prefix) for entry in self.storage.entries(self.prefix)]

    def remove_segments(self) -> None:
        """Remove the segments of this job, and the claims on them."""
        for name in self.names():
            if name.endswith((_SEGMENT, _CLAIM)):
                self.storage.delete(self.prefix + name)

    def remove_job(self, last: str = "fingerprint") -> None:
        """Remove all files of this job.

        Args:
            last: files whose names begin so are removed at the end.
        """
        for name in sorted(self.names(), key=lambda name: name.startswith(last)):
            self.storage.delete(self.prefix + name)

    def remove(self) -> None:
        """Remove the folder, with what belongs to other jobs. The segments go first."""
        self.close()
        for number in self.segments:
            with contextlib.suppress(OSError):
                self.storage.delete(self.file(number))
        self.storage.remove()

    def file(self, number: int) -> str:
        """Return the name of a segment's file in the storage."""
        return f"{self.prefix}{number:06}{_SEGMENT}"

    def write_error(self, error: OSError) -> OutputError:
        """Return the error to raise when the folder cannot be written."""
        kept = (
            f"; {len(self.segments)} finished segments are kept, and the same command resumes from them"
            if self.segments
            else ""
        )
        return OutputError(f"{self.location}: could not be written ({error.strerror or error}){kept}")

    @contextlib.contextmanager
    def write_errors(self) -> Iterator[None]:
        """Turn failures of the storage into `OutputError`."""
        try:
            yield
        except OSError as error:
            raise self.write_error(error) from error

    def _exclude_others(self) -> None:
        """Keep processes out that want the folder alone; and all others too, if this one wants it alone."""
        busy = OutputError(f"{self.location}: another process is writing the same output; wait until it ends")
        if isinstance(self.storage, LocalStorage):
            handle = lock(self.storage.scratch / _LOCK, shared=not self._alone)
            if handle is None:
                raise busy
            self._locks.callback(os.close, handle)
            return
        claims = self._locks.enter_context(Claims(self.storage))
        while (self._alone and claims.take(_LOCK) is None) or (not self._alone and _is_held(claims)):
            if claims.state(_LOCK) is ClaimState.LIVING:
                raise busy
            time.sleep(_POLL_SECONDS)  # until it is known whether the other process is alive

    def _other_jobs(self) -> str:
        """Return how other jobs differ, for users; empty if there are none, or this one resumes alone."""
        prefixes = {name.partition("/")[0] + "/" for name, _ in self.storage.entries() if "/" in name}
        if self._alone and self.prefix in prefixes:
            return ""
        changed = ""
        for prefix in sorted(prefixes - {self.prefix}):
            other = self.read("fingerprint", prefix)
            changed = ", ".join([] if other is None else _differences(other, self.fingerprint)) or "version"
        return changed

    def _remove_strays(self) -> None:
        """Remove the temporary files of killed processes, and the files of older versions."""
        if isinstance(self.storage, LocalStorage):
            self.storage.remove_temporary_files()
        for name, _ in self.storage.entries():
            if "/" not in name and name != _LOCK and not name.startswith(("input.", "index.")):
                self.storage.delete(name)

    def create(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Create a file with an object, and return what it contains: another process may have been first."""
        try:
            self.storage.create(self.prefix + name, to_line(content))
        except FileExistsError:
            stored = self.read(name)
            if stored is not None:
                return stored
            self.storage.delete(self.prefix + name)  # damaged
            return self.create(name, content)
        return dict(content)

    def read(self, name: str, prefix: str | None = None) -> dict[str, Any] | None:
        """Return the object in a file of this job, or of another one; None if it is missing or damaged."""
        return read_object(self.storage, (self.prefix if prefix is None else prefix) + name)


class SegmentWriter:
    """Write one segment. It becomes part of the folder with `commit`; a crash before that loses it."""

    def __init__(self, folder: SegmentFolder, number: int, job: str) -> None:
        self._folder, self._number = folder, number
        try:
            scratch = folder.storage.scratch
        except OSError as error:
            raise folder.write_error(error) from error
        self._file = SegmentFile(scratch, job, number)

    def write(self, data: bytes, pts: int, duration: int, is_keyframe: bool) -> None:
        """Add a packet. Raises `OutputError` if the disk is full or fails."""
        try:
            self._file.write(data, pts, duration, is_keyframe)
        except OSError as error:
            self.discard()
            raise self._folder.write_error(error) from error

    def commit(self, frames: int, errors: Mapping[str, Any] | None = None) -> None:
        """Put the segment into the folder, unless another process was first; it has the same bytes.

        Raises `OutputError` if the disk is full or fails; earlier segments stay.
        """
        folder = self._folder
        try:
            segment = self._file.finish(frames, errors or {})
            try:
                folder.storage.create(folder.file(self._number), self._file.path)
                folder.segments[self._number] = segment
            except FileExistsError:
                folder.find(self._number)
        except OSError as error:
            raise folder.write_error(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the unfinished segment."""
        self._file.remove()


def _is_held(claims: Claims) -> bool:
    """Whether a process does the job alone, or it is not known that it has ended."""
    return claims.state(_LOCK) not in (ClaimState.FREE, ClaimState.DEAD)


def job_prefix(fingerprint: Mapping[str, Any]) -> str:
    """Return how the names of a job's files begin."""
    return f"{digest_of(fingerprint)[:_FOLDER_DIGITS]}/"


def claim_of(prefix: str, number: int) -> str:
    """Return the name of the claim of a segment, for a job whose files' names begin with ``prefix``."""
    return f"{prefix}{number:06}{_CLAIM}"


def has_segments(storage: Storage) -> bool:
    """Return whether a folder has segments of any job."""
    return any(entry.name.endswith(_SEGMENT) for entry in storage.entries())


def read_object(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return the object in a file; None if it is missing or damaged."""
    try:
        return from_line(storage.read(name).data)
    except FileNotFoundError:
        return None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
