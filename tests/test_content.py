"""Classification of sources, and the model that it selects."""

import json
import re
from pathlib import Path

import av
import av.logging
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import subpixel
from subpixel import selection
from subpixel.cli import app
from subpixel.content import content_of_image, content_of_video
from subpixel.images.av1 import base_q_idx
from subpixel.images.compression import jpeg_quality, lossy_quality, webp_quality
from subpixel.images.formats import AVIF, HEIC
from subpixel.images.heif import read_container
from subpixel.images.hevc import quantization_parameter
from subpixel.video.media.codecs import normal_scheduling


@pytest.fixture(scope="module")
def photograph():
    """An image of 120x90 pixels with edges and noise, as encoders adapt their quantization to the content."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    waves = 120 + 60 * np.sin(x / 7 + y / 19) + 40 * ((x // 15 + y // 11) % 2)
    noise = rng.normal(0, 6, (90, 120, 3))
    return Image.fromarray(np.clip(waves[..., None] + noise + [0, 10, -20], 0, 255).astype(np.uint8))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "optimize": True}])
def test_the_quality_of_jpegs_is_read(photograph, tmp_path, options):
    for image in (photograph, photograph.convert("L"), photograph.convert("CMYK")):
        for quality in (30, 60, 75, 89, 91, 96):
            image.save(tmp_path / "a.jpg", quality=quality, **options)
            assert jpeg_quality(tmp_path / "a.jpg") == pytest.approx(quality, abs=0.5)


@pytest.mark.parametrize(
    "options", [{}, {"method": 0}, {"method": 6, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}]
)
def test_the_quality_of_webps_is_read(photograph, tmp_path, options):
    """libwebp moves a little from what it is asked for, more at low qualities."""
    for quality in (20, 50, 80, 90, 95, 100):
        photograph.save(tmp_path / "a.webp", quality=quality, **options)
        assert webp_quality(tmp_path / "a.webp") == pytest.approx(quality, abs=12 if quality < 80 else 6)
    photograph.save(tmp_path / "a.webp", lossless=True, **options)
    assert webp_quality(tmp_path / "a.webp") is None


def test_the_quality_of_an_animated_webp_is_read(photograph, tmp_path):
    frames = {"save_all": True, "append_images": [photograph.rotate(180)]}
    for quality in (50, 80):
        photograph.save(tmp_path / "a.webp", quality=quality, **frames)
        assert webp_quality(tmp_path / "a.webp") == pytest.approx(quality, abs=12)
    photograph.save(tmp_path / "a.webp", lossless=True, **frames)
    assert webp_quality(tmp_path / "a.webp") is None


def test_images_are_classified_by_their_file(photograph, tmp_path):
    def classify(name, **options):
        photograph.save(tmp_path / name, **options)
        return content_of_image(tmp_path / name)

    assert classify("a.jpg", quality=75) == ("compressed", "JPEG of quality 75")
    assert classify("a.png").kind == "clean"
    assert classify("a.tiff").kind == "clean"
    assert classify("a.jpg", quality=98) == ("clean", "JPEG of quality 98")
    assert classify("a.webp", quality=60).kind == "compressed"
    assert classify("a.webp", lossless=True).kind == "clean"
    (tmp_path / "a.jpg").rename(tmp_path / "b.png")
    assert content_of_image(tmp_path / "b.png").kind == "clean"  # quality 98, whatever its name


@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"speed": 10}, {"tile_rows": 1}])
def test_the_quality_of_avifs_is_read(photograph, tmp_path, options):
    """The quantizer of libaom for a quality depends on its speed, at low qualities by a fifth."""
    for quality in (30, 60, 80, 90, 95):
        photograph.save(tmp_path / "a.avif", quality=quality, **options)
        format, found = lossy_quality(tmp_path / "a.avif")
        assert format is AVIF and found == pytest.approx(quality, abs=15 if quality < 80 else 5)
    photograph.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert content_of_image(tmp_path / "a.avif") == ("clean", "no lossy compression")
    (tmp_path / "a.avif").write_bytes((tmp_path / "a.avif").read_bytes()[:200])
    assert content_of_image(tmp_path / "a.avif").kind == "clean"


def traced(path, *names):
    """Values of fields in the headers of the first image, by FFmpeg's own parser."""
    with av.open(path) as file, av.logging.Capture() as logs:
        before = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        trace = av.BitStreamFilterContext("trace_headers", file.streams.video[0])
        trace.filter(next(packet for packet in file.demux(video=0) if packet.size))
        av.logging.set_level(before)
    text = "\n".join(message for _, _, message in logs)
    return [int(re.search(rf"{name} .* = (-?\d+)", text)[1]) for name in names]


@pytest.mark.parametrize("crf", [10, 40, 63])
def test_the_quantizer_of_av1_is_that_of_ffmpeg(tmp_path, crf):
    """SVT-AV1 writes headers for video, libaom those for still images."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with normal_scheduling(), av.open(tmp_path / "a.avif", "w", format="avif") as file:
        stream = file.add_stream("libsvtav1", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels)), *stream.encode()]:
            file.mux(packet)
    Image.fromarray(pixels).save(tmp_path / "b.avif", quality=crf)
    for path in (tmp_path / "a.avif", tmp_path / "b.avif"):
        container = read_container(path)
        found = base_q_idx(container.data(container.primary))
        assert [found] == traced(path, "base_q_idx"), path.name


@pytest.mark.parametrize("quality", [20, 60, 90])
@pytest.mark.parametrize("chroma", [420, 444])
def test_the_quantizer_of_hevc_is_that_of_ffmpeg(tmp_path, quality, chroma):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    file = pillow_heif.from_bytes("RGB", (96, 64), pixels.tobytes())
    file.save(tmp_path / "a.heic", quality=quality, chroma=chroma)
    container = read_container(tmp_path / "a.heic")
    configuration = container.primary.find(b"hvcC")
    found = quantization_parameter(configuration, container.data(container.primary))
    assert found == 26 + sum(traced(tmp_path / "a.heic", "init_qp_minus26", "slice_qp_delta"))


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("tile", [None, 128])
def test_the_quality_of_heics_is_read(tmp_path, depth, tile):
    """libheif gives x265 a constant quantization parameter, (94 - quality) / 2."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.random.default_rng(0).integers(0, 2**16, (160, 200, 3), np.uint16)
    mode, data = ("RGB", (pixels >> 8).astype(np.uint8)) if depth == 8 else ("RGB;16", pixels)
    for quality in (20, 50, 60, 80):
        options = {"tile_size": tile} if tile else {}
        file = pillow_heif.from_bytes(mode, (200, 160), data.tobytes())
        file.save(tmp_path / "a.heic", quality=quality, **options)
        format, found = lossy_quality(tmp_path / "a.heic")
        assert format is HEIC and found == pytest.approx(quality, abs=2)
        kind = "compressed" if quality < 55 else "clean"
        assert content_of_image(tmp_path / "a.heic").kind == kind


def test_a_configuration_that_promises_too_much_is_refused_at_once():
    """65535 parameter sets in each of 255 arrays, and no byte of them."""
    configuration = bytes(22) + b"\xff" + b"\x21\xff\xff"
    with pytest.raises(ValueError, match="truncated"):
        quantization_parameter(configuration, b"")


def test_lossy_jpeg_xl_is_compressed(photograph, tmp_path):
    for options, expected in (
        ({"distance": 1.0}, ("compressed", "lossy JPEG XL")),
        ({"lossless": True}, ("clean", "no lossy compression")),
    ):
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(np.asarray(photograph), **options))
        assert content_of_image(tmp_path / "a.jxl") == expected


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_inside_tiff(photograph, tmp_path, mode):
    for quality, kind in ((60, "compressed"), (98, "clean")):
        photograph.convert(mode).save(tmp_path / "a.tif", compression="jpeg", quality=quality)
        assert content_of_image(tmp_path / "a.tif") == (kind, f"JPEG of quality {quality}")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        photograph.convert(mode).save(tmp_path / "a.tif", compression=compression)
        assert content_of_image(tmp_path / "a.tif") == ("clean", "no lossy compression")


@pytest.mark.parametrize(("big", "order"), [(False, "<"), (False, ">"), (True, "<")])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_jpeg_inside_other_tiffs(photograph, tmp_path, big, order, tile):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.array(photograph),
        compression="jpeg",
        compressionargs={"level": 70},
        bigtiff=big,
        byteorder=order,
        tile=tile,
    )
    assert content_of_image(tmp_path / "a.tif") == ("compressed", "JPEG of quality 70")


def test_unreadable_files_raise_no_error(photograph, tmp_path):
    photograph.save(tmp_path / "a.webp", quality=50)
    photograph.save(tmp_path / "a.jpg", quality=50)
    for name in ("a.webp", "a.jpg"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 1, 12, 16, 20, 25, 30, 33, 40, 100):
            (tmp_path / "cut").write_bytes(whole[:length])
            assert content_of_image(tmp_path / "cut").kind in ("clean", "compressed")
    assert content_of_image(tmp_path / "missing.jpg").kind == "clean"
    assert content_of_image(tmp_path).kind == "clean"


@pytest.mark.parametrize(
    ("source", "content"),
    [("a.mp4", "compressed"), ("a.Y4M", "clean"), ("-", "compressed"), ("a.png", "clean")],
)
def test_videos_are_compressed(source, content):
    assert content_of_video(Path(source)).kind == content


def test_an_image_that_becomes_a_video_is_classified_as_an_image(photograph, tmp_path):
    for quality in (60, 98):
        photograph.save(tmp_path / "a.jpg", quality=quality)
        assert content_of_video(tmp_path / "a.jpg") == content_of_image(tmp_path / "a.jpg")


def run(*arguments):
    result = CliRunner().invoke(app, ["upscale", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_results_state_the_content_and_the_reason(photograph, tmp_path):
    photograph.save(tmp_path / "a.jpg", quality=60)
    photograph.save(tmp_path / "b.png")
    out = tmp_path / "out"
    result = run(tmp_path / "a.jpg", tmp_path / "b.png", "-o", out, "--json", "-v")
    compressed, clean = map(json.loads, result.stdout.splitlines())
    assert (compressed["model"], clean["model"]) == ("default-compressed-x2", "default-x2")
    assert (compressed["content"], compressed["content_reason"]) == ("compressed", "JPEG of quality 60")
    assert clean["content"] == "clean"
    assert "for compressed sources (JPEG of quality 60)" in result.stderr
    (named,) = map(
        json.loads,
        run(tmp_path / "a.jpg", "-o", out, "--json", "--overwrite", "-m", "fast").stdout.splitlines(),
    )
    assert (named["model"], named["content"]) == ("fast-x2", "")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16"])
def test_an_image_gives_the_same_result_alone_and_in_a_batch(photograph, tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
    else:
        image = photograph.convert(mode)
        if mode.endswith("A"):
            image.putalpha(Image.fromarray(np.tile(np.arange(120, dtype=np.uint8) * 2, (90, 1))))
    for name in "ab":
        image.save(tmp_path / f"{name}.png")
    run(tmp_path / "a.png", "-o", tmp_path / "alone.png")
    run(tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out")
    subpixel.upscale_image(tmp_path / "a.png", tmp_path / "library.png")
    subpixel.upscale_image(tmp_path / "a.png", tmp_path / "given.png", upscaler=subpixel.load())
    expected = np.asarray(Image.open(tmp_path / "alone.png"))
    for name in ("out/a.png", "out/b.png", "library.png", "given.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), expected)
    called = np.asarray(subpixel.load()(image))
    np.testing.assert_array_equal(called, expected)


def test_a_loop_loads_each_model_once(photograph, tmp_path, monkeypatch):
    loaded = []
    load = selection.load
    monkeypatch.setattr(selection, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    selection._load_cached.cache_clear()
    photograph.save(tmp_path / "in.png")
    for _ in range(3):
        for scale in (2, 3):
            subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", scale=scale, overwrite=True)
    assert len(loaded) == 2
    # The cache is small.
    for threads in range(1, 8):
        subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", threads=threads, overwrite=True)
    assert selection._load_cached.cache_info().currsize <= 4


def test_a_replaced_model_file_is_read_again(photograph, tmp_path):
    photograph.save(tmp_path / "in.png")
    mine = tmp_path / "mine.safetensors"
    sizes = []
    for scale in (2, 3):
        subpixel.load(scale=scale).model.save(mine)
        report = subpixel.upscale_image(
            tmp_path / "in.png", tmp_path / "out.png", model=str(mine), overwrite=True
        )
        sizes.append(report.width)
    assert sizes == [240, 360]


def test_compilation_is_reported(photograph, tmp_path, monkeypatch):
    if subpixel.load().engine.name != "native":
        pytest.skip("nothing is compiled here")
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path / "kernels"))
    selection._load_cached.cache_clear()
    photograph.save(tmp_path / "in.png")
    first = run(tmp_path / "in.png", "-o", tmp_path / "out.png", "-v")
    assert "compiling default-x2 for this processor" in first.stderr
    selection._load_cached.cache_clear()
    again = run(tmp_path / "in.png", "-o", tmp_path / "out.png", "-v", "--overwrite")
    assert "compiling default" not in again.stderr
