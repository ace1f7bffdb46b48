"""Networks for video: the file, the arithmetic in int8, and where a result is that of a single frame."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from history_models import BOUNDS, camera, history_spec, lr_frames, video_model
from subpixel.engines.flat import is_flat
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.numpy_history import NumpyHistory, inside
from subpixel.errors import EngineError, ModelError
from subpixel.evaluation.metrics import psnr_db
from subpixel.models import catalog
from subpixel.models.calibration import calibrate, placeholder
from subpixel.models.history import changed_samples, correction, without_history
from subpixel.models.model import Model, load_model
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.block_motion import align
from subpixel.training.history_calibration import _from_zero, calibrate_history

SCALES = (2, 3, 4)


@pytest.fixture(scope="module", params=SCALES)
def model(request: pytest.FixtureRequest) -> Model:
    """A network with int8 layers."""
    scale = request.param
    clips = [
        lr_frames(camera(3, speed, 32 * scale, start), scale)
        for speed in ((1, 2), (-2, 1), (0, 3), (3, -3))
        for start in ((60, 60), (150, 120))
    ]
    return calibrate_history(video_model(scale), catalog.find(f"fast-x{scale}"), clips, source="a camera")


@pytest.fixture(params=[False, True], ids=["free", "bounded"])
def either(model: Model, request: pytest.FixtureRequest) -> Model:
    """With and without the bound of results."""
    assert model.spec.history is not None
    return replace(
        model, spec=replace(model.spec, history=replace(model.spec.history, bounded=request.param))
    )


@pytest.fixture(params=["fp32", "int8"])
def network(model: Model, request: pytest.FixtureRequest) -> NumpyHistory:
    return NumpyHistory(model, precision=request.param)


def frames_of(network: NumpyHistory, count: int = 3) -> list[np.ndarray]:
    return lr_frames(camera(count, (1, 2), 24 * network.model.scale), network.model.scale)


def base_of(network: NumpyHistory) -> NumpyEngine:
    return NumpyEngine(without_history(network.model), precision=network.precision)


def test_a_file_keeps_it(either: Model, tmp_path: Path) -> None:
    model = either
    model.save(tmp_path / "video.safetensors")
    loaded = load_model(tmp_path / "video.safetensors")
    assert loaded == model and loaded.spec == model.spec and loaded.spec.history is not None
    assert loaded.metadata.calibration == "a camera"
    assert without_history(loaded) != model
    single = without_history(loaded)
    assert single.spec == catalog.find(f"fast-x{model.scale}").spec
    assert "history" not in single.spec.to_json()
    changed = dict(model.weights) | {"history.share": model.weights["history.share"] / 2}
    assert replace(model, weights=changed) != model


def test_the_spec_counts_all_layers() -> None:
    spec = video_model(4).spec
    assert len(spec.convolutions) == len(spec.layers) + 2
    own = 9 * ((16 + 2 + 4) * 8 + 8 * (16 + 4 + 1))
    assert spec.macs_per_lr_pixel == catalog.find("fast-x4").spec.macs_per_lr_pixel + own
    assert spec.halo_px == catalog.find("fast-x4").spec.halo_px
    assert "history of 4 channels" in repr(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": 5}, "layer 4 takes 22 channels but is given 23"),
        ({"state": 0}, "state must be 1 to"),
        ({"block_px": 6}, "block_px must be one of 4, 8, 16, not 6"),
        ({"parts": 3}, "parts must be one of 1, 2, not 3"),
        ({"range_px": 33}, "range_px must be 1 to 32, not 33"),
        ({"fit_limit": 0}, "fit_limit must be 1 to 256"),
        ({"layers": ()}, "a history needs at least one convolution"),
        (
            {"layers": (Convolution(22, 1, 99), Convolution(1, 1, 99), Convolution(1, 21, 99))},
            "history: a halo of 147 LR pixels is larger than the limit of 128",
        ),
    ],
)
def test_wrong_histories_are_refused(changes: dict[str, object], message: str) -> None:
    base = catalog.find("fast-x4").spec
    with pytest.raises(ModelError) as error:
        replace(base, history=replace(history_spec(4), **changes))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_files_of_the_first_networks_for_video_are_read() -> None:
    """They do not say whether results are bounded, nor where."""
    spec = video_model(4).spec
    data = json.loads(json.dumps(spec.to_json()))
    del data["history"]["bounded"], data["history"]["bounded_in_motion"]
    assert ModelSpec.from_json(data) == spec
    data["history"]["bounded"] = 1
    with pytest.raises(ModelError, match="bounded must be bool, not 1"):
        ModelSpec.from_json(data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_bounded_results_do_not_leave_what_was(model: Model, precision: str, dtype: type) -> None:
    """Without motion, a result is between that of the single frame and the last one, so no error grows."""
    assert model.spec.history is not None
    history = replace(model.spec.history, bounded=True)
    network = NumpyHistory(replace(model, spec=replace(model.spec, history=history)), precision=precision)
    rng, base = np.random.default_rng(4), base_of(network)
    (frame,) = frames_of(network, 1)
    white = 255 if dtype == np.uint8 else 65535 if dtype == np.uint16 else 1
    is_exact = precision == "int8" and dtype == np.uint8
    step = 0 if is_exact else 1.01 / 255  # a level of the state, and what floats round
    _, state = network.step(as_samples(frame, dtype), None)
    differs = []
    for _ in range(6):
        noisy = np.clip(frame.astype(int) + rng.integers(0, 2, frame.shape), 0, 255)
        plane = as_samples(noisy.astype(np.uint8), dtype)
        single = base(plane) / white
        last = state.result / (255 if state.result.dtype == np.uint8 else 1)
        result, state = network.step(plane, state)
        assert np.all(result / white <= np.maximum(single, last).clip(0, 1) + step)
        assert np.all(result / white >= np.minimum(single, last).clip(0, 1) - step)
        differs.append(np.mean(result / white != single))
    assert min(differs) > 0.1  # there is a history


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bound_can_leave_out_what_moves(model: Model, precision: str) -> None:
    """The left part has noise, the right one moves; each has the result of another network."""
    free, everywhere, still = (
        NumpyHistory(
            replace(model, spec=replace(model.spec, history=replace(model.spec.history, **bounds))),  # type: ignore[type-var]
            precision=precision,
        )
        for bounds in BOUNDS.values()
    )
    first, second = frames_of(free, 2)
    second[:, :10] = first[:, :10] + np.random.default_rng(1).integers(0, 2, (24, 10), np.uint8)
    _, state = free.step(first, None)
    results = [network.step(second, state)[0] for network in (free, everywhere, still)]
    motion = align(second, first, 2 * model.scale, block_px=8, range_px=3, fit_limit=16).motion
    moves = np.kron(motion.any(axis=0), np.ones(2 * [4 * model.scale], bool))
    assert moves.any() and not moves.all()
    np.testing.assert_array_equal(results[2], np.where(moves, *results[:2]))
    differs = results[0] != results[1]
    assert differs[moves].any() and differs[~moves].any()


def test_other_networks_cannot_have_a_history() -> None:
    with pytest.raises(ModelError, match="a scale of 2, 3, 4"):
        ModelSpec(5, (Convolution(1, 25, 3),), history=history_spec(5))
    single = catalog.find("fast-x4").spec
    for name in ("bounded", "bounded_in_motion"):
        with pytest.raises(TypeError, match=f"history: {name} must be bool, not 1"):
            replace(single, history=replace(history_spec(4), **{name: 1}))
    with pytest.raises(TypeError, match="history must be History"):
        replace(single, history=3)  # type: ignore[arg-type]
    last = replace(history_spec(4).layers[1], activation="relu")
    with pytest.raises(ModelError, match="has no activation"):
        replace(single, history=replace(history_spec(4), layers=(history_spec(4).layers[0], last)))


def test_a_damaged_history_is_refused() -> None:
    data = json.loads(json.dumps(video_model(4).spec.to_json()))
    assert ModelSpec.from_json(json.loads(json.dumps(data))) == video_model(4).spec
    for key, value, message in (
        ("state", "8", "history: state must be int"),
        ("layers", [{"inputs": 3}], "history: layer 0: missing"),
        ("speed", 1, "history: missing nothing; unknown speed"),
    ):
        wrong = json.loads(json.dumps(data))
        wrong["history"][key] = value
        with pytest.raises(ModelError, match=message):
            ModelSpec.from_json(wrong)
    with pytest.raises(ModelError, match="history is list"):
        ModelSpec.from_json(data | {"history": []})


def test_images_and_first_frames_are_upscaled_without_history(network: NumpyHistory) -> None:
    frame = frames_of(network)[0]
    whole = NumpyEngine(network.model, precision=network.precision)
    for plane in (frame, frame.astype(np.uint16) * 257, frame / np.float32(255)):
        expected = base_of(network)(plane)
        np.testing.assert_array_equal(whole(plane), expected)
        np.testing.assert_array_equal(network.step(plane, None)[0], expected)


def test_history_changes_results_where_motion_fits(network: NumpyHistory) -> None:
    frames, base = frames_of(network), base_of(network)
    results = list(network(frames))
    assert all(result.dtype == np.uint8 for result in results)
    for frame, result in zip(frames[1:], results[1:], strict=True):
        assert np.mean(result != base(frame)) > 0.3


def test_after_a_cut_the_result_is_that_of_the_single_frame(network: NumpyHistory) -> None:
    scale = network.model.scale
    before = frames_of(network)
    other = skimage.data.coffee().mean(2).astype(np.uint8)[100:, 200:][: 24 * scale, : 24 * scale]
    after = lr_frames(other[None], scale)[0]
    strict = NumpyHistory(
        replace(network.model, spec=with_limit(network.model.spec, 1)), precision=network.precision
    )
    *_, result = strict([*before, after])
    np.testing.assert_array_equal(result, base_of(network)(after))
    half = before[1].copy()
    half[16:] = after[16:]
    *_, result = strict([before[0], half])
    expected = base_of(network)(half)
    np.testing.assert_array_equal(result[16 * scale :], expected[16 * scale :])
    assert np.any(result[: 8 * scale] != expected[: 8 * scale])


def test_a_flash_or_a_damaged_frame_does_no_lasting_harm(network: NumpyHistory) -> None:
    """The frame and the next one are those of the single frame; then the results before it are forgotten."""
    frames, base = frames_of(network, 5), base_of(network)
    wrong = np.random.default_rng(1).integers(0, 256, frames[2].shape).astype(np.uint8)
    results = list(network([*frames[:2], wrong, *frames[3:]]))
    for index, frame in ((2, wrong), (3, frames[3])):
        np.testing.assert_array_equal(results[index], base(frame))
    *_, expected = network(frames[3:])
    np.testing.assert_array_equal(results[4], expected)


def with_limit(spec: ModelSpec, limit: int) -> ModelSpec:
    assert spec.history is not None
    return replace(spec, history=replace(spec.history, fit_limit=limit))


def test_flat_areas_stay_flat(network: NumpyHistory) -> None:
    for value in (0, 77, 255):
        frame = np.full((20, 23), value, np.uint8)
        for result in network([frame] * 4):
            assert np.all(result == value)


def test_another_size_starts_again(network: NumpyHistory) -> None:
    large, small = frames_of(network)[0], frames_of(network)[1][:17, :19]
    _, state = network.step(large, None)
    result, state = network.step(small, state)
    np.testing.assert_array_equal(result, base_of(network)(small))
    assert state.frame.shape == (17, 19)


def test_int8_is_close_to_fp32(model: Model) -> None:
    frames = frames_of(NumpyHistory(model), 6)
    exact, rounded = (list(NumpyHistory(model, precision=one)(frames)) for one in ("fp32", "int8"))
    for one, other in zip(exact, rounded, strict=True):
        assert psnr_db(one, other, shave=0) > 46


def test_the_state_is_kept_in_8_bits(model: Model) -> None:
    network = NumpyHistory(model, precision="int8")
    state = None
    for frame in frames_of(network):
        for plane in (frame.astype(np.uint16) * 257, frame / np.float32(255), frame):
            result, after = network.step(plane, state)
            assert result.dtype == plane.dtype
            assert after.frame.dtype == after.result.dtype == after.hidden.dtype == np.uint8
            np.testing.assert_array_equal(after.frame, frame)
        state = after
    assert len(np.unique(after.hidden)) > 10


def test_the_correction_is_a_network_of_scale_1(model: Model) -> None:
    """From samples to samples: with the steps and zero points of the definition, and the gate twice."""
    network, scale = correction(model), model.scale
    assert network.scale == 1 and network.spec.channels == scale**2 + 2 + 4
    inputs = np.random.default_rng(1).integers(118, 139, (network.spec.channels, 12, 13)).astype(np.uint8)
    padded = np.pad(inputs, [(0, 0), (2, 2), (2, 2)], constant_values=128)
    result = NumpyEngine(network)(padded / np.float32(255), context_px=2)
    steps = np.repeat((1 / 255, 1 / 127), (scale**2 + 2, 4))[:, None, None]
    expected = NumpyHistory(model)._layers((inputs - 128.0) * steps)
    np.testing.assert_allclose(255 * result[: scale**2], 128 + 4 * 255 * expected[: scale**2], atol=0.01)
    np.testing.assert_allclose(255 * result[scale**2 : -2], 128 + 127 * expected[scale**2 : -1], atol=0.01)
    np.testing.assert_allclose(255 * result[-2], 64 + 128 / 6 * expected[-1], atol=0.01)
    int8 = NumpyEngine(network, precision="int8")(padded, context_px=2)
    for planes in (result, int8):
        np.testing.assert_array_equal(planes[-1], planes[-2])
    assert np.median(np.abs(int8 - np.clip(255 * result, 0, 255))) < 4


def test_a_first_layer_with_too_many_inputs_is_refused() -> None:
    layer = placeholder(Convolution(38, 1, 3))
    _from_zero(layer)
    with pytest.raises(EngineError, match="too many inputs"):
        _from_zero(replace(layer, weight=np.full_like(layer.weight, 127)))


class WithKnownOutputs(NumpyHistory):
    """The outputs of the last layer are random, but known."""

    def _corrected(self, inputs: np.ndarray) -> np.ndarray:
        self.inputs = inside(inputs, self._context_px).astype(int)
        self.outputs = np.random.default_rng(3).integers(0, 256, self.inputs.shape).astype(np.uint8)
        return self.outputs


def test_results_and_state_are_those_of_the_formulas(either: Model) -> None:
    """Pixel by pixel, in Python's integers."""
    model, outside = either, 0
    network = WithKnownOutputs(model, precision="int8")
    scale, squares = model.scale, model.scale**2
    first, second = frames_of(network, 2)
    first[:9, :9] = second[:9, :9] = 50  # flat, and so closed
    _, old = network.step(first, None)
    result, new = network.step(second, old)
    base = base_of(network)(second)
    differences, shares = network.inputs[:squares] - 128, np.rint(128 * model.weights["history.share"])
    closed = (
        is_flat(second[None]) | ~align(second, first, 2 * scale, block_px=8, range_px=3, fit_limit=16).fits
    )
    assert closed.any() and not closed.all() and (network.inputs[:, closed] == 128).all()
    for row, column in np.ndindex(second.shape):
        gate = 0 if closed[row, column] else min(int(network.outputs[-1, row, column]), 127)
        for phase in range(squares):
            y, x = row * scale + phase // scale, column * scale + phase % scale
            difference, share = int(differences[phase, row, column]), int(shares[phase])
            wanted = 32 * (int(network.outputs[phase, row, column]) - 128) + share * difference
            change = (2 * 128 * gate * wanted + 2**14) >> 15
            low, high = sorted((0, 128 * difference))
            outside += not low <= change <= high
            if network.history.bounded:
                change = min(max(change, low), high)
            expected = min(max(int(base[y, x]) + ((change + 64) >> 7), 0), 255)
            assert int(result[y, x]) == expected, (row, column, phase)
        for channel in range(network.history.state):
            value = int(network.outputs[squares + channel, row, column]) - 128
            assert int(new.hidden[channel, row, column]) == 128 + ((2 * 128 * gate * value + 2**14) >> 15)
    assert outside > 100


def test_changes_are_in_128ths_of_an_8_bit_level() -> None:
    change = np.array([128, -64, 128, -65, 63])
    assert changed_samples(np.array([0, 9, 255, 9, 9], np.uint8), change).tolist() == [1, 9, 255, 8, 9]
    deep = np.array([0, 30000, 65535], np.uint16)
    assert changed_samples(deep, change[:3]).tolist() == [257, 29872, 65535]
    real = np.array([0.5], np.float32)
    assert changed_samples(real, change[:1]) == pytest.approx(0.5 + 1 / 255)


def test_what_it_needs_is_said(model: Model) -> None:
    with pytest.raises(EngineError, match="it has no history"):
        NumpyHistory(without_history(model))
    with pytest.raises(EngineError, match="no 8-bit layers"):
        NumpyHistory(replace(model, quantized=()), precision="int8")
    with pytest.raises(EngineError, match="int8 layers in training"):
        calibrate(model, [np.zeros((30, 30), np.uint8)])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_ramps_of_deep_samples_have_no_steps(model: Model, dtype: type) -> None:
    """The second of two frames of a slow ramp is as without history, which is linear there."""
    network = NumpyHistory(model, precision="int8")
    ramp = np.add.outer(np.arange(24), np.arange(31)) * 90 / 65535 + 0.3
    plane = np.rint(ramp * 65535).astype(np.uint16) if dtype == np.uint16 else ramp.astype(dtype)
    _, state = network.step(plane, None)
    result, _ = network.step(plane, state)
    np.testing.assert_array_equal(result, base_of(network)(plane))
    assert np.all(np.diff(result.astype(np.float64), axis=1) >= 0)
    assert len(np.unique(result)) > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_in_still_parts_results_stay(network: NumpyHistory, dtype: type) -> None:
    first, second = (as_samples(frame, dtype) for frame in frames_of(network, 2))
    _, state = network.step(first, None)
    moved, state = network.step(second, state)
    again, after = network.step(second, state)
    np.testing.assert_array_equal(after.result, state.result)
    np.testing.assert_array_equal(after.hidden, state.hidden)
    if dtype == np.uint8:
        np.testing.assert_array_equal(again, moved)
    changed = second.copy()
    changed[20:, 20:] = first[20:, 20:]
    half, _ = network.step(changed, after)
    scale = network.model.scale
    np.testing.assert_array_equal(half[: 8 * scale, : 8 * scale], again[: 8 * scale, : 8 * scale])
    assert not np.array_equal(half[16 * scale :, 16 * scale :], again[16 * scale :, 16 * scale :])


def as_samples(frame: np.ndarray, dtype: type) -> np.ndarray:
    if dtype == np.uint16:
        return frame.astype(np.uint16) * 257
    return frame if dtype == np.uint8 else frame / np.float32(255)
