"""The kinds of video file that are read and written."""

from dataclasses import dataclass
from pathlib import Path

from subpixel.errors import OutputError


@dataclass(frozen=True)
class Container:
    """A kind of video file that is written."""

    name: str
    muxer: str
    """FFmpeg's name."""
    extensions: tuple[str, ...]
    """Lower case, with the dot."""
    codec: str
    """The encoder where none is asked for."""
    codecs: tuple[str, ...] = ()
    """The encoders that it goes with; empty where FFmpeg may judge."""
    options: tuple[tuple[str, str], ...] = ()
    """What FFmpeg's muxer is told."""
    piped: tuple[tuple[str, str], ...] = ()
    """What it is told instead where it cannot go back in what it has written."""


_FAST_START = (("movflags", "+faststart"),)
"""The index at the beginning, so that a player on the web can begin before it has all."""

_FRAGMENTS = (("movflags", "+frag_keyframe+delay_moov+default_base_moof"), ("frag_duration", "200000"))
"""Pieces of a fifth of a second: whoever reads waits for the first, with which the index comes too."""

_TIMES_AS_THEY_ARE = (("avoid_negative_ts", "disabled"),)
"""Sound that begins a little before 0, as AAC does in MP4, would make FFmpeg move everything else too."""

MP4 = Container("MP4", "mp4", (".mp4", ".m4v"), "libx264", options=_FAST_START, piped=_FRAGMENTS)
MOV = Container("QuickTime", "mov", (".mov",), "libx264", options=_FAST_START, piped=_FRAGMENTS)
MKV = Container(
    "Matroska", "matroska", (".mkv",), "libx264", options=_TIMES_AS_THEY_ARE, piped=_TIMES_AS_THEY_ARE
)
WEBM = Container(
    "WebM",
    "webm",
    (".webm",),
    "libsvtav1",
    ("libsvtav1", "libvpx-vp9", "av1_nvenc", "av1_qsv", "av1_amf"),
    _TIMES_AS_THEY_ARE,
    _TIMES_AS_THEY_ARE,
)
Y4M = Container("YUV4MPEG2", "yuv4mpegpipe", (".y4m",), "rawvideo", ("rawvideo",))

CONTAINERS = (MP4, MKV, MOV, WEBM, Y4M)

OUTPUT_EXTENSIONS = tuple(extension for container in CONTAINERS for extension in container.extensions)

INPUT_EXTENSIONS = (
    *OUTPUT_EXTENSIONS,
    ".avi",
    ".ts",
    ".m2ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".264",
    ".h264",
    ".265",
    ".hevc",
    ".flv",
    ".wmv",
    ".ogv",
    ".3gp",
)
"""By which files are taken for videos; what they are, FFmpeg tells by their content."""


def container_of(path: Path) -> Container:
    """The container that a file's extension asks for; `OutputError` with the known ones for any other."""
    for container in CONTAINERS:
        if path.suffix.lower() in container.extensions:
            return container
    known = ", ".join(OUTPUT_EXTENSIONS)
    raise OutputError(f"{path}: videos are not written with the extension {path.suffix!r}; known: {known}")


def container_named(name: str) -> Container:
    """The container whose extension is ``name``, without the dot; ValueError with the known ones
    otherwise.
    """
    for container in CONTAINERS:
        if f".{name}" in container.extensions:
            return container
    known = ", ".join(container.extensions[0][1:] for container in CONTAINERS)
    raise ValueError(f"unknown container {name!r}; known: {known}")
