"""The 8-bit form: its arithmetic, its place in the model file, how it is found, and what it costs."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from skimage import data
from typer.testing import CliRunner

from random_models import odd_description, quantized_model, random_model
from subpixel.cli import app
from subpixel.cli.calibrate import calibrate as calibrate_command
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError, ModelError
from subpixel.evaluation.protocol import evaluate_image, lr_plane, mean, pictures, read_picture
from subpixel.models import catalog as packaged
from subpixel.models.calibration import CONTRAST_SHARE, _black_and_white, calibrate
from subpixel.models.model import Model, QuantizedLayer, load_model
from subpixel.models.networks import espcn, stack
from subpixel.models.quantization import (
    FACTOR_STEP,
    LEAST_ROUNDED_FACTOR,
    LEAST_TANH_SCALE,
    MOST_TANH_ARGUMENT,
    TANH_COEFFICIENTS,
    TANH_LIMIT,
    integer_layers,
    rounded_product,
    tanh_steps,
)
from subpixel.ops.color import luma_8bit


def rounded_to_nearest(model):
    """8-bit layers without any calibration but ranges: what `calibrate` is to beat."""
    calibrated = calibrate(model, [luma_8bit(data.astronaut())[:60, :60]])
    layers = []
    scales = np.full(1, 1 / 255)
    for index, layer in enumerate(calibrated.quantized):
        weight = model.weights[f"layers.{index}.weight"] * scales[:, None, None]
        step = np.abs(weight).max(axis=(1, 2, 3)) / 127
        layers.append(
            replace(
                layer,
                weight=np.rint(weight / step[:, None, None, None]).astype(np.int8),
                weight_scale=step.astype(np.float32),
                bias=model.weights[f"layers.{index}.bias"],
            )
        )
        scales = layer.output_scale
    return replace(model, quantized=tuple(layers))


def test_tanh_is_close():
    arguments = np.arange(-(2**15) + 1, 2**15)
    tanh = tanh_steps(arguments) * TANH_LIMIT / 2**12
    assert np.abs(tanh - np.tanh(arguments * TANH_LIMIT / 2**15)).max() < 0.003
    assert np.abs(tanh[[0, -1]]).min() > 0.998  # and stands for all that lies beyond


def test_tanh_fits_16_bits_on_the_way():
    """Engines compute it there: nothing may wrap, and only -32768 squared would."""
    distance = np.arange(2**15)
    polynomial = np.full_like(distance, TANH_COEFFICIENTS[-1])
    for coefficient in TANH_COEFFICIENTS[-2::-1]:
        polynomial = rounded_product(polynomial, distance) + coefficient
        assert np.abs(polynomial).max() < 2**15
    assert np.abs(tanh_steps(distance)).max() < 2**15


def test_rounded_product_is_what_processors_give():
    """``pmulhrsw``: ((a * b >> 14) + 1) >> 1, as Intel's manual writes it."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(-(2**15) + 1, 2**15, (2, 10_000))
    np.testing.assert_array_equal(rounded_product(one, other), ((one * other >> 14) + 1) >> 1)


def test_levels_after_tanh_fit_16_bits():
    """Before they are clipped to 8: for the largest steps and zero level that there are."""
    steps, arguments = 2**15 - 1, np.arange(-MOST_TANH_ARGUMENT, MOST_TANH_ARGUMENT + 1)
    levels = rounded_product(tanh_steps(arguments), steps) + 255
    assert -(2**15) < levels.min() < 0
    assert 255 < levels.max() < 2**15


def test_the_lowest_short_counts_as_the_lowest_argument():
    """Engines may clip to 16 bits, where there is one more below than above: its tanh is the same."""
    polynomial = tanh_steps(np.array([MOST_TANH_ARGUMENT]))
    assert rounded_product(-MOST_TANH_ARGUMENT, polynomial) == rounded_product(-(2**15), polynomial)


def test_factors_are_multiples_of_a_step():
    """But for those that this would make coarse, and for the last layer's, which are real."""
    model = quantized_model(stack(2, [16, 16]))
    first, second, last = model.quantized
    fine = first.output_scale.copy()
    fine[3] *= 1000
    first = replace(first, output_scale=fine)
    layers = integer_layers(replace(model, quantized=(first, second, last)))
    for layer, quantized in zip(layers[:2], (first, second), strict=True):
        exact = quantized.weight_scale.astype(np.float64) / quantized.output_scale
        coarse = exact < LEAST_ROUNDED_FACTOR
        for values in (layer.factor, layer.negative_factor):
            steps = values.astype(np.float64) / FACTOR_STEP
            assert (steps[~coarse] == np.rint(steps[~coarse])).all()
        assert np.abs(layer.factor - exact)[~coarse].max() <= FACTOR_STEP / 2
        np.testing.assert_array_equal(layer.factor[coarse], exact.astype(np.float32)[coarse])
    assert coarse.sum() == 0
    assert layers[0].factor[3] < LEAST_ROUNDED_FACTOR
    assert (layers[2].factor / FACTOR_STEP != np.rint(layers[2].factor / FACTOR_STEP)).any()


def test_levels_too_fine_for_tanh_are_refused():
    model = quantized_model(espcn(2))
    first = replace(model.quantized[0], output_scale=np.full(64, LEAST_TANH_SCALE / 2, np.float32))
    with pytest.raises(EngineError, match=r"layer 0 has levels finer than 0\.00079 after tanh"):
        integer_layers(replace(model, quantized=(first, *model.quantized[1:])))


def test_integers_give_the_real_sums():
    """bias + Σ weight * level, times factor, is what the real convolution of the levels gives."""
    model = quantized_model(espcn(2, activation="relu"))
    rng = np.random.default_rng(0)
    zeros, scales = np.zeros(1), np.full(1, 1 / 255)
    for layer, integers in zip(model.quantized, integer_layers(model), strict=True):
        levels = rng.integers(0, 256, (layer.weight.shape[1], *layer.weight.shape[2:]))
        total = (layer.weight.astype(np.int64) * levels).sum((1, 2, 3)) + integers.bias
        steps = ((levels - zeros[:, None, None]) * layer.weight.astype(np.int64)).sum((1, 2, 3))
        real = layer.weight_scale.astype(np.float64) * steps + layer.bias
        output_scale = layer.output_scale if layer is not model.quantized[-1] else 1.0
        given = total * integers.factor.astype(np.float64) * output_scale
        rounding = np.abs(total) * output_scale * FACTOR_STEP / 2  # of the factor
        assert (np.abs(given - real) <= 1e-5 * (1 + np.abs(real)) + rounding).all()
        zeros, scales = layer.output_zero.astype(np.float64), layer.output_scale
    assert scales.shape == (4,)


@pytest.mark.parametrize("seed", range(12))
def test_eight_bits_come_close_on_any_network(seed):
    """On what it was calibrated on, and within what random networks amplify."""
    spec = odd_description(seed)
    model = random_model(spec, seed)
    rng = np.random.default_rng(seed)
    planes = [rng.integers(0, 256, (spec.channels, 40, 44)).astype(np.uint8) for _ in range(4)]
    model = calibrate(model, planes)
    exact, close = NumpyEngine(model), NumpyEngine(model, precision="int8")
    lr = (planes[0] / np.float32(255)).astype(np.float32)
    error = np.sqrt(np.mean((close.run(lr) - exact.run(lr)) ** 2))
    assert error < 0.05 * exact.run(lr).std()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_stands_for_text_is_black_white_and_gray_at_edges(scale):
    pieces = _black_and_white(1, scale, np.random.default_rng(0))
    assert {piece.shape for piece in pieces} == {(1, 64, 64)}
    kinds = [len(np.unique(piece)) for piece in pieces]
    assert kinds[:8] == [2] * 8
    assert min(kinds[8:]) > 20
    for piece in pieces:
        black, white = np.percentile(piece, [10, 90])
        assert white - black > 150
        assert 0 <= piece.min() <= piece.max() <= 255


def test_calibration_beats_rounding_to_nearest():
    model = packaged.find("espcn-t91-x3")
    picture = data.astronaut()
    calibrated = calibrate(model, [lr_plane(data.chelsea(), 3), lr_plane(data.coffee(), 3)])
    exact = evaluate_image(picture, NumpyEngine(model), 3).psnr_db
    ours = evaluate_image(picture, NumpyEngine(calibrated, precision="int8"), 3).psnr_db
    nearest = evaluate_image(picture, NumpyEngine(rounded_to_nearest(model), precision="int8"), 3).psnr_db
    assert exact - 0.1 < ours < exact + 0.02
    assert nearest < exact - 0.3


def test_calibration_is_repeatable_and_leaves_the_weights():
    model = random_model(espcn(2))
    planes = [np.random.default_rng(1).integers(0, 256, (60, 60)).astype(np.uint8)]
    one, two = (calibrate(model, planes, source="noise") for _ in range(2))
    for first, second in zip(one.quantized, two.quantized, strict=True):
        for name in ("weight", "weight_scale", "bias", "output_scale", "output_zero"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert one.metadata.calibration == "noise"
    for name, array in model.weights.items():
        np.testing.assert_array_equal(one.weights[name], array)


def test_too_few_pixels_are_refused():
    with pytest.raises(ValueError, match="only 25 pixels to decide 25 weights: give more or larger pictures"):
        calibrate(random_model(espcn(2)), [np.zeros((5, 5), np.uint8)])
    with pytest.raises(ValueError, match="give more"):
        calibrate(random_model(espcn(2)), [])
    with pytest.raises(ValueError, match="expected uint8 planes of 1 channels"):
        calibrate(random_model(espcn(2)), [np.zeros((3, 50, 50), np.uint8)])


def test_saved_and_loaded(tmp_path):
    model = quantized_model(espcn(2))
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.metadata == model.metadata
    assert loaded.weights.keys() == model.weights.keys()
    for saved, read in zip(model.quantized, loaded.quantized, strict=True):
        for name in ("weight", "weight_scale", "bias", "output_scale", "output_zero"):
            np.testing.assert_array_equal(getattr(read, name), getattr(saved, name))
            assert not getattr(read, name).flags.writeable


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("quantised.1.bias", lambda _: None, "quantized layers are incomplete: quantised.1.bias missing"),
        ("quantised.9.bias", lambda _: np.zeros(1, np.float32), "does not have: quantised.9.bias"),
        ("quantised.0.weight", lambda a: a.astype(np.int16), "quantised.0.weight is int16, expected int8"),
        ("quantised.0.weight", lambda a: a[:5], "quantised.0.weight has shape"),
        ("quantised.0.weight", lambda a: np.full_like(a, -128), "quantised.0.weight goes below -127"),
        ("quantised.2.weight_scale", lambda a: a * 0, "quantised.2 has a scale that is not positive"),
        ("quantised.0.output_scale", lambda a: -a, "quantised.0 has a scale that is not positive"),
        ("quantised.0.bias", lambda a: a * np.float32(np.nan), "quantised.0.bias holds NaN"),
    ],
)
def test_wrong_layers_are_refused(tmp_path, key, change, message):
    path = tmp_path / "m.safetensors"
    quantized_model(espcn(2)).save(path)
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    arrays = load_file(path)
    array = change(arrays.pop(key, None))
    if array is not None:
        arrays[key] = array
    save_file(arrays, path, metadata)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_a_wrong_count_of_layers_is_refused():
    model = quantized_model(espcn(2))
    with pytest.raises(ModelError, match="2 quantized layers for a network of 3"):
        Model(model.name, model.spec, model.weights, model.metadata, model.quantized[:2])


def test_a_model_without_8_bit_layers_says_what_to_do():
    with pytest.raises(EngineError, match="has no 8-bit layers: run `subpixel calibrate`"):
        NumpyEngine(random_model(espcn(2)), precision="int8")
    with pytest.raises(EngineError, match="numpy does not compute in fp8, only in fp32, int8"):
        NumpyEngine(random_model(espcn(2)), precision="fp8")


@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_have_8_bit_layers(name):
    model = packaged.find(name)
    assert all(isinstance(layer, QuantizedLayer) for layer in model.quantized)
    assert len(model.quantized) == len(model.spec.layers)
    assert model.metadata.calibration.startswith("T91, 91 pictures")


@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_do_not_break_on_text(name):
    """Black and white is nothing that the calibration pictures contain."""
    model = packaged.find(name)
    exact, close = NumpyEngine(model), NumpyEngine(model, precision="int8")
    page = np.where(data.page()[:96, 100:260] > 128, 255, 0).astype(np.uint8)
    for lr in (page, 255 - page):
        off = np.abs(exact(lr).astype(int) - close(lr))
        assert off.mean() < 1
        assert off.max() < 40
    # What is yet farther from any picture may come out otherwise, but not worse.
    stripes = (np.indices((30, 40)).sum(0) // 3 % 2 * 219 + 16).astype(np.uint8)
    large = np.kron(stripes, np.ones((model.scale, model.scale)))
    hr, hr_8_bits = (engine(stripes).astype(int) for engine in (exact, close))
    assert np.abs(hr - hr_8_bits).max() < 60
    error, error_8_bits = (np.abs(result - large).mean() for result in (hr, hr_8_bits))
    assert error_8_bits < error + 1


@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_lose_at_most_five_hundredths_of_a_db(datasets, name, dataset):
    """By the fast engine where there is one, since the oracle takes a minute; they are compared elsewhere."""
    from subpixel.engines.select import choose

    model = packaged.find(name)
    exact, close = choose(model, precision="fp32").engine, choose(model, precision="int8").engine
    images = [read_picture(file) for file in pictures(datasets / dataset)]
    loss = (
        mean([evaluate_image(image, exact, model.scale) for image in images]).psnr_db
        - mean([evaluate_image(image, close, model.scale) for image in images]).psnr_db
    )
    assert loss <= 0.05


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        from PIL import Image

        (tmp_path / "pictures").mkdir()
        for name in ("chelsea", "coffee"):
            Image.fromarray(getattr(data, name)()).save(tmp_path / "pictures" / f"{name}.png")
        return tmp_path

    @staticmethod
    def run(*arguments):
        return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])

    def test_the_commands_share_of_contrast_is_the_librarys(self):
        default = inspect.signature(calibrate_command).parameters["contrast_share"].default
        assert default == CONTRAST_SHARE

    def test_calibrates(self, folder):
        output = folder / "out.safetensors"
        random_model(espcn(2)).save(folder / "in.safetensors")
        result = self.run(folder / "in.safetensors", folder / "pictures", "-o", output)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        model = load_model(output)
        assert model.metadata.calibration == "pictures, 2 pictures, seed 0, contrast 0.01"
        assert len(model.quantized) == 3
        again = self.run(folder / "in.safetensors", folder / "pictures", "-o", output)
        assert again.exit_code == 1
        assert "exists already" in again.stderr

    def test_hardly_any_contrast(self, folder):
        """So little that once not one pixel of some pieces was taken, which was an error."""
        output = folder / "out.safetensors"
        random_model(espcn(2)).save(folder / "in.safetensors")
        arguments = (folder / "in.safetensors", folder / "pictures", "-o", output, "--contrast-share", 0.0001)
        assert self.run(*arguments).exit_code == 0

    def test_half_and_a_part_of_a_dataset(self, folder):
        output, model = folder / "out.safetensors", random_model(espcn(2))
        model.save(folder / "in.safetensors")
        (folder / "pictures").rename(folder / "train")
        result = self.run(folder / "in.safetensors", folder / "train", "-o", output, "--half")
        assert result.exit_code == 0, result.output
        calibrated = load_model(output)
        assert calibrated.metadata.calibration.startswith(f"{folder.name}/train, 2 pictures")
        halved = model.in_half_precision()
        assert all(np.array_equal(calibrated.weights[key], halved.weights[key]) for key in model.weights)
        assert output.stat().st_size < (folder / "in.safetensors").stat().st_size

    def test_wrong_usage(self, folder):
        assert self.run("espcn-t91-x2", folder, "-o", folder / "out.onnx").exit_code == 2
        missing = self.run("nonesuch", folder, "-o", folder / "out.safetensors")
        assert (missing.exit_code, "no packaged model" in missing.stderr) == (2, True)

    def test_no_pictures(self, folder):
        result = self.run("espcn-t91-x2", folder / "none", "-o", folder / "out.safetensors")
        assert (result.exit_code, "no such folder" in result.stderr) == (1, True)
        assert not (folder / "out.safetensors").exists()
