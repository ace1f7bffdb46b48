import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from image_files import picture
from random_models import odd_description, random_model
from subpixel.cli import app
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnx_graph import export
from subpixel.errors import OutputError, OutputExists
from subpixel.models import catalog as packaged
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.networks import espcn
from subpixel.upscaler import load


@pytest.fixture
def model():
    plain = random_model(espcn(3))
    metadata = ModelMetadata(version="2", license="MIT", psnr_db={"Set5": 32.5}, training_data="T91")
    return Model("espcn-test-x3", plain.spec, plain.weights, metadata)


def run_bare(path, batch):
    """Run an exported file as a stranger would, without any of our code."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"lr": batch})[0]


@pytest.mark.parametrize("seed", range(12))
def test_file_agrees_with_the_oracle(tmp_path, seed):
    model = random_model(odd_description(seed), seed)
    path = tmp_path / "model.onnx"
    export(model, path)
    oracle = NumpyEngine(model)
    for height, width in [(1, 1), (5, 8)]:
        shape = (2, model.spec.channels, height, width)
        batch = np.random.default_rng(seed).random(shape, np.float32)
        hr = run_bare(path, batch)
        assert hr.dtype == np.float32
        np.testing.assert_allclose(hr, np.stack([oracle(lr) for lr in batch]), rtol=0, atol=1e-5)


def test_file_describes_itself(tmp_path, model):
    path = tmp_path / "model.onnx"
    export(model, path)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == "subpixel"
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 13)]
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    spec = json.loads(properties.pop("description"))
    assert spec == json.loads(json.dumps(model.spec.to_json()))
    assert properties == {
        "name": "espcn-test-x3",
        "scale": "3",
        "halo_px": "4",
        "version": "2",
        "license": "MIT",
        "psnr_db": '{"Set5": 32.5}',
        "training_data": "T91",
    }
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("lr", ["N", 1, "H", "W"])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("hr", ["N", 1, "3*H", "3*W"])]


PAGE = Path(__file__).parents[1] / "docs" / "export.md"


@pytest.mark.parametrize("name", ["espcn-t91-x3", "default-x2", "fast-x4"])
def test_the_page_says_how_to_get_what_subpixel_gives(tmp_path, monkeypatch, name):
    """Its code runs as it stands, and gives the very picture of `subpixel upscale --precision fp32`."""
    monkeypatch.chdir(tmp_path)
    export(packaged.find(name), Path("model.onnx"))
    image = picture(bands=1)
    Image.fromarray(image).save("small.png")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    upscaler = load(name, precision="fp32", engine="onnxruntime")
    with Image.open("large.png") as made:
        np.testing.assert_array_equal(np.asarray(made), upscaler(image))
    bare = run_bare("model.onnx", image[None, None] / np.float32(255))[0, 0] * 255
    assert abs(bare - upscaler(image)).max() > 1, "the edge matters"


def test_existing_file_is_kept_unless_told(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_text("precious")
    with pytest.raises(OutputExists, match="exists already"):
        export(model, path)
    assert path.read_text() == "precious"
    export(model, path, overwrite=True)
    onnx.checker.check_model(onnx.load(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_unwritable_place(tmp_path, model):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write there"):
        export(model, tmp_path / "file" / "model.onnx")


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_command_writes_the_same_graph(tmp_path, model, run):
    model.save(tmp_path / "model.safetensors")
    result = run(tmp_path / "model.safetensors", "-o", tmp_path / "a.onnx")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == f"wrote {tmp_path / 'a.onnx'}\n"
    export(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_command_refuses_an_existing_file(tmp_path, model, run):
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "a.onnx").write_text("precious")
    arguments = (tmp_path / "model.safetensors", "-o", tmp_path / "a.onnx")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert (tmp_path / "a.onnx").read_text() == "precious"
    assert run(*arguments, "--overwrite").exit_code == 0
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))


def test_command_names_an_unknown_model(tmp_path, run):
    result = run("no-such-model", "-o", tmp_path / "a.onnx")
    assert result.exit_code == 2
    assert "no-such-model" in result.stderr
    assert not list(tmp_path.iterdir())


def test_command_takes_a_name_without_a_scale(tmp_path, run):
    assert run("fast", "-o", tmp_path / "a.onnx").exit_code == 0
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert (properties["name"], properties["scale"]) == ("fast-x2", "2")


def test_command_never_writes_over_the_model(tmp_path, model, run):
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    assert run(path, "-o", path, "--overwrite").exit_code == 2
    assert path.read_bytes() == before
