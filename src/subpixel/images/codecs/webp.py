"""WebP: read and written by Pillow, whole: libwebp knows no strips."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

from PIL import WebPImagePlugin

from subpixel.errors import UnsupportedImage
from subpixel.images.picture import Header, Metadata, Picture, Strips, swaps_axes, upright
from subpixel.images.pillow import from_samples, to_samples

LOSSLESS_QUALITY = 100
"""At which WebP is written without loss."""

_EXIF_MARK = b"Exif\0\0"


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a WebP file; ``approve`` is given the header before the pixels are decoded."""
    # By its own reader, not by Image.open, whose limit on pixels is a setting of the whole process.
    with path.open("rb") as file, WebPImagePlugin.WebPImageFile(file) as image:
        if (frames := image.n_frames) > 1:
            raise UnsupportedImage(f"{path}: is an animation of {frames} frames; give the frames one by one")
        info = image.info
        exif = info.get("exif", b"").removeprefix(_EXIF_MARK)
        metadata = Metadata(icc=info.get("icc_profile"), exif=exif or None, xmp=info.get("xmp"))
        notices: list[str] = []
        turn = metadata.orientation(notices)
        size = image.size[::-1] if swaps_axes(turn) else image.size
        approve(Header(*size, len(image.getbands()), False, 4))
        image.load()
        return Picture(upright(to_samples(image), turn), metadata, notices)


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
