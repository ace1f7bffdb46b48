"""Networks for video on the native engine equal the reference in NumPy to the integer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import skimage.data

from history_models import BOUNDS, camera, lr_frames, random_correction, video_model
from subpixel.engines.history.application import Application
from subpixel.engines.history.frames import NativeHistory
from subpixel.engines.native import targets
from subpixel.engines.numpy_history import FrameState, NumpyHistory
from subpixel.errors import EngineError
from subpixel.models import catalog
from subpixel.models.history import eight_bits, without_history
from subpixel.models.model import Model
from subpixel.models.spec import Convolution
from subpixel.training.history_calibration import calibrate_history

pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")

TARGETS = [name for name, instructions in targets.TARGETS.items() if targets.runs_here(instructions)]
DTYPES = ["uint8", "uint16", "float32"]


@cache  # calibration takes most of the time
def quantized(scale: int, seed: int = 1, **changes: object) -> Model:
    """A network with int8 layers, whose gate is open in most places where motion fits."""
    model = video_model(scale, seed=seed, **changes)  # type: ignore[arg-type]
    clips = [lr_frames(camera(3, speed, 40 * scale), scale) for speed in ((1, 2), (-2, 1), (3, -3))]
    return calibrate_history(model, catalog.find(f"fast-x{scale}"), clips)


def frames_of(scale: int, height: int, width: int, dtype: str, count: int = 4) -> list[np.ndarray]:
    """Frames of a moving camera, with noise and a flat area."""
    rng = np.random.default_rng(height)
    side, picture = scale * max(height, width, 8), skimage.data.camera()
    hr = np.stack([picture[40 + n :, 60 + 2 * n :][:side, :side] for n in range(count)])
    result = []
    for frame in lr_frames(hr, scale):
        plane = np.clip(frame[:height, :width] + rng.integers(-1, 2, (height, width)), 0, 255)
        plane[: height // 3, : width // 2] = 90
        if dtype == "uint8":
            result.append(plane.astype(np.uint8))
        else:
            deep = plane / 255 + rng.uniform(-0.001, 0.001, plane.shape) * (plane != 90)
            result.append(
                deep.astype(dtype) if dtype[0] == "f" else np.rint(deep.clip(0, 1) * 65535).astype(dtype)
            )
    return result


def assert_equal_to_reference(model: Model, frames: list[np.ndarray], **options: object) -> int:
    """Compare results and states; return how many samples history has changed."""
    reference, network = NumpyHistory(model, precision="int8"), NativeHistory(model, **options)  # type: ignore[arg-type]
    state = expected_state = None
    differences = 0
    for frame in frames:
        expected, expected_state = reference.step(frame, expected_state)
        result, state = network.step(frame, state)
        assert result.dtype == frame.dtype
        np.testing.assert_array_equal(result, expected)
        for name in FrameState.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(state, name), getattr(expected_state, name), name)
        differences += np.count_nonzero(reference.step(frame, None)[0] != result)
    return differences


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_the_reference_at_awkward_sizes(scale: int, dtype: str) -> None:
    for size in [(1, 1), (2, 7), (7, 2), (15, 16), (16, 17), (17, 15), (33, 97), (97, 33)]:
        changes = assert_equal_to_reference(quantized(scale), frames_of(scale, *size, dtype), threads=2)
        assert changes > 0 or min(size) < 15, size


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("scale", "dtype"), [(2, "uint8"), (3, "uint16"), (4, "float32"), (4, "uint8")])
def test_every_instruction_set_equals_the_reference(target: str, scale: int, dtype: str) -> None:
    frames = frames_of(scale, 34, 67, dtype, 3)
    for bounds in (BOUNDS["free"], BOUNDS["bounded without motion"]):
        assert assert_equal_to_reference(quantized(scale, **bounds), frames, target=target) > 100


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_a_frame(threads: int) -> None:
    assert assert_equal_to_reference(quantized(2), frames_of(2, 97, 40, "uint8", 3), threads=threads) > 100


NETWORKS = {
    "one layer": {"layers": (Convolution(10, 9, 5),)},
    "kernels": {
        "layers": (Convolution(10, 5, 1, "relu"), Convolution(5, 7, 5, "tanh"), Convolution(7, 9, 3))
    },
    "whole pixels": {"parts": 1, "block_px": 4},
    "large blocks": {"block_px": 16, "state": 1},
    "no limit": {"fit_limit": 256, "state": 7},
    "bounded": BOUNDS["bounded"],
    "bounded without motion": BOUNDS["bounded without motion"] | {"block_px": 16},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_histories_equal_the_reference(name: str) -> None:
    model = quantized(2, 2, **NETWORKS[name])
    assert assert_equal_to_reference(model, frames_of(2, 31, 45, "uint8", 5), threads=2) > 100


def test_float64_and_views_equal_the_reference() -> None:
    frames = [np.asfortranarray(frame) for frame in frames_of(2, 33, 31, "float32", 3)]
    assert assert_equal_to_reference(quantized(2), [frame.astype(np.float64) for frame in frames]) > 100
    assert assert_equal_to_reference(quantized(2), frames) > 100


def test_another_size_starts_again_and_a_call_upscales_a_video() -> None:
    model = quantized(2)
    frames = [*frames_of(2, 33, 31, "uint8", 2), *frames_of(2, 40, 50, "uint8", 2)]
    expected = list(NumpyHistory(model, precision="int8")(frames))
    for result, wanted in zip(NativeHistory(model)(frames), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_several_videos_at_once_equal_the_reference() -> None:
    model = quantized(2)
    network, reference = NativeHistory(model), NumpyHistory(model, precision="int8")
    videos = [frames_of(2, height, width, "uint8", 6) for height, width in ((97, 40), (60, 70), (97, 40))]
    expected = [list(reference(frames)) for frames in videos]
    with ThreadPoolExecutor(3) as threads:
        for found, wanted in zip(
            threads.map(lambda frames: [*network(frames)], videos), expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)
    assert 1 <= len(network._spare) <= 3


def test_what_it_needs_is_said() -> None:
    with pytest.raises(EngineError, match="it has no history"):
        NativeHistory(without_history(quantized(2)))
    with pytest.raises(EngineError, match="no 8-bit layers"):
        NativeHistory(replace(quantized(2), quantized=()))


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_correction_is_applied_as_in_the_reference(scale: int, dtype: str, bounds: str) -> None:
    model = video_model(scale, **BOUNDS[bounds])
    for threads, width in ((1, 1), (2, 15), (3, 16), (1, 17), (2, 100)):
        application = Application(model, threads=threads)
        given = random_correction(model, 50, width, dtype)
        for result, expected in zip(given.applied(application), given.expected(model), strict=True):
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result, expected)
            assert len(np.unique(result)) > 10


def test_samples_are_rounded_as_in_the_reference() -> None:
    application = Application(video_model(2), threads=2)
    rng = np.random.default_rng(1)
    halves = (np.arange(-4, 516) / 510).astype(np.float32)
    floats = np.concatenate([halves, np.nextafter(halves, 2), rng.uniform(-1, 2, 3000).astype(np.float32)])
    for samples in (np.arange(65536, dtype=np.uint16), floats):
        for shape in ((-1, 1), (-1, 8), (-1, 40)):
            plane = samples[: len(samples) // 40 * 40].reshape(shape)
            np.testing.assert_array_equal(application.eight_bits(plane), eight_bits(plane))
            np.testing.assert_array_equal(application.eight_bits(plane.T), eight_bits(plane.T))
