"""Reading images. Of an animation, this is the first frame."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from subpixel.errors import ImageTooLarge, SubpixelError, UnreadableImage, UnsupportedImage
from subpixel.images.formats import (
    AVIF,
    BMP,
    GIF,
    HEIC,
    JPEG,
    JXL,
    PNG,
    READABLE,
    TIFF,
    WEBP,
    Format,
    recognize,
)
from subpixel.images.image import DecodedImage, Header

_CODECS = {
    PNG: "png",
    JPEG: "jpeg",
    WEBP: "webp",
    TIFF: "tiff",
    BMP: "bmp",
    GIF: "gif",
    AVIF: "avif",
    JXL: "jxl",
    HEIC: "heic",
}
_SUPPORTED = f"supported are images in {', '.join(known.name for known in READABLE)}"


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read an image file. The samples are upright and keep their 8 or 16 bits.

    Args:
        path: a file of one of `subpixel.images.formats.READABLE`. Its content decides the format, not its
            name.
        approve: called with the header before any pixel is decoded; it may raise to refuse the image.

    Raises:
        UnreadableImage: the file is missing, damaged, truncated, or not an image.
        UnsupportedImage: the file has several pages or unusual samples, or another format.
        ImageTooLarge: the pixels do not fit into memory.
    """
    try:
        if path.is_fifo():
            raise UnreadableImage(f"{path}: is a pipe, and images are read from files; make it one first")
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror or error})") from error
    found = recognize(start)
    if found is None:
        problem = "is not an image, or is damaged" if start else "is empty"
        raise UnreadableImage(f"{path}: {problem}; {_SUPPORTED}")
    if isinstance(found, str):
        raise UnsupportedImage(f"{path}: is {found}; {_SUPPORTED}")
    if found.missing:
        raise UnsupportedImage(f"{path}: {found.missing}")
    # Importing only the codec that is needed saves time: the TIFF codec alone takes 0.02 s.
    codec = import_module(f"subpixel.images.codecs.{_CODECS[found]}")
    with decoding_errors(path, found), _quiet():
        image: DecodedImage = codec.read(path, approve)
    return image


@contextmanager
def decoding_errors(path: Path, format: Format) -> Iterator[None]:
    """Turn whatever a decoder raises into an error of Subpixel that names the file.

    Raises:
        UnreadableImage: the file is damaged or truncated.
        ImageTooLarge: the pixels do not fit into memory.
    """
    try:
        yield
    except SubpixelError:
        raise
    except MemoryError as error:
        raise ImageTooLarge(
            f"{path}: the image does not fit into memory; free some, or cut the image into parts"
        ) from error
    except Exception as error:  # on damaged files, decoders raise almost anything
        if isinstance(error, OSError) and error.strerror:  # from the system; decoders set no strerror
            raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from error
        raise UnreadableImage(
            f"{path}: the {format.name} file is damaged or truncated, or of an unsupported variant; "
            "get it again, or convert it to PNG"
        ) from error


class _HeaderFound(BaseException):
    """Ends `read` behind the header; a BaseException, so that it does not count as damage."""

    def __init__(self, header: Header) -> None:
        self.header = header


def read_header(path: Path) -> Header:
    """Read only the header of an image file. Raises as `read`, as far as the header shows the fault."""

    def stop(header: Header) -> None:
        raise _HeaderFound(header)

    try:
        read(path, stop)
    except _HeaderFound as found:
        return found.header
    raise AssertionError("every reader calls `approve`")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the logging of decoders in this thread: what matters becomes an error or a warning."""
    this_thread = threading.get_ident()

    def from_other_thread(record: logging.LogRecord) -> bool:
        return record.thread != this_thread

    loggers = [logging.getLogger(name) for name in ("tifffile", "imagecodecs", "pyvips")]
    for logger in loggers:
        logger.addFilter(from_other_thread)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(from_other_thread)
