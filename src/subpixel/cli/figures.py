"""`subpixel figures`: the paper's figures, drawn from our own models."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from subpixel.cli.errors import exiting, stoppable
from subpixel.errors import OutputError, SubpixelError


@stoppable("interrupted")
def figures(
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the pictures.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A model; may be repeated. By default the packaged ones of the scale."
        ),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", min=1, max=8, help="Of the models.")] = 3,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A folder of HR pictures, such as Set14, for crops and for quality against time."),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, halide, onnxruntime or numpy.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing pictures.")] = False,
) -> None:
    """Draw the paper's figures: filters of the first and the last layer (3 and 4), how a deconvolution falls
    into filters in LR space (the companion note's), and with --dataset crops (5 and 6) and quality against
    time (2).
    """
    from subpixel.evaluation import figures as draw
    from subpixel.evaluation.drawing import save_figure
    from subpixel.evaluation.methods import bicubic_method, find_method
    from subpixel.files import leaving_no_empty_folder, refuse_existing
    from subpixel.models import catalog as packaged

    with exiting(2, ValueError, SubpixelError):
        if dataset is None and (engine, precision, threads) != ("auto", "auto", None):
            raise ValueError("--engine, --precision and --threads are for what --dataset draws")
        chosen = model or [name for name in packaged.names() if name.endswith(f"-x{scale}")]
        chosen = [name for name in chosen if name != "bicubic"]  # which all are compared with anyway
        if not chosen and not model:
            packaged.find(scale=scale)  # raises, and says which scales there are
        if not chosen:
            raise ValueError("bicubic is no network, and what all are compared with; name one with -m")
        methods = [
            find_method(name, scale=scale, engine=engine, precision=precision, threads=threads)
            for name in chosen
        ]
    with exiting(1, SubpixelError), leaving_no_empty_folder(output / "any"):
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: cannot be made ({error.strerror or error})") from error

        def place(name: str) -> Path:
            path = output / name
            if not overwrite:
                refuse_existing(path)
            return path

        todo: list[tuple[Path, Callable[[], Any]]] = [(place("equivalence.png"), draw.equivalence)]
        for network in (one.model for one in methods if one.model):
            for name, drawing in (("first", draw.first_layer), ("last", draw.last_layer)):
                path = place(f"filters-{name}-{network.name}.png")
                todo.append((path, partial(drawing, network)))
        if dataset is not None:
            compared = [bicubic_method(scale), *methods]
            crops, quality, numbers = map(place, ("crops.png", "quality.png", "quality.json"))
            todo.append((crops, partial(draw.crops, dataset, compared)))
        for path, drawn in todo:
            save_figure(drawn(), path)
            typer.echo(path)
        if dataset is not None:
            figure, shown = draw.quality_against_time(dataset, compared)
            save_figure(figure, quality)
            numbers.write_text(json.dumps(shown, indent=2) + "\n")
            typer.echo(quality)
