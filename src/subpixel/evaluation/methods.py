"""The methods that can be measured: bicubic, a network on an engine, or TNRD; found by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.engines.numpy_history import NumpyHistory
from subpixel.engines.select import correcting, is_for_video
from subpixel.errors import EngineError, ModelError
from subpixel.evaluation.protocol import UpscaleFrames, UpscaleLuma, bicubic
from subpixel.models.catalog import frames_file, tnrd_file
from subpixel.models.model import Model
from subpixel.options import EngineName, Precision
from subpixel.upscaler import Upscaler
from subpixel.video.pipeline.history import missing_history

_EXAMPLE_PX = 8
"""A side of a frame; any shows how the network runs."""


@dataclass(frozen=True)
class Method:
    """One way to upscale luma planes."""

    name: str
    scale: int
    upscale: UpscaleLuma
    engine: str | None = None
    """The engine that runs it; None for bicubic. The same holds for the precision."""
    precision: str | None = None
    model: Model | None = None
    """The network; None for those that are not a `Model`."""
    upscale_clip: UpscaleFrames | None = None
    """How a network over several frames upscales a clip; its `upscale` takes an image as a clip of one."""
    notes: tuple[str, ...] = ()
    """What users are told if a network for video upscales each frame of a clip by itself."""

    @property
    def upscale_frames(self) -> UpscaleFrames:
        """Upscale the frames of a clip, each by itself unless the network sees several."""
        return self.upscale_clip or (lambda planes: map(self.upscale, planes))


def bicubic_method(scale: int) -> Method:
    """The baseline: MATLAB's bicubic interpolation."""
    return Method("bicubic", scale, bicubic(scale))


def find_method(
    name: str | None,
    *,
    scale: int | None = None,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Method:
    """Find a method by name, and load and compile what it needs.

    Args:
        name: a packaged model or TNRD, the path of a ``.safetensors`` file of either or of a network over
            several frames, or "bicubic"; None for the default network of the scale.
        scale: its factor; needed for bicubic and for None.
        engine, precision, threads: as for `subpixel.load`. TNRD and networks over several frames run on
            PyTorch, in fp32.

    Raises:
        ValueError: bicubic without a scale.
        ModelError: the model does not exist, or has another scale.
        EngineError: the engine cannot run it, or not in this precision.
    """
    if name == "bicubic":
        if scale is None:
            raise ValueError("bicubic needs a scale")
        return bicubic_method(scale)
    if name and (file := tnrd_file(name, scale=scale)):
        return _on_torch("TNRD", file, scale, engine, precision, threads)
    if name and (file := frames_file(name)):
        return _on_torch("a network over several frames", file, scale, engine, precision, threads)
    from subpixel.loading import load

    upscaler = load(
        name,
        scale=scale,
        engine=cast(EngineName, engine),
        precision=cast(Precision, precision),
        threads=threads,
    )
    chosen, model = upscaler.engine, upscaler.model
    if not (isinstance(chosen, Engine) and isinstance(model, Model)):
        raise ModelError(f"{name} is a rule for pixel art, not a network; pass a model of `subpixel models`")
    if scale not in (None, model.scale):  # `load` accepts it, for results of any size
        raise ModelError(f"model {model.name} upscales x{model.scale}, not x{scale}; omit the scale")
    if model.spec.history is not None:
        return _for_video(model, engine, chosen, upscaler)
    return Method(model.name, model.scale, chosen, chosen.name, chosen.precision, model)


def _for_video(model: Model, engine: str, chosen: Engine, upscaler: Upscaler) -> Method:
    """A network with a history: in int8 on the fast engine, in NumPy, or elsewhere without the history."""
    name, precision = chosen.name, chosen.precision
    network: UpscaleFrames
    if is_for_video(chosen):
        network = correcting(chosen)
    elif engine in ("auto", "numpy"):
        name, network = "numpy", NumpyHistory(model, precision=precision)
    else:
        side = _EXAMPLE_PX * model.scale
        upsampling = upscaler.family.upsampling((_EXAMPLE_PX, _EXAMPLE_PX), (side, side))
        notes = tuple(missing_history(upscaler.family, upsampling))
        name_of_base = f"{model.name} without history"
        return Method(name_of_base, model.scale, chosen, name, precision, model, notes=notes)

    def upscale(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return next(network([plane]))

    return Method(model.name, model.scale, upscale, name, precision, model, upscale_clip=network)


def _on_torch(
    kind: str, file: Path, scale: int | None, engine: str, precision: str, threads: int | None
) -> Method:
    """Load a network that only PyTorch runs; the errors are those of `find_method`."""
    try:
        import torch

        from subpixel.engines.tnrd import TnrdModel, load_tnrd
        from subpixel.training.frames_file import load_frames_model
    except ModuleNotFoundError as error:
        raise EngineError(
            f"{kind} needs {error.name}, which is not installed: run `pip install 'subpixel[train]'`"
        ) from None
    if engine not in ("auto", "torch") or precision not in ("auto", "fp32"):
        raise EngineError(f"{kind} runs on PyTorch in fp32 only: leave engine and precision at auto")
    if threads:
        torch.set_num_threads(threads)
    network = load_tnrd(file) if kind == "TNRD" else load_frames_model(file)
    if scale not in (None, network.scale):
        raise ModelError(f"model {network.name} upscales x{network.scale}, not x{scale}")
    if isinstance(network, TnrdModel):
        return Method(network.name, network.scale, network, "torch", "fp32")
    return Method(
        network.name,
        network.scale,
        lambda plane: next(iter(network([plane]))),
        "torch",
        "fp32",
        upscale_clip=network,
    )
