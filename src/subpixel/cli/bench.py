"""`subpixel bench`: how fast a model runs here, beside other runtimes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.display import to_stdout
from subpixel.cli.errors import exiting, stoppable
from subpixel.cli.options import width_and_height
from subpixel.errors import ModelError, SubpixelError

MOST_PIXELS = 16_000_000
"""Of the small plane: x4, a picture of 256 million."""


@stoppable("interrupted")
def bench(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A packaged model (see `subpixel models`) or a .safetensors file."
        ),
    ] = None,
    scale: Annotated[
        int | None, typer.Option("--scale", "-s", min=1, max=8, help="Factor; by default 3, or the model's.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the small plane, WIDTHxHEIGHT.")] = "640x360",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    against: Annotated[
        str, typer.Option(help="Runtimes to compare with: some of onnxruntime,openvino,opencv,torch.")
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 20,
    target: Annotated[
        str | None, typer.Option(help="Hold our engine to a simpler processor: amx, vnni, avx512 or avx2.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture file for a bar chart.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Time a model on one luma plane: our engine in each precision, and other runtimes on the same network.

    All take turns, round after round. Medians and the spread are printed, and which share of the most that
    the processor can do, measured in the same rounds, each comes to.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from subpixel.benchmark.measure import measure
    from subpixel.benchmark.peak import make_peak
    from subpixel.benchmark.report import draw, table
    from subpixel.benchmark.runners import ours, peers
    from subpixel.engines.select import available_cpus
    from subpixel.models import catalog as packaged

    width, height = width_and_height(size, MOST_PIXELS)
    count = threads or available_cpus()
    # Any content does: no arithmetic here takes longer for some numbers than for others. In this one
    # neighbors resemble each other, as in pictures.
    slopes = np.add.outer(np.arange(height) * 0.37, np.arange(width) * 0.21)
    plane = (128 + 100 * np.sin(slopes / 7) + np.random.default_rng(0).normal(0, 4, slopes.shape)).clip(
        0, 255
    )
    plane = plane.astype(np.uint8)
    with exiting(2, SubpixelError):
        chosen = packaged.find(model, scale=scale or (None if model else 3))
        if chosen.spec.channels != 1:
            raise ModelError(f"model {chosen.name} has {chosen.spec.channels} channels; this is for luma")
        runners = list(ours(chosen, plane, count, target))
        for name in filter(None, against.split(",")):
            runners += peers(name.strip(), chosen, plane, count)
        peaks = [make_peak(precision, count, target) for precision in {one.precision for one in runners}]
    people = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with (
        exiting(1, SubpixelError),
        Progress(console=people, transient=True, disable=not people.is_terminal) as bar,
    ):
        task = bar.add_task("timing", total=1)
        result = measure(
            chosen,
            plane,
            runners,
            peaks,
            threads=count,
            rounds=rounds,
            progress=lambda done: bar.update(task, completed=done),
        )
    with to_stdout():
        if as_json:
            typer.echo(json.dumps(result.to_json()))
        else:
            Console(markup=False, emoji=False, highlight=False).print(table(result))
    if plot is not None:
        with exiting(1, SubpixelError):
            draw(result, plot)
        people.print(f"drawn: {plot}")
