"""`subpixel export`: a model as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from subpixel.errors import SubpixelError


def export(
    model: Annotated[
        str,
        typer.Argument(help="A packaged model (see `subpixel models`), or a .safetensors file."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as an ONNX file, for other programs to run.

    Input `lr` and output `hr` are float32 images, (N, channels, height, width), from 0 to 1.
    """
    from subpixel.engines import onnx_graph
    from subpixel.networks import packaged

    if output.suffix != ".onnx":
        raise typer.BadParameter(f"{output}: the name must end in .onnx", param_hint="--output")
    try:
        onnx_graph.export(packaged.find(model), output, overwrite=overwrite)
    except SubpixelError as error:
        typer.echo(f"subpixel: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"wrote {output}", err=True)
