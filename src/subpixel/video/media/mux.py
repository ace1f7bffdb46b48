"""The output file: the large picture, and everything else of the input as it was."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from subpixel.errors import EncoderError
from subpixel.video.media.codecs import Encoder
from subpixel.video.media.containers import MKV, MOV, MP4, WEBM, Y4M, Container
from subpixel.video.media.hdr import Hdr, carrier
from subpixel.video.media.source import EARLIEST_SECONDS, Source, is_attached_picture, url

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer
    from av.stream import Stream

    from subpixel.video.pipeline.encode import Encoded

REWRITTEN = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that says how the input was written, not what it is."""

STATISTICS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
"""The beginnings of what Matroska counts about a stream."""

OF_THE_OLD = (*STATISTICS, "encoder", "ENCODER", "vendor_id", "alpha_mode")
"""The beginnings of a video stream's metadata that hold for its old packets only."""

_LONGEST_DURATION = (1 << 31) - 1
"""Of a packet, in ticks; FFmpeg's muxers refuse longer ones."""

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
    immersive: bytes
    """How it is spread on a sphere and seen by two eyes; see `immersive`."""
    sample: bytes
    """A picture as the encoder writes it, gray, for trials."""


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
            container_options=dict(options) | strictness(track),
            metadata_errors="surrogateescape",
        )
        try:
            self._video, copies = add_all(
                self._output, container, source, track, source.others, to_pipe=target is None
            )
            # What is attached was given whole to the header, and has no packets.
            self._copies = {
                index: copy
                for index, copy in copies.items()
                if copy is not None and copy.type != "attachment"
            }
            self._output.start_encoding()
            # Its muxer puts an empty text between two others; copied ones would come on top.
            self._gaps = {
                stream.index
                for stream in source.others
                if container in (MP4, MOV) and codec_name(stream) == "mov_text"
            }
            self._clocks = {
                # Several packets of TrueHD lie within one millisecond, which is all that Matroska tells.
                copy.index: source.clock(copy, Fraction(copy.time_base), strict=container not in (MKV, WEBM))
                for copy in self._copies.values()
            }
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(
                f"{source.name}: {container.name} cannot be written ({getattr(error, 'strerror', error)})"
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
        clock, last = self._clocks[stream.index], self._clocks[stream.index].last
        if not 0 <= (packet.duration or 0) <= _LONGEST_DURATION:
            packet.duration = 0  # the last one of Ogg
        clock.step = packet.duration or clock.step
        dts = packet.dts
        if dts is None and packet.pts is not None:
            # Matroska tells only when a packet is shown. It is decoded by then, and behind the one before it.
            dts = packet.pts if clock.last is None else min(packet.pts, clock.last + 1)
        packet.dts = clock.mend(dts)
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        if self._lasts_by_decoding and not packet.duration and stream.type == "audio" and last is not None:
            packet.duration = packet.dts - last  # or a player would not play the last one
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
        target.write(y4m_header(track.encoder))

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


def y4m_header(encoder: Encoder) -> bytes:
    """The first line of a file; `EncoderError` where it cannot say what the pixel format is."""
    import av

    sink = io.BytesIO()
    # FFmpeg writes deep samples and gray only to those who know that it is an extension.
    with av.open(sink, "w", format=Y4M.muxer, container_options={"strict": "-1"}) as output:
        stream = output.add_stream("wrapped_avframe", encoder.rate)
        stream.width, stream.height, stream.pix_fmt = encoder.width, encoder.height, encoder.format
        stream.codec_context.color_range = encoder.color[3]
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


def codec_name(stream: "Stream") -> str | None:
    """FFmpeg's name of what a stream is in; None where it knows none."""
    context = stream.codec_context
    name: str | None = context.name if context is not None else getattr(stream, "name", None)
    return name


def printable(text: str) -> str:
    """What a file calls something, as it can be shown: other bytes than text are escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def tags(stream: "Stream") -> dict[str, str]:
    """The metadata of a stream. What all call "title" FFmpeg reads from MP4 as "name"."""
    found = dict(stream.metadata)
    if "mp4" in stream.container.format.name and "title" not in found and "name" in found:
        found["title"] = found.pop("name")
    return found


def describe(stream: "Stream") -> str:
    """A stream in words for people."""
    kind = "cover" if is_attached_picture(stream) else {"subtitle": "subtitles"}.get(stream.type, stream.type)
    name = codec_name(stream)
    # FFmpeg has one name for much of what is data.
    codec = printable((tag(stream) if name in (None, "bin_data") else "") or name or "")
    return f"stream {stream.index} ({kind}{f', {codec}' if codec else ''})"


def tag(stream: "Stream") -> str:
    """The code by which its container names what a stream is in; empty where that has none in letters."""
    try:
        letters: str = _parameters(stream).codec_context.codec_tag.rstrip("\0")
    except UnicodeDecodeError:  # such as MPEG's types of streams, which are numbers
        return ""
    return letters if letters.isprintable() else ""


def is_remade(source: Source, stream: "Stream") -> bool:
    """Whether a stream comes into being again without being copied: timecode, and QuickTime's chapter
    titles.
    """
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (
        getattr(stream, "name", None) == "bin_data" and bool(source.container.chapters())
    )


def strictness(track: Track) -> dict[str, str]:
    """What a muxer of FFmpeg's is told so that it writes how a picture lies on a sphere into MP4."""
    return {"strict": "unofficial"} if track.immersive else {}


def add_all(
    output: "OutputContainer",
    container: Container,
    source: Source,
    track: Track,
    others: Iterable["Stream"],
    *,
    to_pipe: bool,
) -> tuple[Any, dict[int, Any]]:
    """Give an output all that its header holds; of the other streams of the input those that are given.

    Returns:
        The picture's stream, and those of ``others`` by their index in the input, None for what is not to be
        written.
    """
    output.metadata.update(
        {key: value for key, value in source.container.metadata.items() if key not in REWRITTEN}
    )
    output.set_chapters(chapters(source))
    video = add_video(output, container, source, track)
    return video, {
        stream.index: add_copy(output, container, source, stream, to_pipe=to_pipe) for stream in others
    }


def add_video(output: "OutputContainer", container: Container, source: Source, track: Track) -> Any:
    """Add the large picture."""
    encoder = track.encoder
    siting = encoder.options.get("chroma_sample_location")
    template = carrier(encoder.codec.matroska_id, track.hdr, track.immersive, siting)
    stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoder.width, encoder.height, encoder.format
    context.framerate = encoder.rate
    if encoder.aspect:
        context.sample_aspect_ratio = encoder.aspect
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = encoder.color
    context.extradata = track.extradata
    if encoder.codec.matroska_id == "V_MPEGH/ISO/HEVC" and container in (MP4, MOV):
        context.codec_tag = "hvc1"  # the one of two names that Apple's players know
    stream.time_base = encoder.time_base
    stream.set_display_matrix(track.matrix)
    stream.disposition = source.stream.disposition
    stream.metadata.update(
        {key: value for key, value in tags(source.stream).items() if not key.startswith(OF_THE_OLD)}
    )
    return stream


def add_copy(
    output: "OutputContainer", container: Container, source: Source, stream: "Stream", *, to_pipe: bool
) -> Any:
    """Add a stream that is copied; None where its packets are not wanted."""
    if is_remade(source, stream):
        return None
    if is_attached_picture(stream) and container is MKV:
        # Matroska keeps covers as attachments.
        codec = stream.codec_context.name if stream.codec_context is not None else "jpeg"
        kind = {"mjpeg": "jpeg"}.get(codec, codec)
        name = stream.metadata.get("filename") or f"cover.{'jpg' if kind == 'jpeg' else kind}"
        mime = stream.metadata.get("mimetype") or f"image/{kind}"
        copy: Any = output.add_attachment(name, mime, source.pictures.get(stream.index, b""))
        copy.metadata.update(tags(stream))
        copy.metadata.update(filename=name, mimetype=mime)
        return copy
    try:
        copy = output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        # PyAV knows neither what Matroska takes over from AVI nor what FFmpeg does not decode.
        known = stream.codec_context is not None
        if stream.type not in ("video", "audio", "subtitle") or (known and container is not MKV):
            raise
        copy = _add_unasked(output, stream)
    if to_pipe and container is MKV and is_broadcast_aac(stream):
        # Where it can go back, FFmpeg's muxer does so, but only leaves room for it where there is none.
        copy.codec_context.extradata = _aac_config(source.first_packet(stream))
    copy.disposition = stream.disposition
    copy.metadata.update(tags(stream))
    return copy


def _add_unasked(output: "OutputContainer", stream: "Stream") -> Any:
    """Add a stream that is copied, about which nobody is asked but the muxer, once it writes the header."""
    from av.bitstream import BitStreamFilterContext

    copy: Any
    if stream.type == "video":
        copy = output.add_mux_stream("av1", stream.average_rate)  # all but the rate is overwritten
    else:
        copy = output.add_data_stream()
    parameters = _parameters(stream)
    parameters.codec_context.codec_tag = "\0\0\0\0"  # each container has its own codes
    parameters.container.start_encoding()  # which brings the change from the codec's context to the stream
    BitStreamFilterContext("null", parameters, copy)
    copy.time_base = stream.time_base
    return copy


def _parameters(stream: "Stream") -> Any:
    """All that FFmpeg knows of what a stream is in, as a stream of a container that writes nothing.

    It has a codec's context, also where FFmpeg has no codec.
    """
    import av
    from av.bitstream import BitStreamFilterContext

    nowhere, any_codec = (av.open("nowhere", "w", format="null") for _ in range(2))
    parameters = nowhere.add_stream_from_template(any_codec.add_stream("pcm_s16le"), opaque=True)
    BitStreamFilterContext("null", stream, parameters)
    return parameters


def is_broadcast_aac(stream: "Stream") -> bool:
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


def chapters(source: Source) -> Any:
    """The chapters of the output: the input's, as far as they lie in the part that is wanted."""
    found = source.container.chapters()
    if not source.shift and not source.time_range:
        return found
    kept = []
    for chapter in found:
        base = Fraction(chapter["time_base"] or 1)
        start, end = (chapter[edge] * base - source.shift for edge in ("start", "end"))
        last = None if source.time_range.end is None else source.time_range.end - source.time_range.start
        if end <= 0 or (last is not None and start >= last):
            continue
        edges = {"start": max(start, Fraction(0)), "end": end if last is None else min(end, last)}
        kept.append({**chapter, **{edge: round(time / base) for edge, time in edges.items()}})
    return kept
