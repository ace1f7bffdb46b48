"""Pixel art: rules that copy whole pixels."""

import copy
import json
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence
from typer.testing import CliRunner

import subpixel
from subpixel.cli import app
from subpixel.images import tiles
from subpixel.ops.pixel_art import scale2x, scale3x

SIZES = [(1, 1), (2, 3), (1, 9), (9, 1), (20, 31)]
PALETTE = np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 9, 200, 128], [255, 0, 0, 254]], np.uint8)


def sprite(height, width, seed=0, dtype=np.uint8):
    """Random pixels of few colors, in which all patterns of neighbors occur."""
    indices = np.random.default_rng(seed).choice(len(PALETTE), (height, width), p=[0.4, 0.4, 0.1, 0.1])
    return PALETTE[indices].astype(dtype) * (1 if dtype == np.uint8 else 257)


def colors(image):
    return set(map(tuple, image.reshape(-1, image.shape[-1]).tolist()))


def defined_scale2x(b, d, e, f, h):
    """The definition at https://www.scale2x.it/algorithm, for one pixel."""
    if b == h or d == f:
        return [e] * 4
    return [d if d == b else e, f if b == f else e, d if d == h else e, f if h == f else e]


def defined_scale3x(a, b, c, d, e, f, g, h, i):
    if b == h or d == f:
        return [e] * 9
    return [
        d if d == b else e,
        b if (d == b and e != c) or (b == f and e != a) else e,
        f if b == f else e,
        d if (d == b and e != g) or (d == h and e != a) else e,
        e,
        f if (b == f and e != i) or (h == f and e != c) else e,
        d if d == h else e,
        h if (d == h and e != i) or (h == f and e != g) else e,
        f if h == f else e,
    ]


def by_definition(image, scale):
    height, width = image.shape[:2]
    result = np.empty((height * scale, width * scale, image.shape[2]), image.dtype)
    for y, x in np.ndindex(height, width):
        near = [
            tuple(image[min(max(y + row, 0), height - 1), min(max(x + column, 0), width - 1)])
            for row in (-1, 0, 1)
            for column in (-1, 0, 1)
        ]
        _, b, _, d, e, f, _, h, _ = near
        cells = defined_scale2x(b, d, e, f, h) if scale == 2 else defined_scale3x(*near)
        for number, cell in enumerate(cells):
            result[y * scale + number // scale, x * scale + number % scale] = cell
    return result


def by_ffmpeg(image, scale):
    """FFmpeg's filter of the same rules."""
    graph = av.filter.Graph()
    height, width = image.shape[:2]
    source = graph.add_buffer(width=width, height=height, format="bgra", time_base=Fraction(1, 25))
    epx, sink = graph.add("epx", f"n={scale}"), graph.add("buffersink")
    source.link_to(epx)
    epx.link_to(sink)
    graph.configure()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[..., [2, 1, 0, 3]]), format="bgra")
    frame.pts = 0
    source.push(frame)
    return sink.pull().to_ndarray()[..., [2, 1, 0, 3]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scale", "rule"), [(2, scale2x), (3, scale3x)])
def test_epx_is_scale2x_and_scale3x(size, scale, rule):
    image = sprite(*size)
    result = rule(image)
    np.testing.assert_array_equal(result, by_definition(image, scale))
    np.testing.assert_array_equal(result, by_ffmpeg(image, scale))
    np.testing.assert_array_equal(subpixel.load("epx", scale=scale)(image), result)


@pytest.mark.parametrize("scale", range(2, 17))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_nearest_repeats_whole_pixels(scale, dtype):
    image = sprite(7, 5, dtype=np.uint16 if dtype == np.uint16 else np.uint8)
    image = image / 255 if dtype == np.float64 else image
    result = subpixel.load(content="pixel-art", scale=scale)(image)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.kron(image, np.ones((scale, scale, 1), dtype)))


def test_the_rules_follow_each_other():
    image = sprite(9, 14)
    for scale, steps in {4: [2, 2], 6: [3, 2], 8: [2, 2, 2], 9: [3, 3], 12: [3, 2, 2], 16: [2] * 4}.items():
        expected = image
        for step in steps:
            expected = by_definition(expected, step)
        np.testing.assert_array_equal(subpixel.load("epx", scale=scale)(image), expected)


@pytest.mark.parametrize("rule", ["nearest", "epx"])
def test_tiles_and_rolled_images(rule, monkeypatch):
    image = sprite(70, 61)
    upscaler = subpixel.load(rule, scale=4)
    whole, wrapped = upscaler(image), upscaler(image, wrap="both")
    monkeypatch.setattr(tiles, "TILE_SIDE_PX", 16)
    monkeypatch.setattr(tiles, "_MIN_STRIP_ROWS", 16)
    monkeypatch.setattr(tiles, "_MAX_STRIP_ROWS", 16)
    np.testing.assert_array_equal(upscaler(image), whole)
    rolled = upscaler(np.roll(image, (3, -7), (0, 1)), wrap="both")
    np.testing.assert_array_equal(rolled, np.roll(wrapped, (12, -28), (0, 1)))


def averaged(image, height, width):
    """Each pixel of the result is the mean of the area that it covers, by brute force on a fine grid."""
    fine = np.kron(image.astype(float), np.ones((height, width, 1)))
    cells = fine.reshape(height, image.shape[0], width, image.shape[1], -1)
    return cells.mean(axis=(1, 3))


@pytest.mark.parametrize("sides", [(10, 15), (13, 11), (9, 22), (4, 3), (1, 1), (24, 32)])
def test_other_sizes_average_areas(sides):
    image = sprite(8, 9)[..., :3]
    result = subpixel.load(content="pixel-art")(image, size=sides[::-1])
    np.testing.assert_allclose(result, averaged(image, *sides), rtol=0, atol=0.51)


def test_pixels_stay_equally_wide():
    """Black and white columns at x2.5: both are 2 pixels wide, with half a pixel of gray between."""
    image = np.zeros((4, 12), np.uint8)
    image[:, ::2] = 255
    row = subpixel.load("nearest", scale=2.5)(image)[0]
    np.testing.assert_array_equal(row[:10], [255, 255, 128, 0, 0] * 2)


def test_averages_count_colors_as_much_as_they_are_visible():
    image = np.zeros((2, 2, 4), np.uint8)
    image[:, 0] = 200, 100, 0, 255
    result = subpixel.load("nearest", scale=1.5)(image)
    np.testing.assert_array_equal(result[:, 0], [[200, 100, 0, 255]] * 3)
    np.testing.assert_array_equal(result[:, 1], [[200, 100, 0, 128]] * 3)
    assert not result[:, 2, 3].any()


def test_upscalers_of_rules():
    upscaler = subpixel.load(content="pixel-art", scale=4, threads=1)
    assert repr(upscaler) == "<Upscaler nearest-x4: x4, numpy exact, 1 thread>"
    assert upscaler == subpixel.load("nearest", scale=4) == subpixel.load("nearest-x4")
    assert upscaler != subpixel.load("nearest", scale=3) != subpixel.load("epx", scale=3)
    assert subpixel.load("epx").scale == 2
    assert upscaler.engine(np.zeros((3, 2))).shape == (12, 8)
    image = sprite(5, 6)
    for again in (copy.deepcopy(upscaler), pickle.loads(pickle.dumps(upscaler))):
        np.testing.assert_array_equal(again(image), upscaler(image))
    pillow = upscaler(Image.fromarray(image))
    np.testing.assert_array_equal(np.asarray(pillow), upscaler(image))
    assert [each.shape for each in upscaler.frames([image])] == [(20, 24, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nearest-x3", "scale": 2}, "upscales x3, not x2"),
        ({"model": "nearest", "precision": "int8"}, "for networks"),
        ({"content": "pixel-art", "engine": "numpy"}, "for networks"),
        ({"content": "pixel-art", "sharpness": 0.5}, "for networks"),
        ({"content": "pixel-art", "model": "epx"}, "not both"),
        ({"content": "pixel-art", "scale": 17}, "at most 16"),
        ({"content": "pixel-art", "scale": 1}, "x1 keeps the size"),
        ({"content": "pixelart"}, "pixel-art"),
        ({"model": "nearest-x17"}, "no packaged model"),
        ({"content": "pixel-art", "threads": 0}, "threads must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises((ValueError, subpixel.ModelError), match=message):
        subpixel.load(**options)


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), "--json"])


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
def test_files_keep_their_colors_and_alpha(tmp_path, extension):
    image = sprite(16, 24)
    Image.fromarray(image).save(tmp_path / "a.png")
    large = tmp_path / f"large.{extension}"
    done = (
        run(tmp_path / "a.png", "-o", large, "--content", "pixel-art", "-s", "5", "--quality", "100")
        if (extension == "webp")
        else run(tmp_path / "a.png", "-o", large, "--content", "pixel-art", "-s", "5")
    )
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout)
    assert (line["model"], line["engine"], line["precision"]) == ("nearest-x5", "numpy", "exact")
    assert (line["content"], line["scale"], line["warnings"]) == ("pixel-art", 5, [])
    stored = np.asarray(Image.open(large).convert("RGBA"))
    visible = stored[..., 3] > 0  # WebP drops the colors of other pixels
    expected = np.kron(image, np.ones((5, 5, 1), np.uint8))
    np.testing.assert_array_equal(stored[..., 3], expected[..., 3])
    np.testing.assert_array_equal(stored[visible], expected[visible])


@pytest.mark.parametrize(
    ("name", "options"), [("a.gif", {"disposal": 2}), ("a.png", {}), ("a.webp", {"lossless": True})]
)
def test_animations(tmp_path, name, options):
    image = sprite(12, 12)
    image[..., 3] = np.where(image[..., 3] > 0, 255, 0)  # GIF has no other alpha
    image[image[..., 3] == 0] = 0
    frames = [Image.fromarray(np.roll(image, step, 1)) for step in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    subpixel.upscale_image(
        tmp_path / name, tmp_path / f"large-{name}", model="epx", scale=3, quality=100, wrap="x"
    )
    with Image.open(tmp_path / f"large-{name}") as large:
        for step, frame in enumerate(ImageSequence.Iterator(large)):
            expected = subpixel.load("epx", scale=3)(np.roll(image, step, 1), wrap="x")
            stored = np.array(frame.convert("RGBA"))
            stored[stored[..., 3] == 0] = 0
            np.testing.assert_array_equal(stored, expected)
        assert step == 2


def test_the_content_of_a_file_is_never_pixel_art_by_itself(tmp_path):
    Image.fromarray(sprite(16, 16)).save(tmp_path / "a.png")
    assert json.loads(run(tmp_path / "a.png", "-o", tmp_path / "b.png").stdout)["content"] == "clean"


def test_a_smaller_size_is_averaged(tmp_path):
    Image.fromarray(sprite(16, 16)).save(tmp_path / "a.png")
    done = run(tmp_path / "a.png", "-o", tmp_path / "b.png", "--content", "pixel-art", "--width", "8")
    line = json.loads(done.stdout)
    assert (line["model"], line["width"]) == ("none", 8)
    assert "only reduced" in line["warnings"][0]
