"""Reading still pictures."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from subpixel.errors import ImageTooLarge, SubpixelError, UnreadableImage, UnsupportedImage
from subpixel.images.formats import BMP, FORMATS, JPEG, PNG, TIFF, WEBP, recognize
from subpixel.images.picture import Header, Picture

_CODECS = {PNG: "png", JPEG: "jpeg", WEBP: "webp", TIFF: "tiff", BMP: "bmp"}
_READ = f"what can be read are still pictures in {', '.join(known.name for known in FORMATS)}"


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a picture, upright, at its own 8 or 16 bits per sample.

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file; its content decides, not its name.
        approve: called after the header was read and before any pixel is; it may raise to refuse the
            picture.

    Raises:
        UnreadableImage: the file is missing, damaged, cut off, or no picture.
        UnsupportedImage: it is a picture of a kind that is refused: animated, of several pages, of another
            format, or with samples of an unusual kind.
        ImageTooLarge: there is no memory for its pixels.
    """
    try:
        if path.is_fifo():
            raise UnreadableImage(f"{path}: is a pipe, and pictures are read from files; make it one first")
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror or error})") from error
    kind = recognize(start)
    if kind is None:
        what = "is not a picture, or is damaged" if start else "is empty"
        raise UnreadableImage(f"{path}: {what}; {_READ}")
    if isinstance(kind, str):
        raise UnsupportedImage(f"{path}: is {kind}; {_READ}")
    # Each codec is imported when it is needed: the one for TIFF alone takes 0.02 s.
    codec = import_module(f"subpixel.images.codecs.{_CODECS[kind]}")
    try:
        with _quiet():
            picture: Picture = codec.read(path, approve)
    except SubpixelError:
        raise
    except MemoryError as error:
        raise ImageTooLarge(
            f"{path}: the picture does not fit into memory; free some, or cut it up"
        ) from error
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        if isinstance(error, OSError) and error.strerror:  # the system's words; decoders have none
            raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from error
        raise UnreadableImage(
            f"{path}: the {kind.name} file is damaged or cut off, or of a kind that nothing here decodes; "
            "get it anew, or convert it to PNG"
        ) from error
    return picture


@contextmanager
def _quiet() -> Iterator[None]:
    """Have decoders log nothing about what this thread reads: what matters of it becomes an error."""
    me = threading.get_ident()

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != me

    loggers = [logging.getLogger(name) for name in ("tifffile", "imagecodecs", "pyvips")]
    for logger in loggers:
        logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(from_elsewhere)
