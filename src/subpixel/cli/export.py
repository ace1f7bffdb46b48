"""`subpixel export`: a model as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.errors import exiting
from subpixel.errors import ModelError, SubpixelError


def export(
    model: Annotated[
        str,
        typer.Argument(help="A packaged model (see `subpixel models`), or a .safetensors file."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as an ONNX file, for other programs to run.

    Input `lr` and output `hr` are float32 images, (N, channels, height, width), from 0 to 1; clip `hr`. The
    packaged models take luma alone. The graph computes in fp32; 8-bit layers are not exported.

    Beyond the edges of `lr` the graph counts zeros, which shows at the border of `hr`. Continue the picture
    first, as `upscale` does: repeat its edge pixels `halo_px` times on each side, and cut `scale * halo_px`
    pixels off each side of `hr`. Both numbers are in the metadata of the file.
    """
    from subpixel.engines import onnx_graph
    from subpixel.models import catalog as packaged

    if output.suffix != ".onnx":
        raise typer.BadParameter(f"{output}: the name must end in .onnx", param_hint="--output")
    with exiting(2, ModelError):
        chosen = packaged.find(model)
    with exiting(1, SubpixelError):
        onnx_graph.export(chosen, output, overwrite=overwrite)
    typer.echo(f"wrote {output}", err=True)
