"""Writing still images."""

from dataclasses import replace
from pathlib import Path

from subpixel.images import photoshop
from subpixel.images.formats import AVIF, BMP, DEFAULT_QUALITY, GIF, JPEG, JXL, PNG, TIFF, WEBP, Format
from subpixel.images.image import Metadata, Strips
from subpixel.images.workers import Workers

_CICP_CHUNKS = (b"cICP", b"mDCV", b"cLLI")


def write(
    path: Path,
    strips: Strips,
    metadata: Metadata,
    format: Format,
    workers: Workers,
    *,
    quality: int = DEFAULT_QUALITY,
) -> list[str]:
    """Write an image to an existing, empty file.

    Args:
        path: the file; its name does not matter.
        strips: the samples. They have 16 bits or alpha only if ``format`` supports it.
        metadata: what is to be stored with them.
        format: the format to write.
        workers: the threads that compress.
        quality: 1 to 100, for JPEG, WebP, AVIF and JPEG XL. JPEG and AVIF keep the full color resolution
            (4:4:4). All but JPEG are lossless at 100.

    Returns:
        Warnings about metadata that the format cannot store.
    """
    metadata, warnings = storable(metadata, format, gray=strips.channels < 3, quality=quality)
    # Only the codec that is needed is imported, to save time.
    with path.open("r+b") as file:
        if format is PNG:
            from subpixel.images.codecs import png

            png.write(file, strips, metadata, workers)
        elif format is TIFF:
            from subpixel.images.codecs import tiff

            warnings += tiff.write(file, strips, metadata, workers)
        elif format is JPEG:
            from subpixel.images.codecs import jpeg

            jpeg.write(file, strips, metadata, quality, workers)
        elif format is WEBP:
            from subpixel.images.codecs import webp

            webp.write(file, strips, metadata, quality)
        elif format is GIF:
            from subpixel.images.codecs import gif

            warnings += gif.write(file, strips, metadata)
        elif format is AVIF:
            from subpixel.images.codecs import avif

            avif.write(file, strips, metadata, quality)
        elif format is JXL:
            from subpixel.images.codecs import jxl

            jxl.write(file, strips, metadata, quality)
        elif format is BMP:
            from subpixel.images.codecs import bmp

            bmp.write(file, strips, metadata)
        else:
            raise AssertionError(f"no codec writes {format.name}")
    return warnings


def stores_cicp(format: Format, cicp: tuple[int, int] | None, quality: int) -> bool:
    """Whether an image with these primaries and this transfer (ITU-T H.273) keeps them in a format."""
    if format is JXL:
        from subpixel.images.codecs import jxl

        return jxl.stores_cicp(cicp, quality)
    return format in (PNG, AVIF) and cicp is not None


def storable(
    metadata: Metadata, format: Format, *, gray: bool, quality: int = DEFAULT_QUALITY
) -> tuple[Metadata, list[str]]:
    """The metadata that a format can store, and warnings about the rest."""
    dropped = []
    warnings: list[str] = []
    kept = replace(metadata)
    if format is not PNG:
        colors = tuple(chunk for chunk in kept.png_chunks if chunk[0] in _CICP_CHUNKS)
        if stores_cicp(format, kept.cicp, quality):
            kept.icc = None  # cICP precedes iCCP
            kept.png_chunks = tuple(chunk for chunk in kept.png_chunks if chunk not in colors)
        else:
            colors = ()
        warnings += _drop_chunks(kept, gray)
        kept.png_chunks = colors
    # WebP has no gray images, and so no use for a gray profile.
    if kept.icc and (format in (BMP, GIF, JXL) or (format is WEBP and kept.icc[16:20] == b"GRAY")):
        kept.icc = None
        dropped.append("color profile")
    if kept.gain_map and format is not JPEG:
        kept.gain_map = None
        dropped.append("gain map (which brightens it on HDR screens)")
    if kept.exif and (format in (BMP, GIF) or (format is JPEG and _too_long(b"Exif\0\0", kept.exif))):
        kept.exif = None
        dropped.append("EXIF data")
    if kept.xmp and (format is BMP or (format is JPEG and _xmp_is_too_long(kept))):
        kept.xmp = None
        dropped.append("XMP data")
    resource = photoshop.iptc_resource(kept.iptc or b"")
    too_long = format is JPEG and _too_long(photoshop.IDENTIFIER, resource)
    if kept.iptc and (format not in (JPEG, TIFF) or too_long):
        kept.iptc = None
        dropped.append("IPTC data (titles, keywords, credits)")
    if kept.comment and format not in (JPEG, GIF):
        dropped.append("comment")
    if kept.dpi and format in (WEBP, GIF, AVIF, JXL):
        dropped.append("resolution")
    if kept.aspect and format in (WEBP, BMP, GIF, AVIF, JXL):
        dropped.append("pixel aspect ratio")
    article = "an" if format is AVIF else "a"
    warnings += [
        f"its {name} does not fit into {article} {format.name} file and was dropped" for name in dropped
    ]
    return kept, warnings


def _xmp_is_too_long(metadata: Metadata) -> bool:
    """Whether a JPEG segment cannot store the XMP data."""
    from subpixel.images.codecs import gain_map, jpeg_file

    body = gain_map.xmp_of_image(metadata.xmp, 0) if metadata.gain_map else metadata.xmp
    return _too_long(jpeg_file.XMP_IDENTIFIER, body or b"")


def _too_long(identifier: bytes, body: bytes) -> bool:
    """Whether a JPEG segment cannot store this."""
    from subpixel.images.codecs.jpeg_file import MAX_SEGMENT_BYTES

    return len(identifier) + len(body) > MAX_SEGMENT_BYTES


def _drop_chunks(metadata: Metadata, gray: bool) -> list[str]:
    """Convert PNG chunks to what other formats can store, and return warnings about the rest."""
    if not metadata.png_chunks:
        return []
    from subpixel.images.codecs import png, png_colors

    warnings = []
    if not metadata.icc or any(name == b"cICP" for name, _ in metadata.png_chunks):  # cICP precedes iCCP
        profile, warning = png_colors.icc_profile(dict(metadata.png_chunks), gray)
        metadata.icc = profile or metadata.icc
        warnings += [warning] if warning else []
    known = {b"sBIT": "significant bits", b"bKGD": "background color", b"tIME": "time of change"}
    known |= dict.fromkeys(png.TEXT_CHUNKS, "texts")
    dropped = dict.fromkeys(
        known.get(name, f"{name.decode('latin-1')!r} chunk")
        for name, _ in metadata.png_chunks
        if name not in png.COLOR_CHUNKS
    )
    if dropped:
        warnings.append(f"metadata that only PNG can store was dropped ({', '.join(dropped)})")
    metadata.png_chunks = ()
    return warnings
