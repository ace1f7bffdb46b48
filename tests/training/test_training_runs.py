"""Complete training runs on small real images: they learn, resume exactly, and start from other models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save
from typer.testing import CliRunner

from random_models import random_model
from subpixel import ConfigError, ModelMetadata, load_model
from subpixel.cli import app
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.models.networks import espcn
from training_configs import CONFIGS, changed_config

torch = pytest.importorskip("torch")

from subpixel.training.config import (  # noqa: E402
    NetworkConfig,
    PrecisionConfig,
    QuantizationConfig,
    TrainingConfig,
)
from subpixel.training.config_file import load_config  # noqa: E402
from subpixel.training.loop import WARM_UP_STEPS, EpochReport, Run, update_average  # noqa: E402
from subpixel.training.result import with_int8_layers  # noqa: E402
from subpixel.training.soap import SOAP, _updates  # noqa: E402
from training_runs import CPU, photo, trained  # noqa: E402


def test_training_improves(small_config: TrainingConfig, datasets: Path, tmp_path: Path) -> None:
    config = replace(
        small_config,
        network=replace(small_config.network, initialization="lecun"),
        patches=replace(small_config.patches, batches_per_epoch=10),
    )
    run = Run(config, datasets, tmp_path, CPU)
    before = run.validate()
    seen = []
    run.train(seen.append)
    assert [report.epoch for report in seen] == [1, 2, 3, 4]
    assert run.validate() > before + 6
    assert seen[-1].validation_psnr_db == run.validate()
    assert list((tmp_path / "tensorboard").iterdir())


def small_stack(small_config: TrainingConfig) -> TrainingConfig:
    """The config of `default`, shortened to a few seconds."""
    return replace(
        small_config,
        network=NetworkConfig("stack", 3, "prelu", widths=(8, 8), residual="nearest", expansion=2),
        precision=PrecisionConfig("bf16", fp32_epochs=1),
        quantization=QuantizationConfig(levels=128, contrast=True),
    )


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by PyTorch
@pytest.mark.parametrize("kind", ["stack", pytest.param("srcnn-915", marks=pytest.mark.slow)])
def test_a_compiled_run_trains_the_same(
    kind: str, small_config: TrainingConfig, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend traces and differentiates, and needs no C++ compiler."""
    config = small_stack(small_config)
    if kind == "srcnn-915":
        config = replace(config, network=NetworkConfig(kind, 3), quantization=QuantizationConfig())  # type: ignore[arg-type]
    compiled = []

    def trace(function: Any, **options: Any) -> object:
        compiled.append(function)
        return real(function, backend="aot_eager", **options)

    real = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    fused = Run(config, datasets, tmp_path / "fused", CPU, compiled=True)
    fused.train()
    assert compiled == [*[_updates] * isinstance(fused.optimizer, SOAP), fused.network, update_average]
    plain = trained(config, datasets, tmp_path / "plain")
    assert fused.validate() == pytest.approx(plain.validate(), abs=0.02)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # by PyTorch
def test_compiling_is_refused_for_other_checkpoints_and_for_fp32(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    config = small_stack(small_config)
    trained(config, datasets, tmp_path)
    with pytest.raises(ConfigError, match="was started without --compile"):
        Run(config, datasets, tmp_path, CPU, compiled=True).resume()
    with pytest.raises(ConfigError, match="fuses passes in bf16"):
        Run(replace(config, precision=PrecisionConfig()), datasets, tmp_path, CPU, compiled=True)


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "soap"])
@pytest.mark.parametrize("kind", ["stack", "espcn", "srcnn-915", "espcn-deconvolution", "tnrd"])
def test_a_gpu_gives_the_psnr_of_a_cpu(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path, kind: str, optimizer: str
) -> None:
    config = small_stack(small_config)
    if kind != "stack":
        config = replace(small_config, network=NetworkConfig(kind, 3, "tanh", initialization="fitted"))  # type: ignore[arg-type]
    config = replace(
        config,
        patches=replace(config.patches, batches_per_epoch=20),
        optimizer=replace(config.optimizer, name=optimizer),  # type: ignore[arg-type]
        schedule=replace(config.schedule, rate=0.001),
        precision=PrecisionConfig(),
    )
    on_gpu = Run(config, datasets, tmp_path / "gpu", torch.device("cuda"))
    on_gpu.train()
    plain = trained(config, datasets, tmp_path / "cpu")
    assert on_gpu.validate() == pytest.approx(plain.validate(), abs=0.05)


def test_the_last_layer_has_its_own_learning_rate(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    config = replace(
        small_config, optimizer=replace(small_config.optimizer, name="adam", last_layer_rate=0.1)
    )
    run = Run(config, datasets, tmp_path, CPU)
    before = [layer.weight.detach().clone() for layer in run.network.layers]  # type: ignore[union-attr, operator]
    run._epoch(0)
    first, _, last = (
        float((layer.weight.detach() - old).abs().max())
        for layer, old in zip(run.network.layers, before, strict=True)  # type: ignore[union-attr, arg-type]
    )
    assert last < first / 5


def test_an_interrupted_run_resumes_exactly(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    expected = trained(small_config, datasets, tmp_path / "complete").model(ModelMetadata())

    class StopError(Exception):
        pass

    def stop_after_second(report: EpochReport) -> None:
        if report.epoch == 2:
            raise StopError

    run = Run(small_config, datasets, tmp_path / "stopped", CPU)
    with pytest.raises(StopError):
        run.train(stop_after_second)
    resumed = trained(small_config, datasets, tmp_path / "stopped", resume=True).model(ModelMetadata())
    for key, array in expected.weights.items():
        np.testing.assert_array_equal(resumed.weights[key], array, err_msg=key)


def test_a_run_continues_elsewhere_from_a_small_checkpoint(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """From the averaged weights in float16, at the same epoch, with a rate that rises again."""
    config = small_stack(small_config)
    half = Run(config, datasets, tmp_path / "half", CPU)
    half.train(lambda report: setattr(half, "finished", report.epoch == 2))
    small = tmp_path / "half" / "unfinished.safetensors"
    model = load_model(small)
    assert model == half.model(ModelMetadata()).in_half_precision()
    assert small.stat().st_size < (tmp_path / "half" / "checkpoint.safetensors").stat().st_size / 10
    rest = Run(config, datasets, tmp_path / "rest", CPU)
    rest.resume_from(small)
    assert rest.next_epoch == 2
    assert rest.model(ModelMetadata()) == model
    seen: list[EpochReport] = []
    rest.train(seen.append)
    assert [report.epoch for report in seen] == [3, 4]
    after = rest.model(ModelMetadata()).weights["layers.1.weight"]
    change = np.abs(after - model.weights["layers.1.weight"]).max()
    assert 0 < change < 2 * 3 / WARM_UP_STEPS * small_config.schedule.rate * 6
    again = Run(config, datasets, tmp_path / "rest", CPU)
    assert again.resume() and again.finished


def test_a_wrong_small_checkpoint_is_refused(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    config = small_stack(small_config)
    trained(config, datasets, tmp_path)
    small = tmp_path / "unfinished.safetensors"
    with pytest.raises(ConfigError, match="belongs to another config"):
        Run(replace(config, seed=99), datasets, tmp_path, CPU).resume_from(small)
    run = Run(config, datasets, tmp_path, CPU)
    run.model(ModelMetadata()).save(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="not a small checkpoint"):
        run.resume_from(tmp_path / "model.safetensors")
    small.write_bytes(small.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"unfinished\.safetensors"):
        run.resume_from(small)
    with pytest.raises(ConfigError, match="nowhere"):
        run.resume_from(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("kind", "name"), [("espcn", "sgd"), ("espcn", "adam"), ("espcn", "soap"), ("srcnn-915", "soap")]
)
def test_every_optimizer_resumes_exactly(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path, kind: str, name: str
) -> None:
    config = replace(
        small_config,
        network=replace(small_config.network, kind=kind),  # type: ignore[arg-type]
        patches=replace(small_config.patches, batch=2),
        optimizer=replace(small_config.optimizer, name=name),  # type: ignore[arg-type]
    )
    expected = trained(config, datasets, tmp_path / "complete").model(ModelMetadata())
    half = Run(config, datasets, tmp_path / "half", CPU)
    half.train(lambda report: setattr(half, "finished", report.epoch == 2))
    rest = trained(config, datasets, tmp_path / "half", resume=True).model(ModelMetadata())
    np.testing.assert_array_equal(rest.weights["layers.1.weight"], expected.weights["layers.1.weight"])


def test_a_checkpoint_of_another_config_is_refused(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    trained(small_config, datasets, tmp_path)
    other = Run(replace(small_config, seed=99), datasets, tmp_path, CPU)
    with pytest.raises(ConfigError, match="belongs to another config"):
        other.resume()


def test_a_checkpoint_with_old_names_in_its_config_is_resumed(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    config = replace(
        small_config,
        network=replace(small_config.network, kind="espcn-pre-upsampling"),
        patches=replace(small_config.patches, batch=2, drawn_by="image"),
        schedule=replace(small_config.schedule, max_epochs=1),
    )
    trained(config, datasets, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    for old, new in (
        ("turn", "augment"),
        ("espcn-enlarged-first", "espcn-pre-upsampling"),
        ("picture", "image"),
    ):
        assert f'\\"{new}\\"' in metadata["numbers"]
        metadata["numbers"] = metadata["numbers"].replace(f'\\"{new}\\"', f'\\"{old}\\"')
    path.write_bytes(save(tensors, metadata))
    assert Run(config, datasets, tmp_path, CPU).resume()


def test_a_damaged_checkpoint_is_refused(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    trained(small_config, datasets, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    run = Run(small_config, datasets, tmp_path, CPU)
    with pytest.raises(ConfigError, match="damaged checkpoint"):
        run.resume()


def test_the_papers_config_trains(datasets: Path, tmp_path: Path) -> None:
    config = load_config(CONFIGS / "espcn-t91-x3-paper.toml")
    config = replace(
        config,
        data=replace(config.data, folders=("photos",)),
        validation=replace(config.validation, folder="the same"),
        schedule=replace(config.schedule, max_epochs=6),
    )
    losses = []
    run = Run(config, datasets, tmp_path, CPU)
    run.train(lambda report: losses.append(report.loss))
    assert losses[-1] < losses[0] / 2


def second_stage(small_config: TrainingConfig, start: Path) -> TrainingConfig:
    """A config that trains the model ``start`` further, with fake quantization from the second epoch on."""
    return replace(
        small_config,
        network=replace(small_config.network, start=str(start)),
        quantization=replace(small_config.quantization, levels=64, from_epoch=1),
        schedule=replace(small_config.schedule, rate=small_config.schedule.rate / 10),
    )


def test_a_second_stage_starts_from_a_model(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    first = trained(small_config, datasets, tmp_path / "first").model(ModelMetadata())
    first.save(tmp_path / "first.safetensors")
    config = second_stage(small_config, tmp_path / "first.safetensors")
    run = Run(config, datasets, tmp_path / "second", CPU)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(run.model(ModelMetadata()).weights[name], array)
    before = run.validate()
    levels = []
    run.train(lambda report: levels.append(run.network.quantization_levels))
    assert levels == [0, 64, 64, 64]
    assert run.average.quantization_levels == 0
    assert run.validate() > before - 1, "training continues from the start, not from random weights"
    other = replace(config, network=replace(config.network, activation="relu"))
    with pytest.raises(ConfigError, match=r"first\.safetensors is another network"):
        Run(other, datasets, tmp_path / "other", CPU)


def test_a_shallower_network_starts_from_the_first_layers(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    """The kernels are those of the model, up to a factor for each channel; the last layer is fitted."""
    network = replace(small_stack(small_config).network, expansion=0, widths=(8, 8))
    config = replace(small_config, network=network)
    deep = trained(config, datasets, tmp_path / "deep").model(ModelMetadata())
    deep.save(tmp_path / "deep.safetensors")
    start = str(tmp_path / "deep.safetensors")
    run = Run(
        replace(config, network=replace(network, widths=(8,), start=start)), datasets, tmp_path / "one", CPU
    )
    kernels = run.model(ModelMetadata()).weights["layers.0.weight"].reshape(8, -1)
    given = deep.weights["layers.0.weight"].reshape(8, -1)
    norms = np.linalg.norm(kernels, axis=1) * np.linalg.norm(given, axis=1)
    np.testing.assert_allclose(np.abs((kernels * given).sum(1)) / norms, 1, rtol=1e-5)
    assert run.validate() > 20
    deeper = replace(config, network=replace(network, widths=(8, 8, 8), start=start))
    with pytest.raises(ConfigError, match="is another network"):
        Run(deeper, datasets, tmp_path / "three", CPU)


def test_weights_are_interpolated_with_those_of_another_model(
    small_config: TrainingConfig, datasets: Path, tmp_path: Path
) -> None:
    first = trained(small_config, datasets, tmp_path / "first").model(ModelMetadata())
    first.save(tmp_path / "first.safetensors")
    plain = second_stage(small_config, tmp_path / "first.safetensors")
    own = trained(plain, datasets, tmp_path / "second").model(ModelMetadata())
    network = replace(plain.network, interpolated_with=plain.network.start, interpolation_share=0.25)
    config = replace(plain, network=network)
    result = trained(config, datasets, tmp_path / "interpolated").model(ModelMetadata())
    for name, array in result.weights.items():
        assert np.abs(own.weights[name] - first.weights[name]).max() > 1e-4
        np.testing.assert_allclose(array, 0.75 * own.weights[name] + 0.25 * first.weights[name], atol=1e-6)
    unlike = replace(config, network=replace(network, activation="relu", start=""))
    with pytest.raises(ConfigError, match=r"interpolated_with: .*first\.safetensors is another network"):
        Run(unlike, datasets, tmp_path / "unlike", CPU)
    for wrong in (
        {"interpolation_share": 0.0},
        {"interpolated_with": ""},
        {"interpolation_share": 1.0},
        {"kind": "tnrd"},
    ):
        with pytest.raises(ConfigError, match="interpolat"):
            replace(config, network=replace(network, **wrong))


def psnr_of_8_bits(result: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((result.astype(float) - expected) ** 2)))


def test_a_model_that_cannot_be_calibrated_is_kept_in_fp32(
    small_config: TrainingConfig,
    datasets: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training took hours, and its result must not be lost."""
    monkeypatch.setattr("subpixel.training.result.calibration_planes", lambda *arguments: [])
    model = random_model(espcn(3))
    assert with_int8_layers(model, small_config, datasets) is model
    assert "gets no int8 layers: " in caplog.text


def test_the_train_command(datasets: Path, tmp_path: Path) -> None:
    changes = {
        '["T91"]': '["photos"]',
        '"BSDS500/train"': '"the same"',
        '["Set5", "Set14", "BSDS500/val"]': '["photos"]',
        "batches_per_epoch = 200": "batches_per_epoch = 2",
        "max_epochs = 220": "max_epochs = 5",
        "fp32_epochs = 20": "fp32_epochs = 1",
        "side_px = 40": "side_px = 20",
    }
    config = changed_config("espcn-t91-x3", changes, tmp_path / "tiny.toml")
    command = [
        "train",
        str(config),
        "--datasets",
        str(datasets),
        "-o",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{number}/5" for number in range(1, 6)]
    assert "dB" in lines[-1] and "dB" not in lines[0], "validated every 5 epochs and at the end"
    model = load_model(tmp_path / "run" / "espcn-t91-x3.safetensors")
    assert model.metadata.config == "tiny.toml"
    assert model.metadata.config_commit == "uncommitted"
    assert 20 < model.metadata.psnr_db["photos"] < 40
    assert model.metadata.calibration.startswith("photos, ")
    lr = photo(40, 50)[..., 0]
    assert psnr_of_8_bits(NumpyEngine(model, precision="int8")(lr), NumpyEngine(model)(lr)) > 35
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--resume" in again.stderr
    small = tmp_path / "run" / "unfinished.safetensors"
    elsewhere = [*command[:4], "-o", str(tmp_path / "elsewhere"), "--resume-from", str(small)]
    result = CliRunner().invoke(app, elsewhere)
    assert result.exit_code == 0 and "after epoch 5" in result.stderr
    missing = CliRunner().invoke(
        app, [*command[:2], "--datasets", str(tmp_path), "-o", str(tmp_path / "other")]
    )
    assert missing.exit_code == 1 and "no such folder" in missing.stderr
    assert not (tmp_path / "other").exists()
