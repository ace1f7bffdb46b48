"""Whole training runs on small real pictures: they learn, resume exactly and follow the paper."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from recipes import CONFIGS, changed_recipe
from subpixel import ConfigError, ModelMetadata, load_model
from subpixel.cli import app

torch = pytest.importorskip("torch")

from subpixel.training.config import (  # noqa: E402
    NetworkConfig,
    PrecisionConfig,
    QuantizationConfig,
    TrainingConfig,
    load_config,
)
from subpixel.training.loop import Run, follow  # noqa: E402
from subpixel.training.soap import SOAP, _updates  # noqa: E402
from training_runs import CPU, trained  # noqa: E402


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
@pytest.mark.parametrize("kind", ["stack", pytest.param("srcnn-915", marks=pytest.mark.slow)])
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


@pytest.mark.hardware
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
        with pytest.raises(ConfigError, match="interpolat"):
            replace(second, network=replace(mixing, **wrong))


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
