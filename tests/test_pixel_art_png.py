"""Pixel art with few colors is written as a PNG with a palette."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

import subpixel
from subpixel.images import tiles


def indexed(count, height=19, width=23):
    """An image with exactly ``count`` colors."""
    indices = np.random.default_rng(count).integers(0, count, (height, width))
    indices.flat[:count] = np.arange(count)
    return np.stack([indices % 256, indices // 256 * 9, indices * 5 % 256], axis=-1).astype(np.uint8)


def upscaled(folder, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(folder / "small.png")
    subpixel.upscale_image(folder / "small.png", folder / "large.png", overwrite=True, **options)
    return folder / "large.png"


def depth_and_color_type(path):
    return tuple(path.read_bytes()[24:26])


def chunks(path):
    data, offset, found = path.read_bytes(), 8, {}
    while offset < len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        found[name] = data[offset + 8 : offset + 8 + length]
        assert zlib.crc32(name + found[name]) == int.from_bytes(data[offset + 8 + length :][:4])
        offset += length + 12
    return found


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 3)), (2, (1, 3)), (3, (2, 3)), (5, (4, 3)), (17, (8, 3)), (256, (8, 3)), (257, (8, 2))],
)
@pytest.mark.parametrize("scale", [2, 3])
def test_the_depth_suits_the_number_of_colors(tmp_path, count, expected, scale):
    image = indexed(count)
    large = upscaled(tmp_path, image, content="pixel-art", scale=scale)
    assert depth_and_color_type(large) == expected
    stored = np.asarray(Image.open(large).convert("RGB"))
    np.testing.assert_array_equal(stored, np.kron(image, np.ones((scale, scale, 1), np.uint8)))


@pytest.mark.parametrize("model", ["nearest", "epx"])
def test_alpha_is_exact(tmp_path, model):
    image = np.dstack([indexed(40), indexed(7)[..., 2] * 6])
    image[3:6, 3:9, 3] = 255
    large = upscaled(tmp_path, image, model=model, scale=4)
    assert depth_and_color_type(large) == (8, 3)
    stored = np.asarray(Image.open(large).convert("RGBA"))
    np.testing.assert_array_equal(stored, subpixel.load(model, scale=4)(image))
    # Subpixel itself reads what it wrote.
    subpixel.upscale_image(large, tmp_path / "again.png", model="nearest", scale=2)
    again = np.asarray(Image.open(tmp_path / "again.png").convert("RGBA"))
    np.testing.assert_array_equal(again, stored.repeat(2, 0).repeat(2, 1))


def test_strips(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "_MIN_STRIP_ROWS", 16)
    monkeypatch.setattr(tiles, "_MAX_STRIP_ROWS", 16)
    monkeypatch.setattr("subpixel.images.codecs.png._BLOCK_BYTES", 100)
    image = indexed(12, 90, 51)
    image[40:60] = image[40]
    large = upscaled(tmp_path, image, content="pixel-art", scale=3)
    expected = np.kron(image, np.ones((3, 3, 1), np.uint8))
    np.testing.assert_array_equal(np.asarray(Image.open(large).convert("RGB")), expected)


def test_the_file_is_small(tmp_path):
    """Not larger than what Pillow makes with its slowest compression."""
    image = indexed(16, 64, 64)
    large = upscaled(tmp_path, image, content="pixel-art", scale=8)
    Image.open(large).save(tmp_path / "pillow.png", optimize=True)
    assert large.stat().st_size < 1.1 * (tmp_path / "pillow.png").stat().st_size
    Image.open(large).convert("RGB").save(tmp_path / "rgb.png", optimize=True)
    assert large.stat().st_size < 0.7 * (tmp_path / "rgb.png").stat().st_size


def test_chunks_about_colors_fit_the_palette(tmp_path):
    image = Image.fromarray(indexed(9))
    info = PngImagePlugin.PngInfo()
    red, green, blue = image.getpixel((4, 0))
    info.add(b"bKGD", struct.pack(">3H", red, green, blue))
    info.add(b"sBIT", bytes([5, 6, 5]))
    info.add_text("Title", "hero")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", pnginfo=info, icc_profile=profile, dpi=(72, 72))
    result = subpixel.upscale_image(tmp_path / "a.png", tmp_path / "b.png", content="pixel-art", scale=2)
    assert result.warnings == ()
    written = chunks(tmp_path / "b.png")
    order = list(written)
    assert order.index(b"iCCP") < order.index(b"PLTE") < order.index(b"bKGD") < order.index(b"IDAT")
    palette = np.frombuffer(written[b"PLTE"], np.uint8).reshape(-1, 3)
    assert tuple(palette[written[b"bKGD"][0]]) == (red, green, blue)
    assert written[b"sBIT"] == bytes([5, 6, 5])
    with Image.open(tmp_path / "b.png") as large:
        assert large.text == {"Title": "hero"}
        assert large.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (indexed(9), {"content": "pixel-art", "scale": 1.5}, (8, 2)),  # mixed colors
        (indexed(9), {"scale": 2, "engine": "numpy"}, (8, 2)),  # a network
        (indexed(9)[..., 0], {"content": "pixel-art", "scale": 2}, (8, 0)),  # gray has one byte anyway
        (indexed(9)[..., 0].astype(np.uint16) * 257, {"content": "pixel-art", "scale": 2}, (16, 0)),
        (Image.fromarray(indexed(9)).quantize(4), {"content": "pixel-art", "scale": 2}, (2, 3)),
    ],
)
def test_other_images(tmp_path, image, options, expected):
    assert depth_and_color_type(upscaled(tmp_path, image, **options)) == expected
