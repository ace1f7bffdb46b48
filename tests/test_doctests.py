"""The examples in docstrings run, and every public function and class has one."""

import doctest
import importlib

import pytest
from PIL import Image

import subpixel
from image_files import smooth_image
from subpixel.models.catalog import find
from video_files import make_frames, write

MODULES = [
    "subpixel",
    "subpixel.comparison.compare",
    "subpixel.images.upscale",
    "subpixel.models.model",
    "subpixel.models.spec",
    "subpixel.results",
    "subpixel.loading",
    "subpixel.upscaler",
    "subpixel.video.upscale",
]
WITHOUT = {"Convolution", "ModelMetadata"}
"""Plain records; the examples of `ModelSpec` and `Model` show them."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the files that the examples name."""
    Image.fromarray(smooth_image(40, 48)).save(tmp_path / "small.png")
    write(tmp_path / "film.mp4", make_frames(3, 48, 40))
    find("default-x2").save(tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(module):
    """The examples of names that the module itself defines."""
    return [test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, folder, monkeypatch):
    monkeypatch.setattr("subpixel.engines.select.ENGINES", ("numpy",))  # compiles nothing
    importlib.import_module("subpixel.selection")._load_cached.cache_clear()
    for test in examples(module):
        for path in folder.glob("*large.*"):
            path.unlink()
        output = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=output.append)
        assert result.failed == 0, "".join(output)
    importlib.import_module("subpixel.selection")._load_cached.cache_clear()


def test_every_public_name_has_an_example():
    shown = {test.name.rpartition(".")[2] for module in MODULES for test in examples(module)}
    errors = {name for name in subpixel.__all__ if name.endswith(("Error", "Image", "Video"))}
    errors |= {"ImageTooLarge", "OutputExists", "OutputIsInput"}
    assert set(subpixel.__all__) - errors - WITHOUT <= shown
