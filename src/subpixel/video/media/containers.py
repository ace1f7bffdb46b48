"""The container formats that are written, and the extensions of videos."""

from dataclasses import dataclass
from pathlib import Path

from subpixel.errors import OutputError


@dataclass(frozen=True)
class Container:
    """A container format that is written."""

    name: str
    """The name in messages."""
    muxer: str
    """FFmpeg's name."""
    extensions: tuple[str, ...]
    """In lower case, with the dot; the first is the usual one."""
    default_codec: str
    """The encoder for the codec "auto"."""
    codecs: tuple[str, ...] = ()
    """The only encoders that it supports; empty if FFmpeg decides."""
    options: tuple[tuple[str, str], ...] = ()
    """The options of FFmpeg's muxer."""
    pipe_options: tuple[tuple[str, str], ...] = ()
    """The options for an output that cannot seek."""


_FAST_START = (("movflags", "+faststart"),)
"""Puts the index at the beginning, so that a browser can play the file before it has all of it."""

_FRAGMENTS = (("movflags", "+frag_keyframe+delay_moov+default_base_moof"), ("frag_duration", "200000"))
"""Fragments of 0.2 seconds. The index comes with the first fragment, so a reader waits for that only."""

_NO_SHIFT = (("avoid_negative_ts", "disabled"),)
"""Else FFmpeg shifts all streams if sound begins a little before 0, as AAC does in MP4."""

MP4 = Container("MP4", "mp4", (".mp4", ".m4v"), "libx264", options=_FAST_START, pipe_options=_FRAGMENTS)
MOV = Container("QuickTime", "mov", (".mov",), "libx264", options=_FAST_START, pipe_options=_FRAGMENTS)
MKV = Container("Matroska", "matroska", (".mkv",), "libx264", options=_NO_SHIFT, pipe_options=_NO_SHIFT)
WEBM = Container(
    "WebM",
    "webm",
    (".webm",),
    "libsvtav1",
    ("libsvtav1", "libvpx-vp9", "av1_nvenc", "av1_qsv", "av1_amf"),
    _NO_SHIFT,
    _NO_SHIFT,
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
"""Files with these extensions count as videos. FFmpeg finds their format by their content."""


_ANIMATION_EXTENSIONS = (".gif", ".webp", ".png", ".apng")


def container_of(path: Path) -> Container:
    """The container for the extension of an output.

    Raises `OutputError` with the known extensions if there is none.
    """
    for container in CONTAINERS:
        if path.suffix.lower() in container.extensions:
            return container
    known = ", ".join(OUTPUT_EXTENSIONS)
    if path.suffix.lower() in _ANIMATION_EXTENSIONS:
        raise OutputError(
            f"{path}: a video cannot become an animated image; write a video ({known}), and convert that"
        )
    raise OutputError(f"{path}: no video format has the extension {path.suffix!r}; known: {known}")


def container_named(name: str) -> Container:
    """The container whose extension is ``name``, without the dot.

    Raises ValueError with the known names if there is none.
    """
    for container in CONTAINERS:
        if f".{name}" in container.extensions:
            return container
    known = ", ".join(container.extensions[0][1:] for container in CONTAINERS)
    raise ValueError(f"unknown container {name!r}; known: {known}")
