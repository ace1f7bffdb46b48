"""What importing the package costs and offers."""

import json
import subprocess
import sys

import pytest

import subpixel

PUBLIC = [
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


def test_importing_is_cheap() -> None:
    # Time is not asserted; what costs time is loading these.
    assert not modules_after("import subpixel") & set(HEAVY)


def test_the_library_does_without_torch() -> None:
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


def test_the_errors_are_one_tree() -> None:
    errors = [getattr(subpixel, name) for name in PUBLIC if isinstance(getattr(subpixel, name), type)]
    errors = [kind for kind in errors if issubclass(kind, Exception)]
    assert len(errors) == 15
    assert all(issubclass(kind, subpixel.SubpixelError) for kind in errors)
