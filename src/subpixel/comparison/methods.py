"""What a page compares: bicubic interpolation and models, each as an `Upscaler`."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subpixel.content import Content
from subpixel.models import catalog
from subpixel.models.model import Model, load_model
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.resize import bicubic_kernels
from subpixel.options import EngineName, Precision
from subpixel.selection import ModelOptions
from subpixel.upscaler import Upscaler
from subpixel.video.pipeline.history import has_history, missing_history

_EXAMPLE_PX = 8
"""A side of a frame: at an integer factor, its size does not change which models are needed."""


@dataclass(frozen=True)
class Method:
    """One way to upscale that a page shows."""

    name: str
    """Unique on the page."""
    upscaler: Upscaler
    note: str = ""
    """Why it is on the page, if the caller did not ask for it."""
    has_history: bool = False
    """Whether the frames before help: a network for video, on frames of a video."""
    warnings: tuple[str, ...] = ()
    """Why they do not help, though it is a network for video."""


@dataclass(frozen=True)
class EngineOptions:
    """How models run; see `subpixel.load`."""

    engine: EngineName = "auto"
    precision: Precision = "auto"
    threads: int | None = None


def find_methods(
    models: Sequence[str | os.PathLike[str]],
    scale: int | None,
    options: EngineOptions,
    classify: Callable[[], Content],
    *,
    is_video: bool = False,
) -> list[Method]:
    """Load bicubic and the models of a page.

    Args:
        models: names of packaged models or paths of model files. If empty, the page shows ``default`` and
            the model that ``content="auto"`` selects, which is often the same.
        scale: the factor of all models; by default that of the first model whose name or file has one.
        options: how they run.
        classify: classifies the input.
        is_video: whether the input has frames, of which networks for video see those before.

    Returns:
        Bicubic first, then the models in their order.

    Raises:
        ModelError, EngineError: a model is unknown, of another scale, or cannot run.
        ValueError: a model is given twice, or is bicubic, which every page shows.
    """
    if scale is None:
        scale = _scale_of(models)

    def load(model: str | os.PathLike[str] | None) -> tuple[Upscaler, Content | None]:
        selected = ModelOptions(
            model=model,
            scale=scale,
            engine=options.engine,
            precision=options.precision,
            threads=options.threads,
        ).select(classify)
        return selected.upscaler, selected.content

    methods: list[Method] = []
    if models:
        for model in models:
            if model == "bicubic":
                raise ValueError("bicubic is on every page; leave out -m bicubic (models)")
            upscaler, _ = load(model)
            if any(upscaler.model == known.upscaler.model for known in methods):
                raise ValueError(f"{os.fspath(model)}: this model is already on the page; name it once")
            methods.append(_method(upscaler, model, methods, is_video=is_video))
    else:
        default, _ = load("default")
        selected, content = load(None)
        assert content is not None
        methods.append(Method(_unique_name(default, "default", []), default, "the default of this scale"))
        if selected != default:
            why = f"selected for {content.kind} sources ({content.reason})"
            methods.append(Method(_unique_name(selected, "selected", methods), selected, why))
    bicubic = Upscaler(bicubic_model(scale), options.engine, threads=options.threads)
    return [Method("bicubic", bicubic), *methods]


def _method(
    upscaler: Upscaler, model: str | os.PathLike[str], others: Sequence[Method], *, is_video: bool
) -> Method:
    """A model that the caller asks for. Its name says if it is for video, but sees single frames."""
    if not is_video:
        return Method(_unique_name(upscaler, model, others), upscaler)
    side = _EXAMPLE_PX * int(upscaler.scale)
    upsampling = upscaler.family.upsampling((_EXAMPLE_PX, _EXAMPLE_PX), (side, side))
    warnings = missing_history(upscaler.family, upsampling)
    name = _unique_name(upscaler, model, others, " without history" if warnings else "")
    return Method(name, upscaler, has_history=has_history(upsampling), warnings=tuple(warnings))


def bicubic_model(scale: int) -> Model:
    """Return a network that computes `imresize` by ``scale``, except at the border.

    It needs the outermost pixels repeated around the image, which `upscale_strips` and `FrameUpscaler` do.
    So bicubic takes the same path as every other model, with the same handling of color and alpha.
    """
    kernels = bicubic_kernels(scale)[:, None].astype(np.float32)
    spec = ModelSpec(scale=scale, layers=(Convolution(1, scale**2, kernels.shape[-1]),))
    bias = np.zeros(scale**2, np.float32)
    return Model(f"bicubic-x{scale}", spec, {"layers.0.weight": kernels, "layers.0.bias": bias})


def _scale_of(models: Sequence[str | os.PathLike[str]]) -> int:
    """The scale of the first model whose name or file has one; the default scale if none has."""
    for model in models:
        if isinstance(model, os.PathLike) or model.endswith(".safetensors"):
            return load_model(Path(model)).scale
        if catalog.path(model) is not None:
            return catalog.find(model).scale
    return catalog.DEFAULT_SCALE


def _unique_name(
    upscaler: Upscaler, model: str | os.PathLike[str], others: Sequence[Method], ending: str = ""
) -> str:
    """The name of a model; with its file if another model on the page has the same name.

    A scale that no network has is reached by several, and reduced; then the name has the scale too.
    """
    network = upscaler.model
    name = network.name if network.scale == upscaler.scale else f"{network.name} to x{upscaler.scale:g}"
    name += ending
    taken = {"bicubic", *(other.name for other in others)}
    with_file = f"{name} ({Path(model).name})"  # without its folder: pages are passed on
    numbered = (f"{with_file} {number}" for number in itertools.count(2))
    return next(each for each in itertools.chain((name, with_file), numbered) if each not in taken)
