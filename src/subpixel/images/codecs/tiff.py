"""Reads and writes TIFF through tifffile, and reads some variants by libtiff through libvips.

tifffile reads the tags, the newer compressions and every bit depth. libtiff reads fax, JPEG and subsampled
color. Both refuse a strip that is too short. tifffile writes strips that are compressed here.
"""

import struct
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
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
from subpixel.images.image import DecodedImage, Header, Metadata, Strips, apply_orientation, swaps_axes
from subpixel.images.pillow_warnings import caught_warnings
from subpixel.images.workers import Workers

_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_BY_LIBTIFF = {
    tifffile.COMPRESSION.CCITTRLE,
    tifffile.COMPRESSION.CCITT_T4,
    tifffile.COMPRESSION.CCITT_T6,
    tifffile.COMPRESSION.OJPEG,
    tifffile.COMPRESSION.JPEG,
}
_BY_EITHER = {
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.WEBP,
}
"""Without imagecodecs, libtiff reads what tifffile does not. The other compressions need imagecodecs."""
_KEPT_COLORS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB)
_TEXTS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "HostComputer", "Copyright")
_TEXT_TAGS = tuple(int(ExifTags.Base[name]) for name in _TEXTS)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_REDUCED_OR_MASK = 0b101
_UINT, _FLOAT = 1, 3
_SAMPLE_FORMATS = {_UINT: "", 2: "signed integer", _FLOAT: "float", 4: "", 5: "complex", 6: "complex"}
"""Sample formats by their number. Those with an empty name are supported."""
_MAX_CLASSIC_BYTES = 2**32 - 2**25
"""Larger images become BigTIFF: classic TIFF has 32-bit offsets, and samples may not compress."""
_STRIP_BYTES = 1 << 20
_CM_PER_INCH = 2.54
_EXIF_WARNING = "some of its EXIF data is damaged, and was dropped or may be wrong"


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a TIFF file. ``approve`` gets the header before pixels are decoded."""
    warnings: list[str] = []
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check(path, tiff, page)
        orientation = _value(page, "Orientation", 1)
        size = (page.imagewidth, page.imagelength)
        copies = 3 if page.photometric in _KEPT_COLORS else 5
        upright_size = size[::-1] if swaps_axes(orientation) else size
        file_bytes = 0 if page.compression == tifffile.COMPRESSION.NONE else tiff.filehandle.size
        approve(
            Header(*upright_size, page.samplesperpixel, page.bitspersample > 8, copies, file_bytes=file_bytes)
        )
        metadata = _metadata(file, tiff, page, warnings)
        metadata.rotate_resolution(orientation)
        samples = tiff_colors.to_gray_or_rgb(*_decode(path, file, page), warnings)
        if any(warning.startswith("converted") for warning in warnings):
            metadata.icc = None
    return DecodedImage(apply_orientation(samples, orientation), metadata, warnings)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, workers: Workers) -> list[str]:
    """Write samples and metadata as a TIFF file, compressed by deflate with a predictor.

    Several threads compress. ``file`` must be open for reading too.

    Returns:
        Warnings about damaged EXIF.
    """
    nbytes = int(np.prod(strips.shape, dtype=np.int64)) * strips.dtype.itemsize
    big = nbytes > _MAX_CLASSIC_BYTES
    tags: list[tuple[int, str, int, Any, bool]] = []
    directories: dict[int, _Directory] = {}
    warnings: list[str] = []
    if metadata.exif:
        with caught_warnings() as caught:
            try:
                texts, directories = _exif_parts(metadata.exif, big)
                tags += [(tag, "s", 0, text, True) for tag, text in texts.items()]
            except Exception:  # on damaged EXIF, Pillow raises almost anything
                warnings.append("its EXIF data is damaged and was dropped")
        if caught:
            warnings.append(_EXIF_WARNING)
    # The directories follow the pixels, so their offsets are unknown until then. tifffile does not write
    # their pointers, so a placeholder is written under the unused tag before each.
    tags += [(tag - 1, "Q" if big else "I", 1, 0, True) for tag in directories]
    if metadata.xmp:
        tags.append((_XMP, "B", len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc:
        tags.append((_IPTC, "B", len(metadata.iptc), metadata.iptc, True))
    rows = _rows_per_strip(strips)
    tifffile.imwrite(
        file,
        workers.map(
            _compress,
            (strip[top : top + rows] for strip in strips.iterator for top in range(0, len(strip), rows)),
        ),
        shape=strips.shape,
        dtype=strips.dtype,
        bigtiff=big,
        byteorder="<",
        photometric="rgb" if strips.channels >= 3 else "minisblack",
        planarconfig="contig" if strips.channels > 1 else None,
        extrasamples=["unassalpha"] if strips.channels in (2, 4) else None,
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
    return warnings


def _rows_per_strip(strips: Strips) -> int:
    """Rows per strip of the file: about a megabyte, and a divisor of the rows of ``strips``."""
    rows = min(strips.rows, strips.shape[0])
    if rows < strips.rows:
        return rows
    row_bytes = int(np.prod(strips.shape[1:])) * strips.dtype.itemsize
    while rows % 2 == 0 and rows * row_bytes > _STRIP_BYTES:
        rows //= 2
    return rows


def _compress(rows: NDArray[Any]) -> bytes:
    """Store samples as differences from their left neighbors (predictor 2), and compress."""
    rows = rows if rows.ndim == 3 else rows[..., None]
    differences = np.empty(rows.shape, rows.dtype.newbyteorder("<"))
    differences[:, 0] = rows[:, 0]
    np.subtract(rows[:, 1:], rows[:, :-1], out=differences[:, 1:])
    return deflate.compress_stream(differences.reshape(-1).view(np.uint8))


def _decode(path: Path, file: IO[bytes], page: Any) -> tuple[NDArray[Any], Any, bool]:
    """Decode a page: its samples ``(H, W, C)``, the page, and whether libtiff decoded them."""
    from subpixel.images.codecs.vips import Error, decode

    subsampled = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.subsampling not in (None, (1, 1))
    if page.compression not in _BY_LIBTIFF and not subsampled:
        try:
            planes = page.asarray(squeeze=False, maxworkers=1)
            return planes[0, 0] if len(planes) == 1 else np.moveaxis(planes[:, 0, ..., 0], 0, -1), page, False
        except Exception:
            if page.compression == tifffile.COMPRESSION.NONE:  # libtiff would not find more pixels
                raise
    try:
        samples = decode("tiffload", file)
    except Error as error:
        if page.compression not in (*_BY_LIBTIFF, *_BY_EITHER) and not find_spec("imagecodecs"):
            compression = tifffile.COMPRESSION(page.compression).name
            raise UnsupportedImage(
                f"{path}: is compressed by {compression}, which needs imagecodecs; "
                "run: pip install 'subpixel[formats]'"
            ) from error
        raise
    return samples if samples.ndim == 3 else samples[..., None], page, True


def _check(path: Path, tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse what cannot be read, and correct invalid sample formats."""
    # Not by iteration over the pages, which never ends if the last page points to the first.
    types = [_value(tiff.pages[index], "NewSubfileType", 0) for index in range(len(tiff.pages))]
    pages = sum(not type_ & _REDUCED_OR_MASK for type_ in types)
    if pages > 1:
        raise UnsupportedImage(f"{path}: is a TIFF of {pages} pages; pass the pages one by one")
    if isinstance(page.bitspersample, tuple):
        raise UnsupportedImage(
            f"{path}: has channels of different depths; convert it to 8 or 16 bits, unsigned"
        )
    if page.sampleformat not in _SAMPLE_FORMATS or (page.sampleformat == _FLOAT and page.bitspersample == 8):
        # The writer made a mistake: these formats do not exist, nor do floats of 8 bits.
        dtype = np.dtype(np.uint8 if page.bitspersample <= 8 else np.uint16)
        page.sampleformat, page.dtype, page._dtype = _UINT, dtype, dtype
    unsupported = _SAMPLE_FORMATS[page.sampleformat]
    if unsupported or page.bitspersample > 16:
        samples = f"{page.bitspersample}-bit {unsupported or 'integer'}"
        raise UnsupportedImage(f"{path}: has {samples} samples; convert them to 8 or 16 bits, unsigned")
    if page.imagedepth > 1:
        raise UnsupportedImage(f"{path}: is a volume of {page.imagedepth} layers; pass the layers one by one")
    tiff_colors.check_supported(path, page)
    stored = [*zip(page.dataoffsets, page.databytecounts, strict=False)]
    compressed = page.compression != tifffile.COMPRESSION.NONE  # otherwise decoding detects missing pixels
    end = tiff.filehandle.size
    if not all(count for _, count in stored) or (compressed and any(sum(part) > end for part in stored)):
        raise UnreadableImage(
            f"{path}: the TIFF file is damaged or truncated (pixels are missing); get it again"
        )


def _value(page: Any, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _metadata(file: IO[bytes], tiff: tifffile.TiffFile, page: Any, warnings: list[str]) -> Metadata:
    icc, xmp = _value(page, "InterColorProfile", None), _value(page, "XMP", None)
    metadata = Metadata(icc=icc, xmp=xmp if isinstance(xmp, bytes) else None)
    resources = _raw(file, page, _PHOTOSHOP)
    metadata.iptc = _raw(file, page, _IPTC) or photoshop.read_iptc(resources)
    units_per_inch = {2: 1.0, 3: _CM_PER_INCH}.get(_value(page, "ResolutionUnit", 2))
    resolution = [_value(page, name, (0, 1)) for name in ("XResolution", "YResolution")]
    if all(isinstance(value, tuple) and all(value) for value in resolution):
        across, down = (value[0] / value[1] for value in resolution)
        if units_per_inch:
            metadata.dpi = (across * units_per_inch, down * units_per_inch)
        elif across != down:
            ratio = Fraction(across / down).limit_denominator(1000)
            metadata.aspect = (ratio.numerator, ratio.denominator)
    try:
        with caught_warnings() as caught:
            metadata.exif = _exif(file, tiff, page)
        warnings += [_EXIF_WARNING] if caught else []
    except Exception:  # on damaged EXIF, and on big-endian BigTIFF, Pillow raises almost anything
        if any(int(ifd) in page.tags for ifd in _DIRECTORIES):
            warnings.append("its EXIF data cannot be read and was dropped")
    return metadata


def _exif(file: IO[bytes], tiff: tifffile.TiffFile, page: Any) -> bytes | None:
    """Collect the texts of a page and its EXIF directories in an EXIF block."""
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
    """The bytes of a tag as stored in the file. Some writers declare them as 32-bit integers."""
    tag = page.tags.get(number)
    if tag is None:
        return b""
    size = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 9: 4, 13: 4}.get(int(tag.dtype), 0) * tag.count
    file.seek(tag.valueoffset)
    return file.read(size).rstrip(b"\0") if size > 4 else b""


def _directories(exif: Image.Exif) -> dict[ExifTags.IFD, dict[int, Any]]:
    """The EXIF directories besides the main one."""
    found = {ifd: dict(values) for ifd in _DIRECTORIES if (values := exif.get_ifd(ifd))}
    if ExifTags.IFD.Interop in found.get(ExifTags.IFD.Exif, {}):
        found[ExifTags.IFD.Exif][ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    return found


def _exif_parts(block: bytes, big: bool) -> tuple[dict[int, bytes], dict[int, _Directory]]:
    """Split an EXIF block into the texts of its main directory and the other directories."""
    exif = Image.Exif()
    exif.load(block)
    # Pillow decodes all texts as Latin-1, so this restores their bytes.
    texts = {tag: exif[tag].encode("latin-1") for tag in _TEXT_TAGS if isinstance(exif.get(tag), str)}
    directories = {}
    for ifd, values in _directories(exif).items():
        directory = _Directory(b"II\x2b\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4), group=ifd)
        for tag, value in values.items():
            directory[tag] = value
        directory.tobytes()  # raises if a value cannot be written
        directories[int(ifd)] = directory
    return texts, directories


def _append(file: IO[bytes], directories: dict[int, _Directory]) -> None:
    """Append EXIF directories to a written TIFF file, and set the pointers of its first page to them."""
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as tiff:
        for tag, directory in directories.items():
            offset = file.seek(0, 2)
            offset += file.write(bytes(offset % 2))  # directories begin at even offsets
            file.write(directory.tobytes(offset))
            pointer = tiff.pages.first.tags[tag - 1]
            pointer.overwrite(offset)
            file.seek(pointer.offset)
            file.write(struct.pack("<H", tag))
