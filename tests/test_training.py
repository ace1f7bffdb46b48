"""Training on small real pictures: it learns, resumes exactly, and follows the paper where it says so."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from recipes import CONFIGS, changed_recipe
from subpixel import ConfigError, Convolution, DatasetError, ModelMetadata, ModelSpec, load_model
from subpixel.cli import app
from subpixel.models.networks import espcn, stack
from subpixel.ops.pixel_shuffle import pixel_shuffle
from subpixel.ops.resize import imresize

torch = pytest.importorskip("torch")

from subpixel.engines.numpy_engine import NumpyEngine  # noqa: E402
from subpixel.evaluation.protocol import Degradation  # noqa: E402
from subpixel.training.compression import through_h264  # noqa: E402
from subpixel.training.config import (  # noqa: E402
    NetworkConfig,
    PatchConfig,
    PrecisionConfig,
    QuantizationConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
    load_config,
)
from subpixel.training.data import (  # noqa: E402
    Batch,
    Pair,
    Patches,
    copies_of,
    load_pairs,
    make_pair,
    turned,
)
from subpixel.training.fake_quantization import rounded  # noqa: E402
from subpixel.training.loop import PSNR_FLOOR, Run, describe, follow, mean_loss  # noqa: E402
from subpixel.training.network import (  # noqa: E402
    Bicubic,
    ExpandedConvolution,
    Network,
    fit_last_layer,
    initialize,
)
from subpixel.training.prelu import PReLU  # noqa: E402
from subpixel.training.schedule import make_schedule  # noqa: E402
from subpixel.training.soap import SOAP, _updates, orthonormal_by_cholesky  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder above two folders of the same small real pictures."""
    root = tmp_path_factory.mktemp("datasets")
    for folder in ("photos", "the same"):
        (root / folder).mkdir()
        for name in ("astronaut", "coffee", "camera"):
            picture = getattr(skimage.data, name)()
            Image.fromarray(imresize(picture, 1 / 4)).save(root / folder / f"{name}.png")
    return root


@pytest.fixture
def small(pictures: Path) -> TrainingConfig:
    """The shipped recipe in a few seconds."""
    config = load_config(CONFIGS / "espcn-t91-x3.toml")
    return replace(
        config,
        test_sets=(),
        data=replace(config.data, folders=("photos",), shrink=(1.0, 0.8)),
        patches=replace(config.patches, side_px=20, batch=4, batches_per_epoch=3),
        schedule=replace(config.schedule, max_epochs=4),
        precision=replace(config.precision, fp32_epochs=1),
        validation=replace(config.validation, folder="the same", every_epochs=1),
    )


def trained(config: TrainingConfig, datasets: Path, folder: Path, *, resume: bool = False) -> Run:
    run = Run(config, datasets, folder, CPU)
    assert run.resume() is resume
    run.train()
    return run


def test_training_improves(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    config = replace(
        small,
        network=replace(small.network, initialization="lecun"),
        patches=replace(small.patches, batches_per_epoch=10),
    )
    run = Run(config, pictures, tmp_path, CPU)
    before = run.validate()
    seen = []
    run.train(seen.append)
    assert [progress.epoch for progress in seen] == [1, 2, 3, 4]
    assert run.validate() > before + 6
    assert seen[-1].validation_psnr_db == run.validate()
    assert list((tmp_path / "tensorboard").iterdir())


def stack_with_rounding(small: TrainingConfig) -> TrainingConfig:
    """The recipe of `default` in a few seconds."""
    return replace(
        small,
        network=NetworkConfig("stack", 3, "prelu", widths=(8, 8), residual="nearest", expansion=2),
        precision=PrecisionConfig("bf16", fp32_epochs=1),
        quantization=QuantizationConfig(levels=128, contrast=True),
    )


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch itself
@pytest.mark.parametrize("kind", ["stack", "srcnn-915"])
def test_a_compiled_run_is_the_same_training(
    kind: str, small: TrainingConfig, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the C++ compiler that fusing takes: what is traced and differentiated is the same."""
    config = stack_with_rounding(small)
    if kind == "srcnn-915":
        config = replace(config, network=NetworkConfig(kind, 3), quantization=QuantizationConfig())  # type: ignore[arg-type]
    compiled = []

    def trace(function: Any, **options: Any) -> object:
        compiled.append(function)
        return real(function, backend="aot_eager", **options)

    real = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    fused = Run(config, pictures, tmp_path / "fused", CPU, compiled=True)
    fused.train()
    assert compiled == [*[_updates] * isinstance(fused.optimizer, SOAP), fused.network, follow]
    plain = trained(config, pictures, tmp_path / "plain")
    assert fused.validate() == pytest.approx(plain.validate(), abs=0.02)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by PyTorch itself
def test_a_compiled_run_goes_on_compiled_and_in_bf16(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    config = stack_with_rounding(small)
    trained(config, pictures, tmp_path)
    with pytest.raises(ConfigError, match="was begun without --compile: go on so"):
        Run(config, pictures, tmp_path, CPU, compiled=True).resume()
    with pytest.raises(ConfigError, match="fuses passes in bf16"):
        Run(replace(config, precision=PrecisionConfig()), pictures, tmp_path, CPU, compiled=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "soap"])
@pytest.mark.parametrize("kind", ["stack", "espcn", "srcnn-915", "espcn-deconvolution", "tnrd"])
def test_a_gpu_replays_what_a_cpu_does(
    small: TrainingConfig, pictures: Path, tmp_path: Path, kind: str, optimizer: str
) -> None:
    config = stack_with_rounding(small)
    if kind != "stack":
        config = replace(small, network=NetworkConfig(kind, 3, "tanh", initialization="fitted"))  # type: ignore[arg-type]
    config = replace(
        config,
        patches=replace(config.patches, batches_per_epoch=20),
        optimizer=replace(config.optimizer, name=optimizer),  # type: ignore[arg-type]
        schedule=replace(config.schedule, rate=0.001),
        precision=PrecisionConfig(),
    )
    replayed = Run(config, pictures, tmp_path / "gpu", torch.device("cuda"))
    replayed.train()
    plain = trained(config, pictures, tmp_path / "cpu")
    assert replayed.validate() == pytest.approx(plain.validate(), abs=0.05)


def test_the_last_layer_has_a_rate_of_its_own(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    config = replace(small, optimizer=replace(small.optimizer, name="adam", last_layer_rate=0.1))
    run = Run(config, pictures, tmp_path, CPU)
    before = [layer.weight.detach().clone() for layer in run.network.layers]  # type: ignore[union-attr, operator]
    run._epoch(0)
    first, _, last = (
        float((layer.weight.detach() - old).abs().max())
        for layer, old in zip(run.network.layers, before, strict=True)  # type: ignore[union-attr, arg-type]
    )
    assert last < first / 5


def test_a_killed_run_goes_on_as_if_it_had_not_stopped(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    whole = trained(small, pictures, tmp_path / "whole").model(ModelMetadata())

    class KilledError(Exception):
        pass

    def kill_after_second(progress: object) -> None:
        if progress.epoch == 2:  # type: ignore[attr-defined]
            raise KilledError

    run = Run(small, pictures, tmp_path / "killed", CPU)
    with pytest.raises(KilledError):
        run.train(kill_after_second)
    resumed = trained(small, pictures, tmp_path / "killed", resume=True).model(ModelMetadata())
    for key, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[key], array, err_msg=key)


@pytest.mark.parametrize("name", ["sgd", "adam", "soap"])
def test_every_optimizer_resumes(small: TrainingConfig, pictures: Path, tmp_path: Path, name: str) -> None:
    config = replace(small, optimizer=replace(small.optimizer, name=name))  # type: ignore[arg-type]
    whole = trained(config, pictures, tmp_path / "whole").model(ModelMetadata())
    half = Run(config, pictures, tmp_path / "half", CPU)
    half.train(lambda progress: setattr(half, "finished", progress.epoch == 2))
    rest = trained(config, pictures, tmp_path / "half", resume=True).model(ModelMetadata())
    np.testing.assert_array_equal(rest.weights["layers.1.weight"], whole.weights["layers.1.weight"])


def test_a_checkpoint_of_another_configuration_is_refused(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    trained(small, pictures, tmp_path)
    other = Run(replace(small, seed=99), pictures, tmp_path, CPU)
    with pytest.raises(ConfigError, match="belongs to another configuration"):
        other.resume()


def test_a_damaged_checkpoint_is_refused(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    trained(small, pictures, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    run = Run(small, pictures, tmp_path, CPU)
    with pytest.raises(ConfigError, match="damaged checkpoint"):
        run.resume()


def test_the_papers_recipe_runs(pictures: Path, tmp_path: Path) -> None:
    config = load_config(CONFIGS / "espcn-t91-x3-paper.toml")
    config = replace(
        config,
        data=replace(config.data, folders=("photos",)),
        validation=replace(config.validation, folder="the same"),
        schedule=replace(config.schedule, max_epochs=6),
    )
    costs = []
    run = Run(config, pictures, tmp_path, CPU)
    run.train(lambda progress: costs.append(progress.cost))
    assert costs[-1] < costs[0] / 2


def picture_of(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[100 : 100 + height, 150 : 150 + width])


def test_pairs_are_what_the_protocol_compares() -> None:
    pair = make_pair(picture_of(64, 91), 3, Degradation())
    assert pair.lr.shape == (21, 30)
    assert pair.phases.shape == (9, 21, 30)
    luma = 16 + picture_of(63, 90) @ [65.481, 128.553, 24.966] / 255
    np.testing.assert_array_equal(pixel_shuffle(pair.phases, 3)[0], np.floor(luma + 0.5))


def numbered_pair(height: int, width: int, scale: int) -> Pair:
    """A pair in which every HR value is its own number."""
    numbers = np.arange(height * width * scale**2, dtype=np.float32)
    lr = np.arange(height * width, dtype=np.float32).reshape(height, width)
    return Pair(lr, numbers.reshape(scale**2, height, width))


def test_the_papers_grid() -> None:
    """Stride 17 - sum(f mod 2) = 14 for kernels 5, 3, 3."""
    config = PatchConfig(sampling="grid", side_px=17, batch=4)
    pairs = [numbered_pair(45, 32, 3), numbered_pair(16, 99, 3)]
    patches = Patches(pairs, 3, config, kernels=[5, 3, 3], turn=False, seed=0, device=CPU)
    assert patches.skipped == 1
    expected = [(0, row, column) for row in (0, 14, 28) for column in (0, 14)]
    assert [tuple(origin) for origin in patches.grid] == expected
    batches = list(patches.epoch(0))
    assert [len(batch.lr) for batch in batches] == [4, 2] and patches.batches_per_epoch == 2
    seen = {float(patch[0, 0, 0]) for batch in batches for patch in batch.lr}
    assert seen == {float(row * 32 + column) for _, row, column in expected}


def test_patches_hold_matching_pixels() -> None:
    config = PatchConfig(sampling="random", side_px=9, batch=50, batches_per_epoch=2)
    pairs = [numbered_pair(12, 31, 2), numbered_pair(20, 9, 2)]
    patches = Patches(pairs, 2, config, kernels=[3], turn=False, seed=3, device=CPU)
    for batch in patches.epoch(5):
        assert batch.lr.shape == (50, 1, 9, 9) and batch.target.shape == (50, 4, 9, 9)
        # In a numbered pair, phase 0 of the target is the number of the LR pixel.
        torch.testing.assert_close(batch.target[:, :1], batch.lr / 255, rtol=0, atol=0)
    first, again = next(patches.epoch(5)).lr, next(patches.epoch(5)).lr
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, next(patches.epoch(6)).lr)


@pytest.mark.parametrize(("drawn_by", "share"), [("area", 0.1), ("picture", 0.5)])
def test_pictures_are_drawn_by_their_area_or_all_alike(
    drawn_by: Literal["area", "picture"], share: float
) -> None:
    """A picture beside one nine times as large."""
    config = PatchConfig(sampling="random", side_px=4, batch=500, batches_per_epoch=1, drawn_by=drawn_by)
    small, large = (
        Pair(np.full((side, side), value, np.float32), np.zeros((4, side, side), np.uint8))
        for side, value in ((10, 1), (30, 0))
    )
    patches = Patches([small, large], 2, config, kernels=[3], turn=False, seed=0, device=CPU)
    assert float(next(patches.epoch(0)).lr.mean()) == pytest.approx(share, abs=0.06)


def test_pixels_that_see_padding_are_left_out_except_at_the_pictures_border() -> None:
    """Where the weight is 1, the network gives on the patch what it gives on the whole picture."""
    network = Network(espcn(2))
    initialize(network, "lecun", torch.Generator().manual_seed(0))
    pair = make_pair(picture_of(60, 80), 2, Degradation())
    config = PatchConfig(sampling="random", side_px=16, batch=64, batches_per_epoch=1, border="exclude")
    patches = Patches([pair], 2, config, kernels=[5, 3, 3], turn=False, seed=0, device=CPU)
    whole = Pair(network(torch.from_numpy(pair.lr)[None, None])[0, 0].detach().numpy(), pair.phases)
    results = Patches([whole], 2, config, kernels=[5, 3, 3], turn=False, seed=0, device=CPU)
    (batch,), (expected,) = patches.epoch(0), results.epoch(0)
    assert batch.weight is not None
    difference = (network(batch.lr)[:, :1] - expected.lr).abs()
    counted = batch.weight.bool()
    assert difference[counted].max() < 1e-6
    assert difference[~counted].max() > 1e-3
    # Away from the picture's borders 8 x 8 pixels count; some patches lie at a border.
    assert counted[:, 0].sum(dim=(1, 2)).min() == 64
    assert counted[:, 0].sum(dim=(1, 2)).max() > 64


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_turning_unshuffled_patches_turns_the_picture(scale: int) -> None:
    """All eight views, compared with flips of the shuffled picture."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.random((2, scale**2, 5, 5)))
    lr = torch.from_numpy(rng.random((2, 1, 5, 5)))
    batch = Batch(lr, target, weight=lr.clone())
    large = torch.pixel_shuffle(target, scale)
    seen = set()
    for view in range(8):
        result = turned(batch, view, scale)
        expected_lr, expected_hr = lr, large
        if view & 4:
            expected_lr, expected_hr = expected_lr.transpose(2, 3), expected_hr.transpose(2, 3)
        if view & 1:
            expected_lr, expected_hr = expected_lr.flip(3), expected_hr.flip(3)
        if view & 2:
            expected_lr, expected_hr = expected_lr.flip(2), expected_hr.flip(2)
        torch.testing.assert_close(result.lr, expected_lr, rtol=0, atol=0)
        torch.testing.assert_close(result.weight, expected_lr, rtol=0, atol=0)
        torch.testing.assert_close(torch.pixel_shuffle(result.target, scale), expected_hr, rtol=0, atol=0)
        seen.add(result.lr.numpy().tobytes())
    assert len(seen) == 8


def test_the_loss_before_the_shuffle_is_the_loss_after_it() -> None:
    rng = np.random.default_rng(1)
    phases, target = (torch.from_numpy(rng.random((2, 9, 6, 7))) for _ in range(2))
    after = torch.nn.functional.mse_loss(torch.pixel_shuffle(phases, 3), torch.pixel_shuffle(target, 3))
    torch.testing.assert_close(mean_loss(phases, target, None), after)
    halves = torch.zeros(2, 1, 6, 7)
    halves[:, :, :3] = 1
    weighted = mean_loss(phases, target, halves)
    torch.testing.assert_close(weighted, torch.nn.functional.mse_loss(phases[:, :, :3], target[:, :, :3]))


def test_the_torch_network_is_the_description() -> None:
    layers = (Convolution(1, 6, 5, "prelu"), Convolution(6, 8, 3, "tanh"), Convolution(8, 4, 3, "relu"))
    for spec in (ModelSpec(2, layers, residual="nearest"), espcn(3), espcn(4, activation="relu")):
        network = Network(spec)
        initialize(network, "lecun", torch.Generator().manual_seed(0))
        lr = np.random.default_rng(0).random((11, 8), np.float32)
        with torch.no_grad():
            phases = network(torch.from_numpy(lr)[None, None])
        expected = torch.pixel_shuffle(phases, spec.scale)[0, 0].numpy()
        result = NumpyEngine(network.to_model("m", ModelMetadata()))(lr)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_fitted_start_already_interpolates() -> None:
    """No pixel of a picture is predicted worse than by its mean; far better, in fact: near bicubic."""
    pair = make_pair(picture_of(180, 180), 3, Degradation())
    network = Network(espcn(3))
    initialize(network, "fitted", torch.Generator().manual_seed(0))
    lr, target = torch.from_numpy(pair.lr)[None, None], torch.from_numpy(pair.phases)[None] / 255

    def error() -> float:
        with torch.no_grad():
            return float((network(lr) - target).square().mean())

    start = error()
    fit_last_layer(network, [(lr, target)])
    assert error() < start / 50
    bicubic = imresize(pair.lr.astype(np.float64), 3) - pixel_shuffle(pair.phases, 3)[0] / 255
    assert error() < np.mean(bicubic**2)


@pytest.mark.parametrize("method", ["lecun", "gaussian-0.001"])
def test_initial_weights_have_the_stated_spread(method: str) -> None:
    network = Network(espcn(3, activation="relu"))
    initialize(network, method, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    hidden = network.layers[1]
    expected = 0.001 if method == "gaussian-0.001" else math.sqrt(2 / (64 * 9))
    assert float(hidden.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    assert not hidden.bias.any()


def test_prelu_is_pytorchs() -> None:
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = values.contiguous(memory_format=torch.channels_last)
    gradient = values.flip(0)
    found = []
    for kind in (PReLU, torch.nn.PReLU):
        layer = kind(3).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([-0.5, 0.25, 1.5]))
        given = values.clone().requires_grad_()
        result = layer(given)
        result.backward(gradient)
        found.append((result.detach(), given.grad, layer.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_expansion_merges_exactly() -> None:
    """At the border too: there is no padding between the two convolutions that become one."""
    network = Network(stack(2, [4, 6]), expansion=3).double()
    initialize(network, "lecun", torch.Generator().manual_seed(0))
    first, second = network.layers[0], network.layers[1]
    assert not isinstance(first, ExpandedConvolution)
    assert isinstance(second, ExpandedConvolution)
    with torch.no_grad():
        second.project.normal_(generator=torch.Generator().manual_seed(1))
        values = torch.randn(1, 4, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        wide = torch.nn.functional.conv2d(values, second.expand, padding=1)
        assert wide.shape[1] == 12
        projected = torch.nn.functional.conv2d(wide, second.project[:, :, None, None])
        own = torch.nn.functional.conv2d(values, second.weight, second.bias, padding=1)
        torch.testing.assert_close(second(values), own + projected)
    lr = np.random.default_rng(0).random((9, 8), np.float32)
    with torch.no_grad():
        phases = network(torch.from_numpy(lr)[None, None].double())
    expected = torch.pixel_shuffle(phases, 2)[0, 0].numpy()
    result = NumpyEngine(network.to_model("m", ModelMetadata()))(lr)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_average_is_that_of_merged_weights(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    network = NetworkConfig("stack", 3, "prelu", widths=(4,), residual="nearest", expansion=2)
    still = replace(small.optimizer, ema=0.5)
    run = Run(replace(small, network=network, optimizer=still), pictures, tmp_path / "run", CPU)
    before = run.average.merged()["layers.1.weight"].clone()
    with torch.no_grad():
        run.network.layers[1].project.fill_(2.0)  # type: ignore[union-attr, operator]
    run._decay.fill_(0.5)
    run._follow()
    expected = (before + run.network.merged()["layers.1.weight"]) / 2
    torch.testing.assert_close(run.average.merged()["layers.1.weight"], expected)
    assert not any(isinstance(layer, ExpandedConvolution) for layer in run.average.layers)


def test_an_expansion_is_trained(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    network = NetworkConfig(
        "stack", 3, "prelu", widths=(5, 4), kernels=(5, 3, 3), residual="nearest", expansion=2
    )
    run = trained(replace(small, network=network), pictures, tmp_path / "run")
    expanded = run.network.layers[1]
    assert isinstance(expanded, ExpandedConvolution)
    assert expanded.project.abs().max() > 0
    model = run.model(ModelMetadata())
    assert model.spec == stack(3, [5, 4], kernels=[5, 3, 3])


def test_balanced_layers_give_the_same_but_for_a_factor() -> None:
    network = Network(stack(2, [5, 4, 3]), expansion=2)
    initialize(network, "lecun", torch.Generator().manual_seed(0))
    with torch.no_grad():
        for index, layer in enumerate(network.convolutions[:-1]):
            layer.weight.mul_(3 + 10 * index)
            layer.bias.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(index))
        lr = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(1))
        before = network.features(lr)
        network.balance()
        after = network.features(lr)
    torch.testing.assert_close(after * (before.abs().max() / after.abs().max()), before, rtol=1e-4, atol=1e-3)
    for layer, inputs in zip(network.convolutions[:-1], (9, 45, 36), strict=True):
        assert float(layer.weight.detach().square().mean()) == pytest.approx(2 / inputs, rel=1e-5)


def test_hidden_layers_may_come_from_another_scale(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    network = replace(small.network, kind="stack", activation="prelu", widths=(5, 4), expansion=2)
    first = trained(replace(small, network=network), pictures, tmp_path / "first").model(ModelMetadata())
    first.save(tmp_path / "first.safetensors")
    other = replace(network, scale=2, start=str(tmp_path / "first.safetensors"))
    run = Run(replace(small, network=other), pictures, tmp_path / "second", CPU)
    model = run.model(ModelMetadata())
    for name, array in model.weights.items():
        if not name.startswith("layers.2."):
            given = first.weights[name]
            np.testing.assert_allclose(array / np.abs(array).max(), given / np.abs(given).max(), rtol=1e-5)
    fresh = Run(replace(small, network=replace(other, start="")), pictures, tmp_path / "third", CPU)
    assert run.validate() > fresh.validate() - 1, "its last layer is fitted as well"
    with pytest.raises(ConfigError, match=r"first\.safetensors is another network"):
        wider = replace(other, widths=(5, 5))
        Run(replace(small, network=wider), pictures, tmp_path / "fourth", CPU)


def test_no_slope_of_a_model_is_above_1(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    network = replace(small.network, kind="stack", activation="prelu", widths=(5, 4), expansion=2)
    run = Run(replace(small, network=network), pictures, tmp_path, CPU)
    with torch.no_grad():
        for activation in run.average.activations[:-1]:
            activation.weight.copy_(torch.linspace(-0.5, 3, len(activation.weight)))
        lr = torch.rand(1, 1, 17, 33, generator=torch.Generator().manual_seed(0))
        expected = torch.nn.functional.pixel_shuffle(run.average(lr), network.scale)[0].numpy()
    model = run.model(ModelMetadata())
    slopes = [values for name, values in model.weights.items() if name.endswith("slope")]
    assert [len(values) for values in slopes] == [5, 4]
    assert all(values.max() <= 1 for values in slopes)
    np.testing.assert_allclose(NumpyEngine(model).run(lr[0].numpy()), expected, atol=1e-5)


def test_pictures_for_validation_are_not_trained_on(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    folder = small.data.folders[0]
    everything = Run(replace(small, validation=ValidationConfig()), pictures, tmp_path / "a", CPU)
    held_out = ValidationConfig(folder, limit=1)
    rest = Run(replace(small, validation=held_out), pictures, tmp_path / "b", CPU)
    assert len(rest.validation) == 1
    copies = len(small.data.shrink)
    assert len(rest.patches.heights) == len(everything.patches.heights) - copies
    with pytest.raises(ConfigError, match="no picture is left to train on"):
        Run(replace(small, validation=ValidationConfig(folder)), pictures, tmp_path / "c", CPU)


def test_the_loss_is_absolute_at_first(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    phases, target = torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0])
    batch = Batch(torch.zeros(1), target, None)
    assert float(mean_loss(phases, batch.target, batch.weight, "l1")) == 2
    assert float(mean_loss(phases, batch.target, batch.weight)) == 5
    costs: dict[int, list[float]] = {0: [], 1: []}
    for epochs, seen in costs.items():
        config = replace(small, optimizer=replace(small.optimizer, l1_epochs=epochs))
        run = Run(config, pictures, tmp_path / str(epochs), CPU)
        run.train(lambda progress, seen=seen: seen.append(progress.cost))  # type: ignore[misc]
    assert costs[1][0] > 2 * costs[0][0], "errors below 1 are smaller squared"
    assert costs[1][1] < 2 * costs[0][1], "and squared they are from then on"


@pytest.mark.parametrize("weighted", [False, True])
def test_patches_count_by_their_psnr(weighted: bool) -> None:
    """An easy patch and a hard one pull alike, each by the gradient of its error over its error."""
    target = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    error = torch.cat([torch.full((1, 4, 5, 6), 0.02), torch.full((1, 4, 5, 6), 0.2)])
    error[:, :, 2:] *= -1
    phases = (target + error).requires_grad_()
    weight = None
    if weighted:  # what does not count is far off, and changes nothing
        weight = torch.zeros(2, 1, 5, 6)
        weight[0, :, 1:4], weight[1, :, :, :2] = 1, 1
        phases = torch.where(weight > 0, phases, target + 9).detach().requires_grad_()
    result = mean_loss(phases, target, weight, "psnr")
    assert float(result.detach()) == pytest.approx(
        5 * (math.log10(0.02**2 + PSNR_FLOOR) + math.log10(0.2**2 + PSNR_FLOOR)), rel=1e-5
    )
    result.backward()  # type: ignore[no-untyped-call]
    assert phases.grad is not None
    for patch, size in enumerate((0.02, 0.2)):
        counted = 120 if weight is None else int(4 * weight[patch].sum())
        expected = 10 / math.log(10) / 2 * 2 * size / (size**2 + PSNR_FLOOR) / counted
        found = phases.grad[patch].abs()
        assert float(found.max()) == pytest.approx(expected, rel=1e-4)
        assert int((found > 0).sum()) == counted


def test_the_loss_of_a_configuration_is_minimized(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    """In dB: the first epoch's cost is near minus the PSNR that the network starts with."""
    config = replace(small, optimizer=replace(small.optimizer, loss="psnr"))
    run = Run(config, pictures, tmp_path / "psnr", CPU)
    started_at, costs = run.validate(), []
    run.train(lambda progress: costs.append(progress.cost))
    assert abs(costs[0] + started_at) < 6
    plateau = replace(config.schedule, kind="plateau")
    with pytest.raises(ConfigError, match='not with loss = "psnr"'):
        replace(config, schedule=plateau)


def test_rounding_leaves_so_many_levels() -> None:
    values = torch.linspace(-0.7, 1.3, 2 * 3 * 50 * 40).reshape(2, 3, 50, 40).requires_grad_()
    result = rounded(values, 16)
    for channel in range(3):
        given, found = values[:, channel].detach(), result[:, channel].detach()
        lowest, highest = min(float(given.min()), 0.0), max(float(given.max()), 0.0)
        step = (highest - lowest) / 15
        assert (found - given).abs().max() <= step / 2 + 1e-6
        assert len(found.unique()) <= 17
        np.testing.assert_allclose(found / step, (found / step).round(), atol=1e-4)


def test_roundings_gradient_is_that_of_its_formula() -> None:
    """Straight through to the values, and by the step to each channel's two extremes."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 5, 7, 6, generator=generator).contiguous(memory_format=torch.channels_last)
    values[:, 0] += 9  # its lowest value is not the least of its levels: zero is
    weight = torch.randn(values.shape, generator=generator)
    given = values.clone().requires_grad_()
    (rounded(given, 16) * weight).sum().backward()
    plain = values.clone().requires_grad_()
    step = (plain.amax((0, 2, 3)).clamp_min(0) - plain.amin((0, 2, 3)).clamp_max(0))[:, None, None] / 15
    off = ((plain / step).round() - plain / step).detach()
    ((plain + off * step) * weight).sum().backward()
    np.testing.assert_allclose(given.grad, plain.grad, rtol=1e-5, atol=1e-6)
    assert ((given.grad - weight).abs() > 1e-4).sum() == 5 + 4, "extremes alone get more than passes through"


def test_black_and_white_widen_the_ranges_and_are_not_in_the_cost(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    """Without rounding the extra patch changes nothing; with it, it does."""

    def costs(levels: int, contrast: bool) -> list[float]:
        quantization = replace(small.quantization, levels=levels, contrast=contrast)
        seen: list[float] = []
        run = Run(replace(small, quantization=quantization), pictures, tmp_path / f"{levels}{contrast}", CPU)
        run.train(lambda progress: seen.append(progress.cost))
        return seen

    np.testing.assert_allclose(costs(0, True), costs(0, False), rtol=1e-4)
    assert abs(costs(8, True)[0] / costs(8, False)[0] - 1) > 1e-3


def test_a_second_stage_starts_from_a_model(small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    first = trained(small, pictures, tmp_path / "first")
    first.model(ModelMetadata()).save(tmp_path / "first.safetensors")
    start = replace(small.network, start=str(tmp_path / "first.safetensors"))
    second = replace(
        small,
        network=start,
        quantization=replace(small.quantization, levels=64, from_epoch=1),
        schedule=replace(small.schedule, rate=small.schedule.rate / 10),
    )
    run = Run(second, pictures, tmp_path / "second", CPU)
    for name, array in first.model(ModelMetadata()).weights.items():
        np.testing.assert_array_equal(run.model(ModelMetadata()).weights[name], array)
    before = run.validate()
    levels = []
    run.train(lambda progress: levels.append(run.network.levels))
    assert levels == [0, 64, 64, 64]
    assert run.average.levels == 0
    assert run.validate() > before - 1, "the epochs move it, but it does not begin anew"
    other = replace(second, network=replace(start, activation="relu"))
    with pytest.raises(ConfigError, match=r"first\.safetensors is another network"):
        Run(other, pictures, tmp_path / "other", CPU)
    mixing = replace(start, interpolated_with=start.start, interpolation_share=0.25)
    mixed = Run(replace(second, network=mixing), pictures, tmp_path / "mixed", CPU)
    mixed.average.load_state_dict(run.average.state_dict())
    for name, array in mixed.model(ModelMetadata()).weights.items():
        own, others = run.model(ModelMetadata()).weights[name], first.model(ModelMetadata()).weights[name]
        assert np.abs(own - others).max() > 1e-4
        np.testing.assert_allclose(array, 0.75 * own + 0.25 * others, atol=1e-6)
    unlike = replace(second, network=replace(mixing, activation="relu", start=""))
    with pytest.raises(ConfigError, match=r"interpolated_with: .*first\.safetensors is another network"):
        Run(unlike, pictures, tmp_path / "unlike", CPU)
    for wrong in (
        {"interpolation_share": 0.0},
        {"interpolated_with": ""},
        {"interpolation_share": 1.0},
        {"kind": "tnrd"},
    ):
        with pytest.raises(ConfigError, match="mixed"):
            replace(second, network=replace(mixing, **wrong))


def test_soap_beats_plain_steps_on_a_badly_conditioned_problem() -> None:
    """Least squares with correlated inputs, where turning the basis is what helps."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(20, 20)) * np.logspace(0, -2.5, 20)
    inputs = torch.from_numpy(rng.normal(size=(500, 20)) @ mix).float()
    wanted = inputs @ torch.from_numpy(rng.normal(size=(20, 3))).float()

    def remaining(make: type[torch.optim.Optimizer]) -> float:
        weight = torch.zeros(3, 20, requires_grad=True)
        optimizer = make([weight], lr=0.03)  # type: ignore[call-arg]
        for step in range(300):
            cost = (inputs @ weight.T - wanted).square().mean()
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            if isinstance(optimizer, SOAP) and step % 10 == 9:
                optimizer.turn()
        return float(cost.detach())

    assert remaining(SOAP) < remaining(torch.optim.Adam) / 3


@pytest.mark.parametrize("smallest", [1e-3, 1e-6])
def test_bases_by_cholesky_are_those_by_qr(smallest: float) -> None:
    """Of covariances whose eigenvalues are far apart, as those of gradients are."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(4, 30, 30, generator=generator, dtype=torch.float64))[0]
    covariance = (axes * torch.logspace(0, math.log10(smallest), 30, dtype=torch.float64)) @ axes.mT
    basis = torch.linalg.qr(axes + 0.05 * torch.randn(4, 30, 30, generator=generator))[0]
    expected = torch.linalg.qr(covariance @ basis)[0]
    found = orthonormal_by_cholesky(covariance @ basis, instead=torch.zeros_like(basis))
    signs = (expected * found).sum(-2, keepdim=True).sign()
    torch.testing.assert_close(found * signs, expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.mT @ found, torch.eye(30).double().expand(4, 30, 30), atol=1e-10, rtol=0)


def test_columns_that_depend_on_each_other_keep_the_old_basis() -> None:
    """Columns that are nothing, columns that are the same, and beside them some that are sound."""
    columns = torch.zeros(3, 3, 3, dtype=torch.float64)
    columns[1] = torch.tensor([1.0, 2.0, 3.0])[:, None]
    columns[2] = torch.tensor([[2.0, 0, 0], [0, 0, 3], [0, 1, 0]])
    old = torch.eye(3).expand(3, 3, 3)
    found = orthonormal_by_cholesky(columns, instead=old)
    torch.testing.assert_close(found[:2], old[:2].double())
    torch.testing.assert_close(found[2], columns[2] / columns[2].norm(dim=0))


def test_soap_is_adam_for_vectors() -> None:
    weight, other = (torch.tensor([1.0, -2.0, 3.0], requires_grad=True) for _ in range(2))
    soap, adam = SOAP([weight], lr=0.1), torch.optim.Adam([other], lr=0.1, betas=(0.95, 0.95))
    for optimizer, vector in ((soap, weight), (adam, other)):
        for _ in range(20):
            optimizer.zero_grad()
            (vector**4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(weight, other)


def schedule_config(**changes: object) -> ScheduleConfig:
    plain = ScheduleConfig(
        kind="plateau", rate=0.01, final_rate=0.0001, max_epochs=1000, mu=0.01, stop_after=5
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_plateau_lowers_the_rate_and_stops() -> None:
    schedule = make_schedule(schedule_config())
    assert not any(schedule.finish_epoch(epoch, cost) for epoch, cost in enumerate([1.0, 0.5, 0.25]))
    assert schedule.rate(3) == 0.01
    schedule.finish_epoch(3, 0.249)  # improves by less than mu
    assert schedule.rate(4) == 0.005
    ends = [schedule.finish_epoch(epoch, 0.3) for epoch in range(4, 9)]
    assert ends == [False] * 4 + [True]
    for epoch in range(20):
        schedule.finish_epoch(epoch, 0.3)
    assert schedule.rate(30) == 0.0001


def test_cosine_falls_from_rate_to_final_rate() -> None:
    schedule = make_schedule(schedule_config(kind="cosine", max_epochs=10, warmup_epochs=2))
    rates = [schedule.rate(epoch) for epoch in range(11)]
    assert rates[0] < rates[1] < rates[2] == 0.01
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(0.0001)
    assert [schedule.finish_epoch(epoch, 1.0) for epoch in (8, 9)] == [False, True]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    config = load_config(path)
    assert config.name.endswith(f"-x{config.network.scale}")
    if path.stem != "own-images-x2":  # an example for users, of whose model nothing is known
        assert config.license and config.citation and config.training_data


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "soap"', 'name = "lion"', "optimizer.name must be one of 'sgd', 'adam', 'soap', not 'lion'"),
        ("turn = true", "trun = true", "unknown field data.trun; known here: folders"),
        ("side_px = 40", 'side_px = "32"', "patches.side_px must be int, not '32'"),
        ("side_px = 40\n", "", "missing in patches: 'side_px'"),
        ("side_px = 40", "side_px = 0", "patches.side_px must be positive"),
        ("ema = 0.999", "ema = 0.999\nbasis_every = 0", "optimizer.basis_every must be positive"),
        ('folders = ["T91"]', "folders = []", "data.folders is empty"),
        ('folders = ["T91"]', 'folders = "T91"', "data.folders must be a list"),
        (
            'folders = ["T91"]',
            'folders = ["T91"]\nhalved = ["B"]',
            "data.halved: B is not among data.folders",
        ),
        ("seed = 1", "seed = ", "not readable as TOML"),
        ("[network]", "[nework]", "unknown field nework"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed_recipe("espcn-t91-x3", {old: new}, tmp_path / "c.toml")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_pictures_smaller_than_a_patch_are_an_error() -> None:
    config = PatchConfig(sampling="grid", side_px=17, batch=4)
    with pytest.raises(DatasetError, match="no picture is 51 pixels high and wide"):
        Patches([numbered_pair(16, 40, 3)], 3, config, kernels=[3], turn=False, seed=0, device=CPU)


def test_the_command(pictures: Path, tmp_path: Path) -> None:
    changes = {
        '["T91"]': '["photos"]',
        '"BSDS500/train"': '"the same"',
        '["Set5", "Set14", "BSDS500/val"]': '["photos"]',
        "batches_per_epoch = 200": "batches_per_epoch = 2",
        "max_epochs = 220": "max_epochs = 5",
        "fp32_epochs = 20": "fp32_epochs = 1",
        "side_px = 40": "side_px = 20",
    }
    config = changed_recipe("espcn-t91-x3", changes, tmp_path / "tiny.toml")
    command = [
        "train",
        str(config),
        "--datasets",
        str(pictures),
        "-o",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{number}/5" for number in range(1, 6)]
    assert "dB" in lines[-1] and "dB" not in lines[0], "measured at the end alone"
    model = load_model(tmp_path / "run" / "espcn-t91-x3.safetensors")
    assert model.metadata.recipe == "tiny.toml"
    assert model.metadata.config_commit == "uncommitted"
    assert 20 < model.metadata.psnr_db["photos"] < 40
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--resume" in again.stderr
    missing = CliRunner().invoke(
        app, [*command[:2], "--datasets", str(tmp_path), "-o", str(tmp_path / "other")]
    )
    assert missing.exit_code == 1 and "no such folder" in missing.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["espcn-enlarged-first", "srcnn-915", "srcnn-955"])
def test_networks_in_hr_space_train_as_they_run(
    small: TrainingConfig, pictures: Path, tmp_path: Path, kind: str
) -> None:
    """The torch form agrees with the oracle, and training makes it better than it was."""
    config = replace(
        small,
        network=replace(small.network, kind=kind, initialization="lecun"),
        patches=replace(small.patches, batch=2),
    )
    run = Run(config, pictures, tmp_path / "run", CPU)
    lr = torch.rand(1, 1, 9, 11)
    phases = run.network(lr)
    expected = NumpyEngine(run.network.to_model("m", ModelMetadata()))(lr[0, 0].numpy())
    hr = torch.pixel_shuffle(phases, config.network.scale)[0, 0].detach().numpy()
    np.testing.assert_allclose(hr, expected, atol=1e-5)
    costs: list[float] = []
    run.train(lambda progress: costs.append(progress.cost))
    assert run.model(ModelMetadata()).spec == describe(config.network)  # type: ignore[union-attr]
    assert costs[-1] < costs[0]


def test_a_deconvolution_trains_as_the_network_that_it_becomes(
    small: TrainingConfig, pictures: Path, tmp_path: Path
) -> None:
    """The same start gives the same result as the equal sub-pixel network, whose biases are tied."""
    config = replace(small, network=replace(small.network, kind="espcn-deconvolution"))
    run = Run(config, pictures, tmp_path / "run", CPU)
    assert isinstance(run.network.layers[-1], torch.nn.ConvTranspose2d)
    assert run.network.layers[-1].kernel_size == (9, 9)
    run.train()
    model = run.model(ModelMetadata())
    assert model.spec == espcn(3)
    lr = torch.rand(1, 1, 9, 11)
    hr = torch.pixel_shuffle(run.average(lr), 3)[0, 0].detach().numpy()
    np.testing.assert_allclose(hr, NumpyEngine(model)(lr[0, 0].numpy()), atol=1e-5)
    assert len(np.unique(model.weights["layers.2.bias"])) == 1
    with pytest.raises(NotImplementedError):
        run.network.load_model(model)


@pytest.mark.parametrize("kind", ["espcn", "srcnn-915", "stack"])
def test_a_centered_start(kind: str, small: TrainingConfig, pictures: Path, tmp_path: Path) -> None:
    """Sums of hidden units have mean 0 and deviation 0.5 on patches; a fitted start's lie beside 0."""
    off_center = {}
    for initialization in ("fitted", "centered"):
        stack: dict[str, object] = (
            {"widths": (8, 8), "residual": "nearest", "expansion": 2} if kind == "stack" else {}
        )
        network = NetworkConfig(kind, 3, "prelu", initialization=initialization, **stack)  # type: ignore[arg-type]
        run = Run(replace(small, network=network), pictures, tmp_path / initialization, CPU)
        batches = [batch for batch, _ in zip(run.patches.epoch(0), range(12), strict=False)]
        assert isinstance(run.network, Network)
        off_center[initialization] = []
        with torch.no_grad():
            values = run.network.enlarge(torch.cat([batch.lr for batch in batches]))
            for layer, activation in zip(run.network.layers[:-1], run.network.activations, strict=False):
                sums = layer(values)
                off_center[initialization].append(float(sums.mean((0, 2, 3)).abs().max()))
                if initialization == "centered":
                    torch.testing.assert_close(sums.std((0, 2, 3)), torch.full((sums.shape[1],), 0.5))
                values = activation(sums)
    assert max(off_center["centered"]) < 1e-4
    assert min(off_center["fitted"]) > 0.05


def test_bicubic_in_torch() -> None:
    lr = torch.rand(2, 3, 7, 9)
    for scale in (1, 2, 3, 4):
        expected = np.stack([[imresize(plane, scale) for plane in image] for image in lr.numpy()])
        np.testing.assert_allclose(Bicubic(scale)(lr).numpy(), expected, atol=2e-6)


def test_halved_pictures(pictures: Path) -> None:
    path = sorted((pictures / "photos").iterdir())[0]
    (whole,), (half,) = (load_pairs([path], 3, Degradation(), halved_below_quality=q) for q in (0, 101))
    assert [abs(2 * b - a) <= 2 for a, b in zip(whole.lr.shape, half.lr.shape, strict=True)] == [True, True]


def test_pictures_that_are_halved_below_a_quality(tmp_path: Path) -> None:
    for quality in (89, 91):
        Image.fromarray(picture_of(60, 80)).save(tmp_path / f"{quality}.jpg", quality=quality)
    Image.fromarray(picture_of(60, 80)).save(tmp_path / "a.png")
    paths = [tmp_path / name for name in ("89.jpg", "91.jpg", "a.png")]
    pairs = load_pairs(paths, 2, Degradation(), halved_below_quality=90)
    assert [pair.lr.shape for pair in pairs] == [(15, 20), (30, 40), (30, 40)]


def test_compressed_copies_stand_beside_the_pictures_and_have_their_targets(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Image.fromarray(picture_of(95, 120)).save(tmp_path / f"{name}.png")
    paths = sorted(tmp_path.glob("*.png"))
    pairs = load_pairs(paths, 3, Degradation(), compressed_copies=6)
    again = load_pairs(paths[1:], 3, Degradation(), compressed_copies=6)
    assert len(pairs) == 14
    clean = pairs[0]
    errors = []
    for pair in pairs[1:7]:
        np.testing.assert_array_equal(pair.phases, clean.phases)
        assert pair.lr.shape == clean.lr.shape and pair.lr.dtype == np.float32
        errors.append(float(np.sqrt(np.mean((pair.lr - clean.lr) ** 2))) * 255)
    assert min(errors) > 0.5 and max(errors) < 20, "the same place, compressed"
    assert len({pair.lr.tobytes() for pair in pairs}) == 13, "each otherwise, and for each name otherwise"
    for pair, other in zip(pairs[7:], again, strict=True):
        np.testing.assert_array_equal(pair.lr, other.lr)


def test_a_fraction_of_copies_is_a_share_of_the_pictures() -> None:
    names = [f"{number}.png" for number in range(2000)]
    for wanted, low, high in ((0.0, 0, 0), (0.25, 430, 570), (1.0, 2000, 2000), (1.5, 2900, 3100)):
        copies = [copies_of(name, wanted) for name in names]
        assert low <= sum(copies) <= high
        assert copies == [copies_of(name, wanted) for name in names]
    assert {copies_of(name, 1.5) for name in names} == {1, 2}


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (17, 33)])
def test_a_film_of_any_size_comes_back_in_its_size_and_order(shape: tuple[int, int]) -> None:
    planes = [np.full(shape, level, np.uint8) for level in (30, 90, 150, 210)]
    for given, found in zip(planes, through_h264(planes, 18), strict=True):
        assert found.shape == shape
        assert np.abs(found.astype(int) - given).max() <= 3
