"""Whether a source is clean or compressed. This selects the model if the caller names none.

Pixel art is not detected: drawings, scans of text and screenshots also have few colors and hard edges.
"""

from pathlib import Path
from typing import NamedTuple

from subpixel.files import is_file
from subpixel.images.compression import CLEAN_QUALITY, lossy_quality
from subpixel.images.formats import EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.options import SourceKind

_Y4M_MAGIC = b"YUV4MPEG2 "


class Content(NamedTuple):
    """The class of a source."""

    kind: SourceKind
    """"pixel-art" only if the caller requests it: no file states it."""
    reason: str
    """Why, as text for users."""


def content_of_image(path: Path) -> Content:
    """Classify an image by the quality of its lossy compression, which is estimated from its header.

    An image below `CLEAN_QUALITY` is compressed: there the models for compressed images are better, as
    ``benchmarks/compression.py`` measures. So is one whose quality is unknown, as that of JPEG XL. Without
    lossy compression an image is clean. A file that cannot be read is clean too; whoever decodes it reports
    the error.
    """
    found = lossy_quality(path)
    if found is None:
        return Content("clean", "no lossy compression")
    format, quality = found
    if quality is None:
        return Content("compressed", f"lossy {format.name}")
    kind: SourceKind = "compressed" if quality < CLEAN_QUALITY[format] else "clean"
    return Content(kind, f"{format.name} of quality {quality:.0f}")


def content_of_video(path: Path) -> Content:
    """Classify the input of a video job by its name: YUV4MPEG2 is clean, other videos are compressed.

    An image is classified as by `content_of_image`. A file without an extension (the temporary file of bytes,
    for example) is YUV4MPEG2 if it begins like one.
    """
    if path.suffix.lower() in IMAGE_EXTENSIONS:
        return content_of_image(path)
    if path.suffix.lower() == ".y4m" or (not path.suffix and _is_y4m(path)):
        return Content("clean", ".y4m is uncompressed")
    return Content("compressed", "videos usually are")


def _is_y4m(path: Path) -> bool:
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return file.read(len(_Y4M_MAGIC)) == _Y4M_MAGIC
