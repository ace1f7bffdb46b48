"""Color conversion in machine code equals the functions in NumPy to the bit."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from image_files import smooth_image
from scripts import run_script
from subpixel.engines.color import kernel, program
from subpixel.engines.native import targets
from subpixel.errors import EngineError
from subpixel.images import chroma
from subpixel.images.chroma import (
    split_rgb,
    split_rgb_in_numpy,
    write_resampled_rgb,
    write_resampled_rgb_in_numpy,
    write_rgb,
    write_rgb_in_numpy,
)
from subpixel.ops.resample import area_taps, resample, taps

pytest.importorskip("llvmlite", reason="machine code needs llvmlite")

DTYPES = ["uint8", "uint16", "float32"]
WIDTHS = [16, 17, 31, 32, 45, 100]
TARGETS = {each.lanes: name for name, each in targets.TARGETS.items() if targets.runs_here(each)}.values()
"""One for each width of vectors."""


@pytest.fixture(autouse=True)
def only_code(monkeypatch):
    """Fail where NumPy would step in, unless a test asks for it."""

    def unexpected(*arguments):
        raise AssertionError("this is not computed in machine code")

    for name in ("split_rgb_in_numpy", "write_rgb_in_numpy", "write_resampled_rgb_in_numpy"):
        monkeypatch.setattr(chroma, name, unexpected)
    monkeypatch.setattr(kernel, "MIN_PX", 0)


@pytest.fixture
def target(request, monkeypatch):
    monkeypatch.setattr(kernel, "_functions", {})
    monkeypatch.setattr(targets, "find", lambda: targets.TARGETS[request.param])
    return request.param


every_target = pytest.mark.parametrize("target", TARGETS, indirect=True)


def planes(height, width, scale, context):
    """Luma and chroma that reach beyond black and white."""
    rng = np.random.default_rng(width)
    luma = rng.random((height * scale, width * scale), np.float32) * np.float32(1.4) - np.float32(0.2)
    return luma, *rng.random((2, height + context, width + context), np.float32)


@every_target
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 4])
def test_split(target, dtype, channels):
    for width in WIDTHS:
        image = np.random.default_rng(width).random((5, width, channels), np.float32)
        if dtype != "float32":
            image = (image * np.iinfo(dtype).max).astype(dtype)
        for got, expected in zip(split_rgb(image), split_rgb_in_numpy(image), strict=True):
            np.testing.assert_array_equal(got, expected)


@every_target
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_write(target, dtype, scale, channels):
    """A fourth channel keeps its values."""
    for width in WIDTHS:
        arrays = planes(5, width, scale, 4)
        out = smooth_image(5 * scale, width * scale, channels=channels).astype(dtype)
        expected = out.copy()
        if scale == 1:
            arrays = arrays[0], arrays[1][2:-2, 2:-2], arrays[2][2:-2, 2:-2]
            write_resampled_rgb(*arrays, out)
            write_resampled_rgb_in_numpy(*arrays, expected)
        else:
            write_rgb(*arrays, scale, out)
            write_rgb_in_numpy(*arrays, scale, expected)
        np.testing.assert_array_equal(out, expected)


@every_target
@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize(
    ("kind", "source", "size"),
    [
        ("bicubic", (20, 16), (30, 24)),
        ("lanczos", (40, 60), (27, 45)),
        ("lanczos", (200, 150), (17, 16)),
        ("area", (50, 47), (33, 91)),
    ],
)
def test_resample(target, monkeypatch, kind, source, size, wraps):
    """The whole result, and parts of it from parts of the source."""
    monkeypatch.setattr(kernel, "in_numpy", None)
    axes = [
        area_taps(*sides) if kind == "area" else taps(kind, *sides, wraps=wraps)
        for sides in zip(source, size, strict=True)
    ]
    plane = np.random.default_rng(0).random(source, np.float32)
    whole = slice(0, size[0]), slice(0, size[1])
    np.testing.assert_array_equal(
        kernel.resample(plane, *axes, whole, (0, 0)), resample(plane, *axes, whole, (0, 0))
    )
    part, origin = (slice(1, 17), slice(size[1] - 16, size[1])), (-3, -5)
    padded = np.pad(plane, [(3, 2), (5, 4)], mode="wrap" if wraps else "edge")
    views = padded, np.asfortranarray(padded), np.pad(padded, 1)[1:-1, 1:-1]
    for view in views:
        np.testing.assert_array_equal(
            kernel.resample(view, *axes, part, origin), resample(padded, *axes, part, origin)
        )


@pytest.mark.parametrize("scale", [6, 8])
def test_large_scales(scale):
    arrays = planes(2, 20, scale, 4)
    out, expected = np.empty((2, 2 * scale, 20 * scale, 3), np.uint8)
    write_rgb(*arrays, scale, out)
    write_rgb_in_numpy(*arrays, scale, expected)
    np.testing.assert_array_equal(out, expected)


def test_views():
    """Parts of images, and planes that are stored by columns."""
    image = smooth_image(60, 90)
    part = image[5:25, 7:40]
    for got, expected in zip(split_rgb(part), split_rgb_in_numpy(part), strict=True):
        np.testing.assert_array_equal(got, expected)
    luma, cb, cr = planes(20, 33, 2, 4)
    expected = np.empty((40, 66, 3), np.uint8)
    write_rgb_in_numpy(luma, cb, cr, 2, expected)
    out = np.full((50, 80, 4), 77, np.uint8)
    wider = np.pad(cr, 3)[3:-3, 3:-3]
    write_rgb(np.asfortranarray(luma), cb, wider, 2, out[5:45, 6:72])
    np.testing.assert_array_equal(out[5:45, 6:72, :3], expected)
    assert (out[..., 3] == 77).all()
    assert (out[:5] == 77).all()
    assert (out[45:] == 77).all()
    assert (out[:, :6] == 77).all()
    assert (out[:, 72:] == 77).all()


@pytest.mark.parametrize("why", ["narrow", "float64", "another processor", "a large scale"])
def test_numpy_takes_the_rest(monkeypatch, why):
    used = []

    def counting(function):
        return lambda *arguments: used.append(function) or function(*arguments)

    for function in (split_rgb_in_numpy, write_rgb_in_numpy, write_resampled_rgb_in_numpy):
        monkeypatch.setattr(chroma, function.__name__, counting(function))
    scale = 9 if why == "a large scale" else 2
    image = smooth_image(30, 12 if why == "narrow" else 40)
    if why == "float64":
        image = image / 255
    if why == "another processor":

        def unknown():
            raise EngineError("this processor has no avx2")

        monkeypatch.setattr(kernel, "_functions", {})
        monkeypatch.setattr(targets, "find", unknown)
    luma, cb, cr = split_rgb(image)
    out = np.empty((30 * scale, image.shape[1] * scale, 3), image.dtype)
    write_rgb(np.repeat(np.repeat(luma, scale, 0), scale, 1), np.pad(cb, 2), np.pad(cr, 2), scale, out)
    assert used == ([] if why == "a large scale" else [split_rgb_in_numpy]) + [write_rgb_in_numpy]


def test_numpy_without_llvmlite():
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import numpy, subpixel\n"
        "from subpixel.engines.color import kernel\n"
        "kernel.MIN_PX = 0\n"
        "upscaler = subpixel.load('fast', scale=1.5, engine='numpy')\n"
        "print(upscaler(numpy.full((30, 40, 3), 77, numpy.uint8)).mean(), set(kernel._functions.values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "77.0 {None}\n", done.stderr


def test_small_images_load_no_code(monkeypatch):
    monkeypatch.setattr(kernel, "_functions", {})
    monkeypatch.setattr(kernel, "_pixels", Counter())
    monkeypatch.setattr(kernel, "MIN_PX", 30 * 40 + 1)
    monkeypatch.setattr(chroma, "split_rgb_in_numpy", split_rgb_in_numpy)
    split_rgb(smooth_image(30, 40))
    assert not kernel._functions
    split_rgb(smooth_image(30, 40))  # several small tiles are worth it
    monkeypatch.setattr(chroma, "split_rgb_in_numpy", None)
    split_rgb(smooth_image(30, 40))


def test_narrow_tiles_equal_wide_ones():
    """What computes a pixel depends on the size of its tile, and must not be seen."""
    image = smooth_image(24, 40)
    cb, cr = (np.pad(plane, 2, mode="edge") for plane in split_rgb(image)[1:])
    luma = np.random.default_rng(0).random((48, 80), np.float32)
    out, parts = np.empty((2, 48, 80, 3), np.uint8)
    write_rgb(luma, cb, cr, 2, out)
    for left in range(0, 40, 10):
        columns, near = slice(2 * left, 2 * left + 20), slice(left, left + 14)
        write_rgb_in_numpy(luma[:, columns], cb[:, near], cr[:, near], 2, parts[:, columns])
    np.testing.assert_array_equal(parts, out)


def test_another_process_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path))
    image, results = smooth_image(20, 40), []
    for _ in range(2):
        monkeypatch.setattr(kernel, "_functions", {})  # as in a new process
        out = np.empty((40, 80, 3), np.uint8)
        luma, cb, cr = split_rgb(image)
        write_rgb(luma.repeat(2, 0).repeat(2, 1), np.pad(cb, 2), np.pad(cr, 2), 2, out)
        results.append(out)
        for name in ("split", "write"):
            monkeypatch.delattr(program, name, raising=False)
    np.testing.assert_array_equal(*results)


def test_no_access_out_of_bounds():
    done = run_script("guarded_color.py")
    assert done.returncode == 0, done.stderr
    assert run_script("guarded_color.py", "overrun").returncode == -11
