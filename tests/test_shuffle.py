"""The pixel shuffle equals equation (4) and PyTorch; sub-pixel convolutions equal transposed ones."""

import doctest
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import subpixel.ops.pixel_shuffle
from subpixel.ops.pixel_shuffle import (
    activation_patterns,
    channel_permutation,
    periodic_shuffle,
    periodic_unshuffle,
    pixel_shuffle,
    pixel_unshuffle,
    subpixel_weights,
    transposed_kernel,
)

ROOT = Path(__file__).parents[1]
ORDERS = ("paper", "dcr", "crd")
SCALES = (1, 2, 3, 4, 5)


@pytest.fixture
def rng():
    return np.random.default_rng(1609_05158)


def assert_equal_to_rounding(actual, expected):
    """Equal up to the rounding of a sum of a few hundred float64 products of about 1, in any order."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def conv2d(image, weights, padding):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    return functional.conv2d(torch.from_numpy(image), torch.from_numpy(weights), padding=padding).numpy()


def conv_transpose2d(image, kernel, scale, padding, output_padding=0):
    torch = pytest.importorskip("torch")
    return torch.nn.functional.conv_transpose2d(
        torch.from_numpy(image),
        torch.from_numpy(kernel).swapaxes(0, 1),
        stride=scale,
        padding=padding,
        output_padding=output_padding,
    ).numpy()


# The operator PS


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("colors", [1, 2, 3])
def test_paper_order_is_equation_4_element_by_element(rng, scale, colors):
    r, C = scale, colors
    T = rng.standard_normal((3, 4, C * r * r))
    expected = np.empty((r * 3, r * 4, C))
    for x, y, c in np.ndindex(expected.shape):
        expected[x, y, c] = T[x // r, y // r, C * r * (y % r) + C * (x % r) + c]
    np.testing.assert_array_equal(periodic_shuffle(T, r), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("colors", [1, 2, 3])
def test_dcr_and_crd_element_by_element(rng, scale, colors):
    r, C = scale, colors
    T = rng.standard_normal((3, 4, C * r * r))
    dcr, crd = periodic_shuffle(T, r, "dcr"), periodic_shuffle(T, r, "crd")
    for h, w, i, j, c in np.ndindex(3, 4, r, r, C):
        assert dcr[r * h + i, r * w + j, c] == T[h, w, C * r * i + C * j + c]
        assert crd[r * h + i, r * w + j, c] == T[h, w, c * r * r + r * i + j]


@pytest.mark.parametrize("scale", SCALES)
def test_dcr_is_equation_4_with_x_along_the_width(rng, scale):
    T = rng.standard_normal((3, 4, 2 * scale**2))
    np.testing.assert_array_equal(
        periodic_shuffle(T, scale, "dcr"), periodic_shuffle(T.swapaxes(0, 1), scale, "paper").swapaxes(0, 1)
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("colors", [1, 2, 3])
def test_pixel_shuffle_is_pytorchs(rng, scale, colors):
    torch = pytest.importorskip("torch")
    small = rng.standard_normal((2, colors * scale**2, 3, 4))
    large = rng.standard_normal((2, colors, 3 * scale, 4 * scale))
    np.testing.assert_array_equal(
        pixel_shuffle(small, scale), torch.nn.functional.pixel_shuffle(torch.from_numpy(small), scale).numpy()
    )
    np.testing.assert_array_equal(
        pixel_unshuffle(large, scale),
        torch.nn.functional.pixel_unshuffle(torch.from_numpy(large), scale).numpy(),
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
def test_unshuffling_undoes_shuffling(rng, scale, shape, dtype):
    *batch, height, width = shape
    last = rng.integers(0, 2, (*batch, height, width, 3 * scale**2)).astype(dtype)
    first = np.moveaxis(last, -1, -3)
    for order in ORDERS:
        image = periodic_shuffle(last, scale, order)
        assert image.shape == (*batch, scale * height, scale * width, 3)
        assert image.dtype == dtype
        np.testing.assert_array_equal(periodic_unshuffle(image, scale, order), last)
    image = pixel_shuffle(first, scale)
    assert image.shape == (*batch, 3, scale * height, scale * width)
    assert image.dtype == dtype
    np.testing.assert_array_equal(pixel_unshuffle(image, scale), first)
    np.testing.assert_array_equal(np.moveaxis(image, -3, -1), periodic_shuffle(last, scale, "crd"))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("source", "target"), list(itertools.product(ORDERS, ORDERS)))
def test_permuted_channels_shuffle_to_the_same_image(rng, scale, source, target):
    tensor = rng.standard_normal((2, 3, 3 * scale**2))
    permutation = channel_permutation(scale, 3, source, target)
    image = periodic_shuffle(tensor, scale, source)
    np.testing.assert_array_equal(periodic_shuffle(tensor[..., permutation], scale, target), image)
    there_and_back = permutation[channel_permutation(scale, 3, target, source)]
    np.testing.assert_array_equal(there_and_back, np.arange(3 * scale**2))


def test_for_one_color_dcr_equals_crd_but_the_papers_order_does_not():
    np.testing.assert_array_equal(channel_permutation(3, 1, "dcr", "crd"), np.arange(9))
    np.testing.assert_array_equal(
        channel_permutation(3, 1, "paper", "crd"), np.arange(9).reshape(3, 3).T.ravel()
    )


# Sub-pixel convolution = transposed convolution


@pytest.mark.parametrize(
    ("weights_shape", "kernel_shape", "scale"),
    [((4, 1, 2, 2), (1, 1, 4, 4), 2), ((9, 32, 3, 3), (1, 32, 9, 9), 3), ((12, 5, 3, 3), (3, 5, 6, 6), 2)],
    ids=str,
)
def test_shapes_in_the_companion_note(rng, weights_shape, kernel_shape, scale):
    weights = rng.standard_normal(weights_shape)
    kernel = transposed_kernel(weights, scale)
    assert kernel.shape == kernel_shape
    np.testing.assert_array_equal(subpixel_weights(kernel, scale), weights)
    image = rng.standard_normal((2, weights_shape[1], 7, 9))
    k = weights_shape[-1]
    for padding in range(k):
        assert_equal_to_rounding(
            pixel_shuffle(conv2d(image, weights, padding), scale),
            conv_transpose2d(image, kernel, scale, scale * (k - 1 - padding)),
        )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("outputs", [1, 3])
def test_subpixel_convolution_equals_transposed_at_every_padding(rng, scale, k, outputs):
    weights = rng.standard_normal((outputs * scale**2, 4, k, k))
    kernel = transposed_kernel(weights, scale)
    assert kernel.shape == (outputs, 4, k * scale, k * scale)
    image = rng.standard_normal((2, 4, 6, 5))
    for padding in range(k):
        assert_equal_to_rounding(
            pixel_shuffle(conv2d(image, weights, padding), scale),
            conv_transpose2d(image, kernel, scale, scale * (k - 1 - padding)),
        )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 9, 10])
def test_transposed_convolution_of_any_size_and_padding_equals_subpixel_cropped(rng, scale, size):
    kernel = rng.standard_normal((2, 3, size, size))
    weights = subpixel_weights(kernel, scale)
    k = -(-size // scale)
    assert weights.shape == (2 * scale**2, 3, k, k)
    np.testing.assert_array_equal(transposed_kernel(weights, scale, size), kernel)

    H, W = 5, 6
    image = rng.standard_normal((2, 3, H, W))
    whole = pixel_shuffle(conv2d(image, weights, padding=k - 1), scale)
    for padding in range(min(size, 2 * scale + 1)):
        height, width = ((side - 1) * scale + size - 2 * padding for side in (H, W))
        if height < 1 or width < 1:
            continue
        assert_equal_to_rounding(
            whole[..., padding : padding + height, padding : padding + width],
            conv_transpose2d(image, kernel, scale, padding),
        )


def test_fsrcnns_deconvolution_equals_subpixel_cropped(rng):
    """9 x 9, stride 3, padding 4 and output padding 2 give three times the input's sides."""
    kernel = rng.standard_normal((1, 56, 9, 9))
    image = rng.standard_normal((1, 56, 8, 7))
    whole = pixel_shuffle(conv2d(image, subpixel_weights(kernel, 3), padding=2), 3)
    expected = conv_transpose2d(image, kernel, 3, padding=4, output_padding=2)
    assert expected.shape == (1, 1, 24, 21)
    assert_equal_to_rounding(whole[..., 4 : 4 + 24, 4 : 4 + 21], expected)


def test_weights_in_the_papers_order_agree_after_permutation(rng):
    """Equation (4) in the paper's layout equals a transposed convolution."""
    weights_paper = rng.standard_normal((27, 8, 3, 3))
    image = rng.standard_normal((1, 8, 5, 6))
    features = np.moveaxis(conv2d(image, weights_paper, padding=1)[0], 0, -1)
    weights = weights_paper[channel_permutation(3, 3, "paper", "crd")]
    expected = conv_transpose2d(image, transposed_kernel(weights, 3), 3, padding=3)[0]
    assert_equal_to_rounding(np.moveaxis(periodic_shuffle(features, 3), -1, 0), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda w: w[channel_permutation(3, 2, "paper", "crd")], id="the paper's channel order"),
        pytest.param(lambda w: w[channel_permutation(3, 2, "dcr", "crd")], id="color fastest"),
        pytest.param(lambda w: np.ascontiguousarray(w[..., ::-1, ::-1]), id="LR taps not reversed"),
        pytest.param(lambda w: w * (1 + 1e-10), id="off by 1e-10"),
    ],
)
def test_the_comparison_fails_on_wrong_weights(rng, wrong):
    weights = rng.standard_normal((18, 4, 3, 3))
    image = rng.standard_normal((1, 4, 5, 6))
    expected = conv_transpose2d(image, transposed_kernel(weights, 3), 3, padding=3)
    assert_equal_to_rounding(pixel_shuffle(conv2d(image, weights, 1), 3), expected)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_equal_to_rounding(pixel_shuffle(conv2d(image, wrong(weights), 1), 3), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_equal_filters_in_a_group_repeat_each_pixel(rng, scale):
    """ICNR (arXiv 1707.02937): if the phases do not differ, there is no checkerboard."""
    weights = rng.standard_normal((2, 3, 3, 3)).repeat(scale**2, axis=0)
    image = rng.standard_normal((1, 3, 5, 4))
    small = conv2d(image, weights[:: scale**2], padding=1)
    large = conv_transpose2d(image, transposed_kernel(weights, scale), scale, padding=scale)
    assert_equal_to_rounding(large, small.repeat(scale, axis=2).repeat(scale, axis=3))


# Activation patterns


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 6, 9])
def test_activation_patterns_match_the_paper(scale, size):
    patterns = activation_patterns(size, scale)
    active = patterns.sum(axis=(2, 3))
    most = (-(-size // scale)) ** 2
    assert active.max() == most
    assert (active == most).all() or size % scale
    np.testing.assert_array_equal(patterns.sum(axis=(0, 1)), 1)  # each weight is active at one phase
    if size >= scale:
        assert len(np.unique(patterns.reshape(scale**2, -1), axis=0)) == scale**2


def fractional_stride_conv(image, kernel, scale, padding):
    """Put zeros between the samples, then convolve at stride 1 with the reversed kernel."""
    *batch, height, width = image.shape
    border = kernel.shape[-1] - 1 - padding
    zeros_between = np.zeros((*batch, (height - 1) * scale + 1, (width - 1) * scale + 1))
    zeros_between[..., ::scale, ::scale] = image
    return conv2d(zeros_between, kernel[..., ::-1, ::-1].copy(), border)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("size", "padding"), [(1, 0), (4, 0), (4, 1), (5, 2), (9, 3), (9, 4)])
def test_each_phase_depends_only_on_its_active_weights(rng, scale, size, padding):
    kernel = rng.standard_normal((1, 2, size, size))
    image = rng.standard_normal((1, 2, 5, 6))
    large = fractional_stride_conv(image, kernel, scale, padding)
    assert_equal_to_rounding(large, conv_transpose2d(image, kernel, scale, padding))
    patterns = activation_patterns(size, scale, padding)
    for i, j in np.ndindex(scale, scale):
        active = fractional_stride_conv(image, kernel * patterns[i, j], scale, padding)
        inactive = fractional_stride_conv(image, kernel * ~patterns[i, j], scale, padding)
        assert_equal_to_rounding(active[..., i::scale, j::scale], large[..., i::scale, j::scale])
        assert not inactive[..., i::scale, j::scale].any()


@pytest.mark.parametrize("scale", SCALES)
def test_active_weights_are_the_lr_filters(rng, scale):
    kernel = rng.standard_normal((2, 3, 3 * scale, 3 * scale))
    weights = subpixel_weights(kernel, scale).reshape(2, scale, scale, 3, 3, 3)
    for (i, j), pattern in zip(
        np.ndindex(scale, scale),
        activation_patterns(3 * scale, scale).reshape(scale**2, *kernel.shape[2:]),
        strict=True,
    ):
        np.testing.assert_array_equal(
            kernel[..., pattern].reshape(2, 3, 3, 3), weights[:, i, j, :, ::-1, ::-1]
        )


# Errors


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: periodic_shuffle(np.zeros((2, 2, 6)), 2), id="6 channels at scale 2"),
        pytest.param(lambda: periodic_shuffle(np.zeros((2, 4)), 2), id="two axes"),
        pytest.param(lambda: periodic_shuffle(np.zeros((2, 2, 4)), 2, "rgb"), id="unknown order"),
        pytest.param(lambda: periodic_unshuffle(np.zeros((2, 2, 1)), 2, "rgb"), id="unknown order back"),
        pytest.param(lambda: periodic_unshuffle(np.zeros((4, 5, 1)), 2), id="odd width"),
        pytest.param(lambda: pixel_shuffle(np.zeros((6, 2, 2)), 2), id="6 channels first at scale 2"),
        pytest.param(lambda: pixel_shuffle(np.zeros((4, 2, 2)), 0), id="scale 0"),
        pytest.param(lambda: pixel_unshuffle(np.zeros((1, 5, 4)), 2), id="odd height"),
        pytest.param(lambda: channel_permutation(2, 0, "dcr", "crd"), id="no colors"),
        pytest.param(lambda: channel_permutation(2, 1, "dcr", "rgb"), id="unknown target"),
        pytest.param(lambda: transposed_kernel(np.zeros((6, 1, 3, 3)), 2), id="6 filters at scale 2"),
        pytest.param(lambda: transposed_kernel(np.zeros((4, 1, 3, 2)), 2), id="not square"),
        pytest.param(lambda: transposed_kernel(np.zeros((4, 1, 3, 3)), 2, 4), id="size one LR tap less"),
        pytest.param(lambda: transposed_kernel(np.zeros((4, 1, 3, 3)), 2, 7), id="size too large"),
        pytest.param(lambda: transposed_kernel(np.ones((4, 1, 3, 3)), 2, 5), id="size loses taps"),
        pytest.param(lambda: subpixel_weights(np.zeros((4, 4)), 2), id="two axes of a kernel"),
        pytest.param(lambda: subpixel_weights(np.zeros((1, 1, 4, 4)), 0), id="scale 0 of a kernel"),
        pytest.param(lambda: activation_patterns(0, 2), id="kernel of no size"),
    ],
)
def test_invalid_arguments_are_refused(call):
    with pytest.raises(ValueError, match=r"expected|scale|order|colors|side|size"):
        call()


def test_kernels_are_new_arrays_that_pytorch_accepts(rng):
    weights = rng.standard_normal((1, 1, 1, 1))
    for result in (transposed_kernel(weights, 1), subpixel_weights(weights, 1)):
        assert not np.shares_memory(result, weights)
    assert transposed_kernel(rng.standard_normal((1, 1, 3, 3)), 1).flags.c_contiguous


# Examples in the documentation


def test_docstring_examples():
    result = doctest.testmod(subpixel.ops.pixel_shuffle)
    assert result.attempted > 15
    assert result.failed == 0


def test_examples_of_the_page_on_sub_pixel_convolution():
    pytest.importorskip("torch")
    page = ROOT / "docs" / "sub-pixel-convolution.md"
    # A closing fence would otherwise count as expected output.
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > 10
    assert result.failed == 0
