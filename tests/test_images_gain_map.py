"""Ultra HDR JPEGs keep their gain map. libvips and imagecodecs (libultrahdr) write the files, and apply the
gain map of the results."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import pyvips
from PIL import Image
from PIL.MpoImagePlugin import MpoImageFile

from image_files import exif_block, smooth_image
from interpolating import bicubic_model
from subpixel import Upscaler
from subpixel.images import exif
from subpixel.images.codecs import gain_map
from subpixel.images.codecs.jpeg_file import APP, ICC_IDENTIFIER, XMP_IDENTIFIER, encode_segment, parse
from subpixel.images.read import read
from subpixel.images.upscale import upscale_image

HDR = "gain map (which brightens it on HDR screens)"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    b'hdrgm:GainMapMin="0" hdrgm:GainMapMax="2" hdrgm:Gamma="1" hdrgm:OffsetSDR="0" hdrgm:OffsetHDR="0" '
    b'hdrgm:HDRCapacityMin="0" hdrgm:HDRCapacityMax="2" hdrgm:BaseRenditionIsHDR="False"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


def approve_all(header):
    """Accept any size."""


def light():
    """Linear light up to 4, ``(48, 64, 3)``."""
    y, x = np.mgrid[:48, :64].astype(np.float32)
    return np.stack([4 * x / 64, 4 * y / 48, np.full_like(x, 0.5)], -1)


def iso_file(path, divisor):
    """By libvips: ISO 21496-1 alone, with a gain map that is smaller by the divisor."""
    image = pyvips.Image.new_from_array(light()).copy(interpretation="scrgb")
    path.write_bytes(image.uhdrsave_buffer(Q=95, gainmap_scale_factor=divisor))


def xmp_file(path, *, mpf=True, **options):
    """As phones before Android 15 write it: XMP alone. The gain doubles light twice at white."""
    gains = Image.fromarray(smooth_image(12, 16, 1))
    second, first = io.BytesIO(), io.BytesIO()
    gains.save(second, "JPEG", quality=95)
    data = second.getvalue()
    data = data[:2] + encode_segment(APP + 1, XMP_IDENTIFIER + XMP) + data[2:]
    Image.fromarray(smooth_image(48, 64)).save(first, "JPEG", quality=95, **options)
    image = first.getvalue()
    extra = encode_segment(APP + 1, XMP_IDENTIFIER + gain_map.xmp_of_image(None, len(data)))
    head = 2 + len(extra)
    size = len(image) + len(extra) + (90 if mpf else 0)
    block = b"MPF\0" + gain_map.mpf(size, len(data), size - head - 8)
    extra += encode_segment(APP + 2, block) if mpf else b""
    path.write_bytes(image[:2] + extra + image[2:] + data)
    return np.asarray(Image.open(io.BytesIO(data)))


def applied(path):
    """What an HDR screen shows, in linear light, by libultrahdr."""
    return imagecodecs.ultrahdr_decode(path.read_bytes()).astype(np.float32)[..., :3]


@pytest.mark.parametrize("divisor", [1, 2, 4])
def test_iso_21496(tmp_path, upscaler, divisor):
    iso_file(tmp_path / "a.jpg", divisor)
    result = upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    assert result.warnings == ()
    before, after = applied(tmp_path / "a.jpg"), applied(tmp_path / "b.jpg")
    assert after.shape == (96, 128, 3) and after.max() > 3
    assert np.abs(after.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)) - before).mean() < 0.03
    images = [pyvips.Image.uhdrload_buffer((tmp_path / name).read_bytes()) for name in ("a.jpg", "b.jpg")]
    for name in ("gainmap-max-content-boost", "gainmap-gamma", "gainmap-hdr-capacity-max"):
        assert images[0].get(name) == images[1].get(name)
    assert images[1].get("gainmap-scale-factor") == divisor
    assert b"hdr-gain-map" not in (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("mpf", [True, False])
def test_xmp(tmp_path, upscaler, mpf):
    gains = xmp_file(tmp_path / "a.jpg", mpf=mpf)
    np.testing.assert_array_equal(read(tmp_path / "a.jpg", approve_all).metadata.gain_map.samples, gains)
    result = upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    assert result.warnings == ()
    with MpoImageFile(tmp_path / "b.jpg") as large:
        assert large.n_frames == 2
        sizes = [entry["Size"] for entry in large.mpinfo[0xB002]]
        assert sum(sizes) == (tmp_path / "b.jpg").stat().st_size
        large.seek(1)
        assert large.size == (32, 24)
        assert f'Item:Length="{sizes[1]}"'.encode() in (tmp_path / "b.jpg").read_bytes()
    got = read(tmp_path / "b.jpg", approve_all).metadata.gain_map
    expected = Image.fromarray(gains).resize((32, 24), Image.Resampling.BILINEAR)
    assert np.abs(got.samples.astype(int) - np.asarray(expected)).max() < 12
    if mpf:
        before, after = applied(tmp_path / "a.jpg"), applied(tmp_path / "b.jpg")
        assert np.abs(after.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)) - before).mean() < 0.05


def test_other_xmp_data_is_kept(tmp_path, upscaler):
    xmp_file(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    title = b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="Sea"/>'
    start = data.index(XMP_IDENTIFIER)
    end = data.index(b"</rdf:RDF>")
    length = int.from_bytes(data[start - 2 : start]) + len(title)
    changed = data[: start - 2] + struct.pack(">H", length) + data[start:end] + title + data[end:]
    (tmp_path / "a.jpg").write_bytes(changed)
    upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    result = (tmp_path / "b.jpg").read_bytes()
    assert result.count(title) == 1 and result.count(b'hdrgm:Version="1.0"') == 2
    assert result.count(b"Container:Directory>") == 2


@pytest.mark.parametrize("orientation", [3, 6])
def test_it_turns_with_the_image(tmp_path, upscaler, orientation):
    gains = xmp_file(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif_block(orientation, 64, 48))
    got = read(tmp_path / "a.jpg", approve_all).metadata.gain_map
    np.testing.assert_array_equal(got.samples, np.rot90(gains, 2 if orientation == 3 else 3))
    upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    with MpoImageFile(tmp_path / "b.jpg") as large:
        large.seek(1)
        assert large.size == ((32, 24) if orientation == 3 else (24, 32))


@pytest.mark.parametrize("name", ["b.png", "b.webp", "b.tif", "b.avif", "b.jxl"])
def test_other_formats_drop_it(tmp_path, upscaler, name):
    xmp_file(tmp_path / "a.jpg")
    result = upscale_image(tmp_path / "a.jpg", tmp_path / name, upscaler=upscaler)
    assert [warning for warning in result.warnings if HDR in warning]
    assert b"hdr-gain-map" not in (tmp_path / name).read_bytes()


def test_a_damaged_gain_map_is_dropped(tmp_path, upscaler):
    xmp_file(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-150])
    result = upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    assert result.warnings == ("its gain map, which brightens it on HDR screens, is damaged and was dropped",)
    assert b"hdr-gain-map" not in (tmp_path / "b.jpg").read_bytes()


def test_its_color_profile_is_kept(tmp_path, upscaler):
    """ISO 21496-1 puts the colors of the HDR image into the profile of the gain map."""
    iso_file(tmp_path / "a.jpg", 2)
    upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    found = []
    for name in ("a.jpg", "b.jpg"):
        data = (tmp_path / name).read_bytes()
        found.append(gain_map.find(data, parse(data))[1].bodies(APP + 2, ICC_IDENTIFIER))
    assert found[0] and found[0] == found[1]


def test_offsets_beyond_the_file(tmp_path, upscaler):
    assert exif.mpf_images(gain_map.mpf(100, 50, 2**32 - 1)) == [(0, 100), (2**32 - 1, 50)]
    assert exif.mpf_images(gain_map.mpf(100, 50, 90)[:60]) == []
    xmp_file(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    at = data.index(b"MPF\0") + 4 + 50 + 16 + 8
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    result = upscale_image(tmp_path / "a.jpg", tmp_path / "b.jpg", upscaler=upscaler)
    assert result.warnings == ()  # it follows the image
