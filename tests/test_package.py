"""The import of the package is fast, and offers the public names."""

import json
import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
import pytest

import subpixel

PUBLIC = [
    "ClusterError",
    "Comparison",
    "ConfigError",
    "Convolution",
    "DatasetError",
    "ModelSpec",
    "EncoderError",
    "EngineError",
    "ModelMetadata",
    "ImageTooLarge",
    "ImageResult",
    "VideoResult",
    "Progress",
    "InputError",
    "Model",
    "ModelError",
    "OutputError",
    "OutputExists",
    "OutputIsInput",
    "SubpixelError",
    "UnreadableImage",
    "UnreadableVideo",
    "UnsupportedImage",
    "UnsupportedVideo",
    "Upscaler",
    "available_models",
    "compare",
    "load",
    "load_model",
    "upscale_image",
    "upscale_video",
]

HEAVY = ("torch", "av", "onnxruntime", "onnx", "PIL", "numpy", "matplotlib", "skimage", "rich", "typer")


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph("subpixel", exclude_type_checking_imports=True, cache_dir=None)
    # The package imports its public names at their first use.
    modules = graph.modules - {"subpixel"}
    imports = {module: graph.find_modules_directly_imported_by(module) & modules for module in modules}
    TopologicalSorter(imports).prepare()  # raises CycleError


def test_the_import_is_fast() -> None:
    # These modules take the time, which a test cannot assert.
    assert not modules_after("import subpixel") & set(HEAVY)


def test_the_help_of_the_command_is_fast() -> None:
    assert not modules_after("import subpixel.cli") & (set(HEAVY) - {"typer", "rich"})


def test_the_library_does_not_import_torch() -> None:
    statement = "import subpixel; subpixel.load(scale=3); import subpixel.cli"
    assert not modules_after(statement) & {"torch", "av", "matplotlib", "skimage"}


def test_public_names() -> None:
    assert sorted(subpixel.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(subpixel, name).__name__ == name
    assert set(PUBLIC) <= set(dir(subpixel))


def test_old_names_still_work_with_a_warning() -> None:
    for old, new in (("Description", "ModelSpec"), ("Facts", "ModelMetadata")):
        with pytest.warns(DeprecationWarning, match=f"is now subpixel.{new}"):
            assert getattr(subpixel, old) is getattr(subpixel, new)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'upscale'"):
        _ = subpixel.upscale  # type: ignore[attr-defined]


def test_all_exceptions_have_one_base_class() -> None:
    errors = [getattr(subpixel, name) for name in PUBLIC if isinstance(getattr(subpixel, name), type)]
    errors = [kind for kind in errors if issubclass(kind, Exception)]
    assert len(errors) == 16
    assert all(issubclass(kind, subpixel.SubpixelError) for kind in errors)
