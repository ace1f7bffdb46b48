"""The kinds of picture file that are read and written, and what each of them can hold."""

from dataclasses import dataclass
from pathlib import Path

from subpixel.errors import OutputError

MAX_OUTPUT_PIXELS = 2**30
"""The default limit on an enlarged picture, 3 GB as 8-bit RGB: what is larger is a mistake or an attack."""
MAX_MEMORY_MIB = 4096
"""The default limit on the memory that a picture may need while it is enlarged."""
DEFAULT_QUALITY = 95
"""Of JPEG and WebP, 1 to 100."""


@dataclass(frozen=True)
class Format:
    """What a kind of file can hold."""

    name: str
    extensions: tuple[str, ...]
    """Lower case, with the dot."""
    max_side_px: int
    """The longest side that the format, or every reader of it, can take."""
    alpha: bool
    deep: bool
    """Whether samples of 16 bits fit."""


PNG = Format("PNG", (".png",), 1_000_000, alpha=True, deep=True)  # libpng refuses to read longer sides
JPEG = Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_535, alpha=False, deep=False)
WEBP = Format("WebP", (".webp",), 16_383, alpha=True, deep=False)
TIFF = Format("TIFF", (".tif", ".tiff"), 2**31 - 1, alpha=True, deep=True)
BMP = Format("BMP", (".bmp",), 2**15 - 1, alpha=False, deep=False)  # below its 4 GiB in any shape

FORMATS = (PNG, JPEG, WEBP, TIFF, BMP)
EXTENSIONS = tuple(extension for format_ in FORMATS for extension in format_.extensions)


def format_of(path: Path) -> Format:
    """The format that a file's extension asks for.

    Raises `OutputError` that lists the known extensions.
    """
    for format_ in FORMATS:
        if path.suffix.lower() in format_.extensions:
            return format_
    raise OutputError(
        f"{path}: no picture format is known by the extension {path.suffix!r}; known: {', '.join(EXTENSIONS)}"
    )


def format_named(name: str) -> Format:
    """The format of a name as `subpixel.options.ImageFormat` has them; ValueError for any other."""
    for format_ in FORMATS:
        if format_.name.lower() == name:
            return format_
    raise ValueError(f"unknown format {name!r}; known: {', '.join(known.name.lower() for known in FORMATS)}")


_SIGNATURES: tuple[tuple[int, bytes, Format | str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (8, b"WEBP", WEBP),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"BM", BMP),
    (0, b"GIF8", "a GIF, which may be an animation"),
    (8, b"AVI ", "a video (AVI)"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (4, b"ftypheic", "an HEIC picture"),
    (4, b"ftypheix", "an HEIC picture"),
    (4, b"ftypmif1", "an HEIF picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF animation"),
    (4, b"ftyp", "a video (MP4 or QuickTime)"),
    (4, b"moov", "a video (QuickTime)"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"\0\0\1\0", "a Windows icon"),
)


def recognize(start: bytes) -> Format | str | None:
    """Tell by a file's first bytes (at least 16) what it is, whatever its name says.

    Returns:
        The `Format` where it is one that is read, a few words for people where it is another known kind,
        and None where it is neither.
    """
    for offset, signature, kind in _SIGNATURES:
        if start.startswith(signature, offset):
            return kind
    return None
