"""An output tried in memory before the work: what a container refuses, and what it loses.

FFmpeg's muxers refuse some streams when they write the header, others only when they write the index at the
end, and make nonsense of a few. So a file with one packet for each stream is written whole, and read again.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subpixel.errors import EncoderError
from subpixel.video.media.containers import CONTAINERS, MKV, MOV, MP4, WEBM, Y4M, Container
from subpixel.video.media.losses import losses, losses_of_all
from subpixel.video.media.mux import (
    Track,
    add_all,
    add_copy,
    codec_name,
    describe,
    is_broadcast_aac,
    is_remade,
    strictness,
    tag,
    y4m_header,
)
from subpixel.video.media.source import Source, is_attached, is_attached_picture

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.stream import Stream

_FFMPEGS = tuple(container for container in CONTAINERS if container is not Y4M)
"""Those that FFmpeg's muxers write."""

_NOTHING = bytes(1024)
"""A packet where none was read yet. Muxers that look into packets refuse it."""

_Packets = Sequence[tuple[Any, bytes]]
"""Streams of an output, and a packet for each."""


@dataclass(frozen=True)
class Refusal:
    """A stream that a container does not hold."""

    stream: "Stream"
    what: str
    """For people."""
    holders: tuple[Container, ...]
    """The containers that would hold it."""


def refusals(container: Container, source: Source, *, to_pipe: bool = False) -> list[Refusal]:
    """The streams of the input that the container cannot hold."""
    trials = [_Trial(other, source, to_pipe) for other in _FFMPEGS]
    here = _Trial(container, source, to_pipe)
    return [
        Refusal(stream, describe(stream), tuple(trial.container for trial in trials if trial.holds(stream)))
        for stream in source.others
        if not is_remade(source, stream) and not here.holds(stream)
    ]


def check_output(container: Container, source: Source, track: Track, *, to_pipe: bool = False) -> list[str]:
    """Try the output with all that belongs into it.

    Returns:
        What will be lost of the input, in words for people.

    Raises:
        EncoderError: the container cannot hold the picture, or not all streams at once.
    """
    if container is Y4M:
        y4m_header(track.encoder)
        # Where there is more than the picture, it is told that all of that is left out.
        return [] if len(source.container.streams) > 1 else losses_of_all(container, source, track)
    trial = _Trial(container, source, to_pipe)
    try:
        written, streams = trial.whole(track, source.others)
    except _Refused as error:
        raise EncoderError(f"{source.name}: {_why_not(trial, track, str(error))}") from error
    return losses(written, container, source, track, streams)


def _why_not(trial: "_Trial", track: Track, reason: str) -> str:
    """What a container refuses, and what to do about it, for people."""
    container, source = trial.container, trial.source
    others = [_Trial(other, source, trial.to_pipe) for other in _FFMPEGS if other is not container]
    if not trial.takes(track, []):
        holders = [other.container.extensions[0] for other in others if other.takes(track, [])]
        cure = f"write {' or '.join(holders)}" if holders else "choose another codec"
        return f"{container.name} does not hold what {track.encoder.codec.name} writes; {cure}"
    holders = [other.container.extensions[0] for other in others if other.takes(track, source.others)]
    cure = f"write {' or '.join(holders)}" if holders else "remove some of it"
    return f"{container.name} cannot hold all of it together ({reason}); {cure}"


class _Refused(Exception):  # noqa: N818 - never for people
    """FFmpeg's muxer refuses something, in its words."""


class _Unseekable(io.BytesIO):
    """What is written to it stays as it is, as behind a pipe."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class _Trial:
    """A container tried with what a film holds."""

    container: Container
    source: Source
    to_pipe: bool
    taken: dict[int, bool] = field(default_factory=dict)
    """Whether the muxer took a packet of a stream, by its index, once that was tried."""

    def holds(self, stream: "Stream") -> bool:
        """Whether it holds one of the film's other streams."""
        if is_attached_picture(stream) and self.container in (WEBM, MOV):
            return False
        if self.to_pipe and self.container in (MP4, MOV) and is_broadcast_aac(stream):
            return False  # its muxer goes back for what it learns of such sound
        try:
            written, took = self._alone(stream)
        except _Refused:
            return False
        return not took or is_attached(stream) or _is_the_same(stream, written)

    def takes(self, track: Track, others: Sequence["Stream"]) -> bool:
        """Whether it holds the picture and other streams together."""
        try:
            self.whole(track, others)
        except _Refused:
            return False
        return True

    def whole(self, track: Track, others: Sequence["Stream"]) -> tuple[io.BytesIO, list["Stream"]]:
        """The output with a packet for each stream, and which of ``others`` are seen in it, in its order.

        Raises `_Refused`.
        """
        others = [stream for stream in others if not is_remade(self.source, stream)]
        if self.to_pipe:
            # There, what has no packets yet is not left out of the index.
            others = [stream for stream in others if self._sample(stream) is not None]
        for stream in others:
            if stream.index not in self.taken:
                self._alone(stream)
        taken = {index for index, took in self.taken.items() if took}

        def add(output: "OutputContainer") -> _Packets:
            video, copies = add_all(output, self.container, self.source, track, others, to_pipe=self.to_pipe)
            packets = [(copies[s.index], self._sample(s) or _NOTHING) for s in others if s.index in taken]
            return [(video, track.sample), *packets] if track.sample else packets

        # MP4 leaves out what has no packets; covers and what else is attached come last.
        seen = [stream for stream in others if stream.index in taken or self.container in (MKV, WEBM)]
        return self._write(add, strictness(track))[0], sorted(seen, key=is_attached)

    def _alone(self, stream: "Stream") -> tuple[io.BytesIO, bool]:
        """A file with one packet of a stream, and whether the muxer took that; raises `_Refused`."""

        def add(output: "OutputContainer") -> _Packets:
            copy = add_copy(output, self.container, self.source, stream, to_pipe=self.to_pipe)
            data = self._sample(stream)
            return [] if copy.type == "attachment" or data is None else [(copy, data)]

        written, took = self._write(add, {}, lenient=True)
        self.taken[stream.index] = took
        return written, took

    def _sample(self, stream: "Stream") -> bytes | None:
        """A packet of a stream; None for sound of which none lies near, as its muxer may look into it.

        What AC-3 is, MP4 tells by its packets alone: zeros would be refused, or taken for something else.
        """
        found = self.source.pictures.get(stream.index) or self.source.sample(stream)
        return found or (None if stream.type == "audio" else _NOTHING)

    def _write(
        self,
        add: Callable[["OutputContainer"], _Packets],
        options: dict[str, str],
        *,
        lenient: bool = False,
    ) -> tuple[io.BytesIO, bool]:
        """A file in memory with what ``add`` puts into it, and whether its muxer took all packets.

        Raises:
            _Refused: not so its header, its end, or, unless ``lenient``, its packets.
        """
        import av

        target = _Unseekable() if self.to_pipe else io.BytesIO()
        if self.to_pipe:
            options = dict(self.container.piped) | options
        took = False
        try:
            with av.open(
                target,
                "w",
                format=self.container.muxer,
                container_options=options,
                metadata_errors="surrogateescape",
            ) as output:
                packets = add(output)
                output.start_encoding()
                # A packet that is refused may be damaged, or none at all.
                with contextlib.suppress(*([av.FFmpegError] if lenient else [])):
                    for stream, data in packets:
                        output.mux_one(_packet(stream, data))
                    took = bool(packets)
        except (av.FFmpegError, ValueError) as error:
            raise _Refused(getattr(error, "strerror", None) or str(error)) from error
        return io.BytesIO(target.getvalue()), took


def _packet(stream: Any, data: bytes) -> "Packet":
    import av

    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, stream.time_base
    packet.pts = packet.dts = 0
    packet.duration, packet.is_keyframe = 1, True
    return packet


def _is_the_same(stream: "Stream", written: io.BytesIO) -> bool:
    """Whether a file that holds a stream alone says the same of it. FFmpeg writes some data as nonsense."""
    import av

    try:
        with av.open(written, "r", metadata_errors="surrogateescape") as file:
            found = list(file.streams)
            if len(found) != 1 or found[0].type != stream.type:
                return False
            if stream.type != "data":
                return (found[0].codec_context is None) == (stream.codec_context is None)
            return (codec_name(found[0]), tag(found[0])) == (codec_name(stream), tag(stream))
    except av.FFmpegError:
        return False
