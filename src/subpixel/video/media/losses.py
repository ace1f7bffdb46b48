"""Finds what an output loses of its input, by a comparison of the input with a trial of the output."""

import contextlib
import io
import struct
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subpixel.video.media.containers import Container
from subpixel.video.media.hdr import describe_unknown, display_matrix, frame_side_data
from subpixel.video.media.header import (
    ENCODER_TAGS,
    MUXER_TAGS,
    STATISTICS_TAGS,
    VideoTrack,
    trimmed_chapters,
)
from subpixel.video.media.pixel_formats import color_tags
from subpixel.video.media.source import Source
from subpixel.video.media.streams import describe, is_attached, printable, tags

if TYPE_CHECKING:
    from av import VideoFrame
    from av.stream import Stream

_UNIMPORTANT_TAGS = ("handler_name", "vendor_id", "encoder", "filename", "mimetype")
"""Tags of streams that say how they were written, or that a container makes itself."""

_UNIMPORTANT_FILE_TAGS = (*MUXER_TAGS, "software")
"""Tags of files that say which program wrote them. In AVI it is "software"."""

_REPORTED = {
    "A53_CC": "closed captions",
    "AFD": "the active format (AFD)",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
    "CONTENT_LIGHT_LEVEL": "the content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "GOP_TIMECODE": "timecodes in the frames",
    "ICC_PROFILE": "the ICC profile",
    "MASTERING_DISPLAY_METADATA": "the mastering display",
    "PANSCAN": "pan and scan",
    "S12M_TIMECODE": "timecodes in the frames",
    "SPHERICAL": "the spherical mapping",
    "STEREO3D": "the stereoscopic arrangement",
}
"""Side data that players use, by FFmpeg's name.

Other side data says how frames were encoded, or its loss is reported elsewhere.
"""

_KEPT_IN_PART = ("SPHERICAL", "STEREO3D")
"""Side data of which a container may keep a part."""

_ENCODERS_THAT_KEEP = {"A53_CC": ("libx264", "libx265", "h264_nvenc", "hevc_nvenc")}
"""The encoders that write side data of frames into the bitstream."""

_VIDEO_STREAM = "the video stream"

_EMPTY_TAGS = {("language", "und"), ("creation_time", "1970-01-01T00:00:00.000000Z")}
"""Tags whose value says nothing."""

_UNSPECIFIED_COLOR = (2, 2, 2)
_COLOR = ("primaries", "transfer", "matrix", "range")
_DEFAULT_COLOR = ({0, 2}, {0, 2}, {2}, {0, 1})
"""The numbers that mean unspecified, or the usual value, for each of `_COLOR`."""

_GOP_TIME_MASK = 0b11111_111111_0_111111_111111
"""The bits of hours, minutes, seconds and frames in a timecode of MPEG-2."""

_MATRIX_TOLERANCE = 1 / 1000
"""Matrices that differ by less are taken for equal: Matroska stores an angle instead of a matrix."""


def find_losses(
    written: io.BytesIO, container: Container, source: Source, track: VideoTrack, streams: Sequence["Stream"]
) -> list[str]:
    """Compare an input with a trial of its output.

    Args:
        written: the output with one packet of each stream.
        container: its format.
        source: the input.
        track: the video track of the output.
        streams: the other streams of the input that ``written`` has, in its order.

    Returns:
        A warning for each loss.
    """
    import av

    frame = None
    with av.open(written, "r", metadata_errors="surrogateescape") as file:
        lost = [*_file_losses(source, file.metadata, file.chapters())]
        video, *rest = sorted(file.streams, key=is_attached)
        pairs: list[tuple[str, Stream, Stream]] = [(_VIDEO_STREAM, source.stream, video)]
        for attached in (False, True):
            old = [stream for stream in streams if is_attached(stream) == attached]
            new = [stream for stream in rest if is_attached(stream) == attached]
            # Streams that the muxer makes itself, such as chapter titles, come last, and have no pair.
            pairs += [(describe(a), a, b) for a, b in zip(old, new, strict=False)]
        lost += _stream_losses(pairs, file.metadata, _changed_video_tags(source))
        with contextlib.suppress(av.FFmpegError):
            frame = next(file.decode(video=0), None) if track.sample else None
    if frame is not None:
        lost += _side_data_losses(
            source.first_frame, _side_data(frame), frame.width // source.first_frame.width
        )
        lost += _color_losses(track, frame)
        if not _are_close(track.matrix, display_matrix(frame)):
            lost.append("all of the matrix with which players rotate and scale it")
    return [f"{container.name} does not keep {what}" for what in lost]


def losses_without_metadata(container: Container, source: Source, track: VideoTrack) -> list[str]:
    """As `find_losses`, for an input with only a video stream, in a container without metadata."""
    lost = [*_file_losses(source, {}, ())]
    if missing := _lost_keys(tags(source.stream), {}, _changed_video_tags(source)):
        lost.append(f"the {_tag_list(missing)} of {_VIDEO_STREAM}")
    lost += [*_side_data_losses(source.first_frame, {}, 1), *_color_losses(track, None)]
    return [f"{container.name} does not keep {what}" for what in lost]


def losses_in_later_frames(names: Collection[str], codec: str) -> list[str]:
    """What an encoder loses of side data that the first frame, and so the trial, does not have.

    Args:
        names: FFmpeg's names of types of side data that later frames have.
        codec: the encoder.

    Returns:
        A warning for each loss.
    """
    lost = {
        _REPORTED[name]
        for name in names
        if name in _REPORTED and codec not in _ENCODERS_THAT_KEEP.get(name, ())
    }
    lost.update(describe_unknown(names))
    return [f"{codec} does not keep {what} of later frames" for what in sorted(lost)]


def _file_losses(source: Source, metadata: Mapping[str, str], found: Sequence[Any]) -> Iterator[str]:
    """What an output with ``metadata`` and the chapters ``found`` loses of those of the file."""
    if lost := _lost_keys(source.container.metadata, metadata, _UNIMPORTANT_FILE_TAGS):
        yield f"the file's {_tag_list(lost)}"
    wanted = trimmed_chapters(source)
    if len(found) < len(wanted):
        yield f"{len(wanted) - len(found)} of {len(wanted)} chapters"
        return
    pairs = zip(wanted, found, strict=False)
    if lost := sorted(
        {tag for old, new in pairs for tag in _lost_keys(old["metadata"], new["metadata"], ())}
    ):
        yield f"the chapters' {_tag_list(lost)}"


def _changed_video_tags(source: Source) -> tuple[str, ...]:
    """Prefixes of the video stream's tags that are not true any more, or are side data, too."""
    stereo = ("stereo_mode",) if "STEREO3D" in _side_data(source.first_frame) else ()
    return (*ENCODER_TAGS, *_UNIMPORTANT_TAGS, *stereo)


def _stream_losses(
    pairs: Sequence[tuple[str, "Stream", "Stream"]],
    file_tags: Mapping[str, str],
    changed_video_tags: Sequence[str],
) -> Iterator[str]:
    """What streams lose of their tags and dispositions.

    Args:
        pairs: for each stream its name in messages, itself, and its copy in the output.
        file_tags: the metadata of the output's file, in which a tag of a stream may be kept.
        changed_video_tags: prefixes of the video stream's tags that do not count.
    """
    lost: dict[str, list[str]] = {}
    for name, old, new in pairs:
        ignored = changed_video_tags if name == _VIDEO_STREAM else (*STATISTICS_TAGS, *_UNIMPORTANT_TAGS)
        if missing := _lost_keys(tags(old), {**file_tags, **tags(new)}, ignored):
            lost.setdefault(f"the {_tag_list(missing)} of", []).append(name)
        if flags := old.disposition & ~new.disposition:
            flag_names = ", ".join((flag.name or "").replace("_", " ") for flag in flags)
            lost.setdefault(f"the flag {flag_names!r} of", []).append(name)
    for what, names in lost.items():
        yield f"{what} {', '.join(names)}"


def _tag_list(names: Sequence[str]) -> str:
    return f"tag{'s' if len(names) > 1 else ''} {', '.join(map(printable, names))}"


def _lost_keys(old: Mapping[str, str], new: Mapping[str, str], ignored: Sequence[str]) -> list[str]:
    """The keys of ``old`` whose value is not in ``new``, except those that begin with one of ``ignored``."""
    kept = {(key.lower(), value) for key, value in new.items()} | _EMPTY_TAGS
    prefixes = tuple(word.lower() for word in ignored)
    return [
        key
        for key, value in old.items()
        if (key.lower(), value) not in kept and not key.lower().startswith(prefixes)
    ]


def _side_data(frame: "VideoFrame") -> dict[str, bytes]:
    return {side.type.name: bytes(side) for side in frame_side_data(frame)}


def _side_data_losses(frame: "VideoFrame", after: Mapping[str, bytes], scale: int) -> Iterator[str]:
    """What is lost of a frame's side data.

    Args:
        frame: the input's.
        after: the side data of the output's frame.
        scale: how many times larger each side of the output's frame is.
    """
    before = _side_data(frame)
    if (spherical := before.get("SPHERICAL")) is not None:
        *same, padding = struct.unpack("=9I", spherical[:36])
        before["SPHERICAL"] = struct.pack("=9I", *same, padding * scale)
    before = {name: data for name, data in before.items() if _is_meaningful(name, data, frame)}
    lost = {what for name, what in _REPORTED.items() if name in before and name not in after}
    both = before.keys() & after.keys()
    lost |= {
        f"all of {_REPORTED[name]}" for name in _KEPT_IN_PART if name in both and before[name] != after[name]
    }
    yield from sorted(lost)


def _color_losses(track: VideoTrack, frame: "VideoFrame | None") -> Iterator[str]:
    """What is lost of the color tags; without a frame, of all but the range."""
    wanted = track.encoder.color
    found = (*_UNSPECIFIED_COLOR, wanted[3]) if frame is None else color_tags(frame)
    numbers = zip(_COLOR, _DEFAULT_COLOR, wanted, found, strict=True)
    if lost := [name for name, default, old, new in numbers if old not in default and old != new]:
        yield f"the {', '.join(lost)} of its colors"


def _is_meaningful(name: str, data: bytes, frame: "VideoFrame") -> bool:
    """Whether side data is more than MPEG-2's default: pan and scan of the whole frame, a timecode of 0."""
    if name == "PANSCAN":
        _, width, height, *offsets = struct.unpack_from("=3i6h", data)
        return any(offsets) or 0 < width < 16 * frame.width or 0 < height < 16 * frame.height
    if name == "GOP_TIMECODE":
        return bool(int.from_bytes(data, sys.byteorder) & _GOP_TIME_MASK)
    return True


def _are_close(wanted: Sequence[int] | None, found: Sequence[int] | None) -> bool:
    """Whether two display matrices rotate and scale alike. Players ignore their offsets."""
    identity = (1 << 16, 0, 0, 0, 1 << 16)
    pairs = zip((wanted or identity)[:5], (found or identity)[:5], strict=True)
    return all(abs(a - b) <= _MATRIX_TOLERANCE * (1 << 16) for a, b in pairs)
