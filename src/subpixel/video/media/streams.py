"""Questions about one stream of a container: its type, its codec, its metadata, its name in messages."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet
    from av.container import Container
    from av.stream import Stream

_BZLIB_SIGNATURE = re.compile(rb"BZh[1-9]1AY&SY")
"""The first bytes of data that bzlib has compressed."""


def is_mp4(container: "Container") -> bool:
    """Whether a container is MP4 or QuickTime, for which FFmpeg has one demuxer."""
    return "mp4" in container.format.name


def is_attached_picture(stream: "Stream") -> bool:
    """Whether a stream is a single image, such as a cover, and not a video."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def is_attached(stream: "Stream") -> bool:
    """Whether a stream is an attachment or a cover, and so has no times."""
    return stream.type == "attachment" or is_attached_picture(stream)


def is_rebuilt(stream: "Stream") -> bool:
    """Whether the muxer writes a stream anew, so that it is not copied: timecodes, and QuickTime's chapter
    titles.
    """
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (
        getattr(stream, "name", None) == "bin_data" and bool(stream.container.chapters())
    )


def is_adts_aac(stream: "Stream") -> bool:
    """Whether a stream is AAC whose configuration is in the header of each packet, as in broadcasts."""
    context = stream.codec_context
    return context is not None and context.name == "aac" and not getattr(context, "extradata", None)


def why_unreadable(packet: "Packet", container: "Container") -> str:
    """Why a copy of a packet's stream could not be read, with the cure; empty if it could be.

    Args:
        packet: one of the stream.
        container: the packet's container.
    """
    if packet.has_sidedata("encryption_info"):
        return "is encrypted; decrypt it first"
    if "matroska" in container.format.name and _BZLIB_SIGNATURE.match(bytes(packet)):
        return (
            "is compressed by bzlib, which this FFmpeg does not undo; "
            "rewrite the file by mkvmerge with --compression -1:none"
        )
    return ""


def codec_name(stream: "Stream") -> str | None:
    """FFmpeg's name of a stream's codec; None if it has none."""
    context = stream.codec_context
    name: str | None = context.name if context is not None else getattr(stream, "name", None)
    return name


def codec_tag(stream: "Stream") -> str:
    """The code (FourCC) by which the container names a stream's codec; empty if it is not letters."""
    try:
        letters: str = codec_parameters(stream).codec_context.codec_tag.rstrip("\0")
    except UnicodeDecodeError:  # such as the stream types of MPEG, which are numbers
        return ""
    return letters if letters.isprintable() else ""


def codec_parameters(stream: "Stream") -> Any:
    """A stream of a null container with all codec parameters of ``stream``.

    It has a codec context even if FFmpeg has no such codec.
    """
    import av
    from av.bitstream import BitStreamFilterContext

    null, any_codec = (av.open("nowhere", "w", format="null") for _ in range(2))
    parameters = null.add_stream_from_template(any_codec.add_stream("pcm_s16le"), opaque=True)
    BitStreamFilterContext("null", stream, parameters)
    return parameters


def tags(stream: "Stream") -> dict[str, str]:
    """The metadata of a stream. FFmpeg reads the title of MP4 as "name"; here it is "title"."""
    found = dict(stream.metadata)
    if is_mp4(stream.container) and "title" not in found and "name" in found:
        found["title"] = found.pop("name")
    return found


def printable(text: str) -> str:
    """Text of a file, as it can be printed: characters that cannot be are escaped."""
    return text if text.isprintable() else repr(text)[1:-1]


def describe(stream: "Stream") -> str:
    """A stream's name in messages, such as "stream 2 (audio, aac)"."""
    kind = "cover" if is_attached_picture(stream) else {"subtitle": "subtitles"}.get(stream.type, stream.type)
    name = codec_name(stream)
    # FFmpeg calls many kinds of data "bin_data"; the container's code says more.
    codec = printable((codec_tag(stream) if name in (None, "bin_data") else "") or name or "")
    return f"stream {stream.index} ({kind}{f', {codec}' if codec else ''})"
