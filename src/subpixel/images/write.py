"""Writing still pictures."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

from subpixel.images.formats import BMP, DEFAULT_QUALITY, JPEG, LOSSLESS_QUALITY, PNG, TIFF, WEBP, Format
from subpixel.images.picture import Metadata, Picture
from subpixel.images.pillow import from_samples

_MAX_JPEG_SEGMENT_BYTES = 65_533
_EXIF_MARK = b"Exif\0\0"
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


def write(path: Path, picture: Picture, kind: Format, *, quality: int = DEFAULT_QUALITY) -> list[str]:
    """Write a picture to an existing, empty file.

    Args:
        path: the file; its name does not matter.
        picture: with 16-bit samples and alpha only where ``kind`` holds them.
        kind: the format.
        quality: 1 to 100, for JPEG and WebP. JPEG keeps colour at full resolution (4:4:4). WebP is without
            loss at 100.

    Returns:
        What of the metadata the format cannot hold, in words for people.
    """
    metadata, notices = _fitting(picture, kind)
    with path.open("r+b") as file:
        if kind is PNG:
            from subpixel.images import png

            png.write(file, picture.samples, metadata)
        elif kind is TIFF:
            from subpixel.images import tiff

            notices += tiff.write(file, picture.samples, metadata)
        else:
            # Given a real file, Pillow writes to it in C, where it overlooks that the disk is full.
            plain = cast(IO[bytes], SimpleNamespace(write=file.write, flush=file.flush))
            from_samples(picture.samples).save(plain, kind.name, **_options(metadata, kind, quality))
    return notices


def _fitting(picture: Picture, kind: Format) -> tuple[Metadata, list[str]]:
    """The metadata that the format can hold, and words for what it cannot."""
    metadata = picture.metadata
    icc, exif, xmp = metadata.icc, metadata.exif, metadata.xmp
    left_out = []
    if icc and (kind is BMP or (kind is WEBP and icc[16:20] == b"GRAY")):  # WebP knows no grey
        icc = None
        left_out.append("colour profile")
    if exif and (kind is BMP or (kind is JPEG and len(_EXIF_MARK + exif) > _MAX_JPEG_SEGMENT_BYTES)):
        exif = None
        left_out.append("EXIF data")
    if xmp and (kind is BMP or (kind is JPEG and len(_XMP_MARK + xmp) > _MAX_JPEG_SEGMENT_BYTES)):
        xmp = None
        left_out.append("XMP data")
    if metadata.dpi and kind is WEBP:
        left_out.append("resolution")
    notices = [f"its {what} does not fit into a {kind.name} file and was left out" for what in left_out]
    return replace(metadata, icc=icc, exif=exif, xmp=xmp), notices


def _options(metadata: Metadata, kind: Format, quality: int) -> dict[str, Any]:
    """What Pillow's writer of the format is told."""
    options: dict[str, Any] = {"icc_profile": metadata.icc, "xmp": metadata.xmp, "dpi": metadata.dpi}
    if metadata.exif:
        options["exif"] = _EXIF_MARK + metadata.exif
    if kind is JPEG:
        options |= {"quality": quality, "subsampling": "4:4:4"}
    if kind is WEBP:
        options |= {"quality": quality, "lossless": quality == LOSSLESS_QUALITY}
    return {name: value for name, value in options.items() if value is not None}
