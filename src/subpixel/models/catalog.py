"""The packaged models, found by name or by scale. Needs no network access."""

import difflib
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from subpixel.errors import ModelError
from subpixel.files import is_file
from subpixel.models.file import open_tensors
from subpixel.models.history import without_history
from subpixel.models.model import Model, load_model

DEFAULT_NETWORKS: dict[str, str] = {"clean": "default", "compressed": "default-compressed"}
"""The network if only a scale is given, for clean input and for input compressed as JPEG or video.

A model's name is the network's name, a hyphen and ``x<scale>``.
"""

DEFAULT_SCALE = 2
"""The scale if neither the caller nor the model's name states one."""

TNRD_FORMAT = "subpixel-tnrd-1"
FRAMES_FORMAT = "subpixel-frames"
"""The format that a TNRD's file states."""

_FOLDER = files("subpixel") / "models" / "weights"


def names() -> list[str]:
    """Return the names of the packaged models for single images, sorted."""
    return _names(_FOLDER)


def video_names() -> list[str]:
    """Return the names of the packaged models for video, sorted. Their base upscales single images."""
    return _names(_FOLDER / "video")


def paper_names() -> list[str]:
    """Return the names of the paper's systems, sorted. They are packaged for measurements, not for use.

    `find` does not find those whose names begin with ``tnrd``; see `tnrd_file`.
    """
    return _names(_FOLDER / "paper")


def path(name: str) -> Path | None:
    """Return the file of a packaged model or system; None if there is no such name."""
    for folder in (_FOLDER, _FOLDER / "video", _FOLDER / "paper"):
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
    """Return the file of a TNRD by its path or name (``"tnrd-large-x3"``, ``"tnrd-large"``), otherwise None.

    A TNRD is not a `Model`: `subpixel.engines.tnrd` runs it with PyTorch, for comparisons.
    """
    if name.endswith(".safetensors"):
        return Path(name) if _format(name) == TNRD_FORMAT else None
    return (path(name) or path(f"{name}-x{scale}")) if name.startswith("tnrd") else None


def frames_file(name: str) -> Path | None:
    """Return the file of a network over several frames by its path, otherwise None; only PyTorch runs it."""
    return Path(name) if name.endswith(".safetensors") and _format(name) == FRAMES_FORMAT else None


def _format(name: str) -> str | None:
    """The format in the header of a file; None if it has none, or is damaged, which `load_model` reports."""
    try:
        with open_tensors(Path(name)) as file:
            return file.metadata.get("format")
    except ModelError:
        return None


def find(name: str | None = None, *, scale: int | None = None, content: str = "clean") -> Model:
    """Find a model: a packaged one by name, any model by the path of its file, or the default for a scale.

    Args:
        name: such as ``"espcn-t91-x3"``, or the path of a ``.safetensors`` file. A name without a scale
            (``"espcn-t91"``) selects the model for ``scale``, or for `DEFAULT_SCALE`.
        scale: the factor that the model must have.
        content: selects the default, a key of `DEFAULT_NETWORKS`; has no effect if there is a name.

    Raises:
        ValueError: unknown content.
        TypeError: the scale is not an integer, or the name not a string.
        ModelError: there is no such model, or it has another scale; the message lists what is available.
    """
    if name is None and scale is None:
        raise ModelError("pass the name of a model, or a scale")
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
            f"model {model.name} upscales x{model.scale}, not x{scale}; omit the scale, or pass another model"
        )
    return model


def base_name(model: Model) -> str:
    """Return the packaged model for single images that is the base of a network for video; "" if none is."""
    base = without_history(model)
    same_scale = (name for name in names() if name.endswith(f"-x{model.scale}"))
    return next((name for name in same_scale if find(name) == base), "")


def described_base(model: Model) -> str:
    """Return how notes call the base of a network for video: ``"the base of video-x3, best-x3"``."""
    return ", ".join(filter(None, (f"the base of {model.name}", base_name(model))))


def scales(network: str) -> list[int]:
    """Return the scales at which a network such as ``"default"`` is packaged; empty if there are none."""
    return [scale for scale in range(1, 9) if path(f"{network}-x{scale}")]


def _not_found(name: str | None, network: str, scale: int | None) -> str:
    """The message for a model that does not exist: the reason, and the available models."""
    if not (known := scales(network)):
        return _unknown(network)
    available = _joined([f"x{each}" for each in known])
    if name is None:
        return f"no packaged model upscales x{scale}, only {available}"
    if scale is None:
        return (
            f"model {network} is packaged for {available}, and x{DEFAULT_SCALE} is the default: pass a scale"
        )
    return f"model {network} is packaged for {available}, not for x{scale}"


def _unknown(network: str) -> str:
    """The message for a name that no packaged model has, at any scale: similar ones, and all in short."""
    full = [*names(), *video_names()]
    short = sorted({name.rpartition("-x")[0] for name in full})
    known = full if re.search(r"-x\d+$", network) else short
    similar = difflib.get_close_matches(network.lower(), known, n=1)
    question = f" Did you mean {similar[0]!r}?" if similar else ""
    listed = ", ".join(short) or "none"
    return (
        f"no packaged model {network!r}; packaged: {listed}.{question} Or pass the path of a file of your own"
    )


def _joined(words: list[str]) -> str:
    """Join one or more words with commas and "and"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
