"""Networks for video on the native engine equal the reference in NumPy to the integer."""

from functools import cache

import numpy as np
import pytest
import skimage.data

from history_models import camera, lr_frames, video_model
from subpixel.engines.history.frames import NativeHistory
from subpixel.engines.native import targets
from subpixel.engines.numpy_history import FrameState, NumpyHistory
from subpixel.models import catalog
from subpixel.models.model import Model
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
    assert assert_equal_to_reference(quantized(scale), frames, target=target) > 100
