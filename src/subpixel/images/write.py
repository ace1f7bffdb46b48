"""Writing still pictures."""

from dataclasses import replace
from pathlib import Path

from subpixel.images import photoshop
from subpixel.images.formats import BMP, DEFAULT_QUALITY, JPEG, PNG, TIFF, WEBP, Format
from subpixel.images.picture import Metadata, Strips
from subpixel.images.workers import Workers


def write(
    path: Path,
    strips: Strips,
    metadata: Metadata,
    kind: Format,
    workers: Workers,
    *,
    quality: int = DEFAULT_QUALITY,
) -> list[str]:
    """Write a picture to an existing, empty file.

    Args:
        path: the file; its name does not matter.
        strips: with 16-bit samples and alpha only where ``kind`` holds them.
        metadata: what goes with them.
        kind: the format.
        workers: who compress.
        quality: 1 to 100, for JPEG and WebP. JPEG keeps color at full resolution (4:4:4). WebP is without
            loss at 100.

    Returns:
        What of the metadata the format cannot hold, in words for people.
    """
    # Each codec is imported when it is needed.
    metadata, notices = _fitting(metadata, kind, gray=strips.bands < 3)
    with path.open("r+b") as file:
        if kind is PNG:
            from subpixel.images.codecs import png

            png.write(file, strips, metadata, workers)
        elif kind is TIFF:
            from subpixel.images.codecs import tiff

            notices += tiff.write(file, strips, metadata, workers)
        elif kind is JPEG:
            from subpixel.images.codecs import jpeg

            jpeg.write(file, strips, metadata, quality, workers)
        elif kind is WEBP:
            from subpixel.images.codecs import webp

            webp.write(file, strips, metadata, quality)
        else:
            from subpixel.images.codecs import bmp

            bmp.write(file, strips, metadata)
    return notices


def _fitting(metadata: Metadata, kind: Format, *, gray: bool) -> tuple[Metadata, list[str]]:
    """The metadata that the format can hold, and words for what it cannot."""
    left_out = []
    notices: list[str] = []
    kept = replace(metadata)
    if kind is not PNG:
        notices += _without_chunks(kept, gray)
    if kept.icc and (kind is BMP or (kind is WEBP and kept.icc[16:20] == b"GRAY")):  # WebP knows no gray
        kept.icc = None
        left_out.append("color profile")
    if kept.exif and (kind is BMP or (kind is JPEG and _too_long(b"Exif\0\0", kept.exif))):
        kept.exif = None
        left_out.append("EXIF data")
    if kept.xmp and (
        kind is BMP or (kind is JPEG and _too_long(b"http://ns.adobe.com/xap/1.0/\0", kept.xmp))
    ):
        kept.xmp = None
        left_out.append("XMP data")
    resources = photoshop.resources_of(kept.iptc or b"")
    if kept.iptc and (kind not in (JPEG, TIFF) or (kind is JPEG and _too_long(photoshop.MARK, resources))):
        kept.iptc = None
        left_out.append("IPTC data (titles, keywords, credits)")
    if kept.comment and kind is not JPEG:
        left_out.append("comment")
    if kept.dpi and kind is WEBP:
        left_out.append("resolution")
    if kept.aspect and kind in (WEBP, BMP):
        left_out.append("pixels' aspect ratio")
    notices += [f"its {what} does not fit into a {kind.name} file and was left out" for what in left_out]
    return kept, notices


def _too_long(mark: bytes, body: bytes) -> bool:
    from subpixel.images.codecs.jpeg import MAX_SEGMENT_BYTES

    return len(mark) + len(body) > MAX_SEGMENT_BYTES


def _without_chunks(metadata: Metadata, gray: bool) -> list[str]:
    """Turn what chunks of PNG say into what other formats know; words for what they do not."""
    if not metadata.png_chunks:
        return []
    from subpixel.images.codecs import png, png_colors

    notices = []
    if not metadata.icc or any(kind == b"cICP" for kind, _ in metadata.png_chunks):  # which comes first
        profile, notice = png_colors.profile(dict(metadata.png_chunks), gray)
        metadata.icc = profile or metadata.icc
        notices += [notice] if notice else []
    lost = {b"sBIT": "significant bits", b"bKGD": "background color", b"tIME": "time of change"}
    lost |= dict.fromkeys(png.TEXT_CHUNKS, "texts")
    names = dict.fromkeys(
        lost.get(kind, f"{kind.decode('latin-1')!r} chunk")
        for kind, _ in metadata.png_chunks
        if kind not in png.COLOR_CHUNKS
    )
    if names:
        notices.append(f"what it says in PNG's own chunks was left out ({', '.join(names)})")
    metadata.png_chunks = ()
    return notices
