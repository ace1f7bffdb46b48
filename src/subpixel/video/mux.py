"""The output file: the large picture, and everything else of the input as it was."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from subpixel.errors import EncoderError
from subpixel.video.codecs import Encoder
from subpixel.video.containers import CONTAINERS, MKV, MOV, MP4, WEBM, Y4M, Container
from subpixel.video.hdr import Hdr, carrier
from subpixel.video.source import EARLIEST_SECONDS, Source, is_attached_picture, url

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.stream import Stream

    from subpixel.video.encode import Encoded

_REWRITTEN = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that says how the input was written, not what it is."""

_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_", "encoder", "ENCODER", "vendor_id")
"""The beginnings of a video stream's metadata that hold for its old packets only."""

_FFMPEGS = tuple(container for container in CONTAINERS if container is not Y4M)
"""Those that FFmpeg's muxers write."""

_NO_TEXT = bytes(2)
"""A packet of MP4's subtitles for when nothing is shown."""


@dataclass(frozen=True)
class Track:
    """What the container says of the large picture."""

    encoder: Encoder
    extradata: bytes | None
    """What a decoder needs before the first packet."""
    hdr: Hdr
    matrix: Sequence[int] | None
    """How a player turns the picture; see `display_matrix`."""


class Muxer:
    """Writes a file of FFmpeg's. Packets may come in any order between streams, by time within each."""

    def __init__(self, target: Path | None, container: Container, source: Source, track: Track) -> None:
        """Open ``target``, or stdout where it is None, and write the header.

        Raises `EncoderError` where the container cannot hold something; `refusals` tells what before.
        """
        import av

        self.refused = 0
        """How many packets of other streams were too damaged to be written."""
        options = container.piped if target is None else container.options
        self._output = av.open(
            "pipe:1" if target is None else url(target),
            "w",
            format=container.muxer,
            container_options=dict(options),
            metadata_errors="surrogateescape",
        )
        try:
            self._output.metadata.update(
                {key: value for key, value in source.container.metadata.items() if key not in _REWRITTEN}
            )
            self._output.set_chapters(_chapters(source))
            self._video = _add_video(self._output, container, source, track)
            copies = {
                stream.index: _add_copy(self._output, container, source, stream) for stream in source.others
            }
            # What is attached was given whole to the header, and has no packets.
            self._copies = {
                index: copy
                for index, copy in copies.items()
                if copy is not None and copy.type != "attachment"
            }
            self._output.start_encoding()
            # Its muxer puts an empty text between two others; copied ones would come on top.
            self._gaps = {
                index
                for index, copy in self._copies.items()
                if container in (MP4, MOV) and copy.codec_context.name == "mov_text"
            }
            self._clocks = {
                copy.index: source.clock(copy, Fraction(copy.time_base)) for copy in self._copies.values()
            }
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(
                f"{container.name} cannot be written ({getattr(error, 'strerror', error)})"
            ) from error
        self._time_base = track.encoder.time_base
        # There a film lasts from the first decoding to the last, which must last for all that is shown.
        self._lasts_by_decoding = container in (MP4, MOV)
        self._first: Encoded | None = None
        self._last: Encoded | None = None
        self._end = 0

    def video(self, encoded: "Encoded") -> None:
        """Write one picture, once the next one is known."""
        if self._last is not None:
            self._put(self._last)
        self._first, self._last = self._first or encoded, encoded
        self._end = max(self._end, encoded.pts + encoded.duration)

    def _put(self, encoded: "Encoded") -> None:
        import av

        packet = av.Packet(encoded.data)
        packet.pts, packet.dts, packet.duration = encoded.pts, encoded.dts, encoded.duration
        packet.is_keyframe = encoded.key
        packet.time_base = self._time_base
        packet.stream = self._video
        self._output.mux_one(packet)

    def copy(self, packet: "Packet") -> None:
        """Write a packet of one of the input's other streams, if that is kept.

        Its times stay, unless damage has put it behind one that was to be decoded later: no container takes
        that.
        """
        if (stream := self._copies.get(packet.stream_index)) is None or not packet.size:
            return
        if packet.stream_index in self._gaps and bytes(packet) == _NO_TEXT:
            return
        import av
        from av.rational import AVRational

        packet.stream = stream
        packet.rescale_ts(AVRational(stream.time_base))
        if packet.pts is not None and packet.pts * Fraction(stream.time_base) < -EARLIEST_SECONDS:
            self.refused += 1
            return
        clock = self._clocks[stream.index]
        clock.step = packet.duration or clock.step
        dts = packet.dts
        if dts is None and packet.pts is not None:
            # Matroska tells only when a packet is shown. It is decoded by then, and behind the one before it.
            dts = packet.pts if clock.last is None else min(packet.pts, clock.last + 1)
        packet.dts = clock.mend(dts)
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        try:
            self._output.mux_one(packet)
        except av.error.InvalidDataError:
            self.refused += 1

    def close(self) -> None:
        """Write what belongs at the end."""
        if self._first is not None and self._last is not None:
            if self._lasts_by_decoding:
                shown, decoded = self._end - self._first.pts, self._last.dts - self._first.dts
                self._last = replace(self._last, duration=max(1, shown - decoded))
            self._put(self._last)
        self._output.close()


class Y4mWriter:
    """Writes raw frames as YUV4MPEG2, which holds nothing else. FFmpeg makes the header."""

    def __init__(self, target: BinaryIO, track: Track) -> None:
        """Write the header to ``target``."""
        self.off_seconds = 0.0
        """By how much the times that the one frame rate gives differ from the frames' own at most."""
        self._target = target
        self._time_base, self._rate = track.encoder.time_base, track.encoder.rate
        self._first_pts: int | None = None
        self._frames = 0
        target.write(_y4m_header(track.encoder))

    def video(self, encoded: "Encoded") -> None:
        """Write one frame."""
        if self._first_pts is None:
            self._first_pts = encoded.pts
        time = (encoded.pts - self._first_pts) * self._time_base
        self.off_seconds = max(self.off_seconds, float(abs(time - self._frames / self._rate)))
        self._frames += 1
        self._target.write(b"FRAME\n")
        self._target.write(encoded.data)

    def copy(self, packet: "Packet") -> None:
        """Leave a packet out."""

    def close(self) -> None:
        """Write what is still in memory."""
        self._target.flush()


def _y4m_header(encoder: Encoder) -> bytes:
    import av

    sink = io.BytesIO()
    # FFmpeg writes deep samples and grey only to those who know that it is an extension.
    with av.open(sink, "w", format=Y4M.muxer, container_options={"strict": "-1"}) as output:
        stream = output.add_stream("wrapped_avframe", encoder.rate)
        stream.width, stream.height, stream.pix_fmt = encoder.width, encoder.height, encoder.format
        stream.codec_context.color_range = encoder.colour[3]
        if encoder.aspect:
            stream.codec_context.sample_aspect_ratio = encoder.aspect
        stream.codec_context.options = dict(encoder.options)
        frame = av.VideoFrame(encoder.width, encoder.height, encoder.format)
        frame.pts = 0
        try:
            output.mux(stream.encode(frame))
        except av.FFmpegError as error:
            raise EncoderError(f"YUV4MPEG2 does not hold {encoder.format}; write Matroska instead") from error
    return sink.getvalue().split(b"\n", 1)[0] + b"\n"


@dataclass(frozen=True)
class Refusal:
    """A stream that a container does not hold."""

    stream: "Stream"
    what: str
    """For people."""
    holders: tuple[Container, ...]
    """The containers that would hold it."""


def refusals(container: Container, source: Source, *, to_pipe: bool = False) -> list[Refusal]:
    """The streams of the input that the container cannot hold, found by trying each in memory."""

    def holds(container: Container, stream: "Stream") -> bool:
        # FFmpeg's muxer of MP4 goes back for what it learns of such sound.
        return _holds(container, source, stream) and not (
            to_pipe and container in (MP4, MOV) and _is_broadcast_aac(stream)
        )

    return [
        Refusal(stream, describe(stream), tuple(other for other in _FFMPEGS if holds(other, stream)))
        for stream in source.others
        if not _is_remade(source, stream) and not holds(container, stream)
    ]


def check_picture(container: Container, source: Source, track: Track) -> None:
    """Raise `EncoderError` where a container cannot hold the picture, with those that can."""
    if container is Y4M:
        _y4m_header(track.encoder)
    elif not _holds_picture(container, source, track):
        holders = [other for other in _FFMPEGS if _holds_picture(other, source, track)]
        extensions = " or ".join(holder.extensions[0] for holder in holders)
        cure = f"; write {extensions}" if extensions else "; choose another codec"
        raise EncoderError(f"{container.name} does not hold what {track.encoder.codec.name} writes{cure}")


def _holds_picture(container: Container, source: Source, track: Track) -> bool:
    return _takes(container, lambda output: _add_video(output, container, source, track))


def describe(stream: "Stream") -> str:
    """A stream in words for people."""
    kind = "cover" if is_attached_picture(stream) else {"subtitle": "subtitles"}.get(stream.type, stream.type)
    codec = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    return f"stream {stream.index} ({kind}{f', {codec}' if codec else ''})"


def _holds(container: Container, source: Source, stream: "Stream") -> bool:
    if is_attached_picture(stream) and container in (WEBM, MOV):
        return False
    return _takes(container, lambda output: _add_copy(output, container, source, stream))


def _takes(container: Container, add: "Callable[[OutputContainer], object]") -> bool:
    """Whether FFmpeg writes the header of a container with what ``add`` puts into it; tried in memory."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=container.muxer, metadata_errors="surrogateescape") as output:
            add(output)
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _is_remade(source: Source, stream: "Stream") -> bool:
    """Whether a stream comes into being again without being copied: timecode, and QuickTime's chapter
    titles.
    """
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (
        getattr(stream, "name", None) == "bin_data" and bool(source.container.chapters())
    )


def _add_video(output: "OutputContainer", container: Container, source: Source, track: Track) -> Any:
    encoder = track.encoder
    siting = encoder.options.get("chroma_sample_location")
    template = carrier(encoder.codec.matroska_id, track.hdr, siting)
    stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoder.width, encoder.height, encoder.format
    context.framerate = encoder.rate
    if encoder.aspect:
        context.sample_aspect_ratio = encoder.aspect
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = encoder.colour
    context.extradata = track.extradata
    if encoder.codec.matroska_id == "V_MPEGH/ISO/HEVC" and container in (MP4, MOV):
        context.codec_tag = "hvc1"  # the one of two names that Apple's players know
    stream.time_base = encoder.time_base
    stream.set_display_matrix(track.matrix)
    stream.disposition = source.stream.disposition
    stream.metadata.update(
        {key: value for key, value in source.stream.metadata.items() if not key.startswith(_STATISTICS)}
    )
    return stream


def _add_copy(output: "OutputContainer", container: Container, source: Source, stream: "Stream") -> Any:
    """Add a stream that is copied; None where its packets are not wanted."""
    if _is_remade(source, stream):
        return None
    if is_attached_picture(stream) and container is MKV:
        # Matroska keeps covers as attachments.
        codec = stream.codec_context.name if stream.codec_context is not None else "jpeg"
        kind = {"mjpeg": "jpeg"}.get(codec, codec)
        name = stream.metadata.get("filename") or f"cover.{'jpg' if kind == 'jpeg' else kind}"
        mime = stream.metadata.get("mimetype") or f"image/{kind}"
        copy: Any = output.add_attachment(name, mime, source.pictures.get(stream.index, b""))
        copy.metadata.update(stream.metadata)
        copy.metadata.update(filename=name, mimetype=mime)
        return copy
    copy = output.add_stream_from_template(stream, opaque=True)
    if container is MKV and _is_broadcast_aac(stream):
        copy.codec_context.extradata = _aac_config(source.first_packet(stream))
    copy.disposition = stream.disposition
    copy.metadata.update(stream.metadata)
    return copy


def _is_broadcast_aac(stream: "Stream") -> bool:
    """Whether each packet says by itself what kind of AAC it is, and nothing does so before."""
    context = stream.codec_context
    return context is not None and context.name == "aac" and not getattr(context, "extradata", None)


def _aac_config(packet: bytes | None) -> bytes | None:
    """What a file's header says of AAC (AudioSpecificConfig), by the header of one of its ADTS packets.

    Both are defined in ISO/IEC 14496-3: profile, index of the sampling rate, and channels. None where there
    is no such header, or it leaves the channels to what follows.
    """
    if packet is None or len(packet) < 4 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return None
    kind, rate = (packet[2] >> 6) + 1, packet[2] >> 2 & 15
    channels = (packet[2] & 1) << 2 | packet[3] >> 6
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2) if channels else None


def _chapters(source: Source) -> Any:
    chapters = source.container.chapters()
    if not source.shift and not source.cut:
        return chapters
    kept = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"] or 1)
        start, end = (chapter[edge] * base - source.shift for edge in ("start", "end"))
        last = None if source.cut.end is None else source.cut.end - source.cut.start
        if end <= 0 or (last is not None and start >= last):
            continue
        edges = {"start": max(start, Fraction(0)), "end": end if last is None else min(end, last)}
        kept.append({**chapter, **{edge: round(time / base) for edge, time in edges.items()}})
    return kept
