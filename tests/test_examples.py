"""The examples run, and what they claim is so."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def story():
    return load_example("deconvolution_as_convolution")


@pytest.fixture
def rng():
    return np.random.default_rng(1609_07009)


def test_the_sizes_are_the_companion_notes(story):
    assert story.convolution().shape == (5, 12)
    assert story.crop(story.transposed_convolution()).shape == (8, 5)
    assert story.subpixel_convolution().shape == (8, 11)


def test_convolution_matrix_is_a_correlation_of_stride_2(story, rng):
    x, weights = rng.standard_normal(8), rng.standard_normal(4)
    padded = np.pad(x, 2)
    np.testing.assert_allclose(
        story.with_weights(story.convolution(), weights) @ padded,
        np.correlate(padded, weights, "valid")[::2],
        rtol=1e-12,
        atol=1e-12,
    )


def test_cropped_transpose_is_the_adjoint(story, rng):
    x, y, weights = rng.standard_normal(8), rng.standard_normal(5), rng.standard_normal(4)
    forward = story.with_weights(story.convolution(), weights) @ np.pad(x, 2)
    back = story.with_weights(story.crop(story.transposed_convolution()), weights) @ y
    np.testing.assert_allclose(forward @ y, x @ back, rtol=1e-12)


def test_subpixel_convolution_is_a_correlation_over_zeros(story, rng):
    y, weights = rng.standard_normal(5), rng.standard_normal(4)
    spread = story.zeros_between(y)
    np.testing.assert_allclose(
        story.with_weights(story.subpixel_convolution(), weights) @ spread,
        np.correlate(spread, weights, "valid"),
        rtol=1e-12,
        atol=1e-12,
    )


def test_transposed_and_reversed_subpixel_matrices_are_the_same(story):
    transposed = story.crop(story.transposed_convolution())
    subpixel = story.subpixel_convolution()[:, story.samples_at()]
    np.testing.assert_array_equal(story.reverse(subpixel), transposed)
    assert not np.array_equal(subpixel, transposed)


def test_small_convolutions_and_shuffle_are_the_transposed_convolution(story, rng):
    torch = pytest.importorskip("torch")
    y, weights = rng.standard_normal(5), rng.standard_normal(4)
    shuffled = story.small_convolutions_and_shuffle(y, weights)
    matrix = story.with_weights(story.crop(story.transposed_convolution()), weights)
    np.testing.assert_allclose(shuffled, matrix @ y, rtol=1e-12, atol=1e-12)
    pytorchs = torch.nn.functional.conv_transpose1d(
        torch.from_numpy(y)[None], torch.from_numpy(weights)[None, None], stride=2, padding=2
    )
    np.testing.assert_allclose(shuffled, pytorchs.numpy()[0], rtol=1e-12, atol=1e-12)


def test_two_dimensions(story, rng):
    image, kernel = rng.standard_normal((1, 5, 5)), rng.standard_normal((1, 1, 4, 4))
    slow, fast = story.in_two_dimensions(image, kernel)
    assert slow.shape == fast.shape == (1, 8, 8)
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


def test_the_story_is_told_and_drawn(story, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    image_module = pytest.importorskip("PIL.Image")
    figure = tmp_path / "figure.png"
    story.main(["-o", str(figure)])
    printed = capsys.readouterr().out
    layers = ("    transposed convolution", "    sub-pixel convolution", "    small convolutions")
    results = [line.split()[-8:] for line in printed.splitlines() if line.startswith(layers)]
    assert len(results) == 3
    assert results[0] == results[1] == results[2]
    with image_module.open(figure) as drawn:
        colors = {color[:3] for _, color in drawn.convert("RGB").getcolors(1 << 24)}
    assert {tuple(bytes.fromhex(color[1:])) for color in story.COLORS} <= colors


def test_the_story_needs_no_figure(story, capsys):
    story.main([])
    assert "drawn" not in capsys.readouterr().out
