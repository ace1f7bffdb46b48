import base64
import io
import os
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from image_files import exif_block, interlaced_png16, packed_tiff, png, png_chunk, smooth_image
from subpixel.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from subpixel.images.image import apply_orientation
from subpixel.images.read import read


def approve_all(header):
    """Accept any size."""


def check(path, expected, *, warnings=(), tolerance=0):
    got = read(path, approve_all)
    assert got.samples.dtype == expected.dtype
    assert got.samples.shape == expected.shape
    assert np.abs(got.samples.astype(int) - expected).max() <= tolerance
    assert len(got.warnings) == len(warnings), got.warnings
    for warning, words in zip(got.warnings, warnings, strict=True):
        assert words in warning
    return got


class TestPng:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_plain(self, tmp_path, channels, dtype):
        image = smooth_image(channels=channels, dtype=dtype)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
        check(tmp_path / "a.png", image)

    def test_interlaced_16_bit(self, tmp_path):
        image = smooth_image(dtype=np.uint16)
        (tmp_path / "a.png").write_bytes(interlaced_png16(image))
        check(tmp_path / "a.png", image)

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_gray_of_any_depth_with_a_transparent_value(self, tmp_path, depth):
        """tRNS has the depth of the file; Pillow 13 misreads it for 2 and 4 bits."""
        values = np.arange(16) % 2**depth
        packed = np.packbits(((values[:, None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)).tobytes()
        trns = (b"tRNS", struct.pack(">H", 2**depth - 1))
        (tmp_path / "a.png").write_bytes(png((16, 1, depth, 0, 0), [packed], trns))
        dtype = np.uint16 if depth == 16 else np.uint8
        white = np.iinfo(dtype).max
        gray = values * (white // (2**depth - 1))
        expected = np.dstack([gray[None], np.where(values == 2**depth - 1, 0, white)[None]])
        check(tmp_path / "a.png", expected.astype(dtype))

    def test_rgb_with_a_transparent_color(self, tmp_path):
        image = smooth_image()
        image[3, 4] = (1, 2, 3)
        Image.fromarray(image).save(tmp_path / "a.png", transparency=(1, 2, 3))
        got = check(tmp_path / "a.png", np.dstack([image, np.full((20, 28), 255, np.uint8)]), tolerance=255)
        np.testing.assert_array_equal(got.samples[..., 3] == 0, (image == (1, 2, 3)).all(axis=2))

    @pytest.mark.parametrize("transparency", [None, 3, bytes([0, 100, 255, 7])])
    def test_palette(self, tmp_path, transparency):
        image = Image.fromarray(smooth_image()).quantize(16)
        options = {} if transparency is None else {"transparency": transparency}
        image.save(tmp_path / "a.png", **options)
        with Image.open(tmp_path / "a.png") as reference:
            check(tmp_path / "a.png", np.asarray(reference.convert("RGBA" if options else "RGB")))

    def test_one_bit(self, tmp_path):
        image = smooth_image(channels=1) > 128
        Image.fromarray(image).save(tmp_path / "a.png")
        check(tmp_path / "a.png", np.where(image, 255, 0).astype(np.uint8))

    def test_animation(self, tmp_path):
        frames = [Image.fromarray(smooth_image(seed=seed)) for seed in range(3)]
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
        warnings = ["is an animation of 3 frames, of which only the first"]
        check(tmp_path / "a.png", smooth_image(seed=0), warnings=warnings)

    @pytest.mark.parametrize("keep", [0.03, 0.3, 0.9, 0.999])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_truncated(self, tmp_path, keep, dtype):
        data = imagecodecs.png_encode(smooth_image(channels=4, dtype=dtype))
        (tmp_path / "a.png").write_bytes(data[: max(9, int(len(data) * keep))])
        with pytest.raises(UnreadableImage, match=r"a\.png: the file is truncated"):
            read(tmp_path / "a.png", approve_all)

    def test_pixels_missing_in_a_complete_file(self, tmp_path):
        whole = zlib.compress(b"".join(b"\0" + bytes(28) for _ in range(20)))
        ihdr = struct.pack(">IIBBBBB", 28, 20, 8, 0, 0, 0, 0)
        for idat in (whole[: len(whole) // 2], zlib.compress(b"\0" * 29 * 10)):
            parts = png_chunk(b"IHDR", ihdr) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")
            (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
            with pytest.raises(UnreadableImage, match="PNG file is damaged"):
                read(tmp_path / "a.png", approve_all)

    def test_damaged(self, tmp_path):
        data = bytearray(imagecodecs.png_encode(smooth_image()))
        data[len(data) // 2] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UnreadableImage, match=r"damaged"):
            read(tmp_path / "a.png", approve_all)

    def test_damaged_ancillary_chunk_is_dropped(self, tmp_path):
        broken = bytearray(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")))
        broken[10] ^= 1
        data = imagecodecs.png_encode(smooth_image())
        (tmp_path / "a.png").write_bytes(data[:33] + broken + png_chunk(b"iCCP", b"x\0\0junk") + data[33:])
        got = check(
            tmp_path / "a.png",
            smooth_image(),
            warnings=["'iCCP' chunk is damaged", "color profile is damaged"],
        )
        assert got.metadata.icc is None


class TestTiff:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"compression": "zlib", "predictor": True},
            {"compression": "lzw", "byteorder": ">"},
            {"bigtiff": True},
            {"planarconfig": "separate"},
            {"tile": (16, 16), "compression": "packbits"},
        ],
        ids=str,
    )
    def test_plain(self, tmp_path, channels, dtype, options):
        image = smooth_image(channels=channels, dtype=dtype)
        stored = image
        options = {"photometric": "rgb" if channels > 2 else "minisblack", **options}
        if channels in (2, 4):
            options["extrasamples"] = ["unassalpha"]
        if options.get("planarconfig") == "separate" and channels > 2:
            stored = np.moveaxis(image, 2, 0)
        elif channels == 1:
            options.pop("planarconfig", None)
        else:
            options["planarconfig"] = "contig"
        tifffile.imwrite(tmp_path / "a.tif", stored, **options)
        check(tmp_path / "a.tif", image)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_white_is_zero(self, tmp_path, dtype):
        image = smooth_image(channels=1, dtype=dtype)
        tifffile.imwrite(tmp_path / "a.tif", ~image, photometric="miniswhite")
        check(tmp_path / "a.tif", image)

    @pytest.mark.parametrize("depth", [2, 4, 6, 10, 12, 14])
    def test_other_depths_span_the_whole_range(self, tmp_path, depth):
        image = smooth_image(dtype=np.uint16) >> (16 - depth)
        image[0, 0], image[0, 1] = 0, 2**depth - 1
        (tmp_path / "a.tif").write_bytes(packed_tiff(image, depth))
        dtype = np.uint8 if depth < 8 else np.uint16
        expected = np.round(image * (np.iinfo(dtype).max / (2**depth - 1))).astype(dtype)
        check(tmp_path / "a.tif", expected)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_premultiplied_alpha_becomes_straight(self, tmp_path, dtype):
        image = smooth_image(channels=4, dtype=dtype)
        white = np.iinfo(dtype).max
        image[..., 3] = np.maximum(image[..., 3], white // 2)
        image[:4, :, 3] = 0
        stored = image.copy()
        stored[..., :3] = np.round(image[..., :3] * (image[..., 3:] / white))
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
        image[:4] = 0
        check(tmp_path / "a.tif", image, tolerance=2)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_unspecified_channels_are_dropped(self, tmp_path, dtype):
        image = smooth_image(channels=4, dtype=dtype)
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unspecified"])
        check(tmp_path / "a.tif", image[..., :3], warnings=["channels beyond"])

    @pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr"])
    def test_written_by_pillow(self, tmp_path, mode):
        image = Image.fromarray(smooth_image()).convert(mode)
        image.save(tmp_path / "a.tif", compression="group4" if mode == "1" else "tiff_lzw")
        expected = np.asarray(image.convert("L" if mode == "1" else "RGB"))
        warnings = ["from CMYK to RGB"] if mode == "CMYK" else []
        check(tmp_path / "a.tif", expected, warnings=warnings, tolerance=2 if mode == "YCbCr" else 0)

    def test_lab(self, tmp_path):
        image = smooth_image() // 2 + 64
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        ImageCms.applyTransform(Image.fromarray(image), to_lab).save(tmp_path / "a.tif")
        check(tmp_path / "a.tif", image, warnings=["from LAB to RGB"], tolerance=6)

    def test_compressions_that_pillow_lacks(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", smooth_image(), photometric="rgb", compression="zstd")
        check(tmp_path / "a.tif", smooth_image())

    def test_pages(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.stack([smooth_image()] * 3), photometric="rgb")
        with pytest.raises(UnsupportedImage, match=r"a\.tif: is a TIFF of 3 pages"):
            read(tmp_path / "a.tif", approve_all)

    def test_previews_are_not_pages(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(smooth_image(), photometric="rgb")
            writer.write(smooth_image(10, 14), photometric="rgb", subfiletype=1)
        check(tmp_path / "a.tif", smooth_image())

    @pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32, np.complex64])
    def test_unusual_samples(self, tmp_path, dtype):
        tifffile.imwrite(tmp_path / "a.tif", smooth_image(channels=1).astype(dtype), photometric="minisblack")
        with pytest.raises(UnsupportedImage, match=r"a\.tif: has .* samples"):
            read(tmp_path / "a.tif", approve_all)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
    def test_truncated(self, tmp_path, dtype, compression):
        tifffile.imwrite(
            tmp_path / "a.tif", smooth_image(dtype=dtype), photometric="rgb", compression=compression
        )
        data = (tmp_path / "a.tif").read_bytes()
        (tmp_path / "a.tif").write_bytes(data[: len(data) * 3 // 4])
        with pytest.raises(UnreadableImage, match=r"a\.tif"):
            read(tmp_path / "a.tif", approve_all)

    def test_cyclic_pages(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.stack([smooth_image()] * 2), photometric="rgb", metadata=None)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            first, second = (page.offset for page in tiff.pages)
        with (tmp_path / "a.tif").open("r+b") as file:
            file.seek(second)
            (count,) = struct.unpack("<H", file.read(2))
            file.seek(12 * count, io.SEEK_CUR)
            file.write(struct.pack("<I", first))
        with pytest.raises(UnsupportedImage, match="2 pages"):
            read(tmp_path / "a.tif", approve_all)


class TestOthers:
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_jpeg(self, tmp_path, mode):
        Image.fromarray(smooth_image()).convert(mode).save(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as reference:
            check(tmp_path / "a.jpg", np.asarray(reference))

    def test_cmyk_jpeg(self, tmp_path):
        """Inverted inks of Adobe, without a profile."""
        image = Image.fromarray(smooth_image()).convert("CMYK")
        image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
        assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
        check(tmp_path / "a.jpg", smooth_image(), warnings=["from CMYK to RGB"], tolerance=12)

    def test_cmyk_jpeg_with_a_profile_that_does_not_fit(self, tmp_path):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(smooth_image()).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=profile)
        assert check(
            tmp_path / "a.jpg", smooth_image(), warnings=["from CMYK to RGB"], tolerance=60
        ).metadata.icc is None  # fmt: skip

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_webp(self, tmp_path, mode):
        image = smooth_image(channels=len(mode))
        image[..., 3:] |= 1
        Image.fromarray(image).save(tmp_path / "a.webp", lossless=True, exact=True)
        check(tmp_path / "a.webp", image)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
    def test_bmp(self, tmp_path, mode):
        image = Image.fromarray(smooth_image()).convert(mode)
        image.save(tmp_path / "a.bmp")
        plain = {"1": "L", "P": "RGB"}.get(mode, mode)
        check(tmp_path / "a.bmp", np.asarray(image.convert(plain)))

    def test_animated_webp(self, tmp_path):
        frames = [Image.fromarray(smooth_image(seed=seed)) for seed in range(3)]
        frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
        warnings = ["is an animation of 3 frames, of which only the first"]
        check(tmp_path / "a.webp", smooth_image(seed=0), warnings=warnings)

    @pytest.mark.parametrize("extension", ["jpg", "webp", "bmp"])
    def test_truncated(self, tmp_path, extension):
        path = tmp_path / f"a.{extension}"
        Image.fromarray(smooth_image()).save(path)
        data = path.read_bytes()
        for keep in (40, len(data) // 2, len(data) - 60):
            path.write_bytes(data[:keep])
            with pytest.raises(UnreadableImage, match=path.name):
                read(path, approve_all)

    @pytest.mark.parametrize(
        ("start", "words"),
        [
            (b"\0\0\0\x20ftypisom", "a video"),
            (b"\x1aE\xdf\xa3", "a video"),
            (b"RIFF\0\0\0\0AVI ", "a video"),
            (b"\0\0\0\x1cftypmif1", "HEIF"),
            (b"8BPS\0\1", "Photoshop"),
            (b"%PDF-1.7", "PDF"),
        ],
    )
    def test_other_formats_are_named(self, tmp_path, start, words):
        (tmp_path / "a.png").write_bytes(start + bytes(100))
        with pytest.raises(UnsupportedImage, match=rf"a\.png: is .*{words}.*PNG, JPEG, WebP, TIFF, BMP"):
            read(tmp_path / "a.png", approve_all)

    @pytest.mark.parametrize(("data", "words"), [(b"", "is empty"), (b"Dear Sir", "is not an image")])
    def test_no_image(self, tmp_path, data, words):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UnreadableImage, match=words):
            read(tmp_path / "a.png", approve_all)

    def test_missing(self, tmp_path):
        with pytest.raises(UnreadableImage, match=r"a\.png: cannot be read \(No such file"):
            read(tmp_path / "a.png", approve_all)

    def test_the_content_decides(self, tmp_path):
        Image.fromarray(smooth_image()).save(tmp_path / "a.jpg", format="PNG")
        check(tmp_path / "a.jpg", smooth_image())


def test_damaged_jpegs(tmp_path):
    """libjpeg fills missing parts with gray, and Pillow returns them without an error."""
    jpeg, path = io.BytesIO(), tmp_path / "a.jpg"
    for progressive in (False, True):
        Image.fromarray(smooth_image(120, 160)).save(jpeg := io.BytesIO(), "JPEG", progressive=progressive)
        whole = jpeg.getvalue()
        path.write_bytes(whole + b"anything")
        assert read(path, approve_all).warnings == []
        path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
        with Image.open(path) as image:
            image.load()
        with pytest.raises(UnreadableImage, match=r"a\.jpg: the JPEG file is damaged"):
            read(path, approve_all)


ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIs
IxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy
MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAFAAUDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR
AxEAPwDSwViHIYSQ+z/vaJZq8TwoHSPGaP/Z
"""
"""A JPEG of 5x5 pixels with arithmetic coding, by cjpeg of libjpeg-turbo; Pillow cannot write it."""


def test_arithmetic_coding(tmp_path):
    (tmp_path / "a.jpg").write_bytes(base64.b64decode(ARITHMETIC))
    got = read(tmp_path / "a.jpg", approve_all)
    assert got.samples.shape[:2] == (5, 5)


def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="is a pipe, and images are read from files"):
        read(tmp_path / "a.png", approve_all)


class TestOrientation:
    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("extension", ["jpg", "webp", "png", "tif", "deep.tif"])
    def test_rotated_upright(self, tmp_path, extension, value):
        path = tmp_path / f"a.{extension}"
        image = Image.fromarray(smooth_image())
        exif = Image.Exif()
        exif[0x0112] = value
        if extension == "deep.tif":
            tifffile.imwrite(
                path, smooth_image(dtype=np.uint16), photometric="rgb", extratags=[(274, "H", 1, value, True)]
            )
        else:
            image.save(path, exif=exif)
        sizes = []
        got = read(path, lambda header: sizes.append((header.height, header.width)))
        with Image.open(path) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored)) if extension != "deep.tif" else None
        if expected is None:
            expected = apply_orientation(smooth_image(dtype=np.uint16), value)
        np.testing.assert_array_equal(got.samples, expected)
        assert sizes == [expected.shape[:2]], "`approve` gets the upright size"

    @pytest.mark.parametrize("value", range(10))
    def test_apply_orientation(self, value):
        exif = Image.Exif()
        exif[0x0112] = value
        image = Image.fromarray(smooth_image())
        image.info["exif"] = exif.tobytes()
        image.getexif().update(exif)
        np.testing.assert_array_equal(
            apply_orientation(smooth_image(), value), np.asarray(ImageOps.exif_transpose(image))
        )

    def test_by_compressed_xmp(self, tmp_path):
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
        for data, shape, warnings in ((zlib.compress(xmp), (28, 20, 3), 0), (b"nonsense", (20, 28, 3), 1)):
            whole = imagecodecs.png_encode(smooth_image())
            chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + data)
            (tmp_path / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
            got = read(tmp_path / "a.png", approve_all)
            assert got.samples.shape == shape
            assert len(got.warnings) == warnings
            assert got.metadata.xmp == (None if warnings else xmp)

    def test_by_xmp_without_exif_orientation(self, tmp_path):
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
        Image.fromarray(smooth_image()).save(tmp_path / "a.jpg", xmp=xmp)
        assert read(tmp_path / "a.jpg", approve_all).samples.shape == (28, 20, 3)
        Image.fromarray(smooth_image()).save(
            tmp_path / "a.jpg", xmp=xmp, exif=b"Exif\0\0" + exif_block(1, 28, 20)
        )
        assert read(tmp_path / "a.jpg", approve_all).samples.shape == (20, 28, 3)


class TestBombs:
    """A too large image is refused by its header, and Pillow raises no error or warning of its own."""

    @staticmethod
    def refuse(header):
        raise ImageTooLarge(f"{header.width} x {header.height}")

    @pytest.mark.parametrize("side", [20_000, 60_000])
    @pytest.mark.parametrize("extension", ["png", "bmp", "tif", "jpg"])
    def test_refused_by_the_header(self, tmp_path, extension, side):
        path = tmp_path / f"a.{extension}"
        if extension == "png":
            path.write_bytes(png((side, side, 8, 2, 0), [b""]))
        elif extension == "bmp":
            Image.fromarray(smooth_image()).save(path)
            data = bytearray(path.read_bytes())
            struct.pack_into("<ii", data, 18, side, side)
            path.write_bytes(data)
        elif extension == "jpg":
            Image.fromarray(smooth_image()).save(path)
            data = bytearray(path.read_bytes())
            struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, side, side)
            path.write_bytes(data)
        else:
            tifffile.imwrite(path, smooth_image(), photometric="rgb", compression="zlib")
            with tifffile.TiffFile(path, mode="r+") as tiff:
                tiff.pages.first.tags["ImageWidth"].overwrite(side)
                tiff.pages.first.tags["ImageLength"].overwrite(side)
        with pytest.raises(ImageTooLarge, match=f"{side} x {side}"):
            read(path, self.refuse)

    def test_pillows_own_limit_does_not_apply(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        for extension in ("jpg", "tif", "bmp", "png"):
            Image.fromarray(smooth_image()).convert("P" if extension == "tif" else "RGB").save(
                tmp_path / f"a.{extension}"
            )
            assert read(tmp_path / f"a.{extension}", approve_all).warnings == []
