"""Model files: a saved model is read back, and invalid files are refused with the reason."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from subpixel import Convolution, Model, ModelError, ModelMetadata, ModelSpec, load_model
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn, srcnn
from training_configs import CONFIGS


def random_model(spec: ModelSpec, seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    weights = {key: rng.normal(0, 0.1, shape).astype(np.float32) for key, shape in spec.shapes().items()}
    metadata = ModelMetadata(version="7", training_data="noise", psnr_db={"Set5": 12.5}, license="MIT")
    return Model("random", spec, weights, metadata)


def test_a_saved_model_is_loaded(tmp_path: Path) -> None:
    layers = (Convolution(3, 5, 9, "prelu"), Convolution(5, 12, 1))
    model = random_model(ModelSpec(2, layers, channels=3, residual="nearest"))
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert (loaded.name, loaded.spec, loaded.metadata) == (model.name, model.spec, model.metadata)
    assert loaded.weights.keys() == model.weights.keys()
    assert all(np.array_equal(loaded.weights[key], model.weights[key]) for key in model.weights)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_half_precision_makes_the_file_smaller_and_loses_nothing_else(tmp_path: Path) -> None:
    model = packaged.find("espcn-t91-x2")
    halved = model.in_half_precision()
    for key, array in model.weights.items():
        assert halved.weights[key].dtype == np.float32
        np.testing.assert_allclose(halved.weights[key], array, rtol=2**-11, atol=2**-25)
        assert not np.array_equal(halved.weights[key], array)
    sizes = []
    for one, dtype in ((model, np.float32), (halved, np.float16)):
        path = tmp_path / "m.safetensors"
        one.save(path)
        sizes.append(path.stat().st_size)
        assert load_file(path)["layers.1.weight"].dtype == dtype
        assert load_file(path)["quantised.1.weight_scale"].dtype == np.float32
        loaded = load_model(path)
        assert loaded.digest() == one.digest(), "equal to the bit"
        assert loaded.quantized
    assert sizes[0] - sizes[1] == pytest.approx(2 * model.spec.parameters, abs=200)


def test_weights_too_large_for_half_precision() -> None:
    model = random_model(espcn(2))
    large = {**model.weights, "layers.0.bias": np.full(64, 1e5, np.float32)}
    with pytest.raises(ModelError, match=r"layers\.0\.bias contains NaN or infinity"):
        replace(model, weights=large).in_half_precision()


def test_weights_cannot_be_changed() -> None:
    model = random_model(espcn(2))
    with pytest.raises(ValueError, match="read-only"):
        model.weights["layers.0.bias"][0] = 1


def test_the_papers_network() -> None:
    """Counts from section 3.2: 5x5x1x64 + 3x3x64x32 + 3x3x32x9 weights, and a bias for each output."""
    network = espcn(3)
    assert [(layer.kernel, layer.outputs, layer.activation) for layer in network.layers] == [
        (5, 64, "tanh"),
        (3, 32, "tanh"),
        (3, 9, "none"),
    ]
    assert network.macs_per_lr_pixel == 1600 + 18432 + 2592
    assert network.parameters == 1600 + 18432 + 2592 + 64 + 32 + 9
    assert network.halo_px == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, scale=9), "scale must be 1 to 8"),
        (lambda d: replace(d, scale=2), "a shuffle by 2 needs 4"),
        (lambda d: replace(d, channels=2), "layer 0 takes 1 channels but is given 2"),
        (lambda d: replace(d, layers=()), "at least one convolution"),
        (lambda d: replace(d, residual="bilinear"), "unknown residual 'bilinear'; known: none, nearest"),
        (lambda d: replace(d, layers=(Convolution(1, 9, 4),)), "kernel's side must be odd, not 4"),
        (lambda d: replace(d, layers=(Convolution(1, 9, 3, "swish"),)), "unknown activation 'swish'"),
    ],
)
def test_invalid_specs_are_refused(change: Callable[[ModelSpec], ModelSpec], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        change(espcn(3))


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        (
            "layers.1.weight",
            np.zeros((32, 64, 3, 5), np.float32),
            r"layers.1.weight has shape \(32, 64, 3, 5\)",
        ),
        ("layers.1.weight", np.zeros((32, 64, 3, 3)), "layers.1.weight is float64, expected float32"),
        ("layers.0.bias", np.full(64, np.nan, np.float32), "layers.0.bias contains NaN or infinity"),
        ("layers.0.bias", np.full(64, -np.inf, np.float32), "layers.0.bias contains NaN or infinity"),
        ("layers.2.bias", None, "weights missing: layers.2.bias"),
        ("layers.3.bias", np.zeros(1, np.float32), "does not have: layers.3.bias"),
    ],
)
def test_wrong_weights_are_refused(tmp_path: Path, key: str, array: np.ndarray | None, message: str) -> None:
    path = tmp_path / "m.safetensors"
    random_model(espcn(3)).save(path)
    weights = load_file(path)
    if array is None:
        del weights[key]
    else:
        weights[key] = array
    save_file(weights, path, metadata_of(path))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def metadata_of(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("format", lambda _: "subpixel-model-99", "its format is 'subpixel-model-99'"),
        ("description", lambda d: json.dumps(json.loads(d) | {"dilation": 2}), "unknown dilation"),
        ("description", lambda d: json.dumps(json.loads(d) | {"scale": "3"}), "scale must be int, not '3'"),
        ("description", lambda d: json.dumps(json.loads(d) | {"scale": True}), "scale must be int, not True"),
        (
            "description",
            lambda d: json.dumps(json.loads(d) | {"layers": [1]}),
            "layer 0 is int, not an object",
        ),
        ("description", lambda d: d[:-5], "its metadata is damaged"),
        ("facts", lambda d: "[]", "its metadata is damaged"),
    ],
)
def test_wrong_metadata_is_refused(
    tmp_path: Path, field: str, change: Callable[[Any], str], message: str
) -> None:
    path = tmp_path / "m.safetensors"
    random_model(espcn(3)).save(path)
    metadata = metadata_of(path)
    metadata[field] = change(metadata[field])
    save_file(load_file(path), path, metadata)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelError, match="not a Subpixel model: its format is 'not stated'"):
        load_model(path)


@pytest.mark.parametrize("length", [0, 7, 100, 20000])
def test_truncated_files_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    random_model(espcn(3)).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"not a readable \.safetensors file"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such model file"):
        load_model(tmp_path / "gone.safetensors")
    with pytest.raises(ModelError):
        load_model(tmp_path)


@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_are_complete(name: str) -> None:
    model = packaged.find(name)
    assert model.name == name
    assert name.endswith(f"-x{model.scale}")
    assert {"Set5", "Set14"} <= model.metadata.psnr_db.keys()
    for value in asdict(model.metadata).values():
        assert value
    assert len(model.metadata.config_commit) == 40
    assert (CONFIGS / model.metadata.config).is_file()


def test_the_packaged_models_together_are_small() -> None:
    folder = Path(str(packaged.__file__)).parent / "weights"
    files = list(folder.glob("*.safetensors"))
    assert len(files) == len(packaged.names())
    assert sum(file.stat().st_size for file in files) < 3_000_000


def test_finding_models() -> None:
    for scale in (2, 3, 4):
        assert packaged.find(scale=scale).name == f"default-x{scale}"
        assert packaged.find(scale=scale, content="compressed").name == f"default-compressed-x{scale}"
    assert packaged.find("espcn-t91", scale=4).scale == 4
    with pytest.raises(
        ModelError,
        match=r"'espcn-t92'; packaged: best, best-.*, video, video-.*\. Did you mean 'espcn-t91'\? Or pass",
    ):
        packaged.find("espcn-t92")
    for name, similar in [("vidoe", "video"), ("Video", "video"), ("bets-x3", "best-x3")]:
        with pytest.raises(ModelError, match=f"Did you mean {similar!r}"):
            packaged.find(name)
    with pytest.raises(ModelError, match=r"video-compressed\. Or pass the path of a file of your own$"):
        packaged.find("zzz")
    with pytest.raises(ModelError, match="upscales x3, not x2"):
        packaged.find("espcn-t91-x3", scale=2)
    for scale in (1, 5, 7):
        with pytest.raises(ModelError, match=f"^no packaged model upscales x{scale}, only x2, x3 and x4$"):
            packaged.find(scale=scale)
    with pytest.raises(ModelError, match=r"^model fast is packaged for x2, x3 and x4, not for x5$"):
        packaged.find("fast", scale=5)
    with pytest.raises(ModelError, match=r"^model espcn-relu-t91 is packaged for x3, not for x2$"):
        packaged.find("espcn-relu-t91", scale=2)
    with pytest.raises(
        ModelError, match=r"^model espcn-relu-t91 is packaged for x3, and x2 is the default: pass a scale$"
    ):
        packaged.find("espcn-relu-t91")
    assert packaged.find("fast").name == "fast-x2"
    with pytest.raises(ModelError, match="pass the name of a model, or a scale"):
        packaged.find()
    with pytest.raises(ValueError, match="unknown content 'dirty'; known: clean, compressed"):
        packaged.find(scale=2, content="dirty")


def test_a_model_of_your_own_is_found_by_its_path(tmp_path: Path) -> None:
    random_model(espcn(2)).save(tmp_path / "mine.safetensors")
    assert packaged.find(str(tmp_path / "mine.safetensors"), scale=2).name == "random"


def test_a_network_after_bicubic_upsampling() -> None:
    spec = srcnn(3)
    assert (spec.shuffle, spec.radius_px, spec.halo_px) == (1, 4 + 2 + 2, 3 + 2)
    assert spec.macs_per_lr_pixel == 9 * (81 * 64 + 25 * 64 * 32 + 25 * 32)
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    # Files of older versions do not contain the field, and older versions can read files without it.
    assert "enlargement" not in espcn(3).to_json()
    assert ModelSpec.from_json(json.loads(json.dumps(espcn(3).to_json()))) == espcn(3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upsampling": "nearest"}, "unknown upsampling 'nearest'; known: shuffle, bicubic"),
        ({"upsampling": "bicubic", "residual": "nearest"}, "a residual needs upsampling by shuffle"),
        ({"upsampling": "shuffle"}, "a shuffle by 3 needs 9"),
    ],
)
def test_invalid_upsampling(changes, words) -> None:
    with pytest.raises(ModelError, match=words):
        replace(srcnn(3), **changes)


def test_the_old_name_of_the_config() -> None:
    metadata = ModelMetadata(config="a.toml")
    with pytest.warns(DeprecationWarning, match=r"now ModelMetadata\.config"):
        assert metadata.recipe == "a.toml"
    assert metadata.to_json()["recipe"] == "a.toml"
    assert ModelMetadata.from_json(metadata.to_json()) == metadata
