"""Tries an output in memory before frames are upscaled: which streams its container refuses, what it loses.

FFmpeg's muxers refuse some streams when they write the header, others only when they write the index at the
end, and write a few wrong. So a trial writes a complete file with one packet of each stream, and reads it.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subpixel.errors import EncoderError
from subpixel.video.media.containers import CONTAINERS, MKV, MOV, MP4, WEBM, Y4M, Container
from subpixel.video.media.header import VideoTrack, add_all, add_copy, muxer_options
from subpixel.video.media.losses import find_losses, losses_without_metadata
from subpixel.video.media.source import Source
from subpixel.video.media.streams import (
    codec_name,
    codec_tag,
    describe,
    is_adts_aac,
    is_attached,
    is_attached_picture,
    is_rebuilt,
)
from subpixel.video.media.y4m import y4m_header

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.stream import Stream

_WITH_STREAMS = tuple(container for container in CONTAINERS if container is not Y4M)
"""The containers that may have more than a video stream."""

_DUMMY_PACKET = bytes(1024)
"""A packet of a stream of which none was read yet. Muxers that parse packets refuse it."""

_Packets = Sequence[tuple[Any, bytes]]
"""Pairs of a stream of an output and its packet."""


@dataclass(frozen=True)
class Refusal:
    """A stream that a container does not support."""

    stream: "Stream"
    description: str
    """The stream's name in messages."""
    alternatives: tuple[Container, ...]
    """The containers that support it."""


def refusals(container: Container, source: Source, *, to_pipe: bool = False) -> list[Refusal]:
    """The streams of an input that a container does not support.

    Args:
        container: the output's format.
        source: the input.
        to_pipe: whether the output cannot seek.
    """
    trials = [_Trial(other, source, to_pipe) for other in _WITH_STREAMS]
    own_trial = _Trial(container, source, to_pipe)
    return [
        Refusal(
            stream, describe(stream), tuple(trial.container for trial in trials if trial.supports(stream))
        )
        for stream in source.others
        if not is_rebuilt(stream) and not own_trial.supports(stream)
    ]


def check_output(
    container: Container, source: Source, track: VideoTrack, *, to_pipe: bool = False
) -> list[str]:
    """Try the output with all streams.

    Args:
        container: its format.
        source: the input.
        track: the video track.
        to_pipe: whether the output cannot seek.

    Returns:
        A warning for each thing of the input that the output loses.

    Raises:
        EncoderError: the container does not support the video stream, or not all streams together.
    """
    if container is Y4M:
        y4m_header(track.encoder)
        # If there are other streams, another warning says that all but the frames is dropped.
        if len(source.container.streams) > 1:
            return []
        return losses_without_metadata(container, source, track)
    trial = _Trial(container, source, to_pipe)
    try:
        written, streams = trial.write_all(track, source.others)
    except _Refused as error:
        raise EncoderError(f"{source.name}: {_explain(trial, track, str(error))}") from error
    return find_losses(written, container, source, track, streams)


def _explain(trial: "_Trial", track: VideoTrack, reason: str) -> str:
    """What a container refuses, and the cure, for an error."""
    container, source = trial.container, trial.source
    others = [_Trial(other, source, trial.to_pipe) for other in _WITH_STREAMS if other is not container]
    video_is_refused = not trial.supports_all(track, [])
    streams = [] if video_is_refused else source.others
    extensions = [other.container.extensions[0] for other in others if other.supports_all(track, streams)]
    write = f"write {' or '.join(extensions)}" if extensions else ""
    if video_is_refused:
        codec = track.encoder.codec.name
        return f"{container.name} does not support video by {codec}; {write or 'choose another codec'}"
    return (
        f"{container.name} does not support all streams together ({reason}); {write or 'remove some of them'}"
    )


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """FFmpeg's muxer refuses something; the message is FFmpeg's."""


class _Unseekable(io.BytesIO):
    """A file in memory that cannot seek, like a pipe."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class _Trial:
    """A container, tried with the streams of an input."""

    container: Container
    source: Source
    to_pipe: bool
    accepted: dict[int, bool] = field(default_factory=dict)
    """Whether the muxer accepted a packet of a stream, by its index; only of streams that were tried."""

    def supports(self, stream: "Stream") -> bool:
        """Whether the container supports one of the other streams."""
        if is_attached_picture(stream) and self.container in (WEBM, MOV):
            return False
        if self.to_pipe and self.container in (MP4, MOV) and is_adts_aac(stream):
            return False  # the muxer finds the configuration of such sound late, and seeks back to write it
        try:
            written, accepted = self._write_alone(stream)
        except _Refused:
            return False
        return not accepted or is_attached(stream) or _is_same_type(stream, written)

    def supports_all(self, track: VideoTrack, others: Sequence["Stream"]) -> bool:
        """Whether the container supports the video track and other streams together."""
        try:
            self.write_all(track, others)
        except _Refused:
            return False
        return True

    def write_all(self, track: VideoTrack, others: Sequence["Stream"]) -> tuple[io.BytesIO, list["Stream"]]:
        """Write the output with one packet of each stream.

        Returns:
            The output, and those of ``others`` that are in it, in its order.

        Raises:
            _Refused: the container does not support all of them together.
        """
        others = [stream for stream in others if not is_rebuilt(stream)]
        if self.to_pipe:
            # On a pipe, the muxer writes a stream into the index even if it has no packets yet.
            others = [stream for stream in others if self._sample(stream) is not None]
        for stream in others:
            if stream.index not in self.accepted:
                self._write_alone(stream)
        accepted = {index for index, is_accepted in self.accepted.items() if is_accepted}

        def add(output: "OutputContainer") -> _Packets:
            video, copies = add_all(output, self.container, self.source, track, others, to_pipe=self.to_pipe)
            packets = [
                (copies[stream.index], self._sample(stream) or _DUMMY_PACKET)
                for stream in others
                if stream.index in accepted
            ]
            return [(video, track.sample), *packets] if track.sample else packets

        # MP4 leaves out streams without packets. Covers and other attachments come last.
        written = [stream for stream in others if stream.index in accepted or self.container in (MKV, WEBM)]
        return self._write(add, muxer_options(track))[0], sorted(written, key=is_attached)

    def _write_alone(self, stream: "Stream") -> tuple[io.BytesIO, bool]:
        """Write a file with one packet of a stream; also return whether the muxer accepted the packet.

        Raises `_Refused` if the muxer refuses the stream itself.
        """

        def add(output: "OutputContainer") -> _Packets:
            copy = add_copy(output, self.container, self.source, stream, to_pipe=self.to_pipe)
            data = self._sample(stream)
            return [] if copy.type == "attachment" or data is None else [(copy, data)]

        written, accepted = self._write(add, {}, lenient=True)
        self.accepted[stream.index] = accepted
        return written, accepted

    def _sample(self, stream: "Stream") -> bytes | None:
        """A packet of a stream; None for sound of which no packet is near the first frame.

        MP4's muxer parses packets of AC-3: it would refuse a dummy packet, or take it for something else.
        """
        found = self.source.covers.get(stream.index) or self.source.sample_packet(stream)
        return found or (None if stream.type == "audio" else _DUMMY_PACKET)

    def _write(
        self,
        add: Callable[["OutputContainer"], _Packets],
        options: dict[str, str],
        *,
        lenient: bool = False,
    ) -> tuple[io.BytesIO, bool]:
        """Write a file in memory.

        Args:
            add: adds streams to the output, and returns their packets.
            options: options of FFmpeg's muxer.
            lenient: whether packets may be refused.

        Returns:
            The file, and whether the muxer accepted all packets; False if there are none.

        Raises:
            _Refused: the muxer refuses the header, the end of the file, or a packet.
        """
        import av

        target = _Unseekable() if self.to_pipe else io.BytesIO()
        if self.to_pipe:
            options = dict(self.container.pipe_options) | options
        accepted = False
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
                # A packet that is refused may be damaged, or a dummy.
                with contextlib.suppress(*([av.FFmpegError] if lenient else [])):
                    for stream, data in packets:
                        output.mux_one(_packet(stream, data))
                    accepted = bool(packets)
        except (av.FFmpegError, ValueError) as error:
            raise _Refused(getattr(error, "strerror", None) or str(error)) from error
        return io.BytesIO(target.getvalue()), accepted


def _packet(stream: Any, data: bytes) -> "Packet":
    import av

    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, stream.time_base
    packet.pts = packet.dts = 0
    packet.duration, packet.is_keyframe = 1, True
    return packet


def _is_same_type(stream: "Stream", written: io.BytesIO) -> bool:
    """Whether a file with only a copy of a stream has its type and codec. FFmpeg writes some data wrong."""
    import av

    try:
        with av.open(written, "r", metadata_errors="surrogateescape") as file:
            found = list(file.streams)
            if len(found) != 1 or found[0].type != stream.type:
                return False
            if stream.type != "data":
                return (found[0].codec_context is None) == (stream.codec_context is None)
            return (codec_name(found[0]), codec_tag(found[0])) == (codec_name(stream), codec_tag(stream))
    except av.FFmpegError:
        return False
