"""The examples run, and their claims hold."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import subpixel

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example():
    return load_example("deconvolution_as_convolution")


@pytest.fixture
def rng():
    return np.random.default_rng(1609_07009)


def test_the_sizes_are_the_companion_notes(example):
    assert example.convolution().shape == (5, 12)
    assert example.crop(example.transposed_convolution()).shape == (8, 5)
    assert example.subpixel_convolution().shape == (8, 11)


def test_convolution_matrix_is_a_correlation_of_stride_2(example, rng):
    x, weights = rng.standard_normal(8), rng.standard_normal(4)
    padded = np.pad(x, 2)
    np.testing.assert_allclose(
        example.with_weights(example.convolution(), weights) @ padded,
        np.correlate(padded, weights, "valid")[::2],
        rtol=1e-12,
        atol=1e-12,
    )


def test_cropped_transpose_is_the_adjoint(example, rng):
    x, y, weights = rng.standard_normal(8), rng.standard_normal(5), rng.standard_normal(4)
    forward = example.with_weights(example.convolution(), weights) @ np.pad(x, 2)
    back = example.with_weights(example.crop(example.transposed_convolution()), weights) @ y
    np.testing.assert_allclose(forward @ y, x @ back, rtol=1e-12)


def test_subpixel_convolution_is_a_correlation_over_zeros(example, rng):
    y, weights = rng.standard_normal(5), rng.standard_normal(4)
    spread = example.zeros_between(y)
    np.testing.assert_allclose(
        example.with_weights(example.subpixel_convolution(), weights) @ spread,
        np.correlate(spread, weights, "valid"),
        rtol=1e-12,
        atol=1e-12,
    )


def test_transposed_and_reversed_subpixel_matrices_are_the_same(example):
    transposed = example.crop(example.transposed_convolution())
    subpixel = example.subpixel_convolution()[:, example.samples_at()]
    np.testing.assert_array_equal(example.reverse(subpixel), transposed)
    assert not np.array_equal(subpixel, transposed)


def test_small_convolutions_and_shuffle_are_the_transposed_convolution(example, rng):
    torch = pytest.importorskip("torch")
    y, weights = rng.standard_normal(5), rng.standard_normal(4)
    shuffled = example.small_convolutions_and_shuffle(y, weights)
    matrix = example.with_weights(example.crop(example.transposed_convolution()), weights)
    np.testing.assert_allclose(shuffled, matrix @ y, rtol=1e-12, atol=1e-12)
    pytorchs = torch.nn.functional.conv_transpose1d(
        torch.from_numpy(y)[None], torch.from_numpy(weights)[None, None], stride=2, padding=2
    )
    np.testing.assert_allclose(shuffled, pytorchs.numpy()[0], rtol=1e-12, atol=1e-12)


def test_two_dimensions(example, rng):
    image, kernel = rng.standard_normal((1, 5, 5)), rng.standard_normal((1, 1, 4, 4))
    slow, fast = example.in_two_dimensions(image, kernel)
    assert slow.shape == fast.shape == (1, 8, 8)
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


def test_the_explanation_is_printed_and_drawn(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    image_module = pytest.importorskip("PIL.Image")
    figure = tmp_path / "figure.png"
    example.main(["-o", str(figure)])
    printed = capsys.readouterr().out
    layers = ("    transposed convolution", "    sub-pixel convolution", "    small convolutions")
    results = [line.split()[-8:] for line in printed.splitlines() if line.startswith(layers)]
    assert len(results) == 3
    assert results[0] == results[1] == results[2]
    with image_module.open(figure) as drawn:
        colors = {color[:3] for _, color in drawn.convert("RGB").getcolors(1 << 24)}
    assert {tuple(bytes.fromhex(color[1:])) for color in example.COLORS} <= colors


def test_the_figure_is_optional(example, capsys):
    example.main([])
    assert "wrote" not in capsys.readouterr().out


def test_the_rules_for_pixel_art_make_no_new_colors():
    sprite = np.asarray(load_example("pixel_art").sprite())
    for rule, factor in (("nearest", 5), ("epx", 6)):
        large = subpixel.load(rule, scale=factor)(sprite)
        assert set(map(tuple, large.reshape(-1, 4))) == set(map(tuple, sprite.reshape(-1, 4)))
