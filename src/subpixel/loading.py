"""Load a model, packaged or from a file, as an `Upscaler`."""

import os
import warnings
from pathlib import Path
from typing import Any, get_args

from subpixel.arguments import check_choice, check_integers, check_paths, check_shares, check_strings
from subpixel.engines.pixel_art import DEFAULT_RULE, PixelArtRule, find_rules
from subpixel.engines.select import check_engine
from subpixel.errors import ModelError
from subpixel.models import catalog
from subpixel.models.model import Model, load_model
from subpixel.options import EngineName, Precision, SourceKind
from subpixel.sizes import check_scale
from subpixel.upscaler import Upscaler


def available_models() -> list[str]:
    """Return the names of the packaged models, sorted.

    >>> import subpixel
    >>> "default-x3" in subpixel.available_models()
    True
    """
    return sorted([*catalog.names(), *catalog.video_names()])


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    scale: float | None = None,
    content: SourceKind | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    sharpness: float = 0.0,
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> Upscaler:
    """Load a model, and compile it for an engine.

    >>> import subpixel
    >>> subpixel.load("default", scale=3, engine="numpy", threads=2)
    <Upscaler default-x3: x3, numpy fp32, 2 threads>
    >>> subpixel.load("mine.safetensors").scale
    2

    Args:
        model: the name of a packaged model (``"default"``, ``"best-x3"``; see `available_models`), a rule for
            pixel art (``"nearest"`` or ``"epx"``), or the path of a model file. A string is a path if it ends
            in ``.safetensors``.
        scale: the factor per side, such as 3 or 1.5, up to 16; by default that of the model, or 2 where there
            are several. For a factor that no model has, see `Upscaler`.
        content: selects a packaged model instead of ``model``: ``"clean"``, the default, ``"compressed"`` for
            sources such as JPEGs and videos, or ``"pixel-art"``, which repeats pixels without a network.
        engine, precision, threads, sharpness: see `Upscaler`.
        path, name: the names of ``model`` until version 0.2; they are removed in 0.3.

    Raises:
        ModelError: there is no such model, or a packaged one has another scale than an integer ``scale``.
        EngineError: see `Upscaler`.
        ValueError: arguments that exclude each other, or an unknown value.
        TypeError: an argument of the wrong type.
    """
    model = _without_old_names(model, path=path, name=name)
    check_strings(content=content)
    check_engine(engine)
    check_choice(Precision, precision=precision)
    check_integers(threads=threads)
    check_scale(scale)
    check_shares(sharpness=sharpness)
    if content not in (None, *get_args(SourceKind)):
        known = ", ".join(get_args(SourceKind))
        raise ValueError(
            f"unknown content {content!r}; known: {known}. 'auto' classifies a file, so only upscale_image "
            "and upscale_video take it"
        )
    if model is not None and content is not None:
        raise ValueError("pass either a model or a content, not both")
    if isinstance(model, os.PathLike) or (model is not None and model.endswith(".safetensors")):
        models = [load_model(model)]
    elif rules := find_rules(DEFAULT_RULE if content == "pixel-art" else model or ""):
        if engine != "auto" or precision != "auto" or sharpness:
            raise ValueError(
                f"engine, precision and sharpness are for networks, and {rules[0].rule} is none; leave them "
                "out for pixel art"
            )
        return _pixel_art(rules, model, scale, threads)
    else:
        models = _packaged(model, scale, content or "clean")
    return Upscaler(models, engine, precision=precision, threads=threads, scale=scale, sharpness=sharpness)


def _pixel_art(
    rules: list[PixelArtRule],
    name: str | None,
    scale: float | None,
    threads: int | None,
) -> Upscaler:
    """Return an upscaler that uses a rule for pixel art. Raises ModelError for a scale that it lacks."""
    first = rules[0]
    if scale == 1:
        raise ModelError(f"{first.rule} upscales, and x1 keeps the size; pass a larger scale")
    if name == first.name and scale not in (None, first.scale):
        raise ModelError(
            f"model {name} upscales x{first.scale}, not x{scale:g}; omit the scale, or pass {first.rule}"
        )
    return Upscaler(rules, threads=threads, scale=scale)


def _packaged(name: str | None, scale: float | None, content: SourceKind) -> list[Model]:
    """Return the packaged models of a name, only one if the name includes a scale.

    Raises:
        ModelError: there is no such model, or none that was trained for a factor of 4 or less.
    """
    network = catalog.DEFAULT_NETWORKS[content] if name is None else name
    scales = catalog.scales(network)
    if scale is None:
        first = catalog.find(network, scale=scales[0] if len(scales) == 1 else None)
    elif scale == int(scale) and (not scales or scale <= max(scales)):
        first = catalog.find(name, scale=int(scale), content=content)
    else:
        first = catalog.find(network, scale=max(scales, default=None))
    return [first, *(catalog.find(network, scale=each) for each in scales if each != first.scale)]


def _without_old_names(model: Any, **old: Any) -> str | os.PathLike[str] | None:
    """Return the model that the caller names with ``model`` or with an argument of version 0.1."""
    for key, value in old.items():
        if value is None:
            continue
        warnings.warn(
            f"load({key}=...) is now load(...); the old argument is removed in version 0.3",
            DeprecationWarning,
            stacklevel=3,
        )
        if model is not None:
            raise ValueError(f"pass either a model or {key}, not both")
        check_paths(**{key: value})
        model = Path(value) if key == "path" else value
    if model is not None and not isinstance(model, str | os.PathLike):
        is_scale = isinstance(model, int) and not isinstance(model, bool)
        cure = f"; write load(scale={model})" if is_scale else ""
        raise TypeError(f"model must be a name or a path, not {model!r}{cure}")
    return model
