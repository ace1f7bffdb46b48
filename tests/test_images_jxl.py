"""JPEG XL. Files come from imagecodecs, and bits of headers from the specification; imagecodecs also decodes
what is written. Headers of cjxl's files were compared with what `jxlinfo` says of them."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from image_files import exif_block, smooth_image
from interpolating import bicubic_model
from subpixel import Upscaler
from subpixel.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from subpixel.images.jxl_header import read_header
from subpixel.images.read import read
from subpixel.images.upscale import upscale_image

BT709 = (0.64, 0.33, 1.0, 0.30, 0.60, 1.0, 0.15, 0.06, 1.0)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


def approve_all(header):
    """Accept any size."""


def refuse(header):
    raise ImageTooLarge(f"{header.width} x {header.height}")


def box(name, body):
    return struct.pack(">I4s", 8 + len(body), name) + body


def boxes(path):
    data, offset, found = path.read_bytes(), 0, {}
    while offset < len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        found[name] = data[offset + 8 : offset + (size or len(data))]
        offset += size or len(data)
    return found


def container(codestream, *extra):
    head = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return head + b"".join(extra) + box(b"jxlc", codestream)


class BitWriter:
    """Writes the fields of a codestream, the lowest bit first."""

    def __init__(self):
        self.value, self.count = 0, 0

    def put(self, *fields):
        for value, width in fields:
            self.value |= value << self.count
            self.count += width
        return self

    def bytes(self):
        return b"\xff\x0a" + self.value.to_bytes(self.count // 8 + 8, "little")


def enum(value):
    return (
        [(value, 2)] if value < 2 else [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]
    )


class TestHeader:
    @pytest.mark.parametrize("size", [(1, 1), (8, 16), (33, 47), (256, 256), (600, 800), (9, 3000)])
    def test_sizes(self, tmp_path, size):
        image = np.zeros(size, np.uint8)
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(image, lossless=True))
        header = read_header(tmp_path / "a.jxl")
        assert (header.height, header.width) == size
        assert header.is_gray and header.extra_channels == []

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_lossless_and_lossy(self, tmp_path, channels, dtype):
        image = smooth_image(channels=channels, dtype=dtype)
        for options, lossy in (({"lossless": True}, False), ({"distance": 1.0}, True)):
            (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(image, **options))
            header = read_header(tmp_path / "a.jxl")
            assert header.is_lossy is lossy
            assert header.bits == 8 * image.itemsize and not header.is_float
            assert header.extra_channels == [0] * (channels in (2, 4))

    def test_a_transcoded_jpeg_is_lossy(self, tmp_path):
        Image.fromarray(smooth_image()).save(tmp_path / "a.jpg", quality=90)
        data = imagecodecs.jpegxl_encode_jpeg((tmp_path / "a.jpg").read_bytes())
        (tmp_path / "a.jxl").write_bytes(data)
        assert read_header(tmp_path / "a.jxl").is_lossy

    def test_colors_and_orientation(self, tmp_path):
        """Rec. 2100 PQ, rotated, 10 bits: the fields in the order of ISO/IEC 18181-1, annex D."""
        bits = BitWriter()
        bits.put((0, 1), (0, 2), (39, 9), (0, 3), (0, 2), (59, 9))  # 40 rows, 60 columns
        bits.put((0, 1), (1, 1), (5, 3), (0, 3))  # orientation 6
        bits.put((0, 1), (1, 2), (0, 1), (0, 2), (0, 1))  # 10 bits, no extra channels, not XYB
        bits.put((0, 1), (0, 1), *enum(0), *enum(1), *enum(9), (0, 1), *enum(16), *enum(1))
        bits.put((1, 1), (0, 2))
        (tmp_path / "a.jxl").write_bytes(bits.bytes())
        header = read_header(tmp_path / "a.jxl")
        assert (header.width, header.height, header.bits) == (40, 60, 10)
        assert (header.color.primaries, header.color.transfer) == (9, 16)

    def test_an_animation_is_refused(self, tmp_path):
        bits = BitWriter().put((1, 1), (0, 5), (1, 3), (0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1))
        bits.put((0, 2), (0, 2), (0, 2), (0, 1))
        bits.put((0, 1), (0, 2), (0, 1), (0, 2), (1, 1), (1, 1), (1, 1), (0, 2))
        (tmp_path / "a.jxl").write_bytes(bits.bytes())
        with pytest.raises(UnsupportedImage, match=r"a\.jxl: is an animation"):
            read(tmp_path / "a.jxl", approve_all)


class TestRead:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_lossless(self, tmp_path, channels, dtype):
        image = smooth_image(33, 47, channels, dtype)
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(image, lossless=True))
        got = read(tmp_path / "a.jxl", approve_all)
        np.testing.assert_array_equal(got.samples, image)
        assert got.warnings == []
        # imagecodecs states linear light for 16 bits.
        linear = ((b"cICP", b"\1\x08\0\1"),)
        assert got.metadata.png_chunks == (() if dtype == np.uint8 else linear)
        with pytest.raises(ImageTooLarge, match="47 x 33"):
            read(tmp_path / "a.jxl", refuse)

    def test_10_bits_use_the_full_range_of_16(self, tmp_path):
        image = smooth_image(33, 47, 3, np.uint16) >> 6
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(image, lossless=True, bitspersample=10))
        got = read(tmp_path / "a.jxl", approve_all)
        np.testing.assert_array_equal(got.samples, np.round(image * (65535 / 1023)).astype(np.uint16))
        assert got.bits == 10

    def test_metadata(self, tmp_path):
        """Plain, and compressed with Brotli. libjxl rotates, so EXIF's orientation is not applied."""
        image, exif = smooth_image(33, 47), exif_block(6, 47, 33)
        codestream = bytes(imagecodecs.jpegxl_encode(image, lossless=True, usecontainer=False))
        packed = (box(b"brob", b"xml " + imagecodecs.brotli_encode(XMP)),)
        for xmp in ((box(b"xml ", XMP),), packed):
            (tmp_path / "a.jxl").write_bytes(container(codestream, box(b"Exif", bytes(4) + exif), *xmp))
            got = read(tmp_path / "a.jxl", approve_all)
            np.testing.assert_array_equal(got.samples, image)
            assert got.metadata.exif == exif and got.metadata.xmp == XMP

    def test_floats_are_refused(self, tmp_path):
        image = smooth_image().astype(np.float32) / 255
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(image))
        with pytest.raises(UnsupportedImage, match=r"a\.jxl: has floating-point"):
            read(tmp_path / "a.jxl", approve_all)

    def test_damage(self, tmp_path):
        data = bytes(imagecodecs.jpegxl_encode(smooth_image(), lossless=True))
        for cut in (2, 20, len(data) // 2, len(data) - 5):
            (tmp_path / "a.jxl").write_bytes(data[:cut])
            with pytest.raises(UnreadableImage, match=r"a\.jxl"):
                read(tmp_path / "a.jxl", approve_all)


class TestWrite:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_quality_100_is_lossless(self, tmp_path, upscaler, channels, dtype):
        image = smooth_image(17, 23, channels, dtype)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
        upscale_image(tmp_path / "a.png", tmp_path / "b.png", upscaler=upscaler)
        result = upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler, quality=100)
        expected = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
        np.testing.assert_array_equal(imagecodecs.jpegxl_decode((tmp_path / "b.jxl").read_bytes()), expected)
        assert result.warnings == ()

    def test_large_and_deep(self, tmp_path, upscaler):
        """libjxl puts large images of 16 bits into a container of its own, at level 10."""
        image = smooth_image(300, 400, 3, np.uint16)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
        upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler, quality=100)
        assert read(tmp_path / "b.jxl", approve_all).samples.shape == (600, 800, 3)
        assert list(boxes(tmp_path / "b.jxl"))[-1] == b"jxlc"

    @pytest.mark.parametrize(("quality", "mean"), [(95, 1.5), (60, 4.0), (10, 12.0)])
    def test_lossy(self, tmp_path, upscaler, quality, mean):
        Image.fromarray(smooth_image(33, 47)).save(tmp_path / "a.png")
        upscale_image(tmp_path / "a.png", tmp_path / "b.png", upscaler=upscaler)
        upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler, quality=quality)
        got = imagecodecs.jpegxl_decode((tmp_path / "b.jxl").read_bytes())
        expected = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
        assert 0 < np.abs(got.astype(int) - expected).mean() < mean

    def test_metadata(self, tmp_path, upscaler):
        Image.fromarray(smooth_image(17, 23)).save(tmp_path / "a.webp", exif=exif_block(6, 23, 17), xmp=XMP)
        upscale_image(tmp_path / "a.webp", tmp_path / "b.jxl", upscaler=upscaler)
        found = boxes(tmp_path / "b.jxl")
        exif = Image.Exif()
        exif.load(found[b"Exif"][4:])
        assert exif[0x0112] == 1 and exif.get_ifd(0x8769)[0xA002] == 34
        assert found[b"xml "] == XMP

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_other_profiles_become_srgb(self, tmp_path, upscaler, dtype):
        """Linear light, converted by LittleCMS through Pillow."""
        linear = imagecodecs.cms_profile("rgb", whitepoint=(0.3127, 0.329, 1.0), primaries=BT709, gamma=1.0)
        image = smooth_image(17, 23)
        Image.fromarray(image).save(tmp_path / "a.png", icc_profile=bytes(linear))
        if dtype == np.uint16:
            options = {"extratags": [(34675, 7, len(linear), bytes(linear), True)], "photometric": "rgb"}
            tifffile.imwrite(tmp_path / "a.png", image.astype(np.uint16) * 257, **options)
        result = upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler, quality=100)
        assert result.warnings == ("converted from its color profile to sRGB",)
        opened = ImageCms.ImageCmsProfile(io.BytesIO(linear))
        srgb = ImageCms.profileToProfile(Image.fromarray(image), opened, ImageCms.createProfile("sRGB"))
        got = imagecodecs.jpegxl_decode((tmp_path / "b.jxl").read_bytes())
        assert got.dtype == dtype
        small = got.reshape(17, 2, 23, 2, 3).mean(axis=(1, 3)) / (np.iinfo(dtype).max / 255)
        assert np.abs(small - np.asarray(srgb)).mean() < 3

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("quality", [95, 100])
    def test_16_bits_are_srgb(self, tmp_path, upscaler, channels, quality):
        image = smooth_image(33, 47, channels, np.uint16)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
        upscale_image(tmp_path / "a.png", tmp_path / "b.png", upscaler=upscaler)
        upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler, quality=quality)
        header = read_header(tmp_path / "b.jxl")
        assert (header.color.primaries, header.color.transfer, header.bits) == (1, 13, 16)
        got = imagecodecs.jpegxl_decode((tmp_path / "b.jxl").read_bytes())  # libjxl converts to sRGB
        expected = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
        assert np.abs(got.astype(int) - expected).mean() <= (0 if quality == 100 else 1.5 * 257)

    @pytest.mark.parametrize("cicp", [(9, 16), (12, 13), (9, 18), (1, 1)])
    def test_hdr_and_wide_colors_without_loss(self, tmp_path, upscaler, cicp):
        chunk = b"cICP" + bytes([*cicp, 0, 1])
        chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for dtype in (np.uint8, np.uint16):
            data = bytes(imagecodecs.png_encode(smooth_image(17, 23, dtype=dtype)))
            (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
            options = {"upscaler": upscaler, "overwrite": True}
            upscale_image(tmp_path / "a.png", tmp_path / "b.png", **options)
            result = upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", quality=100, **options)
            assert result.warnings == ()
            got = read(tmp_path / "b.jxl", approve_all)
            assert got.metadata.cicp == cicp
            expected = imagecodecs.png_decode((tmp_path / "b.png").read_bytes())
            np.testing.assert_array_equal(got.samples, expected)

    def test_srgb_needs_no_conversion(self, tmp_path, upscaler):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(smooth_image()).save(tmp_path / "a.png", icc_profile=profile)
        assert upscale_image(tmp_path / "a.png", tmp_path / "b.jxl", upscaler=upscaler).warnings == ()
