"""`PacketIndex`: the packets of a video stream, found by reading the file without decoding."""

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.video.media.access_points import Access, Classifier, classifier
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.reader import demux
from subpixel.video.media.source import Source, open_again
from subpixel.video.media.streams import is_mp4

if TYPE_CHECKING:
    from av import Packet

_VERSION = 1
"""Of the format and of what the flags mean. Raise it with either."""

NO_TIME = np.iinfo(np.int64).min
"""Takes the place of a time that a packet does not have."""

DISCARDED = 1 << 8
"""The flag of a packet that an edit list hides: it is decoded, and gives no frame."""

_ARRAYS = ("pts", "dts", "sizes", "positions", "flags")

_TRUSTED_KEYS = ("ffv1",)
"""Codecs whose decoder reports an error for a packet that is wrongly marked as a key frame."""


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """The packets of a video stream in decoding order, ``(N,)`` int64 each.

    Attributes:
        pts, dts: times in units of the stream's time base, or `NO_TIME`.
        sizes: in bytes.
        positions: in the file, in bytes; -1 where the container does not say.
        flags: `Access`, and `DISCARDED`.
        refusal: why a decode from the middle would not give the frames of one from the start, as far as the
            packets alone show; empty if nothing does.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    positions: NDArray[np.int64]
    flags: NDArray[np.int64]
    refusal: str = ""

    def __len__(self) -> int:
        """How many packets there are."""
        return len(self.pts)

    def to_bytes(self) -> bytes:
        """Return the index as the content of a file: a line of JSON, then compressed differences."""
        columns = [np.diff(getattr(self, name), prepend=np.int64(0)) for name in _ARRAYS]
        content = zlib.compress(np.concatenate(columns).astype("<i8").tobytes(), 1)
        header = {
            "version": _VERSION,
            "packets": len(self),
            "refusal": self.refusal,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return json.dumps(header, sort_keys=True).encode() + b"\n" + content

    @classmethod
    def from_bytes(cls, data: bytes) -> "PacketIndex":
        """Return what `to_bytes` wrote. Raises ValueError if it is damaged or of another version."""
        head, _, content = data.partition(b"\n")
        try:
            header: dict[str, Any] = json.loads(head)
            intact = header["version"] == _VERSION and header["sha256"] == hashlib.sha256(content).hexdigest()
            if not intact:
                raise ValueError("another version, or damaged")
            columns = np.frombuffer(zlib.decompress(content), "<i8").reshape(len(_ARRAYS), header["packets"])
            pts, dts, sizes, positions, flags = (np.cumsum(column, dtype=np.int64) for column in columns)
            return cls(pts, dts, sizes, positions, flags, str(header["refusal"]))
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"not a packet index ({error})") from error

    def matches(self, number: int, packet: "Packet") -> bool:
        """Whether a packet that is read again is that of a number, at the same time."""
        return self.is_at(number, packet) and _times(packet) == (self.pts[number], self.dts[number])

    def is_at(self, number: int, packet: "Packet") -> bool:
        """As `matches`, but at any time: FFmpeg may not know times soon after a seek."""
        return bool(self.sizes[number] == packet.size and self.positions[number] == _position(packet))

    def numbers(self, packet: "Packet") -> list[int]:
        """The numbers of packets that may be a packet that is read again, after a seek."""
        position = _position(packet)
        found = np.flatnonzero((self.positions == position) & (self.sizes == packet.size))
        if position < 0:  # only the times distinguish packets
            found = found[(self.pts[found] == _times(packet)[0]) & (self.dts[found] == _times(packet)[1])]
        return [int(number) for number in found]


def read_index(source: Source) -> PacketIndex:
    """Read the packets of the video stream of a file, which is opened again. Nothing is decoded."""
    with open_again(source) as (container, stream):
        context = stream.codec_context
        name = context.codec.canonical_name
        found = classifier(name, context.extradata or b"", is_intra_only=context.codec.intra_only)
        rows: list[tuple[int, int, int, int, int]] = []
        parameters = _Parameters(is_mp4(container))
        for packet in demux(container, stream, DecodeErrors()):
            if packet.stream_index != stream.index or not packet.size:
                continue
            access = Access(0)
            if found is not None:
                access = parameters.check(packet, *_access_of(packet, found), is_first=not rows)
            elif name in _TRUSTED_KEYS and packet.is_keyframe:
                access = Access.ENTRY
            flags = access | (DISCARDED if packet.is_discard else 0)
            rows.append((*_times(packet), packet.size, _position(packet), flags))
    pts, dts, sizes, positions, all_flags = np.array(rows, np.int64).reshape(-1, len(_ARRAYS)).T.copy()
    refusal = parameters.refusal
    if found is None and name not in _TRUSTED_KEYS:
        refusal = f"how frames of {name} depend on each other is not known"
    return PacketIndex(pts, dts, sizes, positions, all_flags, refusal)


def _access_of(packet: "Packet", codec: Classifier) -> tuple[Access, dict[int, bytes]]:
    """What the content of a packet says, and its parameters."""
    content = bytes(packet) if codec.head_bytes is None else bytes(memoryview(packet)[: codec.head_bytes])
    try:
        access = codec.access(content)
        return access, codec.parameters(content) if access & Access.PARAMETERS else {}
    except (IndexError, ValueError):  # damaged
        return Access(0), {}


class _Parameters:
    """Follows the parameters of a stream, which a decode from the middle must get, too.

    A decoder gets those of the file's header. If others follow, decoding can begin only where they are
    repeated.
    """

    def __init__(self, repeats_extradata: bool) -> None:
        """Args: whether FFmpeg gives new extradata at each position to which it seeks, as for MP4."""
        self.refusal = ""
        self._first: dict[int, bytes] = {}
        self._changed: set[int] = set()
        self._repeats_extradata = repeats_extradata

    def check(
        self, packet: "Packet", access: Access, parameters: dict[int, bytes], *, is_first: bool
    ) -> Access:
        """Return the access of a packet, without `ENTRY` if a decoder would lack parameters there."""
        for kind, content in parameters.items():
            if is_first:
                self._first[kind] = content
            elif self._first.get(kind) != content:
                self._changed.add(kind)
        if not is_first and not self._repeats_extradata and packet.has_sidedata("new_extradata"):
            self.refusal = "the parameters of its stream change in the middle"
        if packet.has_sidedata("palette"):
            self.refusal = "its palette changes"
        if access & Access.SEVERAL:
            self.refusal = "a packet contains several frames"
        return access if self._changed <= parameters.keys() else access & ~Access.ENTRY


def _times(packet: "Packet") -> tuple[int, int]:
    return (
        NO_TIME if packet.pts is None else packet.pts,
        NO_TIME if packet.dts is None else packet.dts,
    )


def _position(packet: "Packet") -> int:
    return -1 if packet.pos is None else packet.pos
