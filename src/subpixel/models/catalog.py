"""The models that ship inside the package, found by name or by scale, without any network access."""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from subpixel.errors import ModelError
from subpixel.files import is_file
from subpixel.models.file import open_tensors
from subpixel.models.model import Model, load_model

DEFAULT_NETWORKS = {"clean": "default", "compressed": "default-compressed"}
"""What enlarges when only a scale is asked for, by what became of the source before: nothing, or JPEG or a
film's compression. A model's name is its network's, a hyphen and ``x<scale>``."""

DEFAULT_SCALE = 2
"""The scale where neither a scale nor a model's name says which."""

TNRD_FORMAT = "subpixel-tnrd-1"
"""What the file of a TNRD says that it is."""

_FOLDER = files("subpixel") / "models" / "weights"


def names() -> list[str]:
    """The names of the packaged models, sorted."""
    return _names(_FOLDER)


def paper_names() -> list[str]:
    """The names of the systems that the paper compares, sorted: packaged too, but to be measured, not used.

    Those whose names begin with ``tnrd`` are none that `find` finds, see `tnrd_file`.
    """
    return _names(_FOLDER / "paper")


def path(name: str) -> Path | None:
    """The file of a packaged model or system; None where there is none of that name."""
    for folder in (_FOLDER, _FOLDER / "paper"):
        file = Path(str(folder / f"{name}.safetensors"))
        if is_file(file):
            return file
    return None


def _names(folder: Traversable) -> list[str]:
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in folder.iterdir()
        if entry.name.endswith(".safetensors")
    )


@cache
def _load(file: Path) -> Model:
    return load_model(file)


def tnrd_file(name: str, *, scale: int | None = None) -> Path | None:
    """The file of a TNRD, packaged (``"tnrd-large-x3"``, ``"tnrd-large"``) or by its path; None for all else.

    TNRD is no `Model`: `subpixel.training.tnrd` runs it, by PyTorch, to be compared with.
    """
    if name.endswith(".safetensors"):
        try:
            with open_tensors(Path(name)) as file:
                return Path(name) if file.metadata.get("format") == TNRD_FORMAT else None
        except ModelError:
            return None  # whoever reads it as a model says what is wrong
    return (path(name) or path(f"{name}-x{scale}")) if name.startswith("tnrd") else None


def find(name: str | None = None, *, scale: int | None = None, content: str = "clean") -> Model:
    """Find a model: a packaged one by name, any one by the path of its file, or the default for a scale.

    Args:
        name: such as ``"espcn-t91-x3"``, or the path of a ``.safetensors`` file. A name without a scale
            (``"espcn-t91"``) is that of the model for ``scale``, or for `DEFAULT_SCALE`.
        scale: the factor that the model must have.
        content: what the default is to be for, one of `DEFAULT_NETWORKS`; nothing where there is a name.

    Raises:
        ValueError: another content.
        TypeError: the scale is no whole number, or the name no string.
        ModelError: no such model, or its scale is another; the message lists what there is.
    """
    if name is None and scale is None:
        raise ModelError("name a model or a scale")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a model's name must be str, not {type(name).__name__}")
    if name == "":
        raise ModelError("a model's name is empty; leave it out for the default")
    if isinstance(scale, bool) or not isinstance(scale, int | np.integer | None):
        raise TypeError(f"scale must be a whole number, not {scale!r}")
    if name is not None and name.endswith(".safetensors"):
        model = load_model(name)
    else:
        if content not in DEFAULT_NETWORKS:
            raise ValueError(f"unknown content {content!r}; known: {', '.join(DEFAULT_NETWORKS)}")
        wanted = name or DEFAULT_NETWORKS[content]
        file = path(wanted) or path(f"{wanted}-x{DEFAULT_SCALE if scale is None else scale}")
        if file is None:
            raise ModelError(_not_found(name, wanted, scale))
        model = _load(file)
    if scale is not None and model.scale != scale:
        raise ModelError(
            f"model {model.name} enlarges x{model.scale}, not x{scale}; leave out the scale or pick another"
        )
    return model


def scales(network: str) -> list[int]:
    """The scales for which a network is packaged, such as ``"default"``; empty where there is none."""
    return [scale for scale in range(1, 9) if path(f"{network}-x{scale}")]


def _not_found(name: str | None, network: str, scale: int | None) -> str:
    """Why there is no such model, and what there is."""
    if not (known := scales(network)):
        listed = ", ".join(names()) or "none"
        return f"no packaged model {network!r}; packaged: {listed}. A file of your own is named by its path"
    there = enumerated([f"x{each}" for each in known])
    if name is None:
        return f"no packaged model enlarges x{scale}, only {there}"
    if scale is None:
        return f"model {network} is packaged for {there}, and x{DEFAULT_SCALE} is the default: give a scale"
    return f"model {network} is packaged for {there}, not for x{scale}"


def enumerated(words: list[str]) -> str:
    """Words as people list them; at least one."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
