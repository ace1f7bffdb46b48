import json

import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.evaluation import protocol
from subpixel.models import catalog as packaged
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.spec import Convolution, ModelSpec


@pytest.fixture
def dataset(tmp_path):
    """A folder of two images, in the layout of Set5."""
    folder = tmp_path / "Set5"
    (folder / "HR").mkdir(parents=True)
    Image.fromarray(data.astronaut()[:61, 60:160]).save(folder / "HR" / "astronaut.png")
    Image.fromarray(data.camera()[150:210, 150:210]).save(folder / "HR" / "camera.png")
    return folder


@pytest.fixture
def model(tmp_path):
    """A network that repeats each pixel 3 x 3 times, and adds 2 to it."""
    weights = np.zeros((9, 1, 3, 3), np.float32)
    weights[:, 0, 1, 1] = 1
    arrays = {"layers.0.weight": weights, "layers.0.bias": np.full(9, 2 / 255, np.float32)}
    spec = ModelSpec(3, (Convolution(1, 9, 3),))
    file = tmp_path / "repeat.safetensors"
    Model("repeat-x3", spec, arrays).save(file)
    return file


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_json_is_the_documented_object(dataset, model):
    result = run("evaluate", dataset, "-m", model, "-s", 3, "--engine", "numpy", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert report.keys() == {
        *("dataset", "scale", "model", "engine", "precision", "degradation", "images", "mean", "published")
    }
    assert [report[key] for key in ("dataset", "scale", "model", "engine", "precision", "degradation")] == [
        *("Set5", 3, "repeat-x3", "numpy", "fp32", "bicubic")
    ]
    assert [image["name"] for image in report["images"]] == ["astronaut", "camera"]
    assert {"method": "Bicubic", "psnr_db": 30.39, "source": "ESPCN paper, table 2"} in report["published"]

    def repeat(plane):
        return np.kron(np.minimum(plane, 253), np.ones((3, 3), np.uint8)) + np.uint8(2)

    for image, file in zip(report["images"], protocol.find_images(dataset), strict=True):
        stored = protocol.read_image(file)
        expected = protocol.evaluate_image(stored, repeat, 3)
        baseline = protocol.evaluate_image(stored, protocol.bicubic(3), 3)
        assert image["psnr_db"] == expected.psnr_db
        assert image["ssim"] == expected.ssim
        assert image["bicubic_psnr_db"] == baseline.psnr_db
        assert image["bicubic_ssim"] == baseline.ssim
        assert image["psnr_db"] < image["bicubic_psnr_db"]
    for key in ("psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim"):
        values = [image[key] for image in report["images"]]
        assert report["mean"][key] == pytest.approx(sum(values) / 2)


def test_bicubic_as_the_model(dataset):
    result = run("evaluate", dataset, "-m", "bicubic", "-s", 4, "--json")
    report = json.loads(result.stdout)
    assert report["engine"] is None
    assert report["mean"]["psnr_db"] == report["mean"]["bicubic_psnr_db"]


def test_gaussian_reports_sigma_and_no_published_numbers(dataset, model):
    arguments = ("evaluate", dataset, "-m", model, "--engine", "numpy", "--degradation", "gaussian", "--json")
    report = json.loads(run(*arguments, "--sigma-px", 1.2).stdout)
    assert report["degradation"] == "gaussian"
    assert report["sigma_px"] == 1.2
    assert report["published"] == []
    plain = json.loads(run("evaluate", dataset, "-m", model, "--engine", "numpy", "--json").stdout)
    assert report["mean"]["psnr_db"] != plain["mean"]["psnr_db"]


def test_an_infinite_psnr_is_null_in_json(tmp_path):
    Image.new("L", (40, 40), 100).save(tmp_path / "flat.png")
    report = json.loads(run("evaluate", tmp_path, "-m", "bicubic", "-s", 2, "--json").stdout)
    assert report["dataset"] == tmp_path.name
    assert report["mean"]["psnr_db"] is None
    assert report["published"] == []


def test_tables(dataset, model):
    result = run("evaluate", dataset, "-m", model, "--engine", "numpy")
    assert result.exit_code == 0, result.stderr
    for words in ("repeat-x3 on Set5 x3", "astronaut", "mean", "numpy fp32", "ESPCN tanh (91)", "32.55"):
        assert words in result.stdout
    assert "bicubic SSIM" in result.stdout and "gain dB" in result.stdout


def test_bicubic_is_not_compared_with_itself(dataset):
    Image.new("L", (40, 40), 100).save(dataset / "HR" / "[red]flat.png")
    result = run("evaluate", dataset, "-m", "bicubic", "-s", 3)
    assert result.exit_code == 0, result.stderr
    assert "bicubic on Set5 x3" in result.stdout and "[red]flat" in result.stdout
    assert "gain" not in result.stdout and "bicubic dB" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("nowhere", "-m", "bicubic", "-s", 3), 1, "nowhere: no such folder"),
        (("SET", "-m", "no-such-network", "-s", 3), 2, "no packaged model"),
        (("SET", "-m", "nowhere.safetensors"), 2, "nowhere.safetensors"),
        (("SET", "-m", "MODEL", "-s", 2), 2, "upscales x3, not x2"),
        (("SET", "-m", "MODEL", "--engine", "abacus"), 2, "unknown engine"),
        (("SET", "-m", "MODEL", "--precision", "fp8"), 2, "unknown precision"),
        (("SET", "-m", "MODEL", "--threads", 0), 2, "--threads"),
        (("SET", "-m", "bicubic"), 2, "give a scale"),
        (("SET",), 2, "give a scale"),
        (("SET", "-m", "bicubic", "-s", 3, "--degradation", "gaussian"), 2, "needs a sigma"),
        (("SET", "-m", "bicubic", "-s", 3, "--degradation", "box"), 2, "unknown degradation"),
        (("SET", "-m", "bicubic", "-s", 9), 2, "--scale"),
    ],
)
def test_errors(dataset, model, arguments, exit_code, message):
    given = {"SET": dataset, "MODEL": model}
    result = run("evaluate", *(given.get(argument, argument) for argument in arguments))
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_models_of_three_channels_are_refused(dataset, tmp_path):
    spec = ModelSpec(2, (Convolution(3, 12, 1),), channels=3)
    arrays = {
        "layers.0.weight": np.zeros((12, 3, 1, 1), np.float32),
        "layers.0.bias": np.zeros(12, np.float32),
    }
    Model("color-x2", spec, arrays).save(tmp_path / "color.safetensors")
    result = run("evaluate", dataset, "-m", tmp_path / "color.safetensors")
    assert result.exit_code == 2
    assert "color-x2 has 3 channels" in result.stderr


def test_an_unreadable_image_stops_the_evaluation(dataset):
    (dataset / "HR" / "broken.png").write_bytes(b"not an image")
    result = run("evaluate", dataset, "-m", "bicubic", "-s", 3, "--json")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert result.stdout == ""  # a mean over the other images would be misleading


@pytest.fixture
def two_packaged(tmp_path, monkeypatch):
    weights = {
        "layers.0.weight": np.zeros((4, 1, 3, 3), np.float32),
        "layers.0.bias": np.zeros(4, np.float32),
    }
    spec = ModelSpec(2, (Convolution(1, 4, 3),))
    for name, metadata in {
        "espcn-relu-t91-x2": ModelMetadata(
            psnr_db={"Set5": 36.712, "Set14": 32.4, "BSD100": 31.3}, license="MIT"
        ),
        "second-x2": ModelMetadata(psnr_db={"Set5": 35.0}, license="CC0-1.0"),
    }.items():
        Model(name, spec, weights, metadata).save(tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(packaged, "names", lambda: ["espcn-relu-t91-x2"])
    monkeypatch.setattr(packaged, "video_names", lambda: ["second-x2"])
    find = packaged.find
    monkeypatch.setattr(packaged, "find", lambda name: find(str(tmp_path / f"{name}.safetensors")))


@pytest.mark.usefixtures("two_packaged")
def test_models_as_json():
    result = run("models", "--json")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["name"] == "espcn-relu-t91-x2"
    assert first["scale"] == 2
    assert first["parameters"] == 40
    assert first["macs_per_lr_pixel"] == 36
    assert first["psnr_db"] == {"Set5": 36.712, "Set14": 32.4, "BSD100": 31.3}
    assert second["license"] == "CC0-1.0"


@pytest.mark.usefixtures("two_packaged")
def test_models_as_a_table():
    result = run("models")
    assert result.exit_code == 0
    for words in ("espcn-relu-t91-x2", "second-x2", "36.71", "32.40", "35.00", "CC0-1.0", "x2", "40"):
        assert words in result.stdout
    assert "…" not in result.stdout  # fits 80 columns
