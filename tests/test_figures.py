"""Figures of the paper: the files that the command writes, and the numbers that they show."""

import json
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from interpolating import bicubic_model
from random_models import random_model
from subpixel.cli import app
from subpixel.evaluation import figures
from subpixel.evaluation.methods import bicubic_method, find_method
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn, srcnn
from subpixel.ops.resize import imresize

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("camera", "astronaut", "coffee"):
        Image.fromarray(imresize(getattr(skimage.data, name)(), 1 / 4)).save(folder / f"{name}.png")
    return folder


def images(figure):
    """The arrays shown in a figure, in order."""
    return [image.get_array() for axes in figure.axes for image in axes.get_images()]


def test_filters_of_the_first_layer():
    model = packaged.find("espcn-t91-x3")
    shown = images(figures.first_layer(model))
    weights = model.weights["layers.0.weight"][:, 0]
    assert len(shown) == 64
    strengths = [np.abs(filter_).sum() for filter_ in shown]
    assert strengths == sorted(strengths, reverse=True)
    np.testing.assert_array_equal(shown[0], weights[np.abs(weights).sum((1, 2)).argmax()])


def test_filters_of_the_last_layer_are_in_hr_space():
    """Those of bicubic are one smooth kernel of 15 x 15 after the shuffle."""
    (kernel,) = images(figures.last_layer(bicubic_model(3)))
    assert kernel.shape == (15, 15)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == (7, 7)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(kernel.sum(), 9, atol=1e-5)
    shown = images(figures.last_layer(random_model(espcn(3))))
    assert len(shown) == 32 and shown[0].shape == (9, 9)
    assert images(figures.last_layer(random_model(srcnn(3))))[0].shape == (5, 5)


@pytest.mark.parametrize(("scale", "side"), [(2, 4), (3, 6), (2, 6)])
def test_every_weight_of_the_kernel_is_in_one_filter(scale, side):
    figure = figures.equivalence(scale, side)
    kernel, *filters = ([int(text.get_text()) for text in axes.texts] for axes in figure.axes)
    assert kernel == list(range(side**2))
    assert sorted(number for filter_ in filters for number in filter_) == kernel
    assert len(filters) == scale**2


def test_crops_show_their_psnr(photos):
    compared = [bicubic_method(3), find_method("espcn-relu-t91-x3", engine="numpy")]
    figure = figures.crops(photos, compared, count=2, side_px=60)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    bicubic, model = (float(titles[index].split("\n")[1].removesuffix(" dB")) for index in (1, 2))
    assert model > bicubic + 0.3
    assert all(image.shape == (60, 60) for image in images(figure))


def test_quality_against_time(photos):
    compared = [bicubic_method(3), find_method("espcn-relu-t91-x3", engine="numpy")]
    figure, shown = figures.quality_against_time(photos, compared)
    assert [row["method"] for row in shown] == ["bicubic", "espcn-relu-t91-x3"]
    assert shown[1]["psnr_db"] > shown[0]["psnr_db"] + 0.3
    assert all(row["milliseconds"] > 0 for row in shown)
    assert len(figure.axes[0].lines) == 2


def test_the_command_writes_all_figures(photos, tmp_path):
    output = tmp_path / "figures"
    models = ["-m", "bicubic", "-m", "espcn-t91-x3"]  # bicubic is always included, once
    arguments = ["figures", "-o", str(output), *models, "--dataset", str(photos)]
    result = CliRunner().invoke(app, [*arguments, "--engine", "numpy"])
    assert result.exit_code == 0, result.output
    names = {path.name for path in output.iterdir()}
    assert names == {
        "equivalence.png",
        "filters-first-espcn-t91-x3.png",
        "filters-last-espcn-t91-x3.png",
        "crops.png",
        "quality.png",
        "quality.json",
    }
    for path in output.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 4
    assert len(json.loads((output / "quality.json").read_text())) == 2
    again = CliRunner().invoke(app, [*arguments, "--engine", "numpy"])
    assert again.exit_code == 1
    assert "exists already; pass --overwrite" in again.stderr


def test_bicubic_alone_is_wrong_usage(tmp_path):
    result = CliRunner().invoke(app, ["figures", "-o", str(tmp_path / "a"), "-m", "bicubic"])
    assert result.exit_code == 2
    assert "name a network with -m" in result.stderr


def test_without_matplotlib_the_error_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["figures", "-o", str(tmp_path / "a")])
    assert result.exit_code == 1
    assert "pip install matplotlib" in result.stderr
    assert not (tmp_path / "a").exists()


def test_wrong_usage(tmp_path):
    result = CliRunner().invoke(app, ["figures", "-o", str(tmp_path / "f"), "-s", "7"])
    assert result.exit_code == 2
    assert "no packaged model upscales x7, only x2, x3 and x4" in result.stderr
    cheap = ["-m", "fast-x3", "--engine", "numpy", "--dataset", str(tmp_path)]
    result = CliRunner().invoke(app, ["figures", "-o", str(tmp_path / "f"), *cheap])
    assert result.exit_code == 1
    assert "contains no images" in result.stderr
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "small.png")
    result = CliRunner().invoke(app, ["figures", "-o", str(tmp_path / "g"), *cheap])
    assert result.exit_code == 1
    assert "contains no image of at least 90x90 pixels" in result.stderr
