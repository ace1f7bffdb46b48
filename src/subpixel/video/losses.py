"""What an output has lost of its input, found by reading a trial of it."""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from subpixel.video.containers import Container
from subpixel.video.hdr import attached, display_matrix
from subpixel.video.mux import OF_THE_OLD, REWRITTEN, STATISTICS, Track, chapters, describe
from subpixel.video.source import Source, is_attached

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.stream import Stream

_BY_THE_WAY = ("handler_name", "vendor_id", "encoder", "filename", "mimetype")
"""Metadata of streams that says how they were written, or that a container needs and makes."""

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
    "STEREO3D": "how it is stereoscopic",
}
"""What frames may carry for players, by FFmpeg's name.

The rest says how they were encoded, or is told elsewhere.
"""

_EXACT = ("SPHERICAL", "STEREO3D")
"""What containers may keep in part."""

_AS_IF_UNSAID = {("language", "und"), ("creation_time", "1970-01-01T00:00:00.000000Z")}

_COLOUR = ("primaries", "transfer", "matrix", "range")
_UNSAID = ({0, 2}, {0, 2}, {2}, {0, 1})
"""The numbers that say nothing, or what is taken for granted."""

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

    with av.open(written, "r", metadata_errors="surrogateescape") as file:
        lost = [*_of_file(source, file)]
        picture, *rest = sorted(file.streams, key=is_attached)
        pairs: list[tuple[str, Stream, Stream]] = [("the picture", source.stream, picture)]
        for at_the_end in (False, True):
            old = [stream for stream in streams if is_attached(stream) == at_the_end]
            new = [stream for stream in rest if is_attached(stream) == at_the_end]
            # What the container makes itself, such as a track of chapters, comes behind.
            pairs += [(describe(a), a, b) for a, b in zip(old, new, strict=False)]
        lost += _of_streams(pairs, file.metadata)
        if track.sample:
            lost += _of_frame(source.first, next(file.decode(video=0)), track)
    return [f"{container.name} does not keep {what}" for what in lost]


def _of_file(source: Source, file: "InputContainer") -> Iterator[str]:
    if lost := _lost(source.container.metadata, file.metadata, REWRITTEN):
        yield f"the film's {_listed(lost)}"
    wanted, found = chapters(source), file.chapters()
    if len(found) < len(wanted):
        yield f"{len(wanted) - len(found)} of {len(wanted)} chapters"
        return
    pairs = zip(wanted, found, strict=False)
    if lost := sorted({tag for old, new in pairs for tag in _lost(old["metadata"], new["metadata"], ())}):
        yield f"the chapters' {_listed(lost)}"


def _of_streams(pairs: Sequence[tuple[str, "Stream", "Stream"]], kept: Mapping[str, str]) -> Iterator[str]:
    """What is lost of streams, given as a name, the old one and the new one; but for what the file keeps."""
    lost: dict[str, list[str]] = {}
    for name, old, new in pairs:
        without = (*(OF_THE_OLD if old.type == "video" else STATISTICS), *_BY_THE_WAY)
        if tags := _lost(old.metadata, {**kept, **new.metadata}, without):
            lost.setdefault(f"the {_listed(tags)} of", []).append(name)
        if flags := old.disposition & ~new.disposition:
            marks = ", ".join((flag.name or "").replace("_", " ") for flag in flags)
            lost.setdefault(f"the mark {marks!r} of", []).append(name)
    for what, names in lost.items():
        yield f"{what} {', '.join(names)}"


def _listed(tags: Sequence[str]) -> str:
    return f"tag{'s' if len(tags) > 1 else ''} {', '.join(tags)}"


def _lost(old: Mapping[str, str], new: Mapping[str, str], without: Sequence[str]) -> list[str]:
    """The metadata that is not in ``new`` as it was, but for what begins as ``without`` says."""
    kept = {(key.lower(), value) for key, value in new.items()} | _AS_IF_UNSAID
    rest = tuple(word.lower() for word in without)
    return [
        key
        for key, value in old.items()
        if (key.lower(), value) not in kept and not key.lower().startswith(rest)
    ]


def _of_frame(old: "VideoFrame", new: "VideoFrame", track: Track) -> Iterator[str]:
    before, after = ({side.type.name: bytes(side) for side in attached(frame)} for frame in (old, new))
    scale = max(1, new.width // old.width)
    if (spherical := before.get("SPHERICAL")) is not None:
        *same, padding = struct.unpack("=9I", spherical[:36])
        before["SPHERICAL"] = struct.pack("=9I", *same, padding * scale)
    lost = {
        words
        for name, words in _TOLD.items()
        if name in before and (name not in after or (name in _EXACT and before[name] != after[name]))
    }
    yield from sorted(lost)
    if not _turn_alike(track.matrix, display_matrix(new)):
        yield "all of the matrix by which players turn and scale it"
    colour = (new.color_primaries, new.color_trc, new.colorspace, new.color_range)
    for name, unsaid, wanted, found in zip(_COLOUR, _UNSAID, track.encoder.colour, colour, strict=True):
        if wanted not in unsaid and wanted != found:
            yield f"the {name} of its colour"


def _turn_alike(wanted: Sequence[int] | None, found: Sequence[int] | None) -> bool:
    """Whether two display matrices do the same but for where they move to, which players pass over."""
    plain = (1 << 16, 0, 0, 0, 1 << 16)
    pairs = zip((wanted or plain)[:5], (found or plain)[:5], strict=True)
    return all(abs(a - b) <= _CLOSE * (1 << 16) for a, b in pairs)
