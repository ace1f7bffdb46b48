"""Flat stays flat: a constant area comes out as that constant, whatever the model, engine and precision."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from random_models import halide_runs, quantized_model, random_model
from subpixel.engines.base import Engine
from subpixel.engines.flat import is_flat, keep_flat
from subpixel.engines.halide.flat import keep_flat as keep_flat_compiled
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine
from subpixel.engines.select import choose
from subpixel.models import catalog as packaged
from subpixel.models.networks import stack
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.upscaler import Upscaler

SHIPPED = [name for name in packaged.names() if packaged.find(name).spec.residual == "nearest"]
"""All but the paper's own networks, which have nothing beside them that could stay as it is."""

needs_halide = pytest.mark.skipif(not halide_runs(), reason="Halide does not run here")


def blocks(rng, channels, height, width, side, dtype=np.uint8):
    """Constant blocks of random values; two of three are black or white, so that some grow together."""
    cells = rng.choice([0, 255, 100], (channels, -(-height // side), -(-width // side)))
    return cells.repeat(side, 1).repeat(side, 2)[:, :height, :width].astype(dtype)


def flat_by_scipy(tensor):
    """Where the highest and the lowest of 5x5 pixels are one, in every channel."""
    pairs = [(ndimage.maximum_filter(p, 5, mode="nearest"), ndimage.minimum_filter(p, 5, mode="nearest"))
             for p in tensor]  # fmt: skip
    return np.logical_and.reduce([highest == lowest for highest, lowest in pairs])


def repeated(samples, scale):
    return samples.repeat(scale, -2).repeat(scale, -1)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_flat_agrees_with_scipy_at_awkward_sizes(channels):
    rng = np.random.default_rng(channels)
    for height, width, side in product((1, 2, 7, 16, 33), (1, 2, 7, 17, 97), (3, 6, 50)):
        tensor = blocks(rng, channels, height, width, side)
        np.testing.assert_array_equal(is_flat(tensor), flat_by_scipy(tensor))


@needs_halide
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_compiled_code_keeps_what_numpy_keeps_and_touches_nothing_else(dtype):
    rng = np.random.default_rng(7)
    kept = 0
    for height, width, side, scale, margin in product(
        (1, 7, 33), (1, 15, 64, 65, 130), (4, 6, 90), (1, 2, 3, 4), (0, 1, 2, 5)
    ):
        lr = blocks(rng, 1, height + 2 * margin, width + 2 * margin, side, dtype)
        around = rng.integers(0, 255, (1, height * scale + 2, width * scale + 9)).astype(dtype)
        expected = around.copy()
        inside = lr[:, margin : margin + height, margin : margin + width]
        flat = flat_by_scipy(lr)[margin : margin + height, margin : margin + width]
        view = expected[:, 1:-1, 4:-5]
        view[:] = np.where(repeated(flat, scale), repeated(inside, scale), view)
        keep_flat_compiled(lr, around[:, 1:-1, 4:-5], margin)
        np.testing.assert_array_equal(around, expected)
        kept += int(flat.sum())
    assert kept > 10_000


def test_numpy_keeps_flat_areas_of_several_channels():
    rng = np.random.default_rng(3)
    lr = blocks(rng, 3, 40, 50, 9)
    hr = rng.integers(0, 255, (3, 80, 100)).astype(np.uint8)
    expected = np.where(repeated(flat_by_scipy(lr), 2), repeated(lr, 2), hr)
    keep_flat(lr, hr)
    np.testing.assert_array_equal(hr, expected)


@cache
def engines(name: str) -> list[tuple[Engine, type, int]]:
    """All that can run a model fast, each with samples to try and what their levels are multiplied with."""
    model = packaged.find(name)
    made: list[tuple[Engine, type, int]] = [(OnnxRuntimeEngine(model), np.uint8, 1)]
    if halide_runs():
        made.append((choose(model, "halide", "int8", 1).engine, np.uint8, 1))
        made.append((choose(model, "halide", "fp32", 1).engine, np.uint16, 257))
    return made


@pytest.mark.parametrize("name", SHIPPED)
def test_a_flat_picture_of_any_level_stays_that_level(name):
    for engine, dtype, factor in engines(name):
        for level in range(256):
            value = level * factor
            hr = engine(np.full((9, 70) if level % 8 == 0 else (3, 5), value, dtype))
            assert (hr == value).all(), f"{engine.name} {engine.precision}, level {level}"


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("levels", [(0, 255), (16, 235), (255, 128)])
def test_two_levels_stay_exact_at_8_pixels_from_their_edges(name, levels):
    rng = np.random.default_rng(5)
    boards = [repeated(np.indices((6, 9)).sum(0) % 2, side)[None] for side in (8, 12)]
    text = np.zeros((1, 60, 140), int)
    for row, column in product(range(10, 50, 14), range(8, 110, 5)):
        text[0, row : row + 6, column : column + 4] = rng.random((6, 4)) < 0.5
    for two in (*boards, text):
        for engine, dtype, factor in engines(name):
            scale = engine.model.scale
            lr = (np.where(two == 0, *levels) * factor).astype(dtype)
            wanted = repeated(lr, scale)[0]
            edges = [
                ndimage.distance_transform_cdt(wanted == level, "chessboard") for level in np.unique(wanted)
            ]
            far = np.maximum(*edges) > 8
            assert far.any()
            np.testing.assert_array_equal(engine(lr[0])[far], wanted[far])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_engines_agree_on_pictures_that_are_flat_in_places(precision):
    rng = np.random.default_rng(11)
    for scale in (2, 3):
        model = quantized_model(stack(scale, [8, 8]), scale)
        oracle = NumpyEngine(model, precision=precision)
        others: list[Engine] = [OnnxRuntimeEngine(model)] if precision == "fp32" else []
        if halide_runs():
            others.append(choose(model, "halide", precision, 2).engine)
        for height, width, side in ((1, 97, 11), (7, 17, 4), (33, 2, 11), (33, 97, 11)):
            lr = blocks(rng, 1, height, width, side)[0]
            lr[: height // 3] = rng.integers(0, 256, (height // 3, width))
            for samples in (lr, lr / np.float32(255)):
                expected = oracle(samples)
                for engine in others:
                    np.testing.assert_allclose(
                        engine(samples).astype(float), expected, rtol=0, atol=1 if lr is samples else 1e-5
                    )


def test_engines_agree_on_flat_pictures_of_several_channels():
    described = ModelSpec(2, (Convolution(3, 12, 3),), channels=3, residual="nearest")
    model = random_model(described, 1)
    lr = blocks(np.random.default_rng(2), 3, 40, 30, 9).astype(np.float32) / 255
    expected = NumpyEngine(model)(lr)
    np.testing.assert_allclose(OnnxRuntimeEngine(model)(lr), expected, atol=1e-5)
    flat = repeated(flat_by_scipy(lr), 2)
    np.testing.assert_array_equal(expected[:, flat], repeated(lr, 2)[:, flat])


def test_a_network_that_sees_one_pixel_still_looks_far_enough_in_tiles():
    model = random_model(ModelSpec(2, (Convolution(1, 4, 3),), residual="nearest"), 4)
    lr = blocks(np.random.default_rng(9), 1, 60, 70, 8)[0]
    np.testing.assert_array_equal(NumpyEngine(model, tile_side_px=13)(lr), NumpyEngine(model)(lr))


@pytest.mark.parametrize("name", ["fast-x3", "default-x2", "default-compressed-x4", "best-x2"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_flat_colors_stay_those_colors(name, precision):
    if precision == "int8" and not halide_runs():
        pytest.skip("Halide does not run here, and it alone computes in int8 fast enough for a test")
    upscaler = Upscaler(packaged.find(name), precision=precision)
    scale = upscaler.scale
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    picture = colors.repeat(16, 0).repeat(16, 1)
    large = upscaler(picture)
    inner = large.reshape(12, 16 * scale, 12, 16 * scale, 3)[
        :, 4 * scale : -4 * scale, :, 4 * scale : -4 * scale
    ]
    np.testing.assert_array_equal(inner, np.broadcast_to(colors[:, None, :, None], inner.shape))
    for color in colors[0]:
        flat = np.broadcast_to(color, (21, 70, 3))
        np.testing.assert_array_equal(upscaler(flat), np.broadcast_to(color, (21 * scale, 70 * scale, 3)))


@pytest.mark.parametrize("name", ["default-x3", "best-x4", "default-compressed-x2"])
@pytest.mark.parametrize(("format", "dtype", "levels"), [
    ("yuv420p", np.uint8, (16, 235, 128)),
    ("yuv420p10le", np.uint16, (64, 940, 512)),
])  # fmt: skip
def test_flat_frames_of_films_stay_flat(name, format, dtype, levels):
    import av

    upscaler = Upscaler(packaged.find(name))
    for level in levels:
        frame = av.VideoFrame(80, 48, format)
        for index, plane in enumerate(frame.planes):
            samples = np.frombuffer(memoryview(plane), np.uint8).view(dtype)
            samples[:] = level if index == 0 else levels[2]
        (large,) = upscaler.frames([frame])
        for index, plane in enumerate(large.planes):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
            assert (rows.view(dtype)[:, : plane.width] == (level if index == 0 else levels[2])).all()
