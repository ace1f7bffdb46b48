"""The PyTorch form of a network matches the engines, and its initialization is as stated."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subpixel import ConfigError, Convolution, ModelMetadata, ModelSpec
from subpixel.models.networks import espcn, stack
from subpixel.ops.pixel_shuffle import pixel_shuffle
from subpixel.ops.resize import imresize

torch = pytest.importorskip("torch")

from subpixel.engines.numpy_engine import NumpyEngine  # noqa: E402
from subpixel.engines.tnrd import Bicubic  # noqa: E402
from subpixel.evaluation.protocol import Degradation  # noqa: E402
from subpixel.training.build import network_spec  # noqa: E402
from subpixel.training.config import NetworkConfig, TrainingConfig  # noqa: E402
from subpixel.training.data import make_pair  # noqa: E402
from subpixel.training.initialization import balance, fit_last_layer, initialize  # noqa: E402
from subpixel.training.loop import Run, update_average  # noqa: E402
from subpixel.training.loss import mean_loss  # noqa: E402
from subpixel.training.network import ExpandedConvolution, Network  # noqa: E402
from subpixel.training.prelu import PReLU  # noqa: E402
from training_runs import CPU, photo, trained  # noqa: E402


def test_the_loss_is_the_same_before_and_after_the_shuffle() -> None:
    rng = np.random.default_rng(1)
    phases, target = (torch.from_numpy(rng.random((2, 9, 6, 7))) for _ in range(2))
    after = torch.nn.functional.mse_loss(torch.pixel_shuffle(phases, 3), torch.pixel_shuffle(target, 3))
    torch.testing.assert_close(mean_loss(phases, target, None), after)
    halves = torch.zeros(2, 1, 6, 7)
    halves[:, :, :3] = 1
    weighted = mean_loss(phases, target, halves)
    torch.testing.assert_close(weighted, torch.nn.functional.mse_loss(phases[:, :, :3], target[:, :, :3]))


def test_the_torch_network_matches_the_oracle() -> None:
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


def test_a_fitted_last_layer_interpolates() -> None:
    """On an image, its error is below that of bicubic."""
    pair = make_pair(photo(180, 180), 3, Degradation())
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
def test_initial_weights_have_the_stated_deviation(method: str) -> None:
    network = Network(espcn(3, activation="relu"))
    initialize(network, method, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    hidden = network.layers[1]
    expected = 0.001 if method == "gaussian-0.001" else math.sqrt(2 / (64 * 9))
    assert float(hidden.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    assert not hidden.bias.any()


def test_prelu_matches_pytorchs() -> None:
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


def test_an_expanded_convolution_fuses_exactly() -> None:
    """This includes the border: there is no padding between the two convolutions of the pair."""
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


def test_the_average_is_of_fused_weights(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    network = NetworkConfig("stack", 3, "prelu", widths=(4,), residual="nearest", expansion=2)
    run = Run(replace(small_config, network=network), datasets, tmp_path / "run", CPU)
    before = run.average.fused_parameters()["layers.1.weight"].clone()
    with torch.no_grad():
        run.network.layers[1].project.fill_(2.0)  # type: ignore[union-attr, operator]
    with torch.no_grad():
        update_average(run.network, run.average, torch.tensor(0.5))
    expected = (before + run.network.fused_parameters()["layers.1.weight"]) / 2
    torch.testing.assert_close(run.average.fused_parameters()["layers.1.weight"], expected)
    assert not any(isinstance(layer, ExpandedConvolution) for layer in run.average.layers)


def test_an_expanded_convolution_is_trained(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    network = NetworkConfig(
        "stack", 3, "prelu", widths=(5, 4), kernels=(5, 3, 3), residual="nearest", expansion=2
    )
    run = trained(replace(small_config, network=network), datasets, tmp_path / "run")
    expanded = run.network.layers[1]
    assert isinstance(expanded, ExpandedConvolution)
    assert expanded.project.abs().max() > 0
    model = run.model(ModelMetadata())
    assert model.spec == stack(3, [5, 4], kernels=[5, 3, 3])


def test_balancing_only_scales_the_features() -> None:
    network = Network(stack(2, [5, 4, 3]), expansion=2)
    initialize(network, "lecun", torch.Generator().manual_seed(0))
    with torch.no_grad():
        for index, layer in enumerate(network.convolutions[:-1]):
            layer.weight.mul_(3 + 10 * index)
            layer.bias.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(index))
        lr = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(1))
        before = network.features(lr)
        balance(network)
        after = network.features(lr)
    torch.testing.assert_close(after * (before.abs().max() / after.abs().max()), before, rtol=1e-4, atol=1e-3)
    for layer, inputs in zip(network.convolutions[:-1], (9, 45, 36), strict=True):
        assert float(layer.weight.detach().square().mean()) == pytest.approx(2 / inputs, rel=1e-5)


def test_training_starts_from_a_model_for_another_scale(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    network = replace(small_config.network, kind="stack", activation="prelu", widths=(5, 4), expansion=2)
    first = trained(replace(small_config, network=network), datasets, tmp_path / "first").model(
        ModelMetadata()
    )
    first.save(tmp_path / "first.safetensors")
    other = replace(network, scale=2, start=str(tmp_path / "first.safetensors"))
    run = Run(replace(small_config, network=other), datasets, tmp_path / "second", CPU)
    model = run.model(ModelMetadata())
    for name, array in model.weights.items():
        if not name.startswith("layers.2."):
            given = first.weights[name]
            np.testing.assert_allclose(array / np.abs(array).max(), given / np.abs(given).max(), rtol=1e-5)
    fresh = Run(replace(small_config, network=replace(other, start="")), datasets, tmp_path / "third", CPU)
    assert run.validate() > fresh.validate() - 1, "its last layer is fitted too"
    with pytest.raises(ConfigError, match=r"first\.safetensors is another network"):
        wider = replace(other, widths=(5, 5))
        Run(replace(small_config, network=wider), datasets, tmp_path / "fourth", CPU)


def test_no_slope_of_a_model_is_above_1(small_config: TrainingConfig, datasets: Path, tmp_path: Path) -> None:
    network = replace(small_config.network, kind="stack", activation="prelu", widths=(5, 4), expansion=2)
    run = Run(replace(small_config, network=network), datasets, tmp_path, CPU)
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


@pytest.mark.parametrize("kind", ["espcn-pre-upsampling", "srcnn-915", "srcnn-955"])
def test_networks_in_hr_space_match_the_oracle_and_learn(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path, kind: str
) -> None:
    """The PyTorch form agrees with the oracle, and its loss falls in training."""
    config = replace(
        small_config,
        network=replace(small_config.network, kind=kind, initialization="lecun"),
        patches=replace(small_config.patches, batch=2),
    )
    run = Run(config, datasets, tmp_path / "run", CPU)
    lr = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    phases = run.network(lr)
    expected = NumpyEngine(run.network.to_model("m", ModelMetadata()))(lr[0, 0].numpy())
    hr = torch.pixel_shuffle(phases, config.network.scale)[0, 0].detach().numpy()
    np.testing.assert_allclose(hr, expected, atol=1e-5)
    losses: list[float] = []
    run.train(lambda report: losses.append(report.loss))
    assert run.model(ModelMetadata()).spec == network_spec(config.network)  # type: ignore[union-attr]
    assert losses[-1] < losses[0]


def test_a_deconvolution_becomes_the_equivalent_espcn(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """It is trained with a transposed convolution, and its model gives the same output."""
    config = replace(small_config, network=replace(small_config.network, kind="espcn-deconvolution"))
    run = Run(config, datasets, tmp_path / "run", CPU)
    assert isinstance(run.network.layers[-1], torch.nn.ConvTranspose2d)
    assert run.network.layers[-1].kernel_size == (9, 9)
    run.train()
    model = run.model(ModelMetadata())
    assert model.spec == espcn(3)
    lr = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    hr = torch.pixel_shuffle(run.average(lr), 3)[0, 0].detach().numpy()
    np.testing.assert_allclose(hr, NumpyEngine(model)(lr[0, 0].numpy()), atol=1e-5)
    assert len(np.unique(model.weights["layers.2.bias"])) == 1
    with pytest.raises(NotImplementedError):
        run.network.load_model(model)


@pytest.mark.parametrize("kind", ["espcn", "srcnn-915", "stack"])
def test_centered_units_have_mean_0_and_deviation_0_5(
    kind: str, small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """They have these on patches, before activation; with a fitted start, the means are not 0."""
    off_center = {}
    for initialization in ("fitted", "centered"):
        stack: dict[str, object] = (
            {"widths": (8, 8), "residual": "nearest", "expansion": 2} if kind == "stack" else {}
        )
        network = NetworkConfig(kind, 3, "prelu", initialization=initialization, **stack)  # type: ignore[arg-type]
        run = Run(replace(small_config, network=network), datasets, tmp_path / initialization, CPU)
        batches = [batch for batch, _ in zip(run.patches.epoch(0), range(12), strict=False)]
        assert isinstance(run.network, Network)
        off_center[initialization] = []
        with torch.no_grad():
            values = run.network.upsample(torch.cat([batch.lr for batch in batches]))
            for layer, activation in zip(run.network.layers[:-1], run.network.activations, strict=False):
                outputs = layer(values)
                off_center[initialization].append(float(outputs.mean((0, 2, 3)).abs().max()))
                if initialization == "centered":
                    torch.testing.assert_close(outputs.std((0, 2, 3)), torch.full((outputs.shape[1],), 0.5))
                values = activation(outputs)
    assert max(off_center["centered"]) < 1e-4
    assert min(off_center["fitted"]) > 0.05


def test_bicubic_in_torch_matches_imresize() -> None:
    lr = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    for scale in (1, 2, 3, 4):
        expected = np.stack([[imresize(plane, scale) for plane in image] for image in lr.numpy()])
        np.testing.assert_allclose(Bicubic(scale)(lr).numpy(), expected, atol=2e-6)
