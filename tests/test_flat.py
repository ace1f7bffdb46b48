"""Flat areas stay flat: a constant area stays that constant with all models, engines and precisions."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from random_models import native_runs, quantized_model, random_model
from subpixel.engines.base import Engine
from subpixel.engines.flat import copy_flat_areas, is_flat
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine
from subpixel.engines.select import choose
from subpixel.models import catalog as packaged
from subpixel.models.networks import stack
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.upscaler import Upscaler

RESIDUAL_MODELS = [name for name in packaged.names() if packaged.find(name).spec.residual == "nearest"]
"""All packaged models except the paper's own networks, which have no residual."""


def blocks(rng, channels, height, width, side, dtype=np.uint8):
    """Make constant blocks of random values. Two of three are black or white, so that some touch."""
    cells = rng.choice([0, 255, 100], (channels, -(-height // side), -(-width // side)))
    return cells.repeat(side, 1).repeat(side, 2)[:, :height, :width].astype(dtype)


def flat_by_scipy(tensor):
    """Find pixels whose 5x5 neighborhood has equal maximum and minimum, in every channel."""
    pairs = [(ndimage.maximum_filter(p, 5, mode="nearest"), ndimage.minimum_filter(p, 5, mode="nearest"))
             for p in tensor]  # fmt: skip
    return np.logical_and.reduce([highest == lowest for highest, lowest in pairs])


def repeated(samples, scale):
    return samples.repeat(scale, -2).repeat(scale, -1)


@pytest.mark.parametrize("channels", [1, 3])
def test_is_flat_agrees_with_scipy_at_awkward_sizes(channels):
    rng = np.random.default_rng(channels)
    for height, width, side in product((1, 2, 7, 16, 33), (1, 2, 7, 17, 97), (3, 6, 50)):
        tensor = blocks(rng, channels, height, width, side)
        np.testing.assert_array_equal(is_flat(tensor), flat_by_scipy(tensor))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flat_areas_are_copied_and_nothing_else_is_written(dtype):
    rng = np.random.default_rng(7)
    kept = 0
    for height, width, side, scale, context_px in product(
        (1, 7, 33), (1, 15, 64, 65, 130), (4, 6, 90), (1, 2, 3, 4), (0, 1, 2, 5)
    ):
        lr = blocks(rng, 1, height + 2 * context_px, width + 2 * context_px, side, dtype)
        around = rng.integers(0, 255, (1, height * scale + 2, width * scale + 9)).astype(dtype)
        expected = around.copy()
        inside = lr[:, context_px : context_px + height, context_px : context_px + width]
        flat = flat_by_scipy(lr)[context_px : context_px + height, context_px : context_px + width]
        view = expected[:, 1:-1, 4:-5]
        view[:] = np.where(repeated(flat, scale), repeated(inside, scale), view)
        copy_flat_areas(lr, around[:, 1:-1, 4:-5], context_px)
        np.testing.assert_array_equal(around, expected)
        kept += int(flat.sum())
    assert kept > 10_000


def test_numpy_copies_flat_areas_of_several_channels():
    rng = np.random.default_rng(3)
    lr = blocks(rng, 3, 40, 50, 9)
    hr = rng.integers(0, 255, (3, 80, 100)).astype(np.uint8)
    expected = np.where(repeated(flat_by_scipy(lr), 2), repeated(lr, 2), hr)
    copy_flat_areas(lr, hr)
    np.testing.assert_array_equal(hr, expected)


@cache
def engines(name: str) -> list[tuple[Engine, type, int]]:
    """Make all fast engines, each with a dtype to test and the factor from 8-bit values to its range."""
    model = packaged.find(name)
    made: list[tuple[Engine, type, int]] = [(OnnxRuntimeEngine(model), np.uint8, 1)]
    if native_runs():
        made += [
            (choose(model, "native", "int8", 1).engine, *kind) for kind in ((np.uint8, 1), (np.uint16, 257))
        ]
    return made


@pytest.mark.parametrize("name", RESIDUAL_MODELS)
def test_a_flat_image_of_any_value_stays_that_value(name):
    for engine, dtype, factor in engines(name):
        for sample in range(256):
            value = sample * factor
            hr = engine(np.full((9, 70) if sample % 8 == 0 else (3, 5), value, dtype))
            assert (hr == value).all(), f"{engine.name} {engine.precision}, value {sample}"


@pytest.mark.parametrize("name", RESIDUAL_MODELS)
@pytest.mark.parametrize("values", [(0, 255), (16, 235), (255, 128)])
def test_two_values_stay_exact_at_8_pixels_from_their_edges(name, values):
    rng = np.random.default_rng(5)
    boards = [repeated(np.indices((6, 9)).sum(0) % 2, side)[None] for side in (8, 12)]
    text = np.zeros((1, 60, 140), int)
    for row, column in product(range(10, 50, 14), range(8, 110, 5)):
        text[0, row : row + 6, column : column + 4] = rng.random((6, 4)) < 0.5
    for two in (*boards, text):
        for engine, dtype, factor in engines(name):
            scale = engine.model.scale
            lr = (np.where(two == 0, *values) * factor).astype(dtype)
            wanted = repeated(lr, scale)[0]
            edges = [
                ndimage.distance_transform_cdt(wanted == value, "chessboard") for value in np.unique(wanted)
            ]
            far = np.maximum(*edges) > 8
            assert far.any()
            np.testing.assert_array_equal(engine(lr[0])[far], wanted[far])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_engines_agree_on_partly_flat_images(precision):
    rng = np.random.default_rng(11)
    for scale in (2, 3):
        model = quantized_model(stack(scale, [8, 8]), scale)
        reference = NumpyEngine(model, precision=precision)
        others: list[Engine] = [OnnxRuntimeEngine(model)] if precision == "fp32" else []
        if native_runs() and precision == "int8":
            others.append(choose(model, "native", precision, 2).engine)
        for height, width, side in ((1, 97, 11), (7, 17, 4), (33, 2, 11), (33, 97, 11)):
            lr = blocks(rng, 1, height, width, side)[0]
            lr[: height // 3] = rng.integers(0, 256, (height // 3, width))
            for samples in (lr,) if precision == "int8" else (lr, lr / np.float32(255)):
                expected = reference(samples)
                for engine in others:
                    np.testing.assert_allclose(
                        engine(samples).astype(float), expected, rtol=0, atol=1 if lr is samples else 1e-5
                    )


def test_engines_agree_on_flat_images_of_several_channels():
    spec = ModelSpec(2, (Convolution(3, 12, 3),), channels=3, residual="nearest")
    model = random_model(spec, 1)
    lr = blocks(np.random.default_rng(2), 3, 40, 30, 9).astype(np.float32) / 255
    expected = NumpyEngine(model)(lr)
    np.testing.assert_allclose(OnnxRuntimeEngine(model)(lr), expected, atol=1e-5)
    flat = repeated(flat_by_scipy(lr), 2)
    np.testing.assert_array_equal(expected[:, flat], repeated(lr, 2)[:, flat])


def test_tiles_have_a_halo_for_flatness_even_if_the_network_needs_less():
    model = random_model(ModelSpec(2, (Convolution(1, 4, 3),), residual="nearest"), 4)
    lr = blocks(np.random.default_rng(9), 1, 60, 70, 8)[0]
    np.testing.assert_array_equal(NumpyEngine(model, tile_side_px=13)(lr), NumpyEngine(model)(lr))


@pytest.mark.parametrize("name", ["fast-x3", "default-x2", "default-compressed-x4", "best-x2"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_flat_colors_do_not_change(name, precision):
    if precision == "int8" and not native_runs():
        pytest.skip("the native engine does not run here, and other engines are too slow in int8")
    upscaler = Upscaler(packaged.find(name), precision=precision)
    scale = upscaler.scale
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    image = colors.repeat(16, 0).repeat(16, 1)
    large = upscaler(image)
    inner = large.reshape(12, 16 * scale, 12, 16 * scale, 3)[
        :, 4 * scale : -4 * scale, :, 4 * scale : -4 * scale
    ]
    np.testing.assert_array_equal(inner, np.broadcast_to(colors[:, None, :, None], inner.shape))
    for color in colors[0]:
        flat = np.broadcast_to(color, (21, 70, 3))
        np.testing.assert_array_equal(upscaler(flat), np.broadcast_to(color, (21 * scale, 70 * scale, 3)))


@pytest.mark.parametrize("name", ["default-x3", "best-x4", "default-compressed-x2"])
@pytest.mark.parametrize(("format", "dtype", "values"), [
    ("yuv420p", np.uint8, (16, 235, 128)),
    ("yuv420p10le", np.uint16, (64, 940, 512)),
])  # fmt: skip
def test_flat_video_frames_stay_flat(name, format, dtype, values):
    import av

    upscaler = Upscaler(packaged.find(name))
    for value in values:
        frame = av.VideoFrame(80, 48, format)
        for index, plane in enumerate(frame.planes):
            samples = np.frombuffer(memoryview(plane), np.uint8).view(dtype)
            samples[:] = value if index == 0 else values[2]
        (large,) = upscaler.frames([frame])
        for index, plane in enumerate(large.planes):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
            assert (rows.view(dtype)[:, : plane.width] == (value if index == 0 else values[2])).all()
