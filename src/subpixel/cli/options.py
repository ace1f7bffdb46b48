"""Options that several commands share."""

import re
from typing import Annotated

import typer

EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Runs the network: auto (the fastest here), native, onnxruntime or numpy.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Arithmetic of the network: auto (int8 where it is fast), fp32 or int8.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads. Default: one per CPU.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


def width_and_height(size: str, max_pixels: int | None = None) -> tuple[int, int]:
    """Parse the value of ``--size``, ``WIDTHxHEIGHT``, of at most ``max_pixels``.

    Raises `typer.BadParameter` for anything else.
    """
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    width, height = map(int, sides.groups()) if sides else (0, 0)
    if not width * height or (max_pixels is not None and width * height > max_pixels):
        bound = "" if max_pixels is None else f", of at most {max_pixels} pixels"
        raise typer.BadParameter(
            f"{size!r}: expected WIDTHxHEIGHT, such as 640x360{bound}", param_hint="--size"
        )
    return width, height
