"""`subpixel bench`: the speed of a model on this machine, beside other runtimes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.display import ignore_closed_stdout, stderr_console
from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import ThreadsOption, width_and_height
from subpixel.errors import EngineError, ModelError, SubpixelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from subpixel.benchmark.measure import Benchmark
    from subpixel.models.model import Model

MAX_PIXELS = 16_000_000
"""Limit on the pixels of the input plane: at x4, its result has 256 million."""


@handle_signals("interrupted")
def bench(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A packaged model (see `subpixel models`) or a .safetensors file."
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option("--scale", "-s", min=1, max=8, help="Factor of the model; 3 by default, without -m."),
    ] = None,
    size: Annotated[str, typer.Option(help="Size of the input plane, WIDTHxHEIGHT.")] = "640x360",
    threads: ThreadsOption = None,
    against: Annotated[
        str,
        typer.Option(help="Other runtimes to time, separated by commas: onnxruntime,openvino,opencv,torch."),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each runtime is timed.")] = 20,
    target: Annotated[
        str | None,
        typer.Option(help="Instruction set of the engine native, such as avx512_vnni or avx2."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a bar chart into this image file; needs matplotlib.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Time a model on one luma plane: Subpixel's engine, and other runtimes in each precision.

    All runtimes run the same network, in turn, round after round. The result is the median time and the
    spread, and the share of the processor's peak multiply-adds, which is measured in the same rounds. Of a
    network for video, it times the base, which upscales single frames.
    """
    from subpixel.benchmark.report import draw
    from subpixel.engines.select import available_cpus
    from subpixel.evaluation.drawing import require_matplotlib
    from subpixel.models.catalog import described_base

    width, height = width_and_height(size, MAX_PIXELS)
    with exit_on_error(1, SubpixelError):
        if plot is not None:
            require_matplotlib()
    with exit_on_error(2, SubpixelError):
        chosen = _find_luma_model(model, scale)
    console = stderr_console()
    if chosen.spec.history:
        typer.echo(
            f"note: the times are those of {described_base(chosen)}, without the frames before", err=True
        )
    names = [name.strip() for name in against.split(",") if name]
    result = _measure(
        chosen, _test_plane(width, height), names, threads or available_cpus(), rounds, target, console
    )
    _print(result, as_json)
    if plot is not None:
        with exit_on_error(1, SubpixelError):
            draw(result, plot)
        console.print(f"wrote {plot}")


def _find_luma_model(name: str | None, scale: int | None) -> "Model":
    from subpixel.models import catalog as packaged

    model = packaged.find(name, scale=scale or (None if name else 3))
    if model.spec.channels != 1:
        raise ModelError(
            f"model {model.name} has {model.spec.channels} channels; `bench` takes models of one, luma"
        )
    return model


def _test_plane(width: int, height: int) -> "NDArray[np.uint8]":
    """A luma plane in which neighboring pixels are similar, as in photographs.

    The content does not change the times: no arithmetic here takes longer for some numbers than for others.
    """
    import numpy as np

    slopes = np.add.outer(np.arange(height) * 0.37, np.arange(width) * 0.21)
    noise = np.random.default_rng(0).normal(0, 4, slopes.shape)
    plane: NDArray[np.uint8] = (128 + 100 * np.sin(slopes / 7) + noise).clip(0, 255).astype(np.uint8)
    return plane


def _measure(
    model: "Model",
    plane: "NDArray[np.uint8]",
    runtimes: list[str],
    threads: int,
    rounds: int,
    target: str | None,
    console: "Console",
) -> "Benchmark":
    """Time all runners, with a progress bar on a terminal."""
    from rich.progress import Progress

    from subpixel.benchmark.measure import measure
    from subpixel.benchmark.peak import make_peak
    from subpixel.benchmark.runners import runtime_runners, subpixel_runner

    with exit_on_error(2, SubpixelError):
        runners = [subpixel_runner(model, plane, threads, target)]
        for name in runtimes:
            runners += runtime_runners(name, model, plane, threads)
        peaks = []
        with suppress(EngineError):  # then the table has no shares of the peak
            peaks = [
                make_peak(precision, threads, target) for precision in {one.precision for one in runners}
            ]
    with (
        exit_on_error(1, SubpixelError),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("timing", total=1)
        return measure(
            model,
            plane,
            runners,
            peaks,
            threads=threads,
            rounds=rounds,
            progress=lambda fraction: bar.update(task, completed=fraction),
        )


def _print(result: "Benchmark", as_json: bool) -> None:
    from rich.console import Console

    from subpixel.benchmark.report import table

    with ignore_closed_stdout():
        if as_json:
            typer.echo(json.dumps(result.to_json()))
        else:
            Console(markup=False, emoji=False, highlight=False).print(table(result))
