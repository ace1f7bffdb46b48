"""What a source is taken for, and that the same source becomes the same whatever way it takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import subpixel
from subpixel import selection
from subpixel.cli import app
from subpixel.content import content_of_film, content_of_picture
from subpixel.images.compression import jpeg_quality, webp_quality


@pytest.fixture(scope="module")
def photograph():
    """Edges and fine detail of 120x90 pixels: encoders adapt what they take to what they are given."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    waves = 120 + 60 * np.sin(x / 7 + y / 19) + 40 * ((x // 15 + y // 11) % 2)
    noise = rng.normal(0, 6, (90, 120, 3))
    return Image.fromarray(np.clip(waves[..., None] + noise + [0, 10, -20], 0, 255).astype(np.uint8))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "optimize": True}])
def test_the_quality_of_jpegs_is_read(photograph, tmp_path, options):
    for picture in (photograph, photograph.convert("L"), photograph.convert("CMYK")):
        for quality in (30, 60, 75, 89, 91, 96):
            picture.save(tmp_path / "a.jpg", quality=quality, **options)
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


def test_the_file_says_what_a_picture_is_taken_for(photograph, tmp_path):
    def taken(name, **options):
        photograph.save(tmp_path / name, **options)
        return content_of_picture(tmp_path / name)

    assert taken("a.jpg", quality=75) == ("compressed", "JPEG of quality 75")
    assert taken("a.png").kind == "clean"
    assert taken("a.tiff").kind == "clean"
    assert taken("a.jpg", quality=98) == ("clean", "JPEG of quality 98")
    assert taken("a.webp", quality=60).kind == "compressed"
    assert taken("a.webp", lossless=True).kind == "clean"
    (tmp_path / "a.jpg").rename(tmp_path / "b.png")
    assert content_of_picture(tmp_path / "b.png").kind == "clean"  # quality 98, whatever its name


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_inside_a_tiff_count_as_jpegs(photograph, tmp_path, mode):
    for quality, kind in ((60, "compressed"), (98, "clean")):
        photograph.convert(mode).save(tmp_path / "a.tif", compression="jpeg", quality=quality)
        assert content_of_picture(tmp_path / "a.tif") == (kind, f"JPEG of quality {quality}")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        photograph.convert(mode).save(tmp_path / "a.tif", compression=compression)
        assert content_of_picture(tmp_path / "a.tif") == ("clean", "not compressed with loss")


@pytest.mark.parametrize(("big", "order"), [(False, "<"), (False, ">"), (True, "<")])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_jpegs_inside_every_kind_of_tiff(photograph, tmp_path, big, order, tile):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.array(photograph),
        compression="jpeg",
        compressionargs={"level": 70},
        bigtiff=big,
        byteorder=order,
        tile=tile,
    )
    assert content_of_picture(tmp_path / "a.tif") == ("compressed", "JPEG of quality 70")


def test_what_cannot_be_read_is_left_to_who_reads_it(photograph, tmp_path):
    photograph.save(tmp_path / "a.webp", quality=50)
    photograph.save(tmp_path / "a.jpg", quality=50)
    for name in ("a.webp", "a.jpg"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 1, 12, 16, 20, 25, 30, 33, 40, 100):
            (tmp_path / "cut").write_bytes(whole[:length])
            assert content_of_picture(tmp_path / "cut").kind in ("clean", "compressed")
    assert content_of_picture(tmp_path / "missing.jpg").kind == "clean"
    assert content_of_picture(tmp_path).kind == "clean"


@pytest.mark.parametrize(
    ("source", "content"),
    [("a.mp4", "compressed"), ("a.Y4M", "clean"), ("-", "compressed"), ("a.png", "clean")],
)
def test_films_are_taken_for_compressed(source, content):
    assert content_of_film(Path(source)).kind == content


def test_a_picture_that_becomes_a_film_is_taken_for_what_it_is(photograph, tmp_path):
    for quality in (60, 98):
        photograph.save(tmp_path / "a.jpg", quality=quality)
        assert content_of_film(tmp_path / "a.jpg") == content_of_picture(tmp_path / "a.jpg")


def run(*arguments):
    result = CliRunner().invoke(app, ["upscale", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_the_report_says_what_was_taken_for_what_and_why(photograph, tmp_path):
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
def test_a_picture_becomes_the_same_alone_and_in_company(photograph, tmp_path, mode):
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
    else:
        picture = photograph.convert(mode)
        if mode.endswith("A"):
            picture.putalpha(Image.fromarray(np.tile(np.arange(120, dtype=np.uint8) * 2, (90, 1))))
    for name in "ab":
        picture.save(tmp_path / f"{name}.png")
    run(tmp_path / "a.png", "-o", tmp_path / "alone.png")
    run(tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out")
    subpixel.upscale_image(tmp_path / "a.png", tmp_path / "library.png")
    subpixel.upscale_image(tmp_path / "a.png", tmp_path / "given.png", upscaler=subpixel.load())
    expected = np.asarray(Image.open(tmp_path / "alone.png"))
    for name in ("out/a.png", "out/b.png", "library.png", "given.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), expected)
    called = np.asarray(subpixel.load()(picture))
    np.testing.assert_array_equal(called, expected)


def test_a_loop_over_files_loads_each_model_once(photograph, tmp_path, monkeypatch):
    loaded = []
    load = selection.load
    monkeypatch.setattr(selection, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    selection._loaded.cache_clear()
    photograph.save(tmp_path / "in.png")
    for _ in range(3):
        for scale in (2, 3):
            subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", scale=scale, overwrite=True)
    assert len(loaded) == 2
    # Few are kept.
    for threads in range(1, 8):
        subpixel.upscale_image(tmp_path / "in.png", tmp_path / "out.png", threads=threads, overwrite=True)
    assert selection._loaded.cache_info().currsize <= 4


def test_a_model_file_that_changes_is_read_again(photograph, tmp_path):
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


def test_compiling_is_told(photograph, tmp_path, monkeypatch):
    if subpixel.load().engine.name != "halide":
        pytest.skip("nothing is compiled here")
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path / "kernels"))
    selection._loaded.cache_clear()
    photograph.save(tmp_path / "in.png")
    first = run(tmp_path / "in.png", "-o", tmp_path / "out.png", "-v")
    assert "compiling default-x2 for this processor" in first.stderr
    selection._loaded.cache_clear()
    again = run(tmp_path / "in.png", "-o", tmp_path / "out.png", "-v", "--overwrite")
    assert "compiling default" not in again.stderr
