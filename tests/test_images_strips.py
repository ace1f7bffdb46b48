"""Images are upscaled and written in strips: the file is the same as without, and memory stays bounded."""

import io
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from image_files import png, smooth_image, upscaled
from interpolating import bicubic_model
from memory import PEAK_CODE, needs_peak, peak_kib, reset_peak
from subpixel import Upscaler
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.upsampling import Upsampling
from subpixel.errors import ImageTooLarge
from subpixel.images import tiles as planes
from subpixel.images.chroma import split_rgb, write_rgb
from subpixel.images.codecs import deflate
from subpixel.images.formats import PNG, WEBP
from subpixel.images.image import Header
from subpixel.images.memory import required_bytes
from subpixel.images.tiles import strip_rows
from subpixel.images.upscale import upscale_image
from subpixel.ops.color import rgb_to_ycbcr, ycbcr_planes_to_rgb
from subpixel.ops.resize import imresize


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=2)


@pytest.fixture(autouse=True)
def low_strips(monkeypatch):
    """Small images give many strips."""
    monkeypatch.setattr(planes, "_MIN_STRIP_ROWS", 16)
    monkeypatch.setattr(planes, "_MAX_STRIP_ROWS", 16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("height", [16, 17, 70])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_file_contains_the_upscaled_array(
    tmp_path, upscaler, extension, height, dtype, channels, monkeypatch
):
    monkeypatch.setattr("subpixel.images.codecs.png._BLOCK_BYTES", 700)
    monkeypatch.setattr("subpixel.images.codecs.tiff._STRIP_BYTES", 700)
    image = smooth_image(height, 28, channels=channels, dtype=dtype)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / f"out.{extension}", upscaler=upscaler)
    data = (tmp_path / f"out.{extension}").read_bytes()
    got = imagecodecs.png_decode(data) if extension == "png" else tifffile.imread(io.BytesIO(data))
    expected = upscaled(image, upscaler.engine, alpha=channels in (2, 4))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [28, 31])
def test_bmp(tmp_path, upscaler, width, channels):
    image = smooth_image(50, width, channels=channels)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / "out.bmp", upscaler=upscaler)
    with Image.open(tmp_path / "out.bmp") as stored:
        assert stored.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(stored), upscaled(image, upscaler.engine))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("height", [20, 64, 333])
@pytest.mark.parametrize("most_blocks", [65_535, 40])
def test_jpeg(tmp_path, upscaler, height, channels, most_blocks, monkeypatch):
    """The samples are those of a file that was compressed in one piece."""
    monkeypatch.setattr("subpixel.images.codecs.jpeg._MAX_RESTART_BLOCKS", most_blocks)
    image = smooth_image(height, 75, channels=channels)
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(image))
    upscale_image(tmp_path / "in.png", tmp_path / "out.jpg", upscaler=upscaler, quality=90)
    whole = imagecodecs.jpeg8_encode(upscaled(image, upscaler.engine), 90, subsampling="444")
    with Image.open(tmp_path / "out.jpg") as stored, Image.open(io.BytesIO(whole)) as expected:
        np.testing.assert_array_equal(np.asarray(stored), np.asarray(expected))
    upscale_image(tmp_path / "out.jpg", tmp_path / "again.png", upscaler=upscaler)  # our reader accepts it


@pytest.mark.parametrize("regular", [False, True])
def test_pieces_of_deflate_are_one_stream(regular):
    """By both compressors; regular data becomes about as small as by zlib alone."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 256, (8, 50), np.uint8)
    data = words[rng.integers(0, 8, 4000)] if regular else rng.integers(0, 256, (4000, 50), np.uint8)
    stream, adler = deflate.HEADER, 1
    for rows in np.split(data, [100, 101, 2500]):
        piece = deflate.compress_piece(rows)
        stream += piece.data
        adler = deflate.combine_adler(adler, piece.adler, piece.length)
    stream += deflate.trailer(adler)
    assert zlib.decompress(stream) == data.tobytes()
    if regular:
        assert len(stream) < 1.15 * len(zlib.compress(data, 2)) + 1000


def test_progress_ends_at_one(tmp_path, upscaler):
    Image.fromarray(smooth_image(70, 28)).save(tmp_path / "in.png")
    seen = []
    upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert len(fractions) > 3
    assert fractions[-1] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_write_rgb_equals_the_reference(scale, dtype):
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
def test_split_rgb_equals_the_reference(dtype):
    image = smooth_image(30, 41, dtype=np.uint16)
    image = image / 65535 if np.dtype(dtype).kind == "f" else image >> (16 - 8 * np.dtype(dtype).itemsize)
    image = image.astype(dtype)
    white = np.iinfo(dtype).max if image.dtype.kind == "u" else 1
    expected = rgb_to_ycbcr(image / np.float64(white))
    for index, plane in enumerate(split_rgb(image)):
        assert plane.dtype == np.float32
        assert plane.flags.c_contiguous
        np.testing.assert_allclose(plane, expected[..., index], atol=3e-7)


def test_gray_pixels_stay_gray():
    """For each 8-bit value, despite rounding."""
    values = np.arange(256, dtype=np.float32).repeat(2).reshape(1, -1).repeat(2, 0)
    luma = 16 / 255 + values / 255 * np.float32(219 / 255)
    neutral = np.full((5, 260), 128 / 255, np.float32)
    out = np.empty((2, 512, 3), np.uint8)
    write_rgb(luma, neutral, neutral, 2, out)
    np.testing.assert_array_equal(out, np.dstack([values] * 3).astype(np.uint8))


class TestMemory:
    def test_a_large_image_needs_a_few_strips(self, tmp_path):
        """An image of 6 million pixels becomes one of 96 million, or 288 MB."""
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
        upsampling = Upsampling([NumpyEngine(bicubic_model(4), threads=2)], (2000, 3000))
        needed = required_bytes(Header(3000, 2000, 3, False), upsampling, PNG)
        assert grown < needed + 100e6, "libraries that are loaded count too"

    @pytest.mark.parametrize("side", [16_384, 40_000])
    def test_refused_before_decoding(self, tmp_path, upscaler, side):
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

    def test_limit(self, tmp_path, upscaler):
        Image.fromarray(smooth_image(64, 64)).save(tmp_path / "in.png")
        with pytest.raises(ImageTooLarge, match="would need about"):
            upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_memory_mib=1)
        upscale_image(tmp_path / "in.png", tmp_path / "out.png", upscaler=upscaler, max_memory_mib=100)

    def test_what_needs_more_memory(self, upscaler):
        plain = required_bytes(Header(8000, 6000, 3, False), Upsampling([upscaler.engine], (6000, 8000)), PNG)
        for more in (
            required_bytes(Header(8000, 6000, 4, False), Upsampling([upscaler.engine], (6000, 8000)), PNG),
            required_bytes(Header(8000, 6000, 3, True), Upsampling([upscaler.engine], (6000, 8000)), PNG),
            required_bytes(Header(8000, 6000, 3, False, 3), Upsampling([upscaler.engine], (6000, 8000)), PNG),
            required_bytes(
                Header(8000, 6000, 3, False, file_bytes=500_000_000),
                Upsampling([upscaler.engine], (6000, 8000)),
                PNG,
            ),
            required_bytes(Header(8000, 6000, 3, False), Upsampling([upscaler.engine], (6000, 8000)), WEBP),
        ):
            assert more > plain + 8000 * 6000

    def test_a_strong_reduction_reads_many_pixels_for_one(self):
        reduction = Upsampling([], (3000, 4000), (30, 40))
        # The radius of the kernel is 300 pixels, so a tile needs more than 600 x 600, in several planes.
        assert required_bytes(Header(4000, 3000, 3, False), reduction, PNG) > 4000 * 3000 * 3 + 600**2 * 40

    def test_strip_rows(self, monkeypatch):
        monkeypatch.undo()
        for width in (100, 6000, 60_000):
            for scale in (2, 3, 4):
                upsampling = Upsampling([NumpyEngine(bicubic_model(scale))], (10_000, width))
                rows = strip_rows(upsampling, 3, np.dtype(np.uint8)) // scale
                assert rows % 16 == 0
                assert rows == 48 or rows * width * 3 * scale**2 <= planes.STRIP_BYTES * 1.25
