import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from image_files import smooth_image
from random_models import random_model, random_spec
from subpixel.cli import app
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnx_file import Graph
from subpixel.engines.onnx_graph import export
from subpixel.errors import OutputError, OutputExists
from subpixel.loading import load
from subpixel.models import catalog as packaged
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.networks import espcn


@pytest.fixture
def model():
    plain = random_model(espcn(3))
    metadata = ModelMetadata(
        version="2", license="MIT", psnr_db={"Set5": 32.5}, training_data="T91", config="a.toml"
    )
    return Model("espcn-test-x3", plain.spec, plain.weights, metadata)


def run_bare(path, batch):
    """Run an exported file without any code of Subpixel."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"lr": batch})[0]


@pytest.mark.parametrize("seed", range(12))
def test_file_agrees_with_the_numpy_engine(tmp_path, seed):
    model = random_model(random_spec(seed), seed)
    path = tmp_path / "model.onnx"
    export(model, path)
    onnx.checker.check_model(path, full_check=True)
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
    assert proto.SerializeToString(deterministic=True) == path.read_bytes()
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
        "recipe": "a.toml",
    }
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("lr", ["N", 1, "H", "W"])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("hr", ["N", 1, "3*H", "3*W"])]


PAGE = Path(__file__).parents[1] / "docs" / "export.md"


@pytest.mark.parametrize("name", ["espcn-t91-x3", "default-x2", "fast-x4"])
def test_the_code_on_the_page_gives_the_result_of_subpixel(tmp_path, monkeypatch, name):
    """The code runs unchanged, and gives the result of `subpixel upscale --precision fp32`."""
    monkeypatch.chdir(tmp_path)
    export(packaged.find(name), Path("model.onnx"))
    image = smooth_image(channels=1)
    Image.fromarray(image).save("small.png")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    upscaler = load(name, precision="fp32", engine="onnxruntime")
    with Image.open("large.png") as made:
        np.testing.assert_array_equal(np.asarray(made), upscaler(image))
    bare = run_bare("model.onnx", image[None, None] / np.float32(255))[0, 0] * 255
    assert abs(bare - upscaler(image)).max() > 1, "without padding, the border differs"


def test_constants_and_attributes_are_those_of_the_standard():
    """What the `onnx` package reads, for all kinds of values that a graph may contain."""
    graph = Graph()
    arrays = {
        "scalar": np.asarray(np.float32(-0.5)),
        "none": np.zeros((0, 3), np.int64),
        "bytes": np.arange(-4, 4, dtype=np.int8).reshape(2, 1, 4),
        "large": np.array([-(1 << 63), 1 << 62], ">i8").astype(np.int64),
        "strided": np.arange(300, dtype=np.uint8).reshape(20, 15)[::2, ::-1].T,
    }
    graph.constants.update(arrays)
    attributes = {"axis": -2, "alpha": 0.1, "mode": "läuft", "pads": [0, 127, 128, 1 << 40, -1], "empty": []}
    graph.add("Anything", ["lr", "", "scalar"], "hr", **attributes)
    proto = onnx.load_from_string(
        graph.encode("ä", lr_shape=("N", 300, "H", 7), scale=2, producer_version="9")
    )
    for tensor in proto.graph.initializer:
        got, wanted = onnx.numpy_helper.to_array(tensor), arrays.pop(tensor.name)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(got, wanted)
    assert not arrays
    (node,) = proto.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Anything", ["lr", "", "scalar"], ["hr"])
    read = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert read == attributes | {"alpha": np.float32(0.1), "mode": "läuft".encode()}
    assert (proto.graph.name, proto.ir_version, proto.producer_version) == ("ä", 7, "9")
    shapes = [value.type.tensor_type.shape.dim for value in (*proto.graph.input, *proto.graph.output)]
    assert [[size.dim_param or size.dim_value for size in shape] for shape in shapes] == [
        ["N", 300, "H", 7],
        ["N", 300, "2*H", 14],
    ]


def test_existing_file_is_kept_without_overwrite(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_text("precious")
    with pytest.raises(OutputExists, match="exists already"):
        export(model, path)
    assert path.read_text() == "precious"
    export(model, path, overwrite=True)
    onnx.checker.check_model(onnx.load(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_unwritable_folder(tmp_path, model):
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


def test_of_a_network_for_video_the_base_is_exported(tmp_path, run):
    result = run("video", "-s", 3, "-o", tmp_path / "a.onnx")
    assert f"note: {tmp_path / 'a.onnx'} is only the base of video-x3, best-x3: " in result.stderr
    video, best = (onnx.load(tmp_path / name) for name in ("a.onnx", export_best(tmp_path)))
    for nodes in (lambda graph: graph.node, lambda graph: graph.initializer):
        assert list(nodes(video.graph)) == list(nodes(best.graph))


def export_best(folder):
    export(packaged.find("best-x3"), folder / "best.onnx")
    return "best.onnx"


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


def test_unknown_model_is_named(tmp_path, run):
    result = run("no-such-model", "-o", tmp_path / "a.onnx")
    assert result.exit_code == 2
    assert "no-such-model" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "name"), [((), "fast-x2"), (("-s", "4"), "fast-x4")])
def test_command_takes_a_name_without_a_scale(tmp_path, run, options, name):
    assert run("fast", "-o", tmp_path / "a.onnx", *options).exit_code == 0
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert properties["name"] == name


def test_command_refuses_the_scale_of_another_model(tmp_path, run):
    result = run("fast-x2", "-o", tmp_path / "a.onnx", "--scale", "3")
    assert result.exit_code == 2
    assert "fast-x2" in result.stderr and "not x3" in result.stderr
    assert not list(tmp_path.iterdir())


def test_command_never_writes_over_the_model(tmp_path, model, run):
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    assert run(path, "-o", path, "--overwrite").exit_code == 2
    assert path.read_bytes() == before
