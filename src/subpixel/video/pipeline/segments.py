"""Progress on disk: the encoded picture in segments, each whole or not there, and a journal of them.

A job's folder lies beside its output. The journal is a file of lines, each a JSON object with a digest of
itself. The first line says what decides the picture: the input's content, the model, the options. A journal
that says anything else is of another job, and is begun anew. Each further line stands for one segment: its
packets' times and sizes, and a digest of its file. A segment counts only if its line and its file are sound,
so whatever a crash, a power cut or a hand has left, nothing damaged gets into the output; it is made again.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from subpixel.errors import OutputError
from subpixel.files import flush_folder, lock

_JOURNAL = "journal"
_DIGEST_DIGITS = 32


class PacketFacts(NamedTuple):
    """One packet in a segment's file, in the order of decoding."""

    size: int
    pts: int
    duration: int
    key: bool


@dataclass(frozen=True)
class Segment:
    """A piece of the picture that is done: ``frames`` frames, encoded on their own."""

    number: int
    frames: int
    packets: tuple[PacketFacts, ...]
    digest: str
    """Of its file."""


class Journal:
    """The folder of one job. Only one process at a time may have it."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        """Open the folder, or make it; take over what is sound and belongs to the same job.

        Args:
            folder: where the segments lie.
            facts: what decides the picture, as JSON gives it back: no tuples, and keys are strings.

        Raises:
            OutputError: another process is at work in it, or it cannot be written to.
        """
        self.folder = folder
        self.segments: dict[int, Segment] = {}
        self.outcome: dict[str, Any] | None = None
        """What the input came to, once all segments are done."""
        self.discarded = ""
        """Why something that lay there was of no use, in words for people."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(folder / "lock")
            if self._lock is None:
                raise OutputError(f"{folder}: another process is at work on the same output")
            self._load(facts)
            self._write_whole(facts)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error

    @staticmethod
    def facts(folder: Path) -> dict[str, Any]:
        """What an earlier job in a folder was decided by; empty where that is not known."""
        return (_lines(folder) or [None])[0] or {}

    @staticmethod
    def has_written(folder: Path, output: Path) -> bool:
        """Whether an output that stands there is that of the job in a folder, killed before it could tidy
        up.
        """
        written = [line["written"] for line in _lines(folder) if line is not None and "written" in line]
        try:
            return bool(written) and written[-1] == _identity(output)
        except OSError:
            return False

    @staticmethod
    def outcome_of(folder: Path, facts: dict[str, Any], output: Path) -> dict[str, Any] | None:
        """What the input came to, where the same job has written the output that stands there; else None."""
        first, *rest = _lines(folder) or [None]
        if first != facts or not Journal.has_written(folder, output):
            return None
        outcomes = [line["outcome"] for line in rest if line is not None and "outcome" in line]
        return outcomes[-1] if outcomes else None

    def start(self, number: int) -> "SegmentWriter":
        """Begin a segment."""
        return SegmentWriter(self, number)

    def add(self, segment: Segment) -> None:
        """Note a segment whose file is in place."""
        self._append(_to_json(segment))
        self.segments[segment.number] = segment

    def finish(self, outcome: dict[str, Any]) -> None:
        """Note that there are no more segments, and what the input came to."""
        self.outcome = outcome
        self._append({"outcome": outcome})

    def write(self, output: Path) -> None:
        """Note that the output is whole, and only has to take its name."""
        self._append({"written": _identity(output)})

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with (self.folder / _JOURNAL).open("ab") as journal:
                journal.write(_line(entry))
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: OSError) -> OutputError:
        """The error for a failure to keep what was done."""
        return OutputError(
            f"{self.folder}: cannot keep what was done ({error.strerror or error}); "
            f"{len(self.segments)} finished segments are kept, and the same command goes on from them"
        )

    def packets(self) -> Iterator[tuple[PacketFacts, bytes]]:
        """All packets of all segments, in the order of decoding.

        Raises `OutputError` where a file was damaged since it was checked.
        """
        for number in sorted(self.segments):
            segment = self.segments[number]
            with self.file(number).open("rb") as file:
                for packet in segment.packets:
                    data = file.read(packet.size)
                    if len(data) != packet.size:
                        raise OutputError(f"{self.file(number)}: was cut short; run the same command again")
                    yield packet, data

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Remove the folder: the job is done. The journal goes last, as it says so after a kill meanwhile."""
        self.close()
        for number in self.segments:
            self.file(number).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, number: int) -> Path:
        """Where a segment's packets lie, one after the other."""
        return self.folder / f"{number:06}.packets"

    def _load(self, facts: dict[str, Any]) -> None:
        if not (self.folder / _JOURNAL).exists():
            return
        first, *rest = _lines(self.folder) or [None]
        if first is None:
            self.discarded = "the journal of an earlier run is damaged"
        elif first != facts:
            changed = sorted(key for key in {*first, *facts} if first.get(key) != facts.get(key))
            self.discarded = f"an earlier run had another {', '.join(changed)}"
        else:
            for entry in rest:
                if entry is not None and "outcome" in entry:
                    self.outcome = entry["outcome"]
                    continue
                if entry is not None and "written" in entry:
                    continue
                segment = None if entry is None else _from_json(entry)
                if segment is None:
                    self.discarded = "a line of the journal is damaged"
                elif not self._is_sound(segment):
                    self.discarded = f"segment {segment.number} is damaged"
                else:
                    self.segments[segment.number] = segment
            if self.discarded:
                self.outcome = None

    def _is_sound(self, segment: Segment) -> bool:
        try:
            with self.file(segment.number).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == segment.digest
        except OSError:
            return False

    def _write_whole(self, facts: dict[str, Any]) -> None:
        """Write the journal anew, with the sound segments alone, and remove every other file."""
        wanted = {"lock", _JOURNAL, *(self.file(number).name for number in self.segments)}
        for file in self.folder.iterdir():
            if file.name in wanted:
                continue
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink()
        part = self.folder / f"{_JOURNAL}.part"
        with part.open("wb") as journal:
            journal.write(_line(facts))
            for number in sorted(self.segments):
                journal.write(_line(_to_json(self.segments[number])))
            if self.outcome is not None:
                journal.write(_line({"outcome": self.outcome}))
            journal.flush()
            os.fsync(journal.fileno())
        part.replace(self.folder / _JOURNAL)
        flush_folder(self.folder)


class SegmentWriter:
    """A segment in the making. It counts once it is kept; until then a crash leaves nothing of it."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._path = journal.folder / f"{number:06}.part"
        self._digest = hashlib.sha256()
        self._packets: list[PacketFacts] = []
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise journal.failed(error) from error

    def write(self, data: bytes, pts: int, duration: int, key: bool) -> None:
        """Add a packet. Raises `OutputError` where the disk is full or fails."""
        try:
            self._file.write(data)
        except OSError as error:
            self.drop()
            raise self._journal.failed(error) from error
        self._digest.update(data)
        self._packets.append(PacketFacts(len(data), pts, duration, key))

    def keep(self, frames: int) -> None:
        """Make it count: first its file, whole and flushed, then its line in the journal.

        Raises `OutputError` where the disk is full or fails; earlier segments stay.
        """
        journal = self._journal
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(journal.file(self._number))
            flush_folder(journal.folder)
        except OSError as error:
            self.drop()
            raise journal.failed(error) from error
        segment = Segment(self._number, frames, tuple(self._packets), self._digest.hexdigest())
        journal.add(segment)

    def drop(self) -> None:
        """Leave nothing of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _to_json(segment: Segment) -> dict[str, Any]:
    return segment.__dict__ | {"packets": [[*map(int, packet)] for packet in segment.packets]}


def _from_json(entry: dict[str, Any]) -> Segment | None:
    try:
        packets = tuple(
            PacketFacts(size, pts, duration, bool(key)) for size, pts, duration, key in entry.pop("packets")
        )
        return Segment(packets=packets, **entry)
    except (KeyError, TypeError, ValueError):
        return None


def _lines(folder: Path) -> list[dict[str, Any] | None]:
    """What the journal in a folder says, line by line, None for damaged ones; nothing where there is none."""
    try:
        return [_parsed(line) for line in (folder / _JOURNAL).read_bytes().splitlines(keepends=True)]
    except OSError:
        return []


def _identity(file: Path) -> list[int]:
    """What tells a file from another that takes its place; a new name does not change it."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    return _digest(text) + b" " + text + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None where it is damaged, or was cut off by a crash."""
    digest, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or digest != _digest(text):
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGEST_DIGITS].encode()
