"""What became of a source before: it decides which network enlarges it where none is named."""

from pathlib import Path
from typing import NamedTuple

from subpixel.files import is_file
from subpixel.images.compression import CLEAN_QUALITY, lossy_quality
from subpixel.images.formats import EXTENSIONS as PICTURE_EXTENSIONS
from subpixel.options import SourceKind


class Content(NamedTuple):
    """What a source is taken for."""

    kind: SourceKind
    """As `subpixel.models.catalog.DEFAULT_NETWORKS` has them."""
    reason: str
    """Why, in words for people."""


def content_of_picture(path: Path) -> Content:
    """What a picture is taken for, by what its file says of its compression; "clean" where it cannot be read.

    The rule is measured, by ``benchmarks/compression.py``: below `CLEAN_QUALITY` the network for compressed
    pictures is better.
    """
    found = lossy_quality(path)
    if found is None:
        return Content("clean", "not compressed with loss")
    kind, quality = found
    return Content(
        "compressed" if quality < CLEAN_QUALITY[kind] else "clean", f"{kind.name} of quality {quality:.0f}"
    )


def content_of_film(path: Path) -> Content:
    """What a film is taken for, by its name: "compressed", but YUV4MPEG2 for "clean"; a picture as ever.

    What has no name, such as bytes, is YUV4MPEG2 by how it begins.
    """
    if path.suffix.lower() in PICTURE_EXTENSIONS:
        return content_of_picture(path)
    if path.suffix.lower() == ".y4m" or (not path.suffix and _is_y4m(path)):
        return Content("clean", ".y4m holds frames as they are")
    return Content("compressed", "films are, as a rule")


def _is_y4m(path: Path) -> bool:
    """Whether a file without an extension, as bytes are given one, begins as YUV4MPEG2 does."""
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return file.read(len(_Y4M)) == _Y4M


_Y4M = b"YUV4MPEG2 "
