"""Quantization: the integer arithmetic, calibration, storage in model files, and the loss in PSNR."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from skimage import data
from typer.testing import CliRunner

from random_models import quantized_model, random_model, random_spec
from subpixel.cli import app
from subpixel.cli.calibrate import calibrate as calibrate_command
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError, ModelError
from subpixel.evaluation.protocol import evaluate_image, find_images, lr_plane, mean, read_image
from subpixel.models import catalog as packaged
from subpixel.models.calibration import CONTRAST_SHARE, calibrate, contrast_patterns
from subpixel.models.model import Model, QuantizedLayer, load_model
from subpixel.models.networks import espcn, stack
from subpixel.models.quantization import (
    MAX_TANH_ARGUMENT,
    MIN_ROUNDED_MULTIPLIER,
    MIN_TANH_SCALE,
    MULTIPLIER_STEP,
    TANH_COEFFICIENTS,
    TANH_LIMIT,
    fixed_point_tanh,
    integer_layers,
    rounded_product,
)
from subpixel.ops.color import luma_8bit


def rounded_to_nearest(model):
    """Quantize with calibrated ranges and weights rounded to nearest, which `calibrate` must improve on."""
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
    tanh = fixed_point_tanh(arguments) * TANH_LIMIT / 2**12
    assert np.abs(tanh - np.tanh(arguments * TANH_LIMIT / 2**15)).max() < 0.003
    assert np.abs(tanh[[0, -1]]).min() > 0.998  # which also applies to all larger arguments


def test_tanh_fits_16_bits_in_all_steps():
    """Engines compute it in 16 bits, so no value may overflow; only -32768 squared would."""
    distance = np.arange(2**15)
    polynomial = np.full_like(distance, TANH_COEFFICIENTS[-1])
    for coefficient in TANH_COEFFICIENTS[-2::-1]:
        polynomial = rounded_product(polynomial, distance) + coefficient
        assert np.abs(polynomial).max() < 2**15
    assert np.abs(fixed_point_tanh(distance)).max() < 2**15


def test_rounded_product_equals_the_instruction():
    """``pmulhrsw``: ((a * b >> 14) + 1) >> 1, as Intel's manual writes it."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(-(2**15) + 1, 2**15, (2, 10_000))
    np.testing.assert_array_equal(rounded_product(one, other), ((one * other >> 14) + 1) >> 1)


def test_quantized_values_after_tanh_fit_16_bits():
    """Before they are clipped to 8 bits: with the largest multiplier and zero point."""
    multiplier, arguments = 2**15 - 1, np.arange(-MAX_TANH_ARGUMENT, MAX_TANH_ARGUMENT + 1)
    values = rounded_product(fixed_point_tanh(arguments), multiplier) + 255
    assert -(2**15) < values.min() < 0
    assert 255 < values.max() < 2**15


def test_the_lowest_16_bit_integer_gives_the_same_tanh_as_the_lowest_argument():
    """Engines may clip to 16 bits, which have one more negative than positive integers."""
    polynomial = fixed_point_tanh(np.array([MAX_TANH_ARGUMENT]))
    assert rounded_product(-MAX_TANH_ARGUMENT, polynomial) == rounded_product(-(2**15), polynomial)


def test_multipliers_are_multiples_of_a_step():
    """Except small ones, which would become inexact, and those of the last layer, which are real."""
    model = quantized_model(stack(2, [16, 16]))
    first, second, last = model.quantized
    fine = first.output_scale.copy()
    fine[3] *= 1000
    first = replace(first, output_scale=fine)
    layers = integer_layers(replace(model, quantized=(first, second, last)))
    for layer, quantized in zip(layers[:2], (first, second), strict=True):
        exact = quantized.weight_scale.astype(np.float64) / quantized.output_scale
        coarse = exact < MIN_ROUNDED_MULTIPLIER
        for values in (layer.multiplier, layer.negative_multiplier):
            steps = values.astype(np.float64) / MULTIPLIER_STEP
            assert (steps[~coarse] == np.rint(steps[~coarse])).all()
        assert np.abs(layer.multiplier - exact)[~coarse].max() <= MULTIPLIER_STEP / 2
        np.testing.assert_array_equal(layer.multiplier[coarse], exact.astype(np.float32)[coarse])
    assert coarse.sum() == 0
    assert layers[0].multiplier[3] < MIN_ROUNDED_MULTIPLIER
    assert (layers[2].multiplier / MULTIPLIER_STEP != np.rint(layers[2].multiplier / MULTIPLIER_STEP)).any()


def test_output_scales_too_small_for_tanh_are_refused():
    model = quantized_model(espcn(2))
    first = replace(model.quantized[0], output_scale=np.full(64, MIN_TANH_SCALE / 2, np.float32))
    with pytest.raises(EngineError, match=r"layer 0 has an output scale below 0\.00079 after tanh"):
        integer_layers(replace(model, quantized=(first, *model.quantized[1:])))


def test_accumulators_represent_the_real_sums():
    """(bias + Σ weight * input) * multiplier equals the convolution of the real inputs."""
    model = quantized_model(espcn(2, activation="relu"))
    rng = np.random.default_rng(0)
    zero_point, scale = np.zeros(1), np.full(1, 1 / 255)
    for layer, integers in zip(model.quantized, integer_layers(model), strict=True):
        inputs = rng.integers(0, 256, (layer.weight.shape[1], *layer.weight.shape[2:]))
        total = (layer.weight.astype(np.int64) * inputs).sum((1, 2, 3)) + integers.bias
        steps = ((inputs - zero_point[:, None, None]) * layer.weight.astype(np.int64)).sum((1, 2, 3))
        real = layer.weight_scale.astype(np.float64) * steps + layer.bias
        output_scale = layer.output_scale if layer is not model.quantized[-1] else 1.0
        given = total * integers.multiplier.astype(np.float64) * output_scale
        rounding = np.abs(total) * output_scale * MULTIPLIER_STEP / 2  # of the multiplier
        assert (np.abs(given - real) <= 1e-5 * (1 + np.abs(real)) + rounding).all()
        zero_point, scale = layer.output_zero_point.astype(np.float64), layer.output_scale
    assert scale.shape == (4,)


@pytest.mark.parametrize("seed", range(12))
def test_int8_is_close_to_fp32_on_random_networks(seed):
    """On the calibration images, with a tolerance for the amplification of random networks."""
    spec = random_spec(seed)
    model = random_model(spec, seed)
    rng = np.random.default_rng(seed)
    planes = [rng.integers(0, 256, (spec.channels, 40, 44)).astype(np.uint8) for _ in range(4)]
    model = calibrate(model, planes)
    exact, close = NumpyEngine(model), NumpyEngine(model, precision="int8")
    lr = (planes[0] / np.float32(255)).astype(np.float32)
    error = np.sqrt(np.mean((close.run(lr) - exact.run(lr)) ** 2))
    assert error < 0.05 * exact.run(lr).std()


@pytest.mark.parametrize("scale", [2, 3, 4])
def testcontrast_patterns_are_black_and_white_with_gray_edges(scale):
    patterns = contrast_patterns(1, scale, np.random.default_rng(0))
    assert {pattern.shape for pattern in patterns} == {(1, 64, 64)}
    counts = [len(np.unique(pattern)) for pattern in patterns]
    assert counts[:8] == [2] * 8
    assert min(counts[8:]) > 20
    for pattern in patterns:
        black, white = np.percentile(pattern, [10, 90])
        assert white - black > 150
        assert 0 <= pattern.min() <= pattern.max() <= 255


def test_calibration_is_better_than_rounding_to_nearest():
    model = packaged.find("espcn-t91-x3")
    image = data.astronaut()
    calibrated = calibrate(model, [lr_plane(data.chelsea(), 3), lr_plane(data.coffee(), 3)])
    exact = evaluate_image(image, NumpyEngine(model), 3).psnr_db
    ours = evaluate_image(image, NumpyEngine(calibrated, precision="int8"), 3).psnr_db
    nearest = evaluate_image(image, NumpyEngine(rounded_to_nearest(model), precision="int8"), 3).psnr_db
    assert exact - 0.1 < ours < exact + 0.02
    assert nearest < exact - 0.3


def test_calibration_is_repeatable_and_does_not_change_the_weights():
    model = random_model(espcn(2))
    planes = [np.random.default_rng(1).integers(0, 256, (60, 60)).astype(np.uint8)]
    one, two = (calibrate(model, planes, source="noise") for _ in range(2))
    for first, second in zip(one.quantized, two.quantized, strict=True):
        for name in ("weight", "weight_scale", "bias", "output_scale", "output_zero_point"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert one.metadata.calibration == "noise"
    for name, array in model.weights.items():
        np.testing.assert_array_equal(one.weights[name], array)


def test_too_few_pixels_are_refused():
    with pytest.raises(ValueError, match="only 25 pixels to decide 25 weights: pass more or larger images"):
        calibrate(random_model(espcn(2)), [np.zeros((5, 5), np.uint8)])
    with pytest.raises(ValueError, match="pass more"):
        calibrate(random_model(espcn(2)), [])
    with pytest.raises(ValueError, match="expected uint8 planes of 1 channels"):
        calibrate(random_model(espcn(2)), [np.zeros((3, 50, 50), np.uint8)])


def test_quantized_layers_are_saved_and_loaded(tmp_path):
    model = quantized_model(espcn(2))
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.metadata == model.metadata
    assert loaded.weights.keys() == model.weights.keys()
    for saved, read in zip(model.quantized, loaded.quantized, strict=True):
        for name in ("weight", "weight_scale", "bias", "output_scale", "output_zero_point"):
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
        ("quantised.0.bias", lambda a: a * np.float32(np.nan), "quantised.0.bias contains NaN"),
    ],
)
def test_invalid_quantized_layers_are_refused(tmp_path, key, change, message):
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
    """Black and white text, which the calibration images do not contain."""
    model = packaged.find(name)
    exact, close = NumpyEngine(model), NumpyEngine(model, precision="int8")
    page = np.where(data.page()[:96, 100:260] > 128, 255, 0).astype(np.uint8)
    for lr in (page, 255 - page):
        off = np.abs(exact(lr).astype(int) - close(lr))
        assert off.mean() < 1
        assert off.max() < 40
    # Patterns even less like photos may differ more, but may not have a larger error.
    stripes = (np.indices((30, 40)).sum(0) // 3 % 2 * 219 + 16).astype(np.uint8)
    large = np.kron(stripes, np.ones((model.scale, model.scale)))
    hr, hr_8_bits = (engine(stripes).astype(int) for engine in (exact, close))
    assert np.abs(hr - hr_8_bits).max() < 60
    error, error_8_bits = (np.abs(result - large).mean() for result in (hr, hr_8_bits))
    assert error_8_bits < error + 1


@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_lose_at_most_five_hundredths_of_a_db(datasets, name, dataset):
    """With the fastest engine, because the reference takes a minute; other tests compare the two."""
    from subpixel.engines.select import choose

    model = packaged.find(name)
    exact, close = choose(model, precision="fp32").engine, choose(model, precision="int8").engine
    images = [read_image(file) for file in find_images(datasets / dataset)]
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

    def test_the_commands_default_contrast_share_is_the_librarys(self):
        default = inspect.signature(calibrate_command).parameters["contrast_share"].default
        assert default == CONTRAST_SHARE

    def test_calibrates(self, folder):
        output = folder / "out.safetensors"
        random_model(espcn(2)).save(folder / "in.safetensors")
        result = self.run(folder / "in.safetensors", folder / "pictures", "-o", output)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        model = load_model(output)
        assert model.metadata.calibration == "pictures, 2 images, seed 0, contrast 0.01"
        assert len(model.quantized) == 3
        again = self.run(folder / "in.safetensors", folder / "pictures", "-o", output)
        assert again.exit_code == 1
        assert "exists already" in again.stderr

    def test_a_very_small_contrast_share(self, folder):
        """With so small a share that no pixel of some patterns is used, which was an error once."""
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
        assert calibrated.metadata.calibration.startswith(f"{folder.name}/train, 2 images")
        halved = model.in_half_precision()
        assert all(np.array_equal(calibrated.weights[key], halved.weights[key]) for key in model.weights)
        assert output.stat().st_size < (folder / "in.safetensors").stat().st_size

    def test_a_network_for_video_is_refused_before_images_are_read(self, folder):
        result = self.run("video-x3", folder / "nonesuch", "-o", folder / "out.safetensors")
        assert result.exit_code == 1
        assert "model video-x3 is for video: such networks get their int8 layers in training" in result.stderr
        assert "calibrate_history" not in result.stderr

    def test_wrong_usage(self, folder):
        assert self.run("espcn-t91-x2", folder, "-o", folder / "out.onnx").exit_code == 2
        missing = self.run("nonesuch", folder, "-o", folder / "out.safetensors")
        assert (missing.exit_code, "no packaged model" in missing.stderr) == (2, True)

    def test_a_name_without_a_scale(self, folder):
        output = folder / "out.safetensors"
        result = self.run("fast", folder / "pictures", "-o", output, "-s", 3)
        assert result.exit_code == 0, result.output
        assert load_model(output).name == "fast-x3"

    def test_no_pictures(self, folder):
        result = self.run("espcn-t91-x2", folder / "none", "-o", folder / "out.safetensors")
        assert (result.exit_code, "no such folder" in result.stderr) == (1, True)
        assert not (folder / "out.safetensors").exists()
