"""AVIF and HEIC. Files come from Pillow, libvips, FFmpeg and pillow-heif; Pillow and libvips (libheif) also
decode what is written."""

import struct
import sys
import zlib

import av
import imagecodecs
import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, ImageOps

from image_files import exif_block, smooth_image
from interpolating import bicubic_model
from subpixel import Upscaler
from subpixel.errors import ImageTooLarge, OutputError, UnreadableImage, UnsupportedImage
from subpixel.images.heif import read_container
from subpixel.images.heif_description import describe
from subpixel.images.read import read, read_header
from subpixel.images.upscale import upscale_image
from subpixel.video.media.codecs import normal_scheduling

pillow_heif = pytest.importorskip("pillow_heif")

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
PQ = {"primaries": 9, "transfer": 16, "matrix": 9}


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


def approve_all(header):
    """Accept any size."""


def refuse(header):
    raise ImageTooLarge(f"{header.width} x {header.height}")


def libvips(path):
    """The samples by libheif, with dav1d or libaom."""
    return pyvips.Image.new_from_buffer(path.read_bytes(), "").numpy()


def heic(path, image, **options):
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[1 if image.ndim == 2 else image.shape[2]]
    mode += ";16" * (image.dtype == np.uint16)
    data = np.ascontiguousarray(image).tobytes()
    pillow_heif.from_bytes(mode, image.shape[1::-1], data).save(path, **options)


def cicp_of_png(path):
    data = path.read_bytes()
    at = data.find(b"cICP")
    return tuple(data[at + 4 : at + 8]) if at > 0 else None


class TestReadAvif:
    @pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 1), (1, 9)])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_8_bits(self, tmp_path, channels, size):
        image = smooth_image(*size, channels=channels)
        (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(image, 100))
        got = read(tmp_path / "a.avif", approve_all)
        np.testing.assert_array_equal(got.samples, image)
        assert got.bits == 8 and got.warnings == []

    @pytest.mark.parametrize("bits", [10, 12])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_10_and_12_bits_use_the_full_range_of_16(self, tmp_path, bits, channels):
        image = smooth_image(33, 47, channels, np.uint16) >> (16 - bits)
        (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(image, 100, bitspersample=bits))
        got = read(tmp_path / "a.avif", approve_all)
        assert got.samples.dtype == np.uint16 and got.bits == bits
        np.testing.assert_array_equal(
            got.samples, np.round(image * (65535 / (2**bits - 1))).astype(np.uint16)
        )

    @pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4", "4:0:0"])
    @pytest.mark.parametrize("size", [(40, 60), (37, 53)])
    def test_chroma_as_other_decoders(self, tmp_path, subsampling, size):
        image = Image.fromarray(smooth_image(*size))
        image.save(tmp_path / "a.avif", quality=70, subsampling=subsampling)
        got = read(tmp_path / "a.avif", approve_all).samples
        with Image.open(tmp_path / "a.avif") as other:
            expected = np.asarray(other)
            luma = np.asarray(other.convert("L")).astype(int)
        assert np.abs(got.astype(int) - expected).max() <= 1
        # libheif interpolates chroma differently, but agrees in luma.
        other = np.asarray(Image.fromarray(libvips(tmp_path / "a.avif")).convert("L"))
        assert np.abs(other - luma).mean() < 1

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_rotation_is_applied_once(self, tmp_path, orientation):
        """Pillow stores EXIF's orientation as irot and imir, and keeps the tag here."""
        image = Image.fromarray(smooth_image(33, 47))
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4", exif=exif)
        with Image.open(tmp_path / "a.avif") as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        got = read(tmp_path / "a.avif", approve_all)
        np.testing.assert_array_equal(got.samples, expected)
        assert np.abs(got.samples.astype(int) - libvips(tmp_path / "a.avif")).max() <= 1
        with pytest.raises(ImageTooLarge, match="47 x 33" if orientation < 5 else "33 x 47"):
            read(tmp_path / "a.avif", refuse)

    def test_metadata(self, tmp_path):
        exif = exif_block(1, 47, 33)
        image = Image.fromarray(smooth_image(33, 47))
        image.save(tmp_path / "a.avif", icc_profile=SRGB, exif=b"Exif\0\0" + exif, xmp=XMP)
        metadata = read(tmp_path / "a.avif", approve_all).metadata
        assert metadata.icc == SRGB and metadata.xmp == XMP
        assert b"MAKER" in metadata.exif  # Pillow removes the orientation, so it is not the same block

    def test_ffmpeg(self, tmp_path):
        """libavif's own files are not the only ones: FFmpeg's muxer with SVT-AV1."""
        image = smooth_image(64, 96)
        with normal_scheduling(), av.open(tmp_path / "a.avif", "w", format="avif") as file:
            stream = file.add_stream("libsvtav1", rate=1, options={"crf": "20"})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
            for packet in [*stream.encode(av.VideoFrame.from_ndarray(image)), *stream.encode()]:
                file.mux(packet)
        got = read(tmp_path / "a.avif", approve_all)
        assert got.samples.dtype == np.uint16
        assert np.abs(got.samples / 257 - image).mean() < 4

    def test_animation(self, tmp_path):
        frames = [Image.fromarray(smooth_image(seed=seed)) for seed in range(3)]
        frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
        with pytest.raises(UnsupportedImage, match=r"a\.avif: is an AVIF animation"):
            read(tmp_path / "a.avif", approve_all)

    def test_damage(self, tmp_path):
        data = bytes(imagecodecs.avif_encode(smooth_image(), 90))
        for cut in (20, 100, len(data) // 2, len(data) - 30):
            (tmp_path / "a.avif").write_bytes(data[:cut])
            with pytest.raises(UnreadableImage, match=r"a\.avif"):
                read(tmp_path / "a.avif", approve_all)


class TestReadHeic:
    @pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 9)])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_8_bits(self, tmp_path, size, channels):
        image = smooth_image(*size, channels=channels)
        heic(tmp_path / "a.heic", image, quality=95, chroma=444)
        got = read(tmp_path / "a.heic", approve_all)
        assert got.samples.shape == image.shape and got.samples.dtype == np.uint8
        assert np.abs(got.samples.astype(int) - image).mean() < 4
        other = pillow_heif.open_heif(tmp_path / "a.heic").to_pillow()
        np.testing.assert_array_equal(got.samples, np.asarray(other))

    def test_ffmpeg_decodes_the_same(self, tmp_path):
        """An independent decoder of HEVC gives the same luma."""
        image = smooth_image(64, 96, 1)
        heic(tmp_path / "a.heic", image, quality=60)
        with av.open(tmp_path / "a.heic") as file:
            luma = next(file.decode(video=0)).to_ndarray(format="gray")
        np.testing.assert_array_equal(read(tmp_path / "a.heic", approve_all).samples, luma)

    def test_10_bits(self, tmp_path):
        image = smooth_image(33, 47, dtype=np.uint16)
        heic(tmp_path / "a.heic", image, quality=95, chroma=444)
        got = read(tmp_path / "a.heic", approve_all)
        assert got.samples.dtype == np.uint16 and got.bits == 10
        assert len(np.unique(got.samples)) > 256
        assert np.abs(got.samples.astype(int) - image).mean() < 4 * 257
        steps = got.samples.astype(np.uint32) * 1023
        assert (np.abs(steps / 65535 - np.round(steps / 65535)) < 0.01).all()  # replicated, not only shifted

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_rotation_is_applied_once(self, tmp_path, upscaler, orientation):
        """pillow-heif writes irot and imir for EXIF's orientation, and keeps the tag, as phones do."""
        image = smooth_image(34, 46)
        exif = Image.Exif()
        exif[0x0112] = orientation
        heic(tmp_path / "a.heic", image, quality=95, chroma=444, exif=exif.tobytes())
        upright = ImageOps.exif_transpose(_tagged(image, orientation))
        got = read(tmp_path / "a.heic", approve_all)
        assert got.samples.shape[:2] == upright.size[::-1]
        assert np.abs(got.samples.astype(int) - np.asarray(upright)).mean() < 4
        upscale_image(tmp_path / "a.heic", tmp_path / "a.png", upscaler=upscaler)
        with Image.open(tmp_path / "a.png") as large:
            assert large.size == (2 * upright.width, 2 * upright.height)
            assert large.getexif()[0x0112] == 1

    def test_grid(self, tmp_path):
        """Phones store tiles of 512 pixels."""
        image = smooth_image(520, 700)
        file = pillow_heif.from_bytes("RGB", (700, 520), image.tobytes())
        file.save(tmp_path / "a.heic", quality=90, tile_size=256)
        got = read(tmp_path / "a.heic", approve_all)
        assert got.samples.shape == image.shape and got.warnings == []
        assert np.abs(got.samples.astype(int) - image).mean() < 3

    def test_more_images_and_thumbnails_are_dropped(self, tmp_path, upscaler):
        images = [smooth_image(40, 60, seed=seed) for seed in range(3)]
        file = pillow_heif.from_bytes("RGB", (60, 40), images[0].tobytes())
        for image in images[1:]:
            file.add_frombytes("RGB", (60, 40), image.tobytes())
        file.save(tmp_path / "a.heic", quality=95, chroma=444, primary_index=1)
        got = read(tmp_path / "a.heic", approve_all)
        assert np.abs(got.samples.astype(int) - images[1]).mean() < 4
        assert got.warnings == ["it also contains 2 more images, which were dropped"]

    def test_metadata(self, tmp_path, upscaler):
        exif = exif_block(1, 47, 33)
        image = Image.fromarray(smooth_image(33, 47))
        image.info = {"icc_profile": SRGB}
        file = pillow_heif.from_pillow(image)
        file.save(tmp_path / "a.heic", exif=b"Exif\0\0" + exif, xmp=XMP)
        metadata = read(tmp_path / "a.heic", approve_all).metadata
        assert metadata.icc == SRGB and metadata.exif == exif and metadata.xmp == XMP

    def test_pq_reaches_png(self, tmp_path, upscaler):
        options = {
            "color_primaries": 9,
            "transfer_characteristics": 16,
            "matrix_coefficients": 9,
            "full_range_flag": 1,
        }
        heic(tmp_path / "a.heic", smooth_image(dtype=np.uint16), quality=90, **options)
        result = upscale_image(tmp_path / "a.heic", tmp_path / "a.png", upscaler=upscaler)
        assert cicp_of_png(tmp_path / "a.png") == (9, 16, 0, 1)
        assert result.warnings == ()

    def test_missing_extra(self, tmp_path, monkeypatch):
        heic(tmp_path / "a.heic", smooth_image())
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(UnsupportedImage, match=r"a\.heic: .*pip install 'subpixel\[heif\]'"):
            read(tmp_path / "a.heic", approve_all)
        with pytest.raises(UnsupportedImage, match=r"a\.heic: .*pip install"):  # so does --dry-run
            read_header(tmp_path / "a.heic")

    def test_damage(self, tmp_path):
        heic(tmp_path / "a.heic", smooth_image(64, 96))
        data = (tmp_path / "a.heic").read_bytes()
        for cut in (20, 100, len(data) // 2, len(data) - 30):
            (tmp_path / "b.heic").write_bytes(data[:cut])
            with pytest.raises(UnreadableImage, match=r"b\.heic"):
                read(tmp_path / "b.heic", approve_all)

    def test_it_is_not_written(self, tmp_path, upscaler):
        heic(tmp_path / "a.heic", smooth_image())
        with pytest.raises(OutputError, match="only read, not written"):
            upscale_image(tmp_path / "a.heic", tmp_path / "b.heic", upscaler=upscaler)


def _tagged(image, orientation):
    result = Image.fromarray(image)
    result.getexif()[0x0112] = orientation
    return result


class TestWriteAvif:
    @pytest.fixture
    def source(self, tmp_path):
        """Writes an image as PNG, and returns its upscaled samples."""

        def make(image, upscaler, *chunks):
            data = bytes(imagecodecs.png_encode(image))
            (tmp_path / "a.png").write_bytes(data[:33] + b"".join(chunks) + data[33:])
            upscale_image(tmp_path / "a.png", tmp_path / "b.png", upscaler=upscaler, overwrite=True)
            return imagecodecs.png_decode((tmp_path / "b.png").read_bytes())

        return make

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_quality_100_is_lossless(self, tmp_path, upscaler, source, channels):
        large = source(smooth_image(17, 23, channels), upscaler)
        upscale_image(tmp_path / "a.png", tmp_path / "a.avif", upscaler=upscaler, quality=100)
        with Image.open(tmp_path / "a.avif") as got:
            pixels = np.asarray(got.convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
        np.testing.assert_array_equal(pixels, large)

    def test_quality_100_of_16_bits_keeps_12(self, tmp_path, upscaler, source):
        large = source(smooth_image(17, 23, 4, np.uint16), upscaler)
        result = upscale_image(tmp_path / "a.png", tmp_path / "a.avif", upscaler=upscaler, quality=100)
        assert result.warnings == ("reduced from 16 to 12 bits per sample, the limit of AVIF",)
        got = libvips(tmp_path / "a.avif") >> 4
        assert np.abs(got - large * (4095 / 65535)).max() <= 0.51

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_default_quality(self, tmp_path, upscaler, source, dtype):
        large = source(smooth_image(33, 47, 3, dtype), upscaler)
        upscale_image(tmp_path / "a.png", tmp_path / "a.avif", upscaler=upscaler)
        got = libvips(tmp_path / "a.avif")
        assert got.dtype == dtype
        unit = np.iinfo(dtype).max / 255
        assert np.abs(got.astype(int) - large).mean() < unit
        assert describe(read_container(tmp_path / "a.avif")).bits == (8 if dtype == np.uint8 else 10)

    @pytest.mark.parametrize("profile", [None, SRGB])
    def test_lossy_colors_have_no_bias(self, tmp_path, upscaler, source, profile):
        large = source(smooth_image(96, 128), upscaler)
        Image.open(tmp_path / "a.png").save(tmp_path / "c.png", icc_profile=profile)
        upscale_image(tmp_path / "c.png", tmp_path / "a.avif", upscaler=upscaler)
        error = libvips(tmp_path / "a.avif") - large.astype(float)
        assert np.abs(error.mean((0, 1))).max() < 0.3

    def test_metadata(self, tmp_path, upscaler):
        exif, profile = exif_block(6, 23, 17), SRGB
        image = Image.fromarray(smooth_image(17, 23, 4))
        image.save(tmp_path / "a.png", icc_profile=profile, exif=exif)
        result = upscale_image(tmp_path / "a.png", tmp_path / "a.avif", upscaler=upscaler)
        assert result.warnings == ()
        with Image.open(tmp_path / "a.avif") as got:
            assert got.size == (34, 46) and got.mode == "RGBA"
            assert got.info["icc_profile"] == profile
            assert got.getexif()[0x0112] == 1
            assert got.getexif().get_ifd(0x8769)[0xA002] == 34
        image = pyvips.Image.new_from_buffer((tmp_path / "a.avif").read_bytes(), "")
        assert image.get("icc-profile-data") == profile and (image.width, image.height) == (34, 46)
        with av.open(tmp_path / "a.avif") as file:
            assert next(file.decode(video=0)).width == 34

    def test_xmp_alone(self, tmp_path, upscaler):
        Image.fromarray(smooth_image()).save(tmp_path / "a.webp", xmp=XMP)
        upscale_image(tmp_path / "a.webp", tmp_path / "a.avif", upscaler=upscaler)
        with Image.open(tmp_path / "a.avif") as got:
            assert got.info["xmp"] == XMP

    def test_hdr_colors_pass_between_avif_and_png(self, tmp_path, upscaler):
        image = smooth_image(17, 23, dtype=np.uint16) >> 6
        (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(image, 95, bitspersample=10, **PQ))
        assert upscale_image(tmp_path / "a.avif", tmp_path / "b.png", upscaler=upscaler).warnings == ()
        assert cicp_of_png(tmp_path / "b.png") == (9, 16, 0, 1)
        assert upscale_image(tmp_path / "a.avif", tmp_path / "c.avif", upscaler=upscaler).warnings == ()
        assert describe(read_container(tmp_path / "c.avif")).cicp[:2] == (9, 16)
        with av.open(tmp_path / "c.avif") as file:
            frame = next(file.decode(video=0))
            assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)
        for name in ("d.jpg", "d.jxl"):
            result = upscale_image(tmp_path / "a.avif", tmp_path / name, upscaler=upscaler)
            assert any("only PNG, AVIF and lossless JPEG XL" in warning for warning in result.warnings)

    def test_light_levels(self, tmp_path, upscaler, source):
        def chunk(name, body):
            return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

        mastering = struct.pack(">8HII", 34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50)
        chunks = [
            chunk(b"cICP", b"\x09\x10\0\1"),
            chunk(b"mDCV", mastering),
            chunk(b"cLLI", struct.pack(">II", 10_000_000, 4_000_000)),
        ]
        source(smooth_image(17, 23, dtype=np.uint16), upscaler, *chunks)
        upscale_image(tmp_path / "a.png", tmp_path / "a.avif", upscaler=upscaler)
        assert imagecodecs.avif_decode((tmp_path / "a.avif").read_bytes()).shape == (34, 46, 3)
        upscale_image(tmp_path / "a.avif", tmp_path / "c.png", upscaler=upscaler)
        data = (tmp_path / "c.png").read_bytes()
        assert all(each in data for each in chunks)
