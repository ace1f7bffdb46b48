"""`subpixel upscale`: make pictures larger."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.display import display
from subpixel.cli.errors import exiting, stoppable
from subpixel.errors import SubpixelError
from subpixel.images.formats import DEFAULT_QUALITY, MAX_OUTPUT_PIXELS


@stoppable("interrupted; nothing unfinished was left behind")
def upscale(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders of them.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A file, whose extension decides the format; or a folder."),
    ],
    scale: Annotated[
        int | None, typer.Option("--scale", "-s", min=1, max=8, help="Factor for each side; 2 by default.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A packaged model (see `subpixel models`) or a .safetensors file."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, halide, onnxruntime or numpy.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Of JPEG and WebP; 100 makes WebP lossless.")
    ] = DEFAULT_QUALITY,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into folders inside folders, and keep their tree.")
    ] = False,
    max_output_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse what would become larger, before it is decoded.")
    ] = MAX_OUTPUT_PIXELS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each picture.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell what is done, and why.")] = False,
) -> None:
    """Make pictures larger: PNG, JPEG, WebP, TIFF and BMP.

    Colour profile, EXIF, transparency and 16 bits per sample are kept; the picture is turned upright. A
    picture that cannot be enlarged is named, and the others are done all the same.
    """
    from subpixel.images.plan import plan
    from subpixel.images.upscale import upscale_image
    from subpixel.upscaler import load

    for library in ("imagecodecs", "tifffile", "PIL"):  # what matters of their warnings arrives as errors
        logging.getLogger(library).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    with exiting(2, ValueError, SubpixelError):
        todo = plan(inputs, output, recursive=recursive)
        upscaler = load(model, scale=scale, engine=engine, precision=precision, threads=threads)
    failed = 0
    with display(len(todo.jobs)) as people:
        if verbose:
            people.say(f"model {upscaler.model.name}, engine {upscaler.reason}")
            if todo.skipped:
                people.say(f"{todo.skipped} files left aside: no pictures by their names")
        for number, (source, target) in enumerate(todo.jobs):
            people.show(number, source.name)

            def show(fraction: float, number: int = number, name: str = source.name) -> None:
                people.show(number + fraction, name)

            try:
                report = upscale_image(
                    source,
                    target,
                    upscaler=upscaler,
                    quality=quality,
                    overwrite=overwrite,
                    max_output_pixels=max_output_pixels,
                    progress=show,
                )
            except SubpixelError as error:
                failed += 1
                people.say(f"error: {error}")
                if as_json:
                    typer.echo(json.dumps({"input": str(source), "error": str(error)}))
                continue
            for notice in report.notices:
                people.say(f"note: {source}: {notice}")
            if as_json:
                typer.echo(json.dumps(asdict(report)))
            if verbose or people.is_terminal:
                size = f"{report.width} x {report.height}"
                people.say(f"{source} -> {target}: {size}, {report.model}, {report.seconds:.1f} s")
    if failed:
        raise typer.Exit(1)
