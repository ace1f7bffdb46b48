"""Pictures are enlarged and written strip by strip: the file is the same, and memory stays bounded."""

import io
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from image_files import picture, png
from interpolating import bicubic_model
from memory import PEAK_CODE, needs_peak, peak_kib, reset_peak
from subpixel import Upscaler
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import ImageTooLarge
from subpixel.images import tiles as planes
from subpixel.images.chroma import split_rgb, write_rgb
from subpixel.images.codecs import deflate
from subpixel.images.formats import PNG, WEBP
from subpixel.images.memory import needed_bytes
from subpixel.images.picture import Header
from subpixel.images.tiles import enlarge, strip_rows
from subpixel.images.upscale import upscale_image
from subpixel.ops.color import rgb_to_ycbcr, ycbcr_planes_to_rgb
from subpixel.ops.resize import imresize


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


@pytest.fixture(autouse=True)
def low_strips(monkeypatch):
    """So that small pictures make many of them."""
    monkeypatch.setattr(planes, "_LEAST_STRIP_ROWS", 16)
    monkeypatch.setattr(planes, "_MOST_STRIP_ROWS", 16)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("height", [16, 17, 70])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_what_is_written_is_what_is_computed(
    tmp_path, upscaler, extension, height, dtype, bands, monkeypatch
):
    monkeypatch.setattr("subpixel.images.codecs.png._BAND_BYTES", 700)
    monkeypatch.setattr("subpixel.images.codecs.tiff._STRIP_BYTES", 700)
    image = picture(height, 28, bands=bands, dtype=dtype)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / f"out.{extension}", upscaler=upscaler)
    data = (tmp_path / f"out.{extension}").read_bytes()
    got = imagecodecs.png_decode(data) if extension == "png" else tifffile.imread(io.BytesIO(data))
    expected = enlarge(image, upscaler.engine, alpha=bands in (2, 4))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("width", [28, 31])
def test_bmp(tmp_path, upscaler, width, bands):
    image = picture(50, width, bands=bands)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / "out.bmp", upscaler=upscaler)
    with Image.open(tmp_path / "out.bmp") as stored:
        assert stored.mode == ("L" if bands == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(stored), enlarge(image, upscaler.engine))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("height", [20, 64, 333])
@pytest.mark.parametrize("most_blocks", [65_535, 40])
def test_jpeg(tmp_path, upscaler, height, bands, most_blocks, monkeypatch):
    """Its strips are put together to the very samples of a file that was compressed whole."""
    monkeypatch.setattr("subpixel.images.codecs.jpeg._MAX_RESTART_BLOCKS", most_blocks)
    image = picture(height, 75, bands=bands)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / "out.jpg", upscaler=upscaler, quality=90)
    whole = imagecodecs.jpeg8_encode(enlarge(image, upscaler.engine), 90, subsampling="444")
    with Image.open(tmp_path / "out.jpg") as stored, Image.open(io.BytesIO(whole)) as expected:
        np.testing.assert_array_equal(np.asarray(stored), np.asarray(expected))
    upscale_image(tmp_path / "out.jpg", tmp_path / "again.png", upscaler=upscaler)  # strictly, by ourselves


@pytest.mark.parametrize("regular", [False, True])
def test_pieces_of_deflate_are_one_stream(regular):
    """Whoever of the two compresses them; and what is regular comes out as small as by zlib alone."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 256, (8, 50), np.uint8)
    data = words[rng.integers(0, 8, 4000)] if regular else rng.integers(0, 256, (4000, 50), np.uint8)
    stream, adler = deflate.HEADER, 1
    for rows in np.split(data, [100, 101, 2500]):
        piece = deflate.compressed(rows)
        stream += piece.data
        adler = deflate.joined_adler(adler, piece.adler, piece.length)
    stream += deflate.trailer(adler)
    assert zlib.decompress(stream) == data.tobytes()
    if regular:
        assert len(stream) < 1.15 * len(zlib.compress(data, 2)) + 1000


def test_progress_ends_at_one(tmp_path, upscaler):
    Image.fromarray(picture(70, 28)).save(tmp_path / "in.png")
    seen = []
    upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    assert fractions[-1] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_colors_are_those_of_the_reference(scale, dtype):
    rng = np.random.default_rng(0)
    luma = rng.random((30 * scale, 41 * scale)).astype(np.float32)
    cb, cr = rng.random((2, 34, 45)).astype(np.float32)
    inside = slice(2 * scale, -2 * scale)
    planes_ = (imresize(plane, scale)[inside, inside] for plane in (cb, cr))
    expected = np.stack(ycbcr_planes_to_rgb(luma, *planes_), axis=-1).clip(0, 1)
    out = np.empty((30 * scale, 41 * scale, 3), dtype)
    write_rgb(luma, cb, cr, scale, out)
    if out.dtype.kind == "f":
        np.testing.assert_allclose(out, expected, atol=2e-6)
        return
    white = np.iinfo(dtype).max
    assert np.abs(out.astype(float) - expected.astype(float) * white).max() <= 0.5 + white * 2e-6
    assert set(np.unique(out[..., 0])) >= {0, white}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_luma_and_chroma_are_those_of_the_reference(dtype):
    image = picture(30, 41, dtype=np.uint16)
    image = image / 65535 if np.dtype(dtype).kind == "f" else image >> (16 - 8 * np.dtype(dtype).itemsize)
    image = image.astype(dtype)
    white = np.iinfo(dtype).max if image.dtype.kind == "u" else 1
    expected = rgb_to_ycbcr(image / np.float64(white))
    for index, plane in enumerate(split_rgb(image)):
        assert plane.dtype == np.float32
        assert plane.flags.c_contiguous
        np.testing.assert_allclose(plane, expected[..., index], atol=3e-7)


def test_gray_pixels_stay_gray():
    """Every level of gray, whatever the rounding."""
    levels = np.arange(256, dtype=np.float32).repeat(2).reshape(1, -1).repeat(2, 0)
    luma = 16 / 255 + levels / 255 * np.float32(219 / 255)
    neutral = np.full((5, 260), 128 / 255, np.float32)
    out = np.empty((2, 512, 3), np.uint8)
    write_rgb(luma, neutral, neutral, 2, out)
    np.testing.assert_array_equal(out, np.dstack([levels] * 3).astype(np.uint8))


class TestMemory:
    def test_a_large_picture_takes_no_more_than_a_few_strips(self, tmp_path):
        """Of 96 million pixels, 288 MB, that a picture of 6 million becomes."""
        needs_peak()
        noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(noise).save(tmp_path / "in.jpg")
        code = (
            PEAK_CODE + "import sys\n"
            "import subpixel, numpy\n"
            "upscaler = subpixel.load('fast', scale=4, threads=2)\n"
            "upscaler(numpy.zeros((300, 300, 3), numpy.uint8))\n"
            "before = peak_kib()\n"
            "subpixel.upscale_image(sys.argv[1], sys.argv[2], upscaler=upscaler)\n"
            "print(peak_kib() - before)\n"
        )
        command = [sys.executable, "-c", code, tmp_path / "in.jpg", tmp_path / "out.png"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        grown = int(done.stdout) * 1024
        assert grown < 18e6 + 250e6
        needed = needed_bytes(Header(3000, 2000, 3, False), NumpyEngine(bicubic_model(4), threads=2), PNG)
        assert grown < needed + 100e6, "libraries that are loaded count too"

    @pytest.mark.parametrize("side", [16_384, 40_000])
    def test_said_before_decoding(self, tmp_path, upscaler, side):
        (tmp_path / "in.png").write_bytes(png((side, side, 8, 2, 0), [b""]))
        needs_peak()
        reset_peak()
        used = peak_kib()
        with pytest.raises(ImageTooLarge, match=r"in\.png: .* need about \d+ MiB.*--max-memory"):
            upscale_image(
                tmp_path / "in.png",
                tmp_path / "out.png",
                upscaler=upscaler,
                max_memory_mib=800,
                max_output_pixels=2**40,
            )
        assert peak_kib() - used < 100_000

    def test_settable(self, tmp_path, upscaler):
        Image.fromarray(picture(64, 64)).save(tmp_path / "in.png")
        with pytest.raises(ImageTooLarge, match="would need about"):
            upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_memory_mib=1)
        upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_memory_mib=100)

    def test_what_counts(self, upscaler):
        plain = needed_bytes(Header(8000, 6000, 3, False), upscaler.engine, PNG)
        for more in (
            needed_bytes(Header(8000, 6000, 4, False), upscaler.engine, PNG),
            needed_bytes(Header(8000, 6000, 3, True), upscaler.engine, PNG),
            needed_bytes(Header(8000, 6000, 3, False, 3), upscaler.engine, PNG),
            needed_bytes(Header(8000, 6000, 3, False), upscaler.engine, WEBP),
        ):
            assert more > plain + 8000 * 6000

    def test_strips_are_neither_thin_nor_fat(self, monkeypatch):
        monkeypatch.undo()
        for width in (100, 6000, 60_000):
            for scale in (2, 3, 4):
                rows = strip_rows((10_000, width, 3), scale, np.dtype(np.uint8))
                assert rows % 16 == 0
                assert rows == 48 or rows * width * 3 * scale**2 <= planes.STRIP_BYTES * 1.25
