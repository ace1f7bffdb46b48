"""Reading still pictures."""

import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from subpixel.errors import ImageTooLarge, SubpixelError, UnreadableImage, UnsupportedImage
from subpixel.images.formats import BMP, FORMATS, JPEG, PNG, TIFF, WEBP, Format, recognise
from subpixel.images.picture import Metadata, Picture, swaps_axes, upright
from subpixel.images.pillow import to_samples

# Opened by their own readers, not by Image.open, whose limit on pixels is a setting of the whole process.
_PILLOW: dict[Format, type[ImageFile.ImageFile]] = {
    JPEG: JpegImagePlugin.JpegImageFile,
    WEBP: WebPImagePlugin.WebPImageFile,
    BMP: BmpImagePlugin.BmpImageFile,
}
_READ = f"what can be read are still pictures in {', '.join(known.name for known in FORMATS)}"


def read(path: Path, approve: Callable[[int, int], None]) -> Picture:
    """Read a picture, upright, at its own 8 or 16 bits per sample.

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file; its content decides, not its name.
        approve: called with the upright width and height after the header was read and before any pixel
            is; it may raise to refuse the picture.

    Raises:
        UnreadableImage: the file is missing, damaged, cut off, or no picture.
        UnsupportedImage: it is a picture of a kind that is refused: animated, of several pages, of another
            format, or with samples of an unusual kind.
        ImageTooLarge: its format's reader cannot take that many pixels.
    """
    try:
        if path.is_fifo():
            raise UnreadableImage(f"{path}: is a pipe, and pictures are read from files; make it one first")
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror or error})") from error
    kind = recognise(start)
    if kind is None:
        what = "is not a picture, or is damaged" if start else "is empty"
        raise UnreadableImage(f"{path}: {what}; {_READ}")
    if isinstance(kind, str):
        raise UnsupportedImage(f"{path}: is {kind}; {_READ}")
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            picture = _read(path, approve, kind)
    except SubpixelError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{path}: too large for the {kind.name} reader ({error})") from error
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        reason = str(error) if " " in str(error) else repr(error)  # "0" alone says nothing
        raise UnreadableImage(f"{path}: cannot be decoded as {kind.name} ({reason})") from error
    picture.notices += [str(warning.message) for warning in caught]
    return picture


def _refuse_damaged_jpeg(path: Path) -> None:
    """Raise `UnreadableImage` for a JPEG file that lacks parts of its picture.

    libjpeg fills them with grey, and Pillow passes on no word of it; FFmpeg's decoder can be asked to stop.
    What it does not know (such as arithmetic coding) or finds too large gives nothing however it is asked,
    and is left to libjpeg. JPEG has no checksums: bytes that became others which also mean a picture go
    unseen.
    """
    data = path.read_bytes()
    if not _ffmpeg_decodes(data, "crccheck+bitstream+buffer+explode") and _ffmpeg_decodes(data, "ignore_err"):
        raise UnreadableImage(f"{path}: the JPEG file is damaged or cut off")


def _ffmpeg_decodes(jpeg: bytes, on_errors: str) -> bool:
    """Whether FFmpeg makes a picture of a JPEG file, by its option ``err_detect``."""
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": on_errors}
    try:
        return bool(decoder.decode(av.Packet(jpeg)) + decoder.decode(None))
    except av.FFmpegError:
        return False


def _read(path: Path, approve: Callable[[int, int], None], kind: Format) -> Picture:
    # Each reader is imported when it is needed: the TIFF one alone takes 0.02 s.
    if kind is PNG:
        from subpixel.images import png

        return png.read(path, approve)
    if kind is TIFF:
        from subpixel.images import tiff

        return tiff.read(path, approve)
    notices: list[str] = []
    with path.open("rb") as file, _PILLOW[kind](file) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise UnsupportedImage(f"{path}: is an animation of {frames} frames; give the frames one by one")
        info = image.info
        exif = info.get("exif", b"").removeprefix(b"Exif\0\0")
        metadata = Metadata(info.get("icc_profile"), exif or None, info.get("xmp"), info.get("dpi"))
        turn = metadata.orientation(notices)
        approve(*(image.size[::-1] if swaps_axes(turn) else image.size))
        image.load()
        if kind is JPEG:
            _refuse_damaged_jpeg(path)
        if image.mode == "CMYK":
            notices.append("converted from CMYK to RGB")
            metadata.icc = None
        return Picture(upright(to_samples(image), turn), metadata, notices)
