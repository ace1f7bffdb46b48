"""WebP: read through libvips, written by Pillow, both whole: libwebp knows no strips."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

from subpixel.errors import UnsupportedImage
from subpixel.images.picture import Header, Metadata, Picture, Strips, swaps_axes, upright
from subpixel.images.pillow import from_samples

LOSSLESS_QUALITY = 100
"""At which WebP is written without loss."""

_EXIF_MARK = b"Exif\0\0"


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a WebP file; ``approve`` is given the header before the pixels are decoded."""
    from subpixel.images.codecs.vips import Decoder

    with path.open("rb") as file:
        decoder = Decoder("webpload", file, [(0, path.stat().st_size)])
        if (frames := decoder.field("n-pages") or 1) > 1:
            raise UnsupportedImage(f"{path}: is an animation of {frames} frames; give the frames one by one")
        exif = decoder.field("exif-data")
        metadata = Metadata(
            icc=decoder.field("icc-profile-data"),
            exif=exif.removeprefix(_EXIF_MARK) if exif else None,
            xmp=decoder.field("xmp-data"),
        )
        notices: list[str] = []
        turn = metadata.orientation(notices)
        height, width, bands = decoder.shape
        size = (height, width) if swaps_axes(turn) else (width, height)
        approve(Header(*size, bands, False, 3))
        return Picture(upright(decoder.samples(), turn), metadata, notices)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int) -> None:
    """Write 8-bit samples as a WebP file."""
    options: dict[str, Any] = {"icc_profile": metadata.icc, "xmp": metadata.xmp}
    if metadata.exif:
        options["exif"] = _EXIF_MARK + metadata.exif
    options = {name: value for name, value in options.items() if value is not None}
    # Given a real file, Pillow writes to it in C, where it overlooks that the disk is full.
    plain = cast(IO[bytes], SimpleNamespace(write=file.write, flush=file.flush))
    from_samples(strips.whole()).save(
        plain, "WebP", quality=quality, lossless=quality == LOSSLESS_QUALITY, **options
    )
