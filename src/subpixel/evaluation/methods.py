"""What can be measured: bicubic, a network on an engine, or a TNRD, all by name and called the same way."""

from dataclasses import dataclass
from typing import cast

from subpixel.errors import EngineError, ModelError
from subpixel.evaluation.protocol import UpscaleLuma, bicubic
from subpixel.models.catalog import tnrd_file
from subpixel.models.model import Model
from subpixel.options import EngineName, Precision


@dataclass(frozen=True)
class Method:
    """One way to enlarge luma planes."""

    name: str
    scale: int
    upscale: UpscaleLuma
    engine: str | None = None
    """What runs it; None for bicubic, which needs none, and likewise the precision."""
    precision: str | None = None
    model: Model | None = None
    """The network; None for bicubic and TNRD, which are none."""


def bicubic_method(scale: int) -> Method:
    """MATLAB's bicubic."""
    return Method("bicubic", scale, bicubic(scale))


def find_method(
    name: str | None,
    *,
    scale: int | None = None,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Method:
    """Make one ready.

    Args:
        name: a packaged model or TNRD, a ``.safetensors`` file of either, or "bicubic"; None for the default
            network of the scale.
        scale: its factor; may be left out where the name has it.
        engine, precision, threads: as for `subpixel.load`; TNRD runs by torch, in fp32.

    Raises:
        ValueError: bicubic without a scale.
        ModelError: no such model, or its scale is another.
        EngineError: it cannot run so.
    """
    if name == "bicubic":
        if scale is None:
            raise ValueError("bicubic needs a scale")
        return bicubic_method(scale)
    file = tnrd_file(name, scale=scale) if name else None
    if file is None:
        from subpixel.upscaler import load

        upscaler = load(
            name,
            scale=scale,
            engine=cast(EngineName, engine),
            precision=cast(Precision, precision),
            threads=threads,
        )
        chosen, model = upscaler.engine, upscaler.model
        return Method(model.name, model.scale, chosen, chosen.name, chosen.precision, model)
    try:
        import torch

        from subpixel.engines.tnrd import load_tnrd
    except ModuleNotFoundError as error:
        raise EngineError(f"TNRD runs by {error.name}: pip install 'subpixel[train]'") from None
    if engine not in ("auto", "torch") or precision not in ("auto", "fp32"):
        raise EngineError("TNRD runs by torch, in fp32")
    if threads:
        torch.set_num_threads(threads)
    network = load_tnrd(file)
    if scale not in (None, network.scale):
        raise ModelError(f"model {network.name} enlarges x{network.scale}, not x{scale}")
    return Method(network.name, network.scale, network, "torch", "fp32")
