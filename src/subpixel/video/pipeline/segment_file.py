"""The file of one encoded segment, and lines of JSON that show whether they are damaged.

A segment's file has its packets one after another, and then a line that describes them: their sizes and
times, and the digest of the packets. So the file is written once, and read without any other file.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

_DIGEST_DIGITS = 32
_TAIL_BYTES = 1 << 16
"""Read at once from the end of a file; the line of 240 packets has about 8 kB."""


class PacketEntry(NamedTuple):
    """One packet in a segment's file, which has the packets in decoding order."""

    size: int
    pts: int
    duration: int
    is_keyframe: bool


@dataclass(frozen=True)
class Segment:
    """A finished segment: ``frames`` frames, encoded independently of the others."""

    job: str
    """The digest of the fingerprint of its job."""
    number: int
    frames: int
    packets: tuple[PacketEntry, ...]
    digest: str
    """SHA-256 of its packets, in hexadecimal."""
    errors: Mapping[str, Any] = field(default_factory=dict)
    """The decode errors of its frames, by the names of the fields of `DecodeErrors`; empty if not known."""

    @property
    def size(self) -> int:
        """Bytes of its packets."""
        return sum(packet.size for packet in self.packets)


class DamagedError(Exception):
    """A file is not as it was written."""


class SegmentFile:
    """A segment that is being written, to a temporary file."""

    def __init__(self, folder: Path, job: str, number: int) -> None:
        """Choose the name of the file, which the first write creates.

        So an interrupt at any moment meets a caller who knows the file, and removes it.
        """
        self._job, self._number = job, number
        self._digest = hashlib.sha256()
        self._packets: list[PacketEntry] = []
        self.path = folder / f".{number:06}.{secrets.token_hex(8)}.part"
        self._open: IO[bytes] | None = None

    @property
    def _file(self) -> IO[bytes]:
        if self._open is None:
            self._open = self.path.open("wb")
        return self._open

    def write(self, data: bytes, pts: int, duration: int, is_keyframe: bool) -> None:
        """Add a packet. Raises ``OSError``."""
        self._file.write(data)
        self._digest.update(data)
        self._packets.append(PacketEntry(len(data), pts, duration, is_keyframe))

    def finish(self, frames: int, errors: Mapping[str, Any]) -> Segment:
        """Add the line that describes the packets, and close the file. Raises ``OSError``."""
        segment = Segment(
            self._job, self._number, frames, tuple(self._packets), self._digest.hexdigest(), errors
        )
        self._file.write(b"\n" + to_line(asdict(segment)))
        self._file.close()
        return segment

    def remove(self) -> None:
        """Close and remove the temporary file."""
        with contextlib.suppress(OSError):
            if self._open is not None:
                self._open.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_segment(file: IO[bytes]) -> Segment:
    """Read the description at the end of a segment's file.

    Raises `DamagedError` if it is not intact, or does not fit the size of the file. The packets are not read.
    """
    size = file.seek(0, os.SEEK_END)
    wanted = _TAIL_BYTES
    while True:
        file.seek(max(0, size - wanted))
        tail = file.read()
        start = tail.rfind(b"\n", 0, -1)
        if start >= 0 or wanted >= size:
            break
        wanted *= 16
    line = tail[start + 1 :]
    entry = from_line(line)
    try:
        assert entry is not None
        packets = tuple(PacketEntry(*packet) for packet in entry.pop("packets"))
        segment = Segment(packets=packets, **entry)
        if segment.size + 1 + len(line) == size:
            return segment
    except (AssertionError, KeyError, TypeError, ValueError):
        pass
    raise DamagedError


def read_packets(file: IO[bytes], segment: Segment) -> Iterator[tuple[PacketEntry, bytes]]:
    """Yield the packets of a segment's file; raise `DamagedError` at the end if they are not as written."""
    digest = hashlib.sha256()
    for packet in segment.packets:
        data = file.read(packet.size)
        digest.update(data)
        yield packet, data
    if digest.hexdigest() != segment.digest:
        raise DamagedError


def to_line(entry: Mapping[str, Any]) -> bytes:
    """Return an object as a line of JSON that begins with a digest of itself."""
    text = _to_json(entry)
    return _digest(text) + b" " + text + b"\n"


def from_line(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line; None if the line is damaged or incomplete."""
    digest, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or digest != _digest(text):
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def digest_of(entry: Mapping[str, Any]) -> str:
    """Return a digest of an object that has a form in JSON."""
    return _digest(_to_json(entry)).decode()


def _to_json(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGEST_DIGITS].encode()
