"""TIFF: looked over by tifffile, decoded by it above 8 bits per sample and by Pillow's libtiff up to 8.

Neither alone would do: Pillow brings colour down to 8 bits and lacks the newer compressions, and tifffile
leaves palettes, subsampled colour, and cut-off fax and JPEG data to its caller.
"""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as _Directory
from PIL.TiffImagePlugin import TiffImageFile

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.picture import Metadata, Picture, swaps_axes, upright
from subpixel.images.pillow import to_samples

_XMP = 700
_NEWER_COMPRESSIONS = {
    tifffile.COMPRESSION.WEBP,
    tifffile.COMPRESSION.ZSTD,
    tifffile.COMPRESSION.LERC,
    tifffile.COMPRESSION.JPEG2000,
    tifffile.COMPRESSION.JPEGXL,
}
_TEXTS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "HostComputer", "Copyright")
_TEXT_TAGS = tuple(int(ExifTags.Base[name]) for name in _TEXTS)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_REDUCED_OR_MASK = 0b101
_UINT, _VOID = 1, 4
_MOST_CLASSIC_BYTES = 2**32 - 2**25
"""Classic TIFF has offsets of 32 bits, and compression may not help; beyond this it is BigTIFF."""
_INCH_CM = 2.54


def read(path: Path, approve: Callable[[int, int], None]) -> Picture:
    """Read a TIFF file; ``approve`` is given the upright width and height before the pixels are decoded."""
    with path.open("rb") as file:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            _check(path, tiff, page)
            turn = _value(page, "Orientation", 1)
            size = (page.imagewidth, page.imagelength)
            approve(*(size[::-1] if swaps_axes(turn) else size))
            metadata = _metadata(file, tiff, page)
            notices = []
            if tifffile.EXTRASAMPLE.UNSPECIFIED in page.extrasamples:
                notices.append("channels beyond its colours and its transparency were left out")
            if _beyond_pillow(page):
                return Picture(upright(_samples(path, page), turn), metadata, notices)
        file.seek(0)
        image = _TiffImageFile(file)
        image.load()  # and turns it upright
        if image.mode in ("CMYK", "LAB"):
            depth = ", at 8 bits per sample" if page.bitspersample > 8 else ""
            notices.append(f"converted from {image.mode} to RGB{depth}")
            metadata.icc = None
        return Picture(to_samples(image), metadata, notices)


def write(file: IO[bytes], samples: NDArray[Any], metadata: Metadata) -> list[str]:
    """Write samples ``(H, W)`` or ``(H, W, 2 to 4)``, uint8 or uint16, as a TIFF file.

    The pixels are compressed without loss (deflate with a predictor), in strips, so that memory stays small.
    ``file`` must be open for reading too. Returns what was wrong with the EXIF, in words for people.
    """
    bands = samples.shape[2] if samples.ndim == 3 else 1
    big = samples.nbytes > _MOST_CLASSIC_BYTES
    tags: list[tuple[int, str, int, Any, bool]] = []
    directories: dict[int, _Directory] = {}
    notices: list[str] = []
    if metadata.exif:
        with warnings.catch_warnings(record=True, action="always") as caught:
            try:
                texts, directories = _exif_parts(metadata.exif, big)
                tags += [(tag, "s", 0, text, True) for tag, text in texts.items()]
            except Exception as error:  # there are many ways to stumble over damaged EXIF
                notices.append(f"its EXIF data is damaged and was left out ({error})")
        notices += [str(warning.message) for warning in caught]
    # The directories follow the pixels, so their place is known only afterwards. And tifffile leaves out
    # pointers that it does not understand, so each is written under the unused number before its own.
    tags += [(kind - 1, "Q" if big else "I", 1, 0, True) for kind in directories]
    if metadata.xmp:
        tags.append((_XMP, "B", len(metadata.xmp), metadata.xmp, True))
    tifffile.imwrite(
        file,
        samples,
        bigtiff=big,
        byteorder="<",
        photometric="rgb" if bands >= 3 else "minisblack",
        planarconfig="contig" if bands > 1 else None,
        extrasamples=["unassalpha"] if bands in (2, 4) else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=max(1, (1 << 20) // (samples.nbytes // len(samples))),
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc,
        extratags=tags,
        metadata=None,
        software=False,
    )
    if directories:
        _append(file, directories)
    return notices


class _TiffImageFile(TiffImageFile):
    """Pillow's reader without its own limit on pixels: the caller's was applied already."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]
        super().load_prepare()


def _check(path: Path, tiff: tifffile.TiffFile, page: Any) -> None:
    # Counted first: going through the pages of a file whose last one points to its first would never end.
    kinds = [_value(tiff.pages[index], "NewSubfileType", 0) for index in range(len(tiff.pages))]
    pages = sum(not kind & _REDUCED_OR_MASK for kind in kinds)
    if pages > 1:
        raise UnsupportedImage(f"{path}: is a TIFF of {pages} pages; give the pages one by one")
    kind = {_UINT: "", _VOID: "", 2: "signed integer", 3: "float"}.get(page.sampleformat, "complex")
    if kind or page.bitspersample > 16:
        samples = f"{page.bitspersample}-bit {kind or 'integer'}"
        raise UnsupportedImage(f"{path}: has {samples} samples; convert them to 8 or 16 bits, unsigned")
    if page.imagedepth > 1:
        raise UnsupportedImage(f"{path}: is a volume of {page.imagedepth} layers; give the layers one by one")
    end = tiff.filehandle.size
    compressed = page.compression != tifffile.COMPRESSION.NONE  # else, what is missing shows when decoding
    if compressed and any(
        start + count > end for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        raise UnreadableImage(f"{path}: the file is cut off")


def _beyond_pillow(page: Any) -> bool:
    """Whether Pillow would refuse the page, or bring it down to 8 bits (which is all there is for CMYK)."""
    depth, kind = page.bitspersample, tifffile.PHOTOMETRIC
    if page.compression in _NEWER_COMPRESSIONS or (depth < 8 and page.photometric == kind.RGB):
        return True
    return depth not in (1, 2, 4, 8) and page.photometric != kind.SEPARATED


def _samples(path: Path, page: Any) -> NDArray[Any]:
    """A grey or RGB page's samples, decoded by tifffile, in 8 or 16 bits over the whole range."""
    photometric = tifffile.PHOTOMETRIC
    colours = {photometric.MINISBLACK: 1, photometric.MINISWHITE: 1, photometric.RGB: 3}.get(page.photometric)
    if colours is None:
        name = getattr(page.photometric, "name", page.photometric)
        raise UnsupportedImage(
            f"{path}: is a {page.bitspersample}-bit TIFF of colour kind {name}; convert it to RGB"
        )
    samples: NDArray[Any] = page.asarray()
    if samples.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        samples = np.moveaxis(samples, 0, -1)
    if samples.ndim == 2:
        samples = samples[..., None]
    white = np.iinfo(samples.dtype).max
    if page.bitspersample % 8:
        largest = (1 << page.bitspersample) - 1
        samples = ((samples.astype(np.uint32) * white + largest // 2) // largest).astype(samples.dtype)
    if page.photometric == photometric.MINISWHITE:
        samples = np.concatenate([white - samples[..., :1], samples[..., 1:]], axis=2)
    extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNSPECIFIED
    if extra == tifffile.EXTRASAMPLE.UNSPECIFIED:
        samples = samples[..., :colours]
    elif extra == tifffile.EXTRASAMPLE.ASSOCALPHA:
        alpha = samples[..., colours : colours + 1].astype(np.uint32)
        straight = (samples[..., :colours] * np.uint32(white) + alpha // 2) // np.maximum(alpha, 1)
        samples = np.concatenate([np.minimum(straight, white), alpha], axis=2).astype(samples.dtype)
    else:
        samples = samples[..., : colours + 1]
    return samples[..., 0] if samples.shape[2] == 1 else samples


def _value(page: Any, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _metadata(file: IO[bytes], tiff: tifffile.TiffFile, page: Any) -> Metadata:
    icc, xmp = _value(page, "InterColorProfile", None), _value(page, "XMP", None)
    metadata = Metadata(icc=icc, xmp=xmp if isinstance(xmp, bytes) else None)
    inches = {2: 1.0, 3: _INCH_CM}.get(_value(page, "ResolutionUnit", 2))
    resolution = [_value(page, name, (0, 1)) for name in ("XResolution", "YResolution")]
    if inches and all(isinstance(value, tuple) and all(value) for value in resolution):
        across, down = (inches * value[0] / value[1] for value in resolution)
        metadata.dpi = (across, down)
    source, block = Image.Exif(), Image.Exif()
    source.endian, source.bigtiff = tiff.byteorder, tiff.is_bigtiff
    source.load_from_fp(file, page.offset)
    for tag in _TEXT_TAGS:
        if tag in source:
            block[tag] = source[tag]
    for ifd, values in _directories(source).items():
        block[ifd] = values
    metadata.exif = block.tobytes().removeprefix(b"Exif\0\0") if len(block) else None
    return metadata


def _directories(exif: Image.Exif) -> dict[ExifTags.IFD, dict[int, Any]]:
    """The directories that EXIF keeps beside the main one."""
    found = {ifd: dict(values) for ifd in _DIRECTORIES if (values := exif.get_ifd(ifd))}
    if ExifTags.IFD.Interop in found.get(ExifTags.IFD.Exif, {}):
        found[ExifTags.IFD.Exif][ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    return found


def _exif_parts(block: bytes, big: bool) -> tuple[dict[int, bytes], dict[int, _Directory]]:
    """What a TIFF file takes from an EXIF block: the texts of its main directory, and the others."""
    exif = Image.Exif()
    exif.load(block)
    # Pillow reads texts as Latin-1, whatever they are, so this gives back their bytes.
    texts = {tag: exif[tag].encode("latin-1") for tag in _TEXT_TAGS if isinstance(exif.get(tag), str)}
    directories = {}
    for kind, values in _directories(exif).items():
        directory = _Directory(b"II\x2b\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4), group=kind)
        for tag, value in values.items():
            directory[tag] = value
        directory.tobytes()  # raises for values that cannot be written
        directories[int(kind)] = directory
    return texts, directories


def _append(file: IO[bytes], directories: dict[int, _Directory]) -> None:
    """Put EXIF directories at the end of a written TIFF file, and point its first page to them."""
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for kind, directory in directories.items():
            place = file.seek(0, 2)
            place += file.write(bytes(place % 2))  # directories begin on a word
            file.write(directory.tobytes(place))
            pointer = tiff.pages.first.tags[kind - 1]
            pointer.overwrite(place)
            file.seek(pointer.offset)
            file.write(struct.pack("<H", kind))
