"""Fills the header of the output: metadata, chapters, the video stream, and all copied streams."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from subpixel.video.media.codecs import Encoder
from subpixel.video.media.containers import MKV, MOV, MP4, Container
from subpixel.video.media.hdr import Hdr, matroska_template
from subpixel.video.media.source import Source
from subpixel.video.media.streams import codec_parameters, is_adts_aac, is_attached_picture, is_rebuilt, tags

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream

MUXER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Tags of a file that say how it was written, and are not copied."""

STATISTICS_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
"""Prefixes of tags that Matroska computes from the packets of a stream."""

ENCODER_TAGS = (*STATISTICS_TAGS, "encoder", "ENCODER", "vendor_id", "alpha_mode")
"""Prefixes of a video stream's tags that are true for its old packets only."""


@dataclass(frozen=True)
class VideoTrack:
    """What the header says of the upscaled video stream."""

    encoder: Encoder
    extradata: bytes | None
    """What a decoder needs before the first packet."""
    hdr: Hdr
    matrix: Sequence[int] | None
    """How a player rotates or mirrors the frames; see `display_matrix`."""
    immersive: bytes
    """The spherical projection and the stereo mode; see `immersive_elements`."""
    sample: bytes
    """An encoded gray frame for trials; empty if there is none."""


def muxer_options(track: VideoTrack) -> dict[str, str]:
    """FFmpeg's option for a spherical projection in MP4; empty if there is none."""
    return {"strict": "unofficial"} if track.immersive else {}


def add_all(
    output: "OutputContainer",
    container: Container,
    source: Source,
    track: VideoTrack,
    others: Iterable["Stream"],
    *,
    to_pipe: bool,
) -> tuple[Any, dict[int, Any]]:
    """Add metadata, chapters and all streams to an output.

    Args:
        output: the output, before its header is written.
        container: its format.
        source: the input.
        track: the video track.
        others: the streams of the input to copy.
        to_pipe: whether the muxer cannot seek.

    Returns:
        The video stream of the output, and its copies of ``others`` by their index in the input, None for
        those that the muxer makes itself.
    """
    output.metadata.update(
        {key: value for key, value in source.container.metadata.items() if key not in MUXER_TAGS}
    )
    output.set_chapters(trimmed_chapters(source))
    video = add_video(output, container, source, track)
    return video, {
        stream.index: add_copy(output, container, source, stream, to_pipe=to_pipe) for stream in others
    }


def add_video(output: "OutputContainer", container: Container, source: Source, track: VideoTrack) -> Any:
    """Add the video stream to an output."""
    encoder = track.encoder
    siting = encoder.options.get("chroma_sample_location")
    template = matroska_template(encoder.codec.matroska_id, track.hdr, track.immersive, siting)
    stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = encoder.width, encoder.height, encoder.format
    context.framerate = encoder.rate
    if encoder.aspect:
        context.sample_aspect_ratio = encoder.aspect
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = encoder.color
    context.extradata = track.extradata
    if encoder.codec.matroska_id == "V_MPEGH/ISO/HEVC" and container in (MP4, MOV):
        context.codec_tag = "hvc1"  # Apple's players know this one of the two names only
    stream.time_base = encoder.time_base
    stream.set_display_matrix(track.matrix)
    stream.disposition = source.stream.disposition
    stream.metadata.update(
        {key: value for key, value in tags(source.stream).items() if not key.startswith(ENCODER_TAGS)}
    )
    return stream


def add_copy(
    output: "OutputContainer", container: Container, source: Source, stream: "Stream", *, to_pipe: bool
) -> Any:
    """Add a stream of the input to an output; return None if the muxer makes it itself.

    Raises ValueError if PyAV or the muxer does not know the stream's codec.
    """
    if is_rebuilt(stream):
        return None
    if is_attached_picture(stream) and container is MKV:
        return _add_cover(output, source, stream)
    try:
        copy = output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        # PyAV knows neither Matroska's streams from AVI nor codecs that FFmpeg does not decode.
        known = stream.codec_context is not None
        if stream.type not in ("video", "audio", "subtitle") or (known and container is not MKV):
            raise
        copy = _add_unchecked(output, stream)
    if to_pipe and container is MKV and is_adts_aac(stream):
        # FFmpeg's muxer reserves room for the configuration, and seeks back to write it; a pipe needs it now.
        copy.codec_context.extradata = _aac_config(source.first_packet(stream))
    copy.disposition = stream.disposition
    copy.metadata.update(tags(stream))
    return copy


def _add_cover(output: "OutputContainer", source: Source, stream: "Stream") -> Any:
    """Add a cover as an attachment, as Matroska stores it."""
    codec = stream.codec_context.name if stream.codec_context is not None else "jpeg"
    format = {"mjpeg": "jpeg"}.get(codec, codec)
    name = stream.metadata.get("filename") or f"cover.{'jpg' if format == 'jpeg' else format}"
    mime = stream.metadata.get("mimetype") or f"image/{format}"
    copy: Any = output.add_attachment(name, mime, source.covers.get(stream.index, b""))
    copy.metadata.update(tags(stream))
    copy.metadata.update(filename=name, mimetype=mime)
    return copy


def _add_unchecked(output: "OutputContainer", stream: "Stream") -> Any:
    """Add a copied stream without PyAV's check of its codec; only the muxer checks it with the header."""
    from av.bitstream import BitStreamFilterContext

    copy: Any
    if stream.type == "video":
        copy = output.add_mux_stream("av1", stream.average_rate)  # all but the rate is overwritten
    else:
        copy = output.add_data_stream()
    parameters = codec_parameters(stream)
    parameters.codec_context.codec_tag = "\0\0\0\0"  # each container has its own codes
    parameters.container.start_encoding()  # copies the change from the codec context to the stream
    BitStreamFilterContext("null", parameters, copy)
    copy.time_base = stream.time_base
    return copy


def _aac_config(packet: bytes | None) -> bytes | None:
    """AAC's AudioSpecificConfig from the header of an ADTS packet (both in ISO/IEC 14496-3).

    It contains the profile, the index of the sampling rate and the channels. None if there is no ADTS header,
    or it does not say the channels.
    """
    if packet is None or len(packet) < 4 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return None
    profile, rate = (packet[2] >> 6) + 1, packet[2] >> 2 & 15
    channels = (packet[2] & 1) << 2 | packet[3] >> 6
    return (profile << 11 | rate << 7 | channels << 3).to_bytes(2) if channels else None


def trimmed_chapters(source: Source) -> Any:
    """The chapters of the output: those of the input in the time range, at their times in the output."""
    chapters = source.container.chapters()
    shift, time_range = source.timeline.shift, source.timeline.time_range
    if not shift and not time_range:
        return chapters
    kept = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"] or 1)
        start, end = (chapter[edge] * base - shift for edge in ("start", "end"))
        last = None if time_range.end is None else time_range.end - time_range.start
        if end <= 0 or (last is not None and start >= last):
            continue
        edges = {"start": max(start, Fraction(0)), "end": end if last is None else min(end, last)}
        kept.append({**chapter, **{edge: round(time / base) for edge, time in edges.items()}})
    return kept
