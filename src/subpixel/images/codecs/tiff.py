"""TIFF: its tags and most pixels by tifffile; what that leaves to its caller, by libtiff through libvips.

tifffile knows the newer compressions and every depth. Fax, JPEG and subsampled color are libtiff's. Both
refuse a strip that is shorter than it should be. Written by tifffile, in strips that are compressed here.
"""

import struct
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as _Directory

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images import photoshop
from subpixel.images.codecs import deflate, tiff_colors
from subpixel.images.picture import Header, Metadata, Picture, Strips, swaps_axes, upright
from subpixel.images.workers import Workers

_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_BY_LIBTIFF = {
    tifffile.COMPRESSION.CCITTRLE,
    tifffile.COMPRESSION.CCITT_T4,
    tifffile.COMPRESSION.CCITT_T6,
    tifffile.COMPRESSION.OJPEG,
    tifffile.COMPRESSION.JPEG,
}
_KEPT_COLORS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_TEXTS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "HostComputer", "Copyright")
_TEXT_TAGS = tuple(int(ExifTags.Base[name]) for name in _TEXTS)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_REDUCED_OR_MASK = 0b101
_UINT, _FLOAT = 1, 3
_KINDS = {_UINT: "", 2: "signed integer", _FLOAT: "float", 4: "", 5: "complex", 6: "complex"}
"""Of samples, by their number; those that are read have no name."""
_MOST_CLASSIC_BYTES = 2**32 - 2**25
"""Classic TIFF has offsets of 32 bits, and compression may not help; beyond this it is BigTIFF."""
_STRIP_BYTES = 1 << 20
_INCH_CM = 2.54
_EXIF_NOTICE = "some of its EXIF data is damaged, and was left out or may be wrong"


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a TIFF file; ``approve`` is given the header before the pixels are decoded."""
    notices: list[str] = []
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check(path, tiff, page)
        turn = _value(page, "Orientation", 1)
        size = (page.imagewidth, page.imagelength)
        deep = page.bitspersample > 8
        copies = 3 if page.photometric in _KEPT_COLORS else 5
        upright_size = size[::-1] if swaps_axes(turn) else size
        approve(Header(*upright_size, page.samplesperpixel, deep, copies))
        metadata = _metadata(file, tiff, page, notices)
        metadata.turn(turn)
        samples = tiff_colors.interpreted(*_decoded(file, page), notices)
        if any(notice.startswith("converted") for notice in notices):
            metadata.icc = None
    return Picture(upright(samples, turn), metadata, notices)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, workers: Workers) -> list[str]:
    """Write samples as a TIFF file.

    The pixels are compressed without loss (deflate with a predictor), in strips, by several threads. ``file``
    must be open for reading too. Returns what was wrong with the EXIF, in words for people.
    """
    nbytes = int(np.prod(strips.shape, dtype=np.int64)) * strips.dtype.itemsize
    big = nbytes > _MOST_CLASSIC_BYTES
    tags: list[tuple[int, str, int, Any, bool]] = []
    directories: dict[int, _Directory] = {}
    notices: list[str] = []
    if metadata.exif:
        with warnings.catch_warnings(record=True, action="always") as caught:
            try:
                texts, directories = _exif_parts(metadata.exif, big)
                tags += [(tag, "s", 0, text, True) for tag, text in texts.items()]
            except Exception:  # there are many ways to stumble over damaged EXIF
                notices.append("its EXIF data is damaged and was left out")
        if caught:
            notices.append(_EXIF_NOTICE)
    # The directories follow the pixels, so their place is known only afterwards. And tifffile leaves out
    # pointers that it does not understand, so each is written under the unused number before its own.
    tags += [(kind - 1, "Q" if big else "I", 1, 0, True) for kind in directories]
    if metadata.xmp:
        tags.append((_XMP, "B", len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc:
        tags.append((_IPTC, "B", len(metadata.iptc), metadata.iptc, True))
    rows = _rows_per_strip(strips)
    tifffile.imwrite(
        file,
        workers.map(
            _compressed,
            (strip[top : top + rows] for strip in strips.each for top in range(0, len(strip), rows)),
        ),
        shape=strips.shape,
        dtype=strips.dtype,
        bigtiff=big,
        byteorder="<",
        photometric="rgb" if strips.bands >= 3 else "minisblack",
        planarconfig="contig" if strips.bands > 1 else None,
        extrasamples=["unassalpha"] if strips.bands in (2, 4) else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=rows,
        resolution=metadata.dpi or metadata.aspect,
        resolutionunit="inch" if metadata.dpi else "none" if metadata.aspect else None,
        iccprofile=metadata.icc,
        extratags=tags,
        metadata=None,
        software=False,
    )
    if directories:
        _append(file, directories)
    return notices


def _rows_per_strip(strips: Strips) -> int:
    """So many that each strip of ours is a whole number of the file's, of about a megabyte each."""
    rows = min(strips.rows, strips.shape[0])
    if rows < strips.rows:
        return rows
    row_bytes = int(np.prod(strips.shape[1:])) * strips.dtype.itemsize
    while rows % 2 == 0 and rows * row_bytes > _STRIP_BYTES:
        rows //= 2
    return rows


def _compressed(rows: NDArray[Any]) -> bytes:
    """Rows, each sample stored as its difference from the one before (predictor 2)."""
    rows = rows if rows.ndim == 3 else rows[..., None]
    differences = np.empty(rows.shape, rows.dtype.newbyteorder("<"))
    differences[:, 0] = rows[:, 0]
    np.subtract(rows[:, 1:], rows[:, :-1], out=differences[:, 1:])
    return deflate.whole(differences.reshape(-1).view(np.uint8))


def _decoded(file: IO[bytes], page: Any) -> tuple[NDArray[Any], Any, bool]:
    """A page's samples ``(H, W, n)``, the page, and whether libtiff has made them."""
    from subpixel.images.codecs.vips import Decoder

    subsampled = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.subsampling not in (None, (1, 1))
    if page.compression not in _BY_LIBTIFF and not subsampled:
        try:
            planes = page.asarray(squeeze=False, maxworkers=1)
            return planes[0, 0] if len(planes) == 1 else np.moveaxis(planes[:, 0, ..., 0], 0, -1), page, False
        except Exception:
            if page.compression == tifffile.COMPRESSION.NONE:  # nobody else would find more pixels
                raise
    file.seek(0)
    samples = Decoder("tiffload", file).samples()
    return samples if samples.ndim == 3 else samples[..., None], page, True


def _check(path: Path, tiff: tifffile.TiffFile, page: Any) -> None:
    # Counted first: going through the pages of a file whose last one points to its first would never end.
    kinds = [_value(tiff.pages[index], "NewSubfileType", 0) for index in range(len(tiff.pages))]
    pages = sum(not kind & _REDUCED_OR_MASK for kind in kinds)
    if pages > 1:
        raise UnsupportedImage(f"{path}: is a TIFF of {pages} pages; give the pages one by one")
    if isinstance(page.bitspersample, tuple):
        raise UnsupportedImage(f"{path}: has bands of different depths; convert it to 8 or 16 bits, unsigned")
    if page.sampleformat not in _KINDS or (page.sampleformat == _FLOAT and page.bitspersample == 8):
        # There is no such thing: a slip of whoever wrote it.
        dtype = np.dtype(np.uint8 if page.bitspersample <= 8 else np.uint16)
        page.sampleformat, page.dtype, page._dtype = _UINT, dtype, dtype
    kind = _KINDS[page.sampleformat]
    if kind or page.bitspersample > 16:
        samples = f"{page.bitspersample}-bit {kind or 'integer'}"
        raise UnsupportedImage(f"{path}: has {samples} samples; convert them to 8 or 16 bits, unsigned")
    if page.imagedepth > 1:
        raise UnsupportedImage(f"{path}: is a volume of {page.imagedepth} layers; give the layers one by one")
    tiff_colors.refuse_unknown(path, page)
    stored = [*zip(page.dataoffsets, page.databytecounts, strict=False)]
    compressed = page.compression != tifffile.COMPRESSION.NONE  # else, what is missing shows when decoding
    end = tiff.filehandle.size
    if not all(count for _, count in stored) or (compressed and any(sum(part) > end for part in stored)):
        raise UnreadableImage(
            f"{path}: the TIFF file is damaged or cut off (pixels are missing); get it anew"
        )


def _value(page: Any, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _metadata(file: IO[bytes], tiff: tifffile.TiffFile, page: Any, notices: list[str]) -> Metadata:
    icc, xmp = _value(page, "InterColorProfile", None), _value(page, "XMP", None)
    metadata = Metadata(icc=icc, xmp=xmp if isinstance(xmp, bytes) else None)
    resources = _raw(file, page, _PHOTOSHOP)
    metadata.iptc = _raw(file, page, _IPTC) or photoshop.iptc(resources)
    inches = {2: 1.0, 3: _INCH_CM}.get(_value(page, "ResolutionUnit", 2))
    resolution = [_value(page, name, (0, 1)) for name in ("XResolution", "YResolution")]
    if all(isinstance(value, tuple) and all(value) for value in resolution):
        across, down = (value[0] / value[1] for value in resolution)
        if inches:
            metadata.dpi = (across * inches, down * inches)
        elif across != down:
            ratio = Fraction(across / down).limit_denominator(1000)
            metadata.aspect = (ratio.numerator, ratio.denominator)
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            metadata.exif = _exif(file, tiff, page)
        notices += [_EXIF_NOTICE] if caught else []
    except Exception:  # there are many ways to stumble over damaged EXIF, and Pillow lacks one kind of file
        if any(int(ifd) in page.tags for ifd in _DIRECTORIES):
            notices.append("its EXIF data cannot be read and was left out")
    return metadata


def _exif(file: IO[bytes], tiff: tifffile.TiffFile, page: Any) -> bytes | None:
    """The texts of a page and its EXIF directories as an EXIF block."""
    source, block = Image.Exif(), Image.Exif()
    source.endian, source.bigtiff = tiff.byteorder, tiff.is_bigtiff
    source.load_from_fp(file, page.offset)
    for tag in _TEXT_TAGS:
        if tag in source:
            block[tag] = source[tag]
    for ifd, values in _directories(source).items():
        block[ifd] = values
    return block.tobytes().removeprefix(b"Exif\0\0") if len(block) else None


def _raw(file: IO[bytes], page: Any, number: int) -> bytes:
    """A tag's bytes as they stand in the file, which some writers call numbers of 32 bits."""
    tag = page.tags.get(number)
    if tag is None:
        return b""
    size = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 9: 4, 13: 4}.get(int(tag.dtype), 0) * tag.count
    file.seek(tag.valueoffset)
    return file.read(size).rstrip(b"\0") if size > 4 else b""


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
