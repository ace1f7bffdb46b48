"""Metadata of images is kept, updated, or dropped with a warning."""

import io
import struct
import threading
import warnings
import zlib
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, IptcImagePlugin

from image_files import png_chunk, smooth_image
from interpolating import bicubic_model
from subpixel import Upscaler
from subpixel.images.pillow_warnings import caught_warnings
from subpixel.images.upscale import upscale_image

IIM = b"\x1c\x02\x05\0\x05Title\x1c\x02\x19\0\x07keyword\x1c\x02\x19\0\x07another"


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


def jpeg(*segments, **options):
    """A JPEG file with more segments (marker and body) after the JFIF segment."""
    file = io.BytesIO()
    Image.fromarray(smooth_image()).save(file, "JPEG", **options)
    data = file.getvalue()
    extra = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body for marker, body in segments)
    return data[:20] + extra + data[20:]


def png(*chunks, image=None):
    data = bytes(imagecodecs.png_encode(smooth_image() if image is None else image))
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def chunks_of(path):
    data, offset, found = path.read_bytes(), 8, {}
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4])
        found.setdefault(data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length])
        offset += length + 12
    return found


def upscale(tmp_path, upscaler, name, data, output):
    (tmp_path / name).write_bytes(data)
    return upscale_image(tmp_path / name, tmp_path / output, upscaler=upscaler, overwrite=True)


def photoshop(*resources):
    parts = [
        b"8BIM"
        + struct.pack(">H", number)
        + b"\0\0"
        + struct.pack(">I", len(body))
        + body
        + bytes(len(body) % 2)
        for number, body in resources
    ]
    return b"".join(parts)


class TestIptc:
    SEGMENT = (0xED, b"Photoshop 3.0\0" + photoshop((0x03ED, bytes(16)), (0x0404, IIM)))

    @pytest.mark.parametrize("output", ["out.jpg", "out.tif"])
    def test_kept(self, tmp_path, upscaler, output):
        report = upscale(tmp_path, upscaler, "in.jpg", jpeg(self.SEGMENT), output)
        assert report.warnings == ()
        with Image.open(tmp_path / output) as image:
            found = IptcImagePlugin.getiptcinfo(image)
        assert found == {(2, 5): b"Title", (2, 25): [b"keyword", b"another"]}

    @pytest.mark.parametrize("type_", ["B", "I"])
    def test_from_a_tiff(self, tmp_path, upscaler, type_):
        """Some writers declare its bytes as 32-bit integers."""
        body = IIM + bytes(-len(IIM) % 4)
        tag = (33723, type_, len(body) // (4 if type_ == "I" else 1), body, True)
        tifffile.imwrite(tmp_path / "in.tif", smooth_image(), photometric="rgb", extratags=[tag])
        upscale_image(tmp_path / "in.tif", tmp_path / "out.jpg", upscaler=upscaler)
        with Image.open(tmp_path / "out.jpg") as image:
            assert IptcImagePlugin.getiptcinfo(image)[2, 5] == b"Title"

    @pytest.mark.parametrize("output", ["out.png", "out.webp", "out.bmp"])
    def test_warning_if_the_format_has_no_iptc(self, tmp_path, upscaler, output):
        report = upscale(tmp_path, upscaler, "in.jpg", jpeg(self.SEGMENT), output)
        assert any("IPTC data" in warning for warning in report.warnings)

    def test_warning_about_clipping_paths(self, tmp_path, upscaler):
        segment = (0xED, b"Photoshop 3.0\0" + photoshop((2000, bytes(26))))
        report = upscale(tmp_path, upscaler, "in.jpg", jpeg(segment), "out.jpg")
        assert report.warnings == ("its clipping paths were dropped",)


GAIN_MAP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:%(c)s="http://ns.google.com/photos/1.0/container/" '
    b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
    b'xmlns:%(g)s="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'%(g)s:Version="1.0" dc:source="here"><%(c)s:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">'
    b'<%(c)s:Item Item:Semantic="GainMap" Item:Length="12"/></rdf:li></rdf:Seq></%(c)s:Directory>'
    b"<dc:title>kept</dc:title><%(g)s:GainMapMax>2.3</%(g)s:GainMapMax></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def multi_image(count):
    entries = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, count)
    return b"MPF\0MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4)


class TestOtherImages:
    @pytest.mark.parametrize("names", [(b"Container", b"hdrgm"), (b"GContainer", b"hdr")])
    @pytest.mark.parametrize("output", ["out.jpg", "out.png", "out.tif", "out.webp"])
    def test_gain_map_is_removed_from_xmp(self, tmp_path, upscaler, output, names):
        xmp = GAIN_MAP % {b"c": names[0], b"g": names[1]}
        data = jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)) + b"\xff\xd8 the gain map \xff\xd9"
        report = upscale(tmp_path, upscaler, "in.jpg", data, output)
        assert [warning for warning in report.warnings if "gain map" in warning]
        with Image.open(tmp_path / output) as image:
            image.load()
            left = image.info["xmp"]
        (spec,) = ElementTree.fromstring(left)[0]
        dublin = "{http://purl.org/dc/elements/1.1/}"
        assert spec.attrib == {f"{dublin}source": "here"}
        assert [(part.tag, part.text) for part in spec] == [(f"{dublin}title", "kept")]
        for word in (b"hdr-gain-map", b"container", b"GainMap", names[1] + b":"):
            assert word not in left

    def test_motion_photos(self, tmp_path, upscaler):
        xmp = (
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
            b'GCamera:MotionPhoto="1"/>'
            b"</rdf:RDF></x:xmpmeta>"
        )
        data = jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)) + b"a video"
        report = upscale(tmp_path, upscaler, "in.jpg", data, "out.jpg")
        assert report.warnings == ("its motion photo video was dropped",)
        assert b"MotionPhoto" not in (tmp_path / "out.jpg").read_bytes()

    @pytest.mark.parametrize(("count", "words"), [(1, None), (2, "1 more image"), (4, "3 more images")])
    def test_frames_of_a_multi_image_file(self, tmp_path, upscaler, count, words):
        data = jpeg((0xE2, multi_image(count))) + jpeg()
        report = upscale(tmp_path, upscaler, "in.jpg", data, "out.jpg")
        assert len(report.warnings) == (words is not None)
        if words:
            assert f"it contains {words}" in report.warnings[0]
        assert b"MPF\0" not in (tmp_path / "out.jpg").read_bytes()

    def test_comments(self, tmp_path, upscaler):
        data = jpeg((0xFE, b"hello"))
        assert upscale(tmp_path, upscaler, "in.jpg", data, "out.jpg").warnings == ()
        with Image.open(tmp_path / "out.jpg") as image:
            assert image.info["comment"] == b"hello"
        assert "its comment" in upscale(tmp_path, upscaler, "in.jpg", data, "out.png").warnings[0]


class TestPngChunks:
    SAFE = (
        (b"tIME", struct.pack(">HBBBBB", 2020, 2, 3, 4, 5, 6)),
        (b"pHYs", struct.pack(">IIB", 2, 1, 0)),
        (b"prVt", b"private, safe to copy"),
        (b"sBIT", b"\5\6\5"),
        (b"bKGD", struct.pack(">HHH", 1, 2, 3)),
    )

    def test_kept_in_png(self, tmp_path, upscaler):
        report = upscale(tmp_path, upscaler, "in.png", png(*self.SAFE), "out.png")
        assert report.warnings == ()
        found = chunks_of(tmp_path / "out.png")
        assert {name: found.get(name) for name, _ in self.SAFE} == dict(self.SAFE)

    @pytest.mark.parametrize("variant", ["deep", "palette", "gray4"])
    def test_converted_to_the_decoded_samples(self, tmp_path, upscaler, variant):
        """sBIT has a value per channel, and bKGD a color of the written depth."""
        ihdr = {"deep": (16, 2), "palette": (8, 3), "gray4": (4, 0)}[variant]
        row = {"deep": bytes(6 * 8), "palette": bytes(8), "gray4": bytes(4)}[variant]
        body = {
            "deep": [(b"sBIT", b"\x0c\x0c\x0c"), (b"bKGD", struct.pack(">HHH", 1000, 2000, 3000))],
            "palette": [(b"sBIT", b"\5\6\5"), (b"PLTE", bytes(range(9))), (b"bKGD", b"\2"), (b"tRNS", b"\7")],
            "gray4": [(b"sBIT", b"\3"), (b"bKGD", struct.pack(">H", 15))],
        }[variant]
        header = struct.pack(">IIBBBBB", 8, 8, *ihdr, 0, 0, 0)
        parts = [(b"IHDR", header), *body, (b"IDAT", zlib.compress((b"\0" + row) * 8)), (b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
        assert upscale(tmp_path, upscaler, "in.png", data, "out.png").warnings == ()
        found = chunks_of(tmp_path / "out.png")
        assert found[b"sBIT"] == {"deep": b"\x0c\x0c\x0c", "palette": b"\5\6\5\x08", "gray4": b"\3"}[variant]
        expected = {"deep": (1000, 2000, 3000), "palette": (6, 7, 8), "gray4": (255,)}[variant]
        assert struct.unpack(f">{len(expected)}H", found[b"bKGD"]) == expected

    def test_warning_about_chunks_that_depend_on_pixels(self, tmp_path, upscaler):
        report = upscale(tmp_path, upscaler, "in.png", png((b"prVT", b"unsafe"), (b"iDOT", b"x")), "out.png")
        assert len(report.warnings) == 1
        assert "prVT" in report.warnings[0]
        assert b"prVT" not in chunks_of(tmp_path / "out.png")

    @pytest.mark.parametrize("output", ["out.jpg", "out.webp", "out.tif"])
    def test_warning_in_other_formats(self, tmp_path, upscaler, output):
        data = png(*self.SAFE, (b"tEXt", b"Title\0Cat"))
        warnings = " ".join(upscale(tmp_path, upscaler, "in.png", data, output).warnings)
        for words in ("texts", "time of change", "significant bits", "background color", "prVt"):
            assert words in warnings

    @pytest.mark.parametrize("output", ["out.jpg", "out.tif"])
    def test_pixel_aspect_ratio(self, tmp_path, upscaler, output):
        report = upscale(tmp_path, upscaler, "in.png", png((b"pHYs", struct.pack(">IIB", 2, 1, 0))), output)
        assert report.warnings == ()
        with Image.open(tmp_path / output) as image:
            if output == "out.jpg":
                assert image.info["jfif_density"] == (2, 1)
                assert image.info["jfif_unit"] == 0
            else:
                assert float(image.tag_v2[282]) == 2 * float(image.tag_v2[283])
                assert image.tag_v2[296] == 1
        upscale_image(tmp_path / output, tmp_path / "back.png", upscaler=upscaler)
        assert chunks_of(tmp_path / "back.png")[b"pHYs"] == struct.pack(">IIB", 2, 1, 0)


def points(*numbers):
    return b"".join(struct.pack(">I", round(number * 100_000)) for number in numbers)


DISPLAY_P3 = points(0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


class TestColorSpaces:
    """Chunks become a profile in other formats; the test compares colors that lcms converts with it."""

    @staticmethod
    def in_srgb(path):
        with Image.open(path) as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            converted = ImageCms.profileToProfile(
                image.convert("RGB"), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        return np.asarray(converted)[6, 6]

    @staticmethod
    def expected(rgb, to_xyz, transfer):
        """The sRGB color by the matrices of IEC 61966-2-1 and SMPTE EG 432-1."""
        linear = np.linalg.inv(TO_XYZ["srgb"]) @ to_xyz @ transfer(np.array(rgb) / 255)
        linear = linear.clip(0, 1)
        return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

    @pytest.mark.parametrize("output", ["out.tif", "out.webp", "out.jpg"])
    @pytest.mark.parametrize(
        ("chunks", "space", "gamma"),
        [
            ([(b"cICP", bytes([12, 4, 0, 1]))], "p3", 2.2),
            ([(b"cHRM", DISPLAY_P3), (b"gAMA", points(1 / 1.8))], "p3", 1.8),
            ([(b"gAMA", points(1))], "srgb", 1.0),
            ([(b"cICP", bytes([1, 8, 0, 1]))], "srgb", 1.0),
        ],
        ids=["cicp", "points", "linear", "cicp-linear"],
    )
    def test_converted(self, tmp_path, upscaler, chunks, space, gamma, output):
        color = (180, 120, 90)
        image = np.full((8, 8, 3), color, np.uint8)
        report = upscale(tmp_path, upscaler, "in.png", png(*chunks, image=image), output)
        assert report.warnings == ()
        expected = self.expected(color, TO_XYZ[space], lambda x: x**gamma)
        np.testing.assert_allclose(self.in_srgb(tmp_path / output), expected, atol=4)

    def test_gray(self, tmp_path, upscaler):
        image = np.full((8, 8), 100, np.uint8)
        assert (
            upscale(tmp_path, upscaler, "in.png", png((b"gAMA", points(1)), image=image), "out.tif").warnings
            == ()
        )
        with Image.open(tmp_path / "out.tif") as result:
            assert result.info["icc_profile"][16:20] == b"GRAY"

    @pytest.mark.parametrize(
        "chunk", [(b"sRGB", b"\0"), (b"gAMA", points(0.45455)), (b"cICP", bytes([1, 13, 0, 1]))]
    )
    def test_srgb_needs_no_profile(self, tmp_path, upscaler, chunk):
        report = upscale(tmp_path, upscaler, "in.png", png(chunk), "out.jpg")
        assert report.warnings == ()
        with Image.open(tmp_path / "out.jpg") as image:
            assert "icc_profile" not in image.info

    @pytest.mark.parametrize("output", ["out.jpg", "out.webp", "out.tif"])
    def test_warning_about_hdr(self, tmp_path, upscaler, output):
        report = upscale(tmp_path, upscaler, "in.png", png((b"cICP", bytes([9, 16, 0, 1]))), output)
        assert "PQ" in report.warnings[0]
        assert "write PNG" in report.warnings[0]

    def test_profile_does_not_contain_the_time(self, tmp_path, upscaler, monkeypatch):
        data = png((b"gAMA", points(1)))
        upscale(tmp_path, upscaler, "in.png", data, "a.jpg")
        from subpixel.images.codecs import png_colors as png_colors

        first, _ = png_colors.icc_profile({b"gAMA": points(1)}, gray=False)
        assert first[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0), "not the time of the run"
        assert first in (tmp_path / "a.jpg").read_bytes()


TO_XYZ = {
    "srgb": np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]),
    "p3": np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0.0, 0.0451, 1.0439]]),
}


@pytest.mark.parametrize("extension", ["png", "jpg", "tif"])
def test_resolution_is_rotated_with_the_image(tmp_path, upscaler, extension):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth_image()).save(tmp_path / f"in.{extension}", dpi=(300, 150), exif=exif)
    upscale_image(tmp_path / f"in.{extension}", tmp_path / "out.png", upscaler=upscaler)
    with Image.open(tmp_path / "out.png") as image:
        assert [round(value) for value in image.info["dpi"]] == [150, 300]


def test_threads_get_their_own_warnings():
    """Otherwise the note about damaged EXIF data went to another image, or to stderr."""
    before, entered, may_end = list(warnings.filters), threading.Event(), threading.Event()

    def catch_too():
        with caught_warnings():
            entered.set()
            may_end.wait(10)

    other = threading.Thread(target=catch_too)
    with caught_warnings() as caught:
        other.start()
        assert not entered.wait(0.2)
        warnings.warn("of this thread", stacklevel=1)
    may_end.set()
    other.join()
    assert [str(each.message) for each in caught] == ["of this thread"]
    assert warnings.filters == before
