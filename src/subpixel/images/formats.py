"""The image formats that are read and written, and what each can store."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from subpixel.errors import OutputError

MAX_OUTPUT_PIXELS = 2**30
"""Default limit on the size of the output, 3 GB as 8-bit RGB. It stops mistakes and decompression bombs."""
MAX_MEMORY_MIB = 4096
"""Default limit on the memory that upscaling an image may need."""
DEFAULT_QUALITY = 95
"""Default quality of lossy formats, 1 to 100."""


@dataclass(frozen=True)
class Format:
    """An image format and its limits."""

    name: str
    extensions: tuple[str, ...]
    """Lower case, with the dot."""
    max_side_px: int
    """The longest side that the format can store and its common readers accept."""
    supports_alpha: bool
    supports_16_bit: bool
    """Whether it can store more than 8 bits per sample."""
    supports_animation: bool = False
    is_written: bool = True
    """Whether it can be written, and not only be read."""
    has_quality: bool = False
    """Whether ``quality`` applies to it."""
    package: str | None = None
    """The package that it needs, if that is not always installed."""
    extra: str | None = None
    """The extra of Subpixel that installs the package."""

    @property
    def option(self) -> str:
        """Its name in `subpixel.options.ImageFormat`."""
        return "jxl" if self.name == "JPEG XL" else self.name.lower()

    @property
    def missing(self) -> str | None:
        """What must be installed to read or write it, as text for people; None if nothing is missing."""
        if self.package is None or find_spec(self.package):
            return None
        return (
            f"{self.name} needs {self.package.replace('_', '-')}; run: pip install 'subpixel[{self.extra}]'"
        )


PNG = Format(
    "PNG",
    (".png", ".apng"),
    1_000_000,
    supports_alpha=True,
    supports_16_bit=True,
    supports_animation=True,
)
"""libpng refuses to read longer sides."""
JPEG = Format(
    "JPEG",
    (".jpg", ".jpeg", ".jpe", ".jfif"),
    65_500,
    supports_alpha=False,
    supports_16_bit=False,
    has_quality=True,
)
"""libjpeg refuses longer sides."""
WEBP = Format(
    "WebP",
    (".webp",),
    16_383,
    supports_alpha=True,
    supports_16_bit=False,
    supports_animation=True,
    has_quality=True,
)
TIFF = Format("TIFF", (".tif", ".tiff"), 2**31 - 1, supports_alpha=True, supports_16_bit=True)
BMP = Format("BMP", (".bmp",), 2**15 - 1, supports_alpha=False, supports_16_bit=False)
"""With this side, an image of any shape stays below the 4 GiB that its header can state."""
AVIF = Format(
    "AVIF",
    (".avif",),
    32_768,
    supports_alpha=True,
    supports_16_bit=True,
    has_quality=True,
    package="imagecodecs",
    extra="formats",
)
"""libavif refuses to read longer sides."""
JXL = Format(
    "JPEG XL",
    (".jxl",),
    2**18,
    supports_alpha=True,
    supports_16_bit=True,
    has_quality=True,
    package="imagecodecs",
    extra="formats",
)
"""The longest side of level 5, which all decoders support."""
HEIC = Format(
    "HEIC",
    (".heic", ".heif", ".hif"),
    2**15,
    supports_alpha=True,
    supports_16_bit=True,
    is_written=False,
    package="pillow_heif",
    extra="heif",
)

GIF = Format("GIF", (".gif",), 65_535, supports_alpha=True, supports_16_bit=False, supports_animation=True)
"""Its alpha has one bit, and its palette 256 colors."""

READABLE = (PNG, JPEG, WEBP, TIFF, BMP, GIF, AVIF, JXL, HEIC)
FORMATS = tuple(format_ for format_ in READABLE if format_.is_written)
"""The formats that are written."""
EXTENSIONS = tuple(extension for format_ in READABLE for extension in format_.extensions)
"""Of all images that are read."""
OUTPUT_EXTENSIONS = tuple(extension for format_ in FORMATS for extension in format_.extensions)


def format_of(path: Path) -> Format:
    """Return the format for the extension of a path.

    Raises:
        OutputError: the extension is unknown.
    """
    for format_ in FORMATS:
        if path.suffix.lower() in format_.extensions:
            return format_
    known = ", ".join(OUTPUT_EXTENSIONS)
    if path.suffix.lower() in EXTENSIONS:
        raise OutputError(f"{path}: {path.suffix!r} is only read, not written; write one of {known}")
    raise OutputError(f"{path}: unknown image extension {path.suffix!r}; known: {known}")


def format_named(name: str) -> Format:
    """Return the format for a name of `subpixel.options.ImageFormat`.

    Raises:
        ValueError: the name is unknown.
    """
    for format_ in FORMATS:
        if format_.option == name:
            return format_
    raise ValueError(f"unknown format {name!r}; known: {', '.join(known.option for known in FORMATS)}")


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"msf1")

_SIGNATURES: tuple[tuple[int, bytes, Format | str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (8, b"WEBP", WEBP),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"BM", BMP),
    (0, b"GIF8", GIF),
    (8, b"AVI ", "a video (AVI)"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    *((4, b"ftyp" + brand, HEIC) for brand in _HEIC_BRANDS),
    (4, b"ftypavif", AVIF),
    (4, b"ftypavis", AVIF),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftyp", "a video (MP4 or QuickTime)"),
    (4, b"moov", "a video (QuickTime)"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (4, b"JXL ", JXL),
    (0, b"\xff\x0a", JXL),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"\0\0\1\0", "a Windows icon"),
)


LOSSLESS_QUALITY = 100
"""At this quality, WebP, AVIF and JPEG XL are lossless."""
_AVIF_BITS, _AVIF_LOSSLESS_BITS = 10, 12


def bits_per_sample(format: Format, quality: int) -> int:
    """Return how many bits a format keeps of 16-bit samples.

    AVIF stores at most 12. Decoders widely support 10, and lossy compression changes more than the other 2.
    """
    if not format.supports_16_bit:
        return 8
    if format is AVIF:
        return _AVIF_LOSSLESS_BITS if quality == LOSSLESS_QUALITY else _AVIF_BITS
    return 16


def recognize(start: bytes) -> Format | str | None:
    """Identify a file by its first bytes.

    Args:
        start: the first 16 bytes or more; 64 decide between HEIC and AVIF where a file names neither first.

    Returns:
        A `Format` if it can be read, a description such as "a PDF document" if it is another known format,
        or None.
    """
    if start[4:8] == b"ftyp" and start[8:12] in (b"mif1", b"mif2", b"miaf", b"1pic"):
        # A general brand of HEIF comes first; one of the others names the codec.
        brands = {start[at : at + 4] for at in range(16, min(len(start), int.from_bytes(start[:4])), 4)}
        if b"avif" in brands:
            return AVIF
        if brands.intersection(_HEIC_BRANDS):
            return HEIC
    for offset, signature, found in _SIGNATURES:
        if start.startswith(signature, offset):
            return found
    return None
