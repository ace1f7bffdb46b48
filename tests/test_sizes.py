"""Sizes that callers ask for: in pixels, by name, or by a factor that no model has."""

import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import subpixel
from subpixel.cli import app
from subpixel.engines import family
from subpixel.sizes import PixelGeometry, TargetSize


@pytest.mark.parametrize(
    ("asked", "source", "expected"),
    [
        ({"scale": 2}, (640, 360), (1280, 720)),
        ({"scale": 1.5}, (853, 480), (1280, 720)),
        ({"scale": 1.5}, (1, 1), (2, 2)),
        ({"size": (1920, 1080)}, (640, 360), (1920, 1080)),
        ({"size": "1920x1080"}, (640, 480), (1440, 1080)),
        ({"size": "1080p"}, (640, 480), (1440, 1080)),
        ({"size": "1080p"}, (480, 640), (1080, 1440)),
        ({"size": "1080p"}, (853, 480), (1919, 1080)),
        ({"size": "1920x1080"}, (480, 640), (810, 1080)),
        ({"size": "4K"}, (1920, 1080), (3840, 2160)),
        ({"size": "8k"}, (1920, 800), (7680, 3200)),
        ({"size": "480p"}, (160, 90), (853, 480)),
        ({"size": "1920x1080", "fit": "cover"}, (640, 480), (1920, 1440)),
        ({"size": "1920x1080", "fit": "exact"}, (640, 480), (1920, 1080)),
        ({"width": 1000}, (640, 480), (1000, 750)),
        ({"height": 1000}, (640, 480), (1333, 1000)),
        ({"width": 1000, "height": 600}, (640, 480), (800, 600)),
        ({"size": "100x100"}, (640, 480), (100, 75)),
    ],
)
def test_size_for_a_source(asked, source, expected):
    assert TargetSize(**asked).for_source(*source) == expected


@pytest.mark.parametrize(
    ("asked", "source", "expected"),
    [
        ({"scale": 3}, (213, 120), (640, 360)),  # an odd side becomes one more, as for every integer factor
        ({"size": "1080p"}, (853, 480), (1920, 1080)),
        ({"size": "1081x1081"}, (480, 480), (1080, 1080)),
        ({"size": "1081x1081", "fit": "cover"}, (480, 480), (1082, 1082)),
        ({"width": 1}, (480, 480), (2, 2)),
        ({"height": 61}, (64, 48), (80, 60)),  # the shape is kept
        ({"height": 61}, (63, 47), (80, 60)),
        ({"size": (61, 35), "fit": "exact"}, (64, 48), (62, 36)),
        ({"size": "480p"}, (160, 90), (854, 480)),
    ],
)
def test_even_sides(asked, source, expected):
    assert TargetSize(**asked).for_source(*source, PixelGeometry(even=True)) == expected


def test_square_pixels():
    pal = PixelGeometry(aspect=Fraction(64, 45), square=True, even=True)
    assert TargetSize(size="1080p").for_source(720, 576, pal) == (1920, 1080)
    assert TargetSize(scale=2).for_source(720, 576, pal) == (2048, 1152)
    ntsc = PixelGeometry(aspect=Fraction(8, 9), square=True)
    assert TargetSize(height=1080).for_source(720, 480, ntsc) == (1440, 1080)


def test_orientation_is_that_on_the_screen():
    svcd = PixelGeometry(aspect=Fraction(8, 5))  # stored higher than wide, shown as 4:3
    assert TargetSize(size="1080p").for_source(480, 576, svcd) == (900, 1080)
    phone = PixelGeometry(quarter_turn=True)
    for asked in ({"size": "1080p"}, {"width": 1080}, {"height": 1920}, {"size": "1080x4000"}):
        assert TargetSize(**asked).for_source(1280, 720, phone) == (1920, 1080)
    exact = TargetSize(size=(700, 1200), fit="exact")
    assert exact.for_source(1280, 720, phone) == (1200, 700)
    square = PixelGeometry(quarter_turn=True, aspect=Fraction(3, 2), square=True)
    assert TargetSize(width=480).for_source(480, 480, square) == (720, 480)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": 2, "size": "1080p"}, "only one of"),
        ({"width": 10, "size": "1080p"}, "only one of"),
        ({"scale": 0.5}, "scale"),
        ({"scale": 17}, "16"),
        ({"scale": float("nan")}, "finite"),
        ({"scale": 10**400}, "too large"),
        ({"size": "huge"}, "1920x1080"),
        ({"size": "0x5"}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"size": "1080p", "fit": "stretch"}, "inside, cover, exact"),
        ({"scale": 2, "fit": "cover"}, "two sides"),
        ({"height": 1000, "fit": "exact"}, "two sides"),
    ],
)
def test_wrong_values(asked, words):
    with pytest.raises(ValueError, match=words):
        TargetSize(**asked)


@pytest.mark.parametrize(
    "asked", [{"size": 1080}, {"width": 10.5}, {"scale": "2"}, {"size": (1.5, 2)}, {"size": b"4k"}]
)
def test_wrong_types(asked):
    with pytest.raises(TypeError):
        TargetSize(**asked)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(data.astronaut()[40:130, 160:300]).save(path)  # 140 x 90
    return path


class TestImages:
    @pytest.mark.parametrize(
        ("asked", "expected", "models"),
        [
            ({"scale": 1.5}, (210, 135), "default-x2"),
            ({"scale": 2.5}, (350, 225), "default-x3"),
            ({"scale": 5}, (700, 450), "default-x3 and default-x2"),
            ({"size": (300, 300)}, (300, 193), "default-x3"),
            ({"size": (300, 300), "fit": "exact"}, (300, 300), "default-x4"),
            ({"width": 420}, (420, 270), "default-x3"),
            ({"width": 100}, (100, 64), "none"),
        ],
    )
    def test_every_way_gives_the_same(self, photo, tmp_path, asked, expected, models):
        result = subpixel.upscale_image(photo, tmp_path / "out.png", engine="numpy", **asked)
        assert (result.width, result.height, result.model) == (*expected, models)
        with Image.open(tmp_path / "out.png") as image:
            assert image.size == expected
            written = np.asarray(image)
        assert (models == "none") == any("only reduced" in warning for warning in result.warnings)

        called = subpixel.load("default", engine="numpy")(np.asarray(Image.open(photo)), size=expected)
        np.testing.assert_array_equal(called, written)

    def test_better_than_lanczos_and_than_the_integer_result_reduced(self, tmp_path):
        hr = data.astronaut()[:384, :384]
        small = Image.fromarray(hr).resize((256, 256), Image.Resampling.BICUBIC)
        small.save(tmp_path / "small.png")
        subpixel.upscale_image(tmp_path / "small.png", tmp_path / "out.png", scale=1.5)
        subpixel.upscale_image(tmp_path / "small.png", tmp_path / "double.png", scale=2)

        def psnr_db(image):
            difference = (np.asarray(image).astype(float) - hr)[4:-4, 4:-4]
            return 10 * np.log10(255**2 / np.mean(difference**2))

        lanczos = Image.Resampling.LANCZOS
        ours = psnr_db(Image.open(tmp_path / "out.png"))
        assert ours > psnr_db(small.resize((384, 384), lanczos)) + 1
        assert ours > psnr_db(Image.open(tmp_path / "double.png").resize((384, 384), lanczos)) - 0.01

    @pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "webp", "bmp"])
    def test_formats_written_in_strips(self, photo, tmp_path, format):
        large = tmp_path / "large.png"
        Image.open(photo).resize((1400, 900)).save(large)
        out = tmp_path / f"out.{format}"
        subpixel.upscale_image(large, out, scale=1.37, engine="numpy", model="default", format=format)
        with Image.open(out) as image:
            assert image.size == (1918, 1233)

    def test_too_much_names_the_file(self, photo, tmp_path):
        with pytest.raises(subpixel.InputError, match=r"photo\.png: .*x16"):
            subpixel.upscale_image(photo, tmp_path / "out.png", width=140 * 17, engine="numpy")
        assert not (tmp_path / "out.png").exists()


class TestLoaded:
    def test_a_factor_that_no_model_has(self):
        upscaler = subpixel.load("default", scale=1.5, engine="numpy", threads=1)
        assert repr(upscaler) == "<Upscaler default-x2: x1.5, numpy fp32, 1 thread>"
        assert upscaler(np.zeros((10, 20), np.uint8)).shape == (15, 30)
        assert upscaler(np.zeros((3, 10, 20, 3), np.uint16)).shape == (3, 15, 30, 3)

    @pytest.mark.parametrize("scale", [1.5, np.float32(1.5), Fraction(3, 2), np.float64(1.5)])
    def test_every_kind_of_number(self, scale):
        upscaler = subpixel.load("default", scale=scale, engine="numpy", threads=1)
        assert repr(upscaler) == "<Upscaler default-x2: x1.5, numpy fp32, 1 thread>"
        assert upscaler(np.zeros((10, 20), np.uint8)).shape == (15, 30)

    def test_a_factor_that_rounds_to_one(self):
        upscaler = subpixel.load("default", scale=1.0001, engine="numpy", threads=1)
        assert upscaler(np.zeros((10, 20), np.uint8)).shape == (10, 20)

    def test_two_numbers_are_exact_and_a_name_keeps_the_shape(self):
        upscaler = subpixel.load("default", scale=2, engine="numpy", threads=1)
        image = np.zeros((9, 12), np.uint8)
        for size in ((32, 18), [32, 18], np.array([32, 18])):
            assert upscaler(image, size=size).shape == (18, 32)
        assert upscaler(image, size="18p").shape == (18, 24)
        assert upscaler(image.T, size="18p").shape == (24, 18)
        assert upscaler(image, size="18p", fit="exact").shape == (18, 32)
        with pytest.raises(ValueError, match="two sides"):
            upscaler(image, fit="cover")

    def test_frames(self):
        upscaler = subpixel.load("default", scale=2, engine="numpy", threads=1)
        frames = [np.full((10, 20, 3), 9, np.uint8)] * 2
        assert [large.shape for large in upscaler.frames(frames, size=(50, 30))] == [(30, 50, 3)] * 2

    def test_upscalers_of_different_factors_differ(self):
        options = {"engine": "numpy", "threads": 1}
        upscalers = [subpixel.load("default", scale=scale, **options) for scale in (1.5, 2, 1.5)]
        assert upscalers[0] == upscalers[2] != upscalers[1]

    def test_a_model_file_is_used_as_often_as_needed(self, tmp_path):
        path = tmp_path / "mine.safetensors"
        subpixel.load("default", scale=2, engine="numpy").model.save(path)
        upscaler = subpixel.load(path, scale=3, engine="numpy", threads=1)
        assert upscaler(np.zeros((10, 20), np.uint8)).shape == (30, 60)
        assert upscaler(np.zeros((10, 20), np.uint8), size=(100, 50)).shape == (50, 100)

    def test_threads_compile_a_model_once(self, monkeypatch):
        upscaler = subpixel.load("default", scale=2, engine="numpy", threads=1)
        compiled = []

        def slowly(model, *options):
            compiled.append(model.scale)
            time.sleep(0.05)
            return choose(model, *options)

        choose = family.choose
        monkeypatch.setattr(family, "choose", slowly)
        with ThreadPoolExecutor(4) as pool:
            images = [np.zeros((4, 6), np.uint8)] * 4
            shapes = [large.shape for large in pool.map(lambda image: upscaler(image, size=(18, 12)), images)]
        assert shapes == [(12, 18)] * 4
        assert compiled == [3]
        assert pickle.loads(pickle.dumps(upscaler)) == upscaler

    def test_a_network_of_one_scale_needs_none(self):
        upscaler = subpixel.load("espcn-relu-t91", engine="numpy", threads=1)
        assert (upscaler.scale, upscaler(np.zeros((10, 20), np.uint8), size=(30, 15)).shape) == (3, (15, 30))

    def test_packaged_models_are_not_taken_for_another_integer(self):
        with pytest.raises(subpixel.ModelError, match="x3"):
            subpixel.load("default-x3", scale=2)
        with pytest.raises(subpixel.ModelError, match="not for x2"):
            subpixel.load("espcn-relu-t91", scale=2)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommand:
    def test_sizes(self, photo, tmp_path):
        done = run(
            "upscale", photo, "-o", tmp_path / "a.png", "--size", "1080p", "--engine", "numpy", "--json"
        )
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert (result["width"], result["height"]) == (1680, 1080)
        with Image.open(tmp_path / "a.png") as image:
            assert image.size == (1680, 1080)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["-s", "2", "--width", "9"], "only one of"),
            (["-s", "1.5.2"], "1.5.2"),
            (["-s", "20"], "16"),
            (["--size", "big"], "1920x1080"),
            (["--square-pixels"], "for videos"),
            (["-s", "3", "--fit", "cover"], "leave fit out"),
        ],
    )
    def test_wrong_options(self, photo, tmp_path, options, words):
        done = run("upscale", photo, "-o", tmp_path / "a.png", *options)
        assert done.exit_code == 2
        assert words in done.stderr
