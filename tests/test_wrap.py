"""Images that continue with their opposite side: textures that are repeated, and panoramas."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import subpixel
from subpixel.cli import app
from subpixel.images import tiles
from test_examples import load_example

SIZES = [(1, 1), (2, 3), (1, 17), (19, 5), (33, 38)]


@pytest.fixture(scope="module")
def upscalers():
    """Upscalers by precision, in the engine that computes both exactly alike wherever a pixel is."""
    return {
        precision: subpixel.load("fast", scale=2, engine="numpy", precision=precision, threads=2)
        for precision in ("int8", "fp32")
    }


def texture(height, width, channels=3, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_a_rolled_texture_gives_the_rolled_result(upscalers, precision, channels, size):
    image = texture(*size, channels)
    image[..., -1] |= 1  # no pixel is hidden
    expected = upscalers[precision](image, wrap="both")
    for rows, columns in [(1, 0), (0, 1), (-7, 5)]:
        rolled = upscalers[precision](np.roll(image, (rows, columns), (0, 1)), wrap="both")
        np.testing.assert_array_equal(rolled, np.roll(expected, (2 * rows, 2 * columns), (0, 1)))


@pytest.mark.parametrize("wrap", ["x", "y"])
def test_one_axis_wraps_and_the_other_repeats_its_edge(upscalers, wrap):
    image, axis = texture(17, 23), {"y": 0, "x": 1}[wrap]
    result = upscalers["int8"](image, wrap=wrap)
    np.testing.assert_array_equal(
        upscalers["int8"](np.roll(image, 5, axis), wrap=wrap), np.roll(result, 10, axis)
    )
    padding = [(30, 30) if each == axis else (0, 0) for each in (0, 1)]
    padded = upscalers["int8"](np.pad(image, [*padding, (0, 0)], mode="wrap"))
    inside = tuple(slice(60, -60) if each == axis else slice(None) for each in (0, 1))
    np.testing.assert_array_equal(result, padded[inside])


@pytest.mark.parametrize("to_scale", [1.5, 5, 0.5])
def test_sizes_that_no_network_has_wrap_too(upscalers, to_scale):
    """A reduction and a second network read beyond the border as well."""
    image = texture(32, 40, 4, np.uint16)
    image[..., 3] |= 1
    size = int(40 * to_scale), int(32 * to_scale)
    result = upscalers["fp32"](image, size=size, wrap="both")
    rolled = upscalers["fp32"](np.roll(image, (4, -6), (0, 1)), size=size, wrap="both")
    moved = np.roll(result, (int(4 * to_scale), int(-6 * to_scale)), (0, 1))
    np.testing.assert_allclose(rolled.astype(int), moved.astype(int), rtol=0, atol=1)


def test_tiles_smaller_than_the_image(upscalers, monkeypatch):
    image = texture(70, 90, 4)
    image[..., 3] |= 1
    expected = upscalers["int8"](image, wrap="both")
    monkeypatch.setattr(tiles, "TILE_SIDE_PX", 16)
    monkeypatch.setattr(tiles, "_MIN_STRIP_ROWS", 16)
    monkeypatch.setattr(tiles, "_MAX_STRIP_ROWS", 16)
    np.testing.assert_array_equal(upscalers["int8"](image, wrap="both"), expected)


def seam(image):
    """Second difference across the border, relative to its mean inside; the larger one of both axes."""
    image = image.astype(float)
    ratios = []
    for side in (image, image.swapaxes(0, 1)):
        second = np.abs(np.roll(side, -1, 0) - 2 * side + np.roll(side, 1, 0)).mean(axis=1)
        ratios.append((second[0] + second[-1]) / 2 / second[1:-1].mean())
    return max(ratios)


def test_no_seam_is_visible(upscalers):
    image = load_example("texture").texture()
    assert seam(image) < 1.4
    with_seam = seam(upscalers["fp32"](image))
    without = seam(upscalers["fp32"](image, wrap="both"))
    assert without < 1.4 < with_seam / 2


def test_hidden_pixels_get_colors_from_the_other_side(upscalers):
    """The visible left column meets hidden pixels on the right, which are black without their colors."""
    image = np.zeros((16, 16, 4), np.uint8)
    image[:, :8] = 200, 100, 50, 255
    large = upscalers["int8"](image, wrap="x")
    np.testing.assert_allclose(large[:, 0, :3], [[200, 100, 50]] * 32, atol=1)


def test_the_command(tmp_path):
    image = texture(12, 14)
    results = []
    for number, pixels in enumerate((image, np.roll(image, 5, 1))):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        arguments = [str(tmp_path / f"{number}.png"), "-o", str(tmp_path / f"{number}-large.png")]
        run = CliRunner().invoke(app, ["upscale", *arguments, "--wrap", "x", "--json"])
        assert run.exit_code == 0, run.output
        assert json.loads(run.stdout)["warnings"] == []
        results.append(np.asarray(Image.open(tmp_path / f"{number}-large.png")))
    np.testing.assert_array_equal(np.roll(results[0], 10, 1), results[1])


def test_wrong_axes_and_videos_are_refused(tmp_path, upscalers):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    run = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--wrap", "xy"]
    )
    assert run.exit_code == 2
    assert "x, y, both" in run.output
    (tmp_path / "a.mp4").touch()
    run = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.mp4"), "-o", str(tmp_path / "b.mp4"), "--wrap", "x"]
    )
    assert run.exit_code == 2
    assert "for images" in run.output
    with pytest.raises(ValueError, match="wrap"):
        upscalers["int8"](np.zeros((4, 4), np.uint8), wrap="z")
