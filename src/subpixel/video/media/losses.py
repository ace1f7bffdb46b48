"""What an output has lost of its input, found by reading a trial of it."""

import contextlib
import io
import struct
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subpixel.video.media.containers import Container
from subpixel.video.media.hdr import attached, display_matrix, unknown
from subpixel.video.media.mux import (
    OF_THE_OLD,
    REWRITTEN,
    STATISTICS,
    Track,
    chapters,
    describe,
    printable,
    tags,
)
from subpixel.video.media.source import Source, is_attached
from subpixel.video.pipeline.frames import color

if TYPE_CHECKING:
    from av import VideoFrame
    from av.stream import Stream

_BY_THE_WAY = ("handler_name", "vendor_id", "encoder", "filename", "mimetype")
"""Metadata of streams that says how they were written, or that a container needs and makes."""

_OF_FILE_BY_THE_WAY = (*REWRITTEN, "software")
"""Metadata of files that says by what they were written: AVI has it as "software"."""

_TOLD = {
    "A53_CC": "closed captions",
    "AFD": "the active format (AFD)",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
    "CONTENT_LIGHT_LEVEL": "the light levels",
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
"""What frames may carry for players, by FFmpeg's name.

The rest says how they were encoded, or is told elsewhere.
"""

_IN_PART = ("SPHERICAL", "STEREO3D")
"""What containers may keep in part."""

_KEEPERS = {"A53_CC": ("libx264", "libx265", "h264_nvenc", "hevc_nvenc")}
"""The encoders that write what frames carry."""

_PICTURE = "the picture"

_AS_IF_UNSAID = {("language", "und"), ("creation_time", "1970-01-01T00:00:00.000000Z")}

_UNSAID_BY_ALL = (2, 2, 2)
_COLOR = ("primaries", "transfer", "matrix", "range")
_UNSAID = ({0, 2}, {0, 2}, {2}, {0, 1})
"""The numbers that say nothing, or what is taken for granted."""

_TIME_OF_MPEG = 0b11111_111111_0_111111_111111
"""Hours, minutes, seconds and frames in a timecode of MPEG-2."""

_CLOSE = 1 / 1000
"""Two matrices that differ by less turn alike: Matroska keeps an angle instead of one."""


def losses(
    written: io.BytesIO, container: Container, source: Source, track: Track, streams: Sequence["Stream"]
) -> list[str]:
    """Compare.

    Args:
        written: the output with a packet of each stream.
        container: its container.
        source: the input.
        track: the picture.
        streams: those of the input that ``written`` has beside the picture, in its order.

    Returns:
        What is lost, in words for people.
    """
    import av

    frame = None
    with av.open(written, "r", metadata_errors="surrogateescape") as file:
        lost = [*_of_file(source, file.metadata, file.chapters())]
        picture, *rest = sorted(file.streams, key=is_attached)
        pairs: list[tuple[str, Stream, Stream]] = [(_PICTURE, source.stream, picture)]
        for at_the_end in (False, True):
            old = [stream for stream in streams if is_attached(stream) == at_the_end]
            new = [stream for stream in rest if is_attached(stream) == at_the_end]
            # What the container makes itself, such as a track of chapters, comes behind.
            pairs += [(describe(a), a, b) for a, b in zip(old, new, strict=False)]
        lost += _of_streams(pairs, file.metadata, _told_otherwise(source))
        with contextlib.suppress(av.FFmpegError):
            frame = next(file.decode(video=0), None) if track.sample else None
    if frame is not None:
        lost += _of_frame(source.first, _carried(frame), frame.width // source.first.width)
        lost += _of_color(track, frame)
        if not _turn_alike(track.matrix, display_matrix(frame)):
            lost.append("all of the matrix by which players turn and scale it")
    return [f"{container.name} does not keep {what}" for what in lost]


def losses_of_all(container: Container, source: Source, track: Track) -> list[str]:
    """What is lost of a film whose picture is all that it has, in a container that holds nothing else."""
    lost = [*_of_file(source, {}, ())]
    if missing := _lost(tags(source.stream), {}, _told_otherwise(source)):
        lost.append(f"the {_listed(missing)} of {_PICTURE}")
    lost += [*_of_frame(source.first, {}, 1), *_of_color(track, None)]
    return [f"{container.name} does not keep {what}" for what in lost]


def losses_later(carried: Collection[str], codec: str) -> list[str]:
    """What is lost of what frames carry that the first one, and so the trial, does not; in words for people.

    Args:
        carried: FFmpeg's names.
        codec: the encoder.
    """
    lost = {_TOLD[name] for name in carried if name in _TOLD and codec not in _KEEPERS.get(name, ())}
    lost.update(unknown(carried))
    return [f"{codec} does not keep {what}, which later frames carry" for what in sorted(lost)]


def _of_file(source: Source, metadata: Mapping[str, str], found: Sequence[Any]) -> Iterator[str]:
    if lost := _lost(source.container.metadata, metadata, _OF_FILE_BY_THE_WAY):
        yield f"the film's {_listed(lost)}"
    wanted = chapters(source)
    if len(found) < len(wanted):
        yield f"{len(wanted) - len(found)} of {len(wanted)} chapters"
        return
    pairs = zip(wanted, found, strict=False)
    if lost := sorted({tag for old, new in pairs for tag in _lost(old["metadata"], new["metadata"], ())}):
        yield f"the chapters' {_listed(lost)}"


def _told_otherwise(source: Source) -> tuple[str, ...]:
    """The beginnings of the picture's metadata that do not hold any more, or that its frames carry, too."""
    eyes = ("stereo_mode",) if "STEREO3D" in _carried(source.first) else ()
    return (*OF_THE_OLD, *_BY_THE_WAY, *eyes)


def _of_streams(
    pairs: Sequence[tuple[str, "Stream", "Stream"]], kept: Mapping[str, str], of_picture: Sequence[str]
) -> Iterator[str]:
    """What is lost of streams, given as a name, the old one and the new one; but for what the file keeps."""
    lost: dict[str, list[str]] = {}
    for name, old, new in pairs:
        without = of_picture if name == _PICTURE else (*STATISTICS, *_BY_THE_WAY)
        if missing := _lost(tags(old), {**kept, **tags(new)}, without):
            lost.setdefault(f"the {_listed(missing)} of", []).append(name)
        if flags := old.disposition & ~new.disposition:
            marks = ", ".join((flag.name or "").replace("_", " ") for flag in flags)
            lost.setdefault(f"the mark {marks!r} of", []).append(name)
    for what, names in lost.items():
        yield f"{what} {', '.join(names)}"


def _listed(names: Sequence[str]) -> str:
    return f"tag{'s' if len(names) > 1 else ''} {', '.join(map(printable, names))}"


def _lost(old: Mapping[str, str], new: Mapping[str, str], without: Sequence[str]) -> list[str]:
    """The metadata that is not in ``new`` as it was, but for what begins as ``without`` says."""
    kept = {(key.lower(), value) for key, value in new.items()} | _AS_IF_UNSAID
    rest = tuple(word.lower() for word in without)
    return [
        key
        for key, value in old.items()
        if (key.lower(), value) not in kept and not key.lower().startswith(rest)
    ]


def _carried(frame: "VideoFrame") -> dict[str, bytes]:
    return {side.type.name: bytes(side) for side in attached(frame)}


def _of_frame(frame: "VideoFrame", after: Mapping[str, bytes], scale: int) -> Iterator[str]:
    """What is lost of what a frame carries, now that it is ``scale`` times as large."""
    before = _carried(frame)
    if (spherical := before.get("SPHERICAL")) is not None:
        *same, padding = struct.unpack("=9I", spherical[:36])
        before["SPHERICAL"] = struct.pack("=9I", *same, padding * scale)
    before = {name: data for name, data in before.items() if _says_something(name, data, frame)}
    lost = {words for name, words in _TOLD.items() if name in before and name not in after}
    both = before.keys() & after.keys()
    lost |= {f"all of {_TOLD[name]}" for name in _IN_PART if name in both and before[name] != after[name]}
    yield from sorted(lost)


def _of_color(track: Track, frame: "VideoFrame | None") -> Iterator[str]:
    """What is lost of what the colors mean; where there is no frame all but the range."""
    wanted = track.encoder.color
    found = (*_UNSAID_BY_ALL, wanted[3]) if frame is None else color(frame)
    numbers = zip(_COLOR, _UNSAID, wanted, found, strict=True)
    if lost := [name for name, unsaid, old, new in numbers if old not in unsaid and old != new]:
        yield f"the {', '.join(lost)} of its colors"


def _says_something(name: str, data: bytes, frame: "VideoFrame") -> bool:
    """Whether side data of a frame is more than what MPEG-2 has in any film: a pan over all, a time of 0."""
    if name == "PANSCAN":
        _, width, height, *places = struct.unpack_from("=3i6h", data)
        return any(places) or 0 < width < 16 * frame.width or 0 < height < 16 * frame.height
    if name == "GOP_TIMECODE":
        return bool(int.from_bytes(data, sys.byteorder) & _TIME_OF_MPEG)
    return True


def _turn_alike(wanted: Sequence[int] | None, found: Sequence[int] | None) -> bool:
    """Whether two display matrices do the same but for where they move to, which players pass over."""
    plain = (1 << 16, 0, 0, 0, 1 << 16)
    pairs = zip((wanted or plain)[:5], (found or plain)[:5], strict=True)
    return all(abs(a - b) <= _CLOSE * (1 << 16) for a, b in pairs)
