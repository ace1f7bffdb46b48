"""Unusual, but valid image files give the right samples."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from image_files import ifd, smooth_image
from subpixel.errors import UnsupportedImage
from subpixel.images.read import read


def approve_all(header):
    """Accept any size."""


def check(path, expected, *, warnings=(), tolerance=0):
    got = read(path, approve_all)
    assert (got.samples.dtype, got.samples.shape) == (expected.dtype, expected.shape)
    assert np.abs(got.samples.astype(int) - expected).max() <= tolerance
    assert len(got.warnings) == len(warnings), got.warnings
    for warning, words in zip(got.warnings, warnings, strict=True):
        assert words in warning
    return got


def tiff(path, data, width, height, bits, channels, photometric, *, sample_format=0, extras=()):
    """Write an uncompressed TIFF of one strip."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, struct.pack(f"<{channels}H", *[bits] * channels)),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        *((338, 3, 1, extra) for extra in extras),
        *(
            [(339, 3, channels, struct.pack(f"<{channels}H", *[sample_format] * channels))]
            if sample_format
            else []
        ),
    ]
    data = data.ljust(len(data) + len(data) % 2, b"\0")
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + ifd("<", 8 + len(data), entries))


INKS = smooth_image(channels=4)
CMYK = {"photometric": "separated"}


def by_pillow(inks):
    return np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))


class TestTiff:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
    @pytest.mark.parametrize("planar", [False, True])
    def test_cmyk(self, tmp_path, planar, compression, dtype):
        inks = INKS.astype(dtype) * (257 if dtype == np.uint16 else 1)
        stored = np.moveaxis(inks, 2, 0) if planar else inks
        arrangement = "separate" if planar else "contig"
        tifffile.imwrite(
            tmp_path / "a.tif", stored, planarconfig=arrangement, compression=compression, **CMYK
        )
        check(tmp_path / "a.tif", by_pillow(INKS), warnings=["from CMYK to RGB"])

    def test_cmyk_bytes_declared_as_floats(self, tmp_path):
        tiff(tmp_path / "a.tif", INKS.tobytes(), 28, 20, 8, 4, 5, sample_format=3)
        check(tmp_path / "a.tif", by_pillow(INKS), warnings=["from CMYK to RGB"])

    def test_cmyk_with_alpha(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif",
            smooth_image(channels=5),
            planarconfig="contig",
            extrasamples=["unassalpha"],
            **CMYK,
        )
        expected = np.dstack(
            [
                by_pillow(np.ascontiguousarray(smooth_image(channels=5)[..., :4])),
                smooth_image(channels=5)[..., 4],
            ]
        )
        check(tmp_path / "a.tif", expected, warnings=["from CMYK to RGB"])

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_bigtiff(self, tmp_path, channels, dtype, byteorder):
        image = smooth_image(channels=channels, dtype=dtype)
        options = {"photometric": "rgb" if channels > 2 else "minisblack"}
        options |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(tmp_path / "a.tif", image, bigtiff=True, byteorder=byteorder, **options)
        check(tmp_path / "a.tif", image)

    def test_lab_with_alpha(self, tmp_path):
        image = smooth_image() // 2 + 64
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        lab = np.frombuffer(ImageCms.applyTransform(Image.fromarray(image), to_lab).tobytes(), np.uint8)
        alpha = smooth_image(channels=1)
        stored = np.dstack([lab.reshape(20, 28, 3), alpha])
        tifffile.imwrite(
            tmp_path / "a.tif",
            stored,
            photometric="cielab",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        )
        check(tmp_path / "a.tif", np.dstack([image, alpha]), warnings=["from LAB to RGB"], tolerance=6)

    def test_gray_of_4_bits_with_alpha(self, tmp_path):
        gray, alpha = smooth_image(channels=2).transpose(2, 0, 1) >> 4
        data = (gray << 4 | alpha).astype(np.uint8).tobytes()
        tiff(tmp_path / "a.tif", data, 28, 20, 4, 2, 1, extras=[2])
        check(tmp_path / "a.tif", np.dstack([gray, alpha]).astype(np.uint8) * 17)

    @pytest.mark.parametrize(("photometric", "kept"), [("minisblack", 1), ("rgb", 3)])
    def test_five_channels(self, tmp_path, photometric, kept):
        tifffile.imwrite(
            tmp_path / "a.tif", smooth_image(channels=5), photometric=photometric, planarconfig="contig"
        )
        expected = smooth_image(channels=5)[..., :kept]
        check(tmp_path / "a.tif", expected[..., 0] if kept == 1 else expected, warnings=["channels beyond"])

    @pytest.mark.parametrize("planar", [False, True])
    def test_ycbcr_at_full_resolution(self, tmp_path, planar):
        ycbcr = np.array(Image.fromarray(smooth_image()).convert("YCbCr"))
        stored, arrangement = (np.moveaxis(ycbcr, 2, 0), "separate") if planar else (ycbcr, "contig")
        tifffile.imwrite(
            tmp_path / "a.tif", stored, photometric="ycbcr", planarconfig=arrangement, subsampling=(1, 1)
        )
        check(tmp_path / "a.tif", smooth_image(), tolerance=3)

    def test_last_tile_ends_with_the_image(self, tmp_path):
        image = smooth_image(40, 32)
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(32, 32), metadata=None)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            last = file.pages.first.databytecounts[-1]
            tag = file.pages.first.tags["TileByteCounts"]
            offset, code = tag.valueoffset, {"SHORT": "<H", "LONG": "<I"}[tag.dtype.name]
        short = 8 * 32 * 3
        data = bytearray((tmp_path / "a.tif").read_bytes())
        struct.pack_into(code, data, offset + struct.calcsize(code), short)
        (tmp_path / "a.tif").write_bytes(data[: len(data) - (last - short)])
        check(tmp_path / "a.tif", image)

    def test_other_compression_numbers_of_deflate(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", smooth_image(), photometric="rgb", compression="zlib")
        for number in (32946, 50013):
            with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
                file.pages.first.tags["Compression"].overwrite(number)
            check(tmp_path / "a.tif", smooth_image())

    @pytest.mark.parametrize("factor", [257, 256, 1])
    def test_palettes_of_8_bits(self, tmp_path, factor):
        colors = np.random.default_rng(0).integers(0, 256, (3, 256))
        colors[0, :2] = 0, 255
        tifffile.imwrite(
            tmp_path / "a.tif",
            smooth_image(channels=1),
            photometric="palette",
            colormap=(colors * factor).astype(np.uint16),
        )
        check(tmp_path / "a.tif", colors.T[smooth_image(channels=1)].astype(np.uint8))

    def test_palettes_of_16_bits(self, tmp_path):
        colors = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", smooth_image(channels=1), photometric="palette", colormap=colors)
        check(tmp_path / "a.tif", colors.T[smooth_image(channels=1)])

    def test_channels_of_different_depths_are_refused(self, tmp_path):
        tiff(tmp_path / "a.tif", smooth_image().tobytes(), 28, 20, 8, 3, 2)
        data = (tmp_path / "a.tif").read_bytes()
        depths = struct.pack("<3H", 8, 8, 8)
        (tmp_path / "a.tif").write_bytes(data.replace(depths, struct.pack("<3H", 5, 6, 5)))
        with pytest.raises(UnsupportedImage, match=r"a\.tif: has channels of different depths; convert"):
            read(tmp_path / "a.tif", approve_all)

    @pytest.mark.parametrize("sample_format", [7, 9])
    def test_sample_formats_that_do_not_exist(self, tmp_path, sample_format):
        tiff(tmp_path / "a.tif", smooth_image().tobytes(), 28, 20, 8, 3, 2, sample_format=sample_format)
        check(tmp_path / "a.tif", smooth_image())

    def test_inks_other_than_cmyk_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", INKS, extratags=[(332, "H", 1, 2, True)], **CMYK)
        with pytest.raises(UnsupportedImage, match=r"a\.tif: is a 8-bit TIFF with color space SEPARATED"):
            read(tmp_path / "a.tif", approve_all)


class TestJpeg:
    @pytest.fixture
    def parts(self):
        file = io.BytesIO()
        Image.fromarray(smooth_image(64, 96)).save(file, "JPEG")
        data = file.getvalue()
        assert data[2:4] == b"\xff\xe0"
        return data[:20], data[20:], np.asarray(Image.open(io.BytesIO(data)))

    def test_bytes_between_segments(self, tmp_path, parts):
        start, rest, expected = parts
        place = rest.index(b"\xff\xc0")
        for junk in (bytes(7), b"\xff" * 5, b"abc"):
            (tmp_path / "a.jpg").write_bytes(start + junk + rest[:place] + junk + rest[place:])
            check(tmp_path / "a.jpg", expected)

    @pytest.mark.parametrize(
        "segment", [b"\xff\xe0\0\2", b"\xff\xe0\0\7JFIF\0", b"\xff\xe1\0\2", b"\xff\xee\0\2"]
    )
    def test_empty_segments(self, tmp_path, parts, segment):
        _, rest, expected = parts
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + segment + rest)
        check(tmp_path / "a.jpg", expected)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
    @pytest.mark.parametrize("junk", [b"\0\0\0", b"\0"])
    def test_zeros_after_scans(self, tmp_path, options, junk):
        file = io.BytesIO()
        Image.fromarray(smooth_image(64, 96)).save(file, "JPEG", **options)
        data = file.getvalue()
        last = data.rindex(b"\xff\xda")
        end = last if options else len(data) - 2
        (tmp_path / "a.jpg").write_bytes(data[:end] + junk + data[end:-2] + junk + data[-2:])
        with Image.open(io.BytesIO(data)) as expected:
            check(tmp_path / "a.jpg", np.asarray(expected))

    @pytest.mark.parametrize("parameters", [b"\0\0\0", b"\1\x3f\0", b"\0\x3f\x11"])
    def test_sequential_jpeg_with_progressive_parameters(self, tmp_path, parts, parameters):
        start, rest, expected = parts
        place = rest.index(b"\xff\xda") + 4 + 7
        (tmp_path / "a.jpg").write_bytes(start + rest[:place] + parameters + rest[place + 3 :])
        check(tmp_path / "a.jpg", expected)

    def test_color_space_that_does_not_exist(self, tmp_path, parts):
        _, rest, expected = parts
        adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\7"
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + adobe + rest)
        check(tmp_path / "a.jpg", expected)

    def test_bytes_after_the_image(self, tmp_path, parts):
        start, rest, expected = parts
        (tmp_path / "a.jpg").write_bytes(start + rest + b"\xff\xd8\xff and more" * 9)
        check(tmp_path / "a.jpg", expected)


def bmp(path, width, height, depth, compression, data, *, masks=(), palette=b"", size=40):
    fields = (size, width, height, 1, depth, compression, len(data), 2835, 2835, len(palette) // 4, 0)
    header = struct.pack("<IiiHHIIiiII", *fields)
    words = b"".join(struct.pack("<I", mask) for mask in masks)
    header = (header + words).ljust(size, b"\0") if size > 40 else header + words
    start = 14 + len(header) + len(palette)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + palette + data)


def packed(words):
    """Rows from bottom to top, each padded to a multiple of 32 bits."""
    return b"".join(row.tobytes().ljust(-(-row.nbytes // 4) * 4, b"\0") for row in words[::-1])


class TestBmp:
    @pytest.mark.parametrize(
        "masks",
        [
            (0xF00, 0xF0, 0xF),
            (0xF00, 0xF0, 0xF, 0xF000),
            (0x7C00, 0x3E0, 0x1F, 0x8000),
            (0xF800, 0x7E0, 0x1F),
            (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
            (0x3FF00000, 0xFFC00, 0x3FF),
        ],
        ids=lambda masks: "-".join(f"{mask:x}" for mask in masks),
    )
    def test_masks(self, tmp_path, masks):
        deep = max(masks) > 0xFFFF
        image = smooth_image(5, 7, channels=len(masks))
        words = np.zeros((5, 7), np.uint64)
        expected = np.zeros_like(image)
        for channel, mask in enumerate(masks):
            shift = (mask & -mask).bit_length() - 1
            largest = mask >> shift
            values = np.round(image[..., channel] / 255 * largest).astype(np.uint64)
            words |= values << np.uint64(shift)
            expected[..., channel] = np.round(values / largest * 255)
        data = packed(words.astype("<u4" if deep else "<u2"))
        bmp(tmp_path / "a.bmp", 7, 5, 32 if deep else 16, 3, data, masks=masks, size=108)
        check(tmp_path / "a.bmp", expected)
        if len(masks) == 3:
            bmp(tmp_path / "a.bmp", 7, 5, 32 if deep else 16, 3, data, masks=masks)
            check(tmp_path / "a.bmp", expected)

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_palettes(self, tmp_path, depth):
        rng = np.random.default_rng(0)
        colors = rng.integers(0, 256, (2**depth, 4), np.uint8)
        indices = rng.integers(0, 2**depth, (6, 13), np.uint8)
        bits = (indices[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(6, -1), axis=1)
        bmp(tmp_path / "a.bmp", 13, 6, depth, 0, packed(rows), palette=colors.tobytes())
        check(tmp_path / "a.bmp", colors[indices][..., 2::-1])

    def test_rle24(self, tmp_path):
        """RLE24 of OS/2: runs, literal pixels, and a jump."""
        image = np.zeros((4, 6, 3), np.uint8)
        image[:, :3] = smooth_image(4, 1)
        image[:, 3:] = smooth_image(4, 3)
        image[1, 2] = 0
        data = b""
        for number, row in enumerate(image[::-1]):
            run = 2 if number == 2 else 3
            data += bytes([run, *row[0, ::-1]])
            data += b"\0\2\1\0" if run == 2 else b""
            data += b"\0\3" + row[3:, ::-1].tobytes() + b"\0" + b"\0\0"
        fields = (64, 6, 4, 1, 24, 4, len(data), 0, 0, 0, 0)
        header = struct.pack("<IiiHHIIiiII", *fields).ljust(64, b"\0")
        start = struct.pack("<2sIHHI", b"BM", 78 + len(data), 0, 0, 78)
        (tmp_path / "a.bmp").write_bytes(start + header + data + b"\0\1")
        check(tmp_path / "a.bmp", image)

    @pytest.mark.parametrize(("depth", "compression"), [(8, 1), (4, 2)])
    def test_rle8_and_rle4(self, tmp_path, depth, compression):
        colors = np.random.default_rng(0).integers(0, 256, (2**depth, 4), np.uint8)
        indices = np.array([[1, 1, 1, 1, 5, 6, 7], [3, 2, 3, 2, 3, 9, 9]], np.uint8)
        if depth == 8:
            data = b"\4\1\0\3\5\6\7\0\0\0" + b"\0\5\3\2\3\2\3\0\2\x09\0\1"
            indices, order = indices[::-1], indices
        else:
            data = b"\4\x11\0\3\x56\x70\0\0" + b"\5\x32\2\x99\0\1"
            indices, order = indices[::-1], indices
        assert order is not indices
        bmp(tmp_path / "a.bmp", 7, 2, depth, compression, data, palette=colors.tobytes())
        check(tmp_path / "a.bmp", colors[indices][..., 2::-1])

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
    def test_written_by_pillow(self, tmp_path, mode):
        image = Image.fromarray(smooth_image()).convert(mode)
        image.save(tmp_path / "a.bmp")
        with Image.open(tmp_path / "a.bmp") as stored:
            plain = {"1": "L", "P": "RGB"}.get(stored.mode, stored.mode)
            check(tmp_path / "a.bmp", np.asarray(stored.convert(plain)))
