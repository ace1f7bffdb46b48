"""Reads and writes WebP through Pillow. libwebp needs the complete image in memory."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

from PIL import WebPImagePlugin

from subpixel.images.formats import LOSSLESS_QUALITY
from subpixel.images.image import (
    DecodedImage,
    Header,
    Metadata,
    Strips,
    apply_orientation,
    drop_opaque_alpha,
    first_frame_warning,
    swaps_axes,
)
from subpixel.images.pillow import from_samples, to_samples

_EXIF_IDENTIFIER = b"Exif\0\0"


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a WebP file. ``approve`` gets the header before pixels are decoded."""
    # Not through Image.open, whose limit on pixels is global to the process.
    with path.open("rb") as file, WebPImagePlugin.WebPImageFile(file) as image:
        metadata = metadata_of(image)
        warnings = [first_frame_warning(image.n_frames)] if image.n_frames > 1 else []
        orientation = metadata.read_orientation(warnings)
        size = image.size[::-1] if swaps_axes(orientation) else image.size
        approve(Header(*size, len(image.getbands()), False, 4))
        image.load()
        samples = apply_orientation(to_samples(image), orientation)
        if image.n_frames > 1 and samples.shape[2] == 4:  # alpha may be for later frames
            samples = drop_opaque_alpha(samples)
        return DecodedImage(samples, metadata, warnings)


def metadata_of(image: WebPImagePlugin.WebPImageFile) -> Metadata:
    """The metadata of an open file."""
    info = image.info
    exif = info.get("exif", b"").removeprefix(_EXIF_IDENTIFIER)
    return Metadata(icc=info.get("icc_profile"), exif=exif or None, xmp=info.get("xmp"))


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int) -> None:
    """Write 8-bit samples as a WebP file."""
    options = save_options(metadata, quality)
    from_samples(strips.to_array()).save(methods_of(file), "WebP", **options)


def save_options(metadata: Metadata, quality: int) -> dict[str, Any]:
    """Pillow's options for quality and metadata."""
    options: dict[str, Any] = {"icc_profile": metadata.icc, "xmp": metadata.xmp}
    if metadata.exif:
        options["exif"] = _EXIF_IDENTIFIER + metadata.exif
    options = {name: value for name, value in options.items() if value is not None}
    return {"quality": quality, "lossless": quality == LOSSLESS_QUALITY, **options}


def methods_of(file: IO[bytes]) -> IO[bytes]:
    """Only the methods of a file: Pillow writes to a real one in C, and does not notice a full disk."""
    return cast(IO[bytes], SimpleNamespace(write=file.write, flush=file.flush))
