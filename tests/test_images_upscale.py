"""`upscale_image` on files from independent writers; independent readers check the results."""

import hashlib
import os
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from image_files import cmyk_profile, exif_block, png_chunk, smooth_image
from interpolating import bicubic_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import (
    ImageTooLarge,
    OutputError,
    OutputExists,
    OutputIsInput,
    UnreadableImage,
    UnsupportedImage,
)
from subpixel.images.exif import update_exif
from subpixel.images.upscale import upscale_image
from subpixel.ops.resize import imresize
from subpixel.upscaler import Upscaler

INSIDE = (slice(8, -8), slice(8, -8))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:title="cat"/></x:xmpmeta>'


@pytest.fixture(scope="module")
def upscaler():
    model = bicubic_model(2)
    return Upscaler(model, NumpyEngine(model, threads=2))


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def image_with(channels, dtype=np.uint8):
    """Colors without overshoot, and a linear ramp as alpha: the limits of alpha would change a curve."""
    image = smooth_image(channels=channels, dtype=dtype)
    if channels in (2, 4):
        image[..., -1] = np.linspace(0.1, 1, 28) * np.iinfo(dtype).max
    return image


def stored(path):
    """The samples of a written file, by a reader that is independent of the writer if there is one."""
    if path.suffix == ".tif":
        return tifffile.imread(path)
    with Image.open(path) as image:
        samples = np.asarray(image)
    if path.suffix == ".png" and path.read_bytes()[24] == 16 and image.mode == "RGB":
        deep = imagecodecs.png_decode(path.read_bytes())
        np.testing.assert_array_equal(deep >> 8, samples)  # Pillow reads the upper 8 bits
        return deep
    return samples


@pytest.mark.parametrize("extension", ["png", "tif", "webp", "jpg", "bmp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bits(tmp_path, upscaler, channels, extension):
    image = image_with(channels)
    if channels in (2, 4) and extension in ("jpg", "bmp"):
        image[..., -1] = 255
    output = tmp_path / f"out.{extension}"
    report = upscale_image(save(tmp_path / "in.png", image), output, upscaler=upscaler, quality=100)
    assert (report.width, report.height, report.scale, report.warnings) == (56, 40, 2, ())
    result = stored(output).astype(float)
    expected = imresize(image / 255, 2).clip(0, 1) * 255
    if extension == "webp" and channels < 3:
        expected = np.dstack(
            [expected.reshape(40, 56, -1)[..., :1]] * 3 + [expected[..., 1:]][: channels - 1]
        )
    if extension in ("jpg", "bmp") and channels in (2, 4):
        expected = expected[..., : channels - 1].squeeze()
    assert result.shape == expected.shape
    assert np.abs(result - expected)[INSIDE].max() <= (12 if extension == "jpg" else 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("source", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, upscaler, source, extension, channels):
    image = image_with(channels, np.uint16)
    if source == "png":
        (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    else:
        tifffile.imwrite(
            tmp_path / "in.tif",
            image,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
        )
    output = tmp_path / f"out.{extension}"
    upscale_image(tmp_path / f"in.{source}", output, upscaler=upscaler)
    result = imagecodecs.png_decode(output.read_bytes()) if extension == "png" else stored(output)
    assert result.dtype == np.uint16
    expected = imresize(image / 65535, 2).clip(0, 1) * 65535
    assert np.abs(result - expected)[INSIDE].max() <= 2
    if extension == "tif":
        with tifffile.TiffFile(output) as tiff:
            page = tiff.pages.first
            assert page.photometric == (tifffile.PHOTOMETRIC.RGB if channels > 2 else 1)
            assert [int(extra) for extra in page.extrasamples] == ([2] if channels in (2, 4) else [])


@pytest.mark.parametrize("extension", ["jpg", "webp", "bmp"])
def test_sixteen_bits_are_reduced_with_a_warning(tmp_path, upscaler, extension):
    image = smooth_image(dtype=np.uint16)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    report = upscale_image(tmp_path / "in.png", tmp_path / f"out.{extension}", upscaler=upscaler)
    assert "from 16 to 8 bits" in report.warnings[0]
    expected = imresize(image / 65535, 2).clip(0, 1) * 255
    assert np.abs(stored(tmp_path / f"out.{extension}") - expected)[INSIDE].mean() < 3


class TestMetadata:
    @pytest.mark.parametrize("output", ["png", "jpg", "webp", "tif"])
    @pytest.mark.parametrize("source", ["png", "deep.png", "jpg", "webp", "tif"])
    def test_kept_between_formats(self, tmp_path, upscaler, source, output):
        """Color profile, EXIF, XMP and dpi. The image is rotated upright, and its tags are updated."""
        path = tmp_path / f"in.{source}"
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010F] = "Camera"
        exif[ExifTags.IFD.Exif] = {0xA002: 28, 0xA434: "Lens"}
        exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (51.0, 30.0, 0.5)}
        options = {"exif": exif.tobytes(), "icc_profile": SRGB, "dpi": (300, 300)}
        if source == "tif":
            exif[700] = XMP
            options["exif"] = exif.tobytes()
        else:
            options["xmp"] = XMP
        save(path, smooth_image(), **options)
        if source == "deep.png":
            eight, sixteen = path.read_bytes(), imagecodecs.png_encode(smooth_image(dtype=np.uint16))
            extra = eight[33 : eight.index(b"IDAT") - 4]
            path.write_bytes(sixteen[:33] + extra + sixteen[33:])
        if path.suffix == ".png":  # Pillow does not write XMP there
            data = path.read_bytes()
            chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)
            path.write_bytes(data[:33] + chunk + data[33:])
        report = upscale_image(path, tmp_path / f"out.{output}", upscaler=upscaler)
        lost = any("its resolution does not fit into" in warning for warning in report.warnings)
        assert lost == (output == "webp" and source != "webp")
        with Image.open(tmp_path / f"out.{output}") as image:
            image.load()
            assert image.size == (40, 56)
            assert image.info["icc_profile"] == SRGB
            if source != "webp" and output != "webp":  # WebP has no dpi
                assert [round(float(value)) for value in image.info["dpi"]] == [300, 300]
            xmp = image.info["xmp"]
            assert XMP.replace(b'Orientation="6"', b'Orientation="1"') == xmp
            tags = image.getexif()
            assert tags.get(0x0112, 1) == 1
            assert tags[0x010F] == "Camera"
            details = tags.get_ifd(ExifTags.IFD.Exif)
            assert (details[0xA002], details[0xA434]) == (40, "Lens")
            assert tags.get_ifd(ExifTags.IFD.GPSInfo)[2] == (51.0, 30.0, 0.5)

    def test_kept_in_bigtiff(self, tmp_path, upscaler, monkeypatch):
        monkeypatch.setattr("subpixel.images.codecs.tiff._MAX_CLASSIC_BYTES", 1000)
        save(tmp_path / "in.jpg", smooth_image(), exif=b"Exif\0\0" + exif_block(1, 28, 20), icc_profile=SRGB)
        upscale_image(tmp_path / "in.jpg", tmp_path / "out.tif", upscaler=upscaler)
        with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
            assert tiff.is_bigtiff
            assert tiff.asarray().shape == (40, 56, 3)
            assert tiff.pages.first.tags["ExifTag"].value["PixelXDimension"] == 56
            assert tiff.pages.first.tags["Make"].value == "Camera"

    def test_texts_that_are_not_ascii(self, tmp_path, upscaler):
        block = exif_block(1, 28, 20).replace(b"Camera", "Jos\u00e9".encode().ljust(6))
        save(tmp_path / "in.jpg", smooth_image(), exif=b"Exif\0\0" + block)
        for name in ("out.tif", "out.png"):
            upscale_image(tmp_path / "in.jpg", tmp_path / name, upscaler=upscaler)
            with Image.open(tmp_path / name) as image:
                assert image.getexif()[0x010F].encode("latin-1").decode() == "Jos\u00e9 "

    def test_exif_that_only_tiff_cannot_store(self, tmp_path, upscaler):
        block = exif_block(1, 28, 20).replace(b"MAKER", b"maker")
        offset = block.index(b"\x0f\x01\x02\0\x07\0\0\0") + 8  # the offset of the maker's name
        block = block[:offset] + b"\xff\xff\0\0" + block[offset + 4 :]
        save(tmp_path / "in.jpg", smooth_image(), exif=b"Exif\0\0" + block)
        report = upscale_image(tmp_path / "in.jpg", tmp_path / "out.tif", upscaler=upscaler)
        assert report.warnings
        assert stored(tmp_path / "out.tif").shape == (40, 56, 3)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_exif_is_changed_in_place(self, order):
        thumbnail = b"\xff\xd8 small image \xff\xd9"
        before = exif_block(8, 28, 20, thumbnail=thumbnail, order=order)
        after = update_exif(before, 40_000, 70_000)
        assert len(after) == len(before)
        assert thumbnail not in after
        exif = Image.Exif()
        exif.load(after)
        assert (exif[0x0112], exif[0x0100], exif[0x0101], exif[0x010F]) == (1, 40_000, 70_000, "Camera")
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert (details[0xA002], details[0xA003]) == (40_000, 70_000)
        assert exif.get_ifd(ExifTags.IFD.IFD1) == {}
        # The maker note contains its own offset, and must still be there.
        offset = before.index(b"MAKER")
        assert after[offset : offset + 9] == before[offset : offset + 9]
        assert int.from_bytes(after[offset + 5 : offset + 9], {"<": "little", ">": "big"}[order]) == offset

    def test_maker_notes_are_kept_in_a_jpeg(self, tmp_path, upscaler):
        block = exif_block(6, 28, 20, thumbnail=b"\xff\xd8thumb\xff\xd9")
        save(tmp_path / "in.jpg", smooth_image(), exif=b"Exif\0\0" + block)
        upscale_image(tmp_path / "in.jpg", tmp_path / "out.jpg", upscaler=upscaler)
        with Image.open(tmp_path / "out.jpg") as image:
            assert image.info["exif"] == b"Exif\0\0" + update_exif(block, 40, 56)

    @pytest.mark.parametrize("junk", [b"junk", b"II*\0\xff\xff\xff\x7f", exif_block(6, 28, 20)[:100]])
    def test_damaged_exif_is_dropped(self, tmp_path, upscaler, junk):
        save(tmp_path / "in.jpg", smooth_image(), exif=b"Exif\0\0" + junk)
        report = upscale_image(tmp_path / "in.jpg", tmp_path / "out.jpg", upscaler=upscaler)
        assert any("EXIF data is damaged" in warning for warning in report.warnings)
        with Image.open(tmp_path / "out.jpg") as image:
            assert "exif" not in image.info

    def test_cyclic_exif(self):
        """Its pointer to the EXIF directory refers to the directory that contains it."""
        directory = b"\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + bytes(4)
        circle = b"II*\0\x08\0\0\0" + directory
        assert update_exif(circle, 1, 1) == circle

    def test_png_keeps_its_color_space_and_texts(self, tmp_path, upscaler):
        chunks = [(b"gAMA", (100_000).to_bytes(4)), (b"cHRM", bytes(range(32))), (b"tEXt", b"Title\0Cat")]
        for image in (smooth_image(), smooth_image(dtype=np.uint16)):
            data = imagecodecs.png_encode(image)
            parts = b"".join(png_chunk(*chunk) for chunk in chunks)
            (tmp_path / "in.png").write_bytes(data[:33] + parts + data[33:])
            upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, overwrite=True)
            result = (tmp_path / "out.png").read_bytes()
            for chunk in chunks:
                assert result.index(png_chunk(*chunk)) < result.index(b"IDAT")

    @pytest.mark.parametrize("extension", ["jpg", "tif"])
    def test_a_cmyk_profile_is_applied(self, tmp_path, upscaler, extension):
        path = tmp_path / f"in.{extension}"
        cyan = Image.new("CMYK", (28, 20), (255, 0, 0, 0))
        cyan.save(path, icc_profile=cmyk_profile())  # in which cyan is green
        report = upscale_image(path, tmp_path / "out.png", upscaler=upscaler)
        assert report.warnings == ("converted from CMYK to RGB",)
        with Image.open(tmp_path / "out.png") as image:
            np.testing.assert_allclose(image.getpixel((28, 20)), (0, 255, 0), atol=3)
            assert "icc_profile" not in image.info

    def test_warnings_about_dropped_metadata(self, tmp_path, upscaler):
        save(tmp_path / "in.tif", smooth_image(), icc_profile=SRGB, exif=b"Exif\0\0" + exif_block(1, 28, 20))
        report = upscale_image(tmp_path / "in.tif", tmp_path / "out.bmp", upscaler=upscaler)
        assert "color profile does not fit into a BMP" in report.warnings[0]
        assert "EXIF data does not fit into a BMP" in report.warnings[1]


class TestRefusals:
    def test_output_is_the_input(self, tmp_path, upscaler):
        path = save(tmp_path / "in.png", smooth_image())
        os.link(path, tmp_path / "hard.png")
        (tmp_path / "soft.png").symlink_to(path)
        (tmp_path / "folder").symlink_to(tmp_path)
        before = path.read_bytes()
        for output in (path, tmp_path / "hard.png", tmp_path / "soft.png", tmp_path / "folder" / "in.png"):
            with pytest.raises(OutputIsInput, match=output.name):
                upscale_image(path, output, upscaler=upscaler, overwrite=True)
        assert path.read_bytes() == before

    def test_existing_output(self, tmp_path, upscaler):
        save(tmp_path / "in.png", smooth_image())
        (tmp_path / "out.png").write_bytes(b"mine")
        with pytest.raises(OutputExists, match=r"out\.png.*--overwrite"):
            upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler)
        assert (tmp_path / "out.png").read_bytes() == b"mine"
        upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, overwrite=True)
        assert stored(tmp_path / "out.png").shape == (40, 56, 3)

    def test_size_of_the_output(self, tmp_path, upscaler):
        save(tmp_path / "in.png", smooth_image())
        with pytest.raises(ImageTooLarge, match=r"in\.png: would become 56 x 40.*--max-output-pixels"):
            upscale_image(
                tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_output_pixels=2239
            )
        upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_output_pixels=2240)

    @pytest.mark.parametrize(("extension", "side"), [("jpg", 65_500), ("webp", 16_383), ("bmp", 32_767)])
    def test_longest_side_of_the_format(self, tmp_path, upscaler, extension, side):
        save(tmp_path / "in.png", np.zeros((1, side // 2 + 1), np.uint8))
        with pytest.raises(OutputError, match=rf"out\.{extension}: .* stores at most {side} .*write PNG"):
            upscale_image(tmp_path / "in.png", tmp_path / f"out.{extension}", upscaler=upscaler)

    @pytest.mark.parametrize("extension", ["jpg", "bmp"])
    def test_transparency(self, tmp_path, upscaler, extension):
        save(tmp_path / "in.png", smooth_image(channels=4))
        with pytest.raises(OutputError, match=r"in\.png: has transparency.*write PNG or WebP or TIFF"):
            upscale_image(tmp_path / "in.png", tmp_path / f"out.{extension}", upscaler=upscaler)

    def test_unknown_extension(self, tmp_path, upscaler):
        save(tmp_path / "in.png", smooth_image())
        with pytest.raises(OutputError, match=r"out\.xyz.*'\.xyz'; known: \.png, \.apng, \.jpg"):
            upscale_image(tmp_path / "in.png", tmp_path / "out.xyz", upscaler=upscaler)

    def test_no_file_remains(self, tmp_path, upscaler):
        (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(smooth_image())[:-20])
        (tmp_path / "in.pdf").write_bytes(b"%PDF-1.7" + bytes(100))
        for name, error in (("in.png", UnreadableImage), ("in.pdf", UnsupportedImage)):
            with pytest.raises(error, match=name):
                upscale_image(tmp_path / name, tmp_path / "out.png", upscaler=upscaler)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pdf", "in.png"]

    def test_out_of_memory(self, tmp_path, upscaler, monkeypatch):
        def run_out(*arguments, **options):
            raise MemoryError("Unable to allocate 7 EiB")

        monkeypatch.setattr("subpixel.images.upscale.upscale_strips", run_out)
        save(tmp_path / "in.png", smooth_image())
        with pytest.raises(ImageTooLarge, match=r"in\.png: .*does not fit into memory"):
            upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler)

    def test_contradictory_arguments(self, tmp_path, upscaler):
        with pytest.raises(ValueError, match="not both"):
            upscale_image("in.png", "out.png", upscaler=upscaler, scale=2)
        with pytest.raises(ValueError, match="not both"):
            upscale_image("in.png", "out.png", upscaler=upscaler, content="clean")
        with pytest.raises(ValueError, match="1 to 100"):
            upscale_image("in.png", "out.png", upscaler=upscaler, quality=101)


def test_quality(tmp_path, upscaler):
    save(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    sizes = []
    for quality in (20, 95, 100):
        for extension in ("jpg", "webp"):
            output = tmp_path / f"{quality}.{extension}"
            upscale_image(tmp_path / "in.png", output, upscaler=upscaler, quality=quality)
            sizes.append(output.stat().st_size)
    assert sizes[0] < sizes[2] < sizes[4]
    assert sizes[1] < sizes[3] < sizes[5]
    assert b"VP8L" in (tmp_path / "100.webp").read_bytes()[:100]
    with Image.open(tmp_path / "95.jpg") as image:
        assert {(h, v) for _, h, v, _ in image.layer} == {(1, 1)}, "color at full resolution"


def test_same_file_each_time(tmp_path, upscaler):
    save(tmp_path / "in.png", smooth_image())
    digests = set()
    for name in ("a.png", "b.png"):
        upscale_image(tmp_path / "in.png", tmp_path / name, upscaler=upscaler)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_result(tmp_path, upscaler):
    save(tmp_path / "in.png", smooth_image())
    seen = []
    report = upscale_image(
        str(tmp_path / "in.png"), str(tmp_path / "out.png"), upscaler=upscaler, progress=seen.append
    )
    assert (report.input, report.output) == (str(tmp_path / "in.png"), str(tmp_path / "out.png"))
    assert (report.model, report.engine, report.precision) == ("bicubic-x2", "numpy", "fp32")
    assert report.seconds >= 0
    assert seen[-1].fraction == 1
    assert seen[-1].seconds > 0
    assert (seen[-1].frames, seen[-1].total_frames) == (0, None)
