"""`subpixel export`: write a model as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.errors import exit_on_error
from subpixel.cli.options import OverwriteOption
from subpixel.errors import ModelError, SubpixelError


def export(
    model: Annotated[
        str, typer.Argument(help="A packaged model (see `subpixel models`) or a .safetensors file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", "-s", min=1, max=8, help="Factor of the model; 2 by default, if its name has none."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model as an ONNX file, for other programs to run.

    The input `lr` and the output `hr` are float32, of shape (N, channels, height, width), from 0 to 1. Clip
    `hr` to that range. The packaged models have one channel, luma. The graph computes in fp32; int8 layers
    are not exported. Of a network for video, the graph is the base, which upscales single frames.

    The graph pads with zeros, which shows at the border of `hr`. To get the result of `upscale`, first pad
    `lr` with `halo_px` edge pixels on each side, then crop `scale * halo_px` pixels from each side of `hr`.
    Both numbers are in the metadata of the file.
    """
    from subpixel.engines import onnx_graph
    from subpixel.models import catalog as packaged
    from subpixel.models.history import without_history

    if output.suffix != ".onnx":
        raise typer.BadParameter(f"{output}: the name must end in .onnx", param_hint="--output")
    with exit_on_error(2, ModelError):
        chosen = packaged.find(model, scale=scale)
    with exit_on_error(1, SubpixelError):
        onnx_graph.export(without_history(chosen), output, overwrite=overwrite)
    if chosen.spec.history:
        base = packaged.described_base(chosen)
        typer.echo(f"note: {output} is only {base}: a graph has no frames before", err=True)
    typer.echo(f"wrote {output}", err=True)
