"""Writes the output: the upscaled video stream, and copies of all other streams."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from subpixel.errors import EncoderError
from subpixel.video.media.containers import MKV, MOV, MP4, WEBM, Container
from subpixel.video.media.header import VideoTrack, add_all, muxer_options
from subpixel.video.media.source import Source, url
from subpixel.video.media.streams import codec_name
from subpixel.video.media.timeline import MAX_EARLY_SECONDS

if TYPE_CHECKING:
    from av import Packet

    from subpixel.video.media.encoded_frame import EncodedFrame

_MAX_DURATION_TICKS = (1 << 31) - 1
"""The longest duration of a packet that FFmpeg's muxers take."""

_NO_RANDOM_NUMBERS = {"fflags": "+bitexact"}
"""Matroska has random identifiers otherwise, so that no two runs would write the same bytes. The plus keeps
the other flags: without automatic filters, sound from transport streams cannot be written."""

_EMPTY_TEXT = bytes(2)
"""A packet of MP4's subtitles for a time without text."""


class Muxer:
    """Writes a container with FFmpeg.

    Packets of one stream must come in order of time; packets of different streams may come in any order.
    """

    def __init__(self, target: Path | None, container: Container, source: Source, track: VideoTrack) -> None:
        """Open ``target``, or stdout if it is None, and write the header.

        Raises `EncoderError` if the container does not support something; `refusals` finds out before.
        """
        import av

        self.refused_packets = 0
        """How many damaged packets of other streams could not be written."""
        options = container.pipe_options if target is None else container.options
        self._output = av.open(
            "pipe:1" if target is None else url(target),
            "w",
            format=container.muxer,
            container_options=dict(options) | muxer_options(track) | _NO_RANDOM_NUMBERS,
            metadata_errors="surrogateescape",
        )
        try:
            self._video, copies = add_all(
                self._output, container, source, track, source.others, to_pipe=target is None
            )
            # The header contains the attachments; they have no packets.
            self._copies = {
                index: copy
                for index, copy in copies.items()
                if copy is not None and copy.type != "attachment"
            }
            self._output.start_encoding()
            # The muxer writes an empty text between two others itself; copied ones would be too many.
            self._mov_texts = {
                stream.index
                for stream in source.others
                if container in (MP4, MOV) and codec_name(stream) == "mov_text"
            }
            self._repairs = {
                # Several packets of TrueHD have the same time, as Matroska has times in milliseconds.
                copy.index: source.timeline.timestamp_repair(
                    copy, Fraction(copy.time_base), strict=container not in (MKV, WEBM)
                )
                for copy in self._copies.values()
            }
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(
                f"{source.name}: {container.name} cannot be written ({getattr(error, 'strerror', error)})"
            ) from error
        self._time_base = track.encoder.time_base
        # MP4 adds up durations between decodings. The last one must reach to the end of the last frame shown.
        self._has_decode_durations = container in (MP4, MOV)
        self._first: EncodedFrame | None = None
        self._last: EncodedFrame | None = None
        self._end = 0

    def write(self, encoded: "EncodedFrame") -> None:
        """Write an encoded frame, once the next one is known."""
        if self._last is not None:
            self._mux(self._last)
        self._first, self._last = self._first or encoded, encoded
        self._end = max(self._end, encoded.pts + encoded.duration)

    def _mux(self, encoded: "EncodedFrame") -> None:
        import av

        packet = av.Packet(encoded.data)
        packet.pts, packet.dts, packet.duration = encoded.pts, encoded.dts, encoded.duration
        packet.is_keyframe = encoded.is_keyframe
        packet.time_base = self._time_base
        packet.stream = self._video
        self._output.mux_one(packet)

    def copy(self, packet: "Packet") -> None:
        """Write a packet of another stream of the input, if that stream is copied.

        Its times stay, unless damage has put it before a packet that is decoded earlier: no container takes
        that.
        """
        if (stream := self._copies.get(packet.stream_index)) is None or not packet.size:
            return
        if packet.stream_index in self._mov_texts and bytes(packet) == _EMPTY_TEXT:
            return
        import av
        from av.rational import AVRational

        packet.stream = stream
        packet.rescale_ts(AVRational(stream.time_base))
        if packet.pts is not None and packet.pts * Fraction(stream.time_base) < -MAX_EARLY_SECONDS:
            self.refused_packets += 1
            return
        repair = self._repairs[stream.index]
        last = repair.last
        if not 0 <= (packet.duration or 0) <= _MAX_DURATION_TICKS:
            packet.duration = 0  # Ogg's last packet may have such a duration
        repair.step = packet.duration or repair.step
        dts = packet.dts
        if dts is None and packet.pts is not None:
            # Matroska has presentation times only. A packet is decoded by then, and after the one before it.
            dts = packet.pts if last is None else min(packet.pts, last + 1)
        packet.dts = repair.repair(dts)
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        if self._has_decode_durations and not packet.duration and stream.type == "audio" and last is not None:
            packet.duration = packet.dts - last  # players do not play a last packet without duration
        try:
            self._output.mux_one(packet)
        except av.error.InvalidDataError:
            self.refused_packets += 1

    def close(self) -> None:
        """Write the last frame and the end of the file."""
        if self._first is not None and self._last is not None:
            if self._has_decode_durations:
                shown, decoded = self._end - self._first.pts, self._last.dts - self._first.dts
                self._last = replace(self._last, duration=max(1, shown - decoded))
            self._mux(self._last)
        self._output.close()
