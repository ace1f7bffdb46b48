"""`subpixel figures`: the figures of the ESPCN paper, drawn from packaged models or your own."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import EngineOption, OverwriteOption, PrecisionOption, ThreadsOption
from subpixel.errors import OutputError, SubpixelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from subpixel.evaluation.methods import Method


@handle_signals("interrupted")
def figures(
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the figures.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A model; may be repeated. By default all packaged models of the scale."
        ),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", min=1, max=8, help="Factor of the models.")] = 3,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A folder of HR images, such as Set14, for the figures that compare results."),
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Draw the figures of the ESPCN paper. Needs matplotlib.

    Figures 3 and 4 show the filters of the first and the last layer. A figure from the companion note shows
    how a deconvolution splits into filters in LR space. With `--dataset`, Figures 5 and 6 show crops of the
    results, and Figure 2 shows quality against time.
    """
    from subpixel.evaluation.drawing import require_matplotlib

    with exit_on_error(2, ValueError, SubpixelError):
        if dataset is None and (engine, precision, threads) != ("auto", "auto", None):
            raise ValueError("--engine, --precision and --threads are for the figures that need --dataset")
    with exit_on_error(1, SubpixelError):
        require_matplotlib()
    with exit_on_error(2, ValueError, SubpixelError):
        methods = _find_methods(model, scale, engine, precision, threads)
    with exit_on_error(1, SubpixelError):
        for path in _draw(output, dataset, methods, overwrite):
            typer.echo(path)


def _find_methods(
    names: list[str] | None, scale: int, engine: str, precision: str, threads: int | None
) -> list["Method"]:
    """The methods to draw; bicubic is left out here because each figure compares with it anyway."""
    from subpixel.evaluation.methods import find_method
    from subpixel.models import catalog as packaged

    candidates = names or [name for name in packaged.names() if name.endswith(f"-x{scale}")]
    if not candidates:
        packaged.find(scale=scale)  # raises an error that lists the scales
    chosen = [name for name in candidates if name != "bicubic"]
    if not chosen:
        raise ValueError("bicubic is not a network, and all are compared with it; name a network with -m")
    return [
        find_method(name, scale=scale, engine=engine, precision=precision, threads=threads) for name in chosen
    ]


def _draw(output: Path, dataset: Path | None, methods: list["Method"], overwrite: bool) -> Iterator[Path]:
    """Draw all figures into a folder, and yield the path of each one."""
    from subpixel.evaluation import figures as drawing
    from subpixel.evaluation.drawing import save_figure
    from subpixel.evaluation.methods import bicubic_method
    from subpixel.files import refuse_existing, remove_empty_folders_on_error

    drawings: list[tuple[str, Callable[[], Figure]]] = [("equivalence.png", drawing.equivalence)]
    for network in (method.model for method in methods if method.model):
        drawings.append((f"filters-first-{network.name}.png", partial(drawing.first_layer, network)))
        drawings.append((f"filters-last-{network.name}.png", partial(drawing.last_layer, network)))
    if dataset is not None:
        compared = [bicubic_method(methods[0].scale), *methods]
        drawings.append(("crops.png", partial(drawing.crops, dataset, compared)))
        drawings.append(("quality.png", partial(_draw_quality, dataset, compared, output / "quality.json")))
    with remove_empty_folders_on_error(output / "any"):
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: the folder cannot be made ({error.strerror or error})") from error
        if not overwrite:
            for name in [name for name, _ in drawings] + (["quality.json"] if dataset else []):
                refuse_existing(output / name)
        for name, draw in drawings:
            save_figure(draw(), output / name)
            yield output / name


def _draw_quality(dataset: Path, methods: list["Method"], numbers: Path) -> "Figure":
    """Draw quality against time, and write the numbers as JSON."""
    from subpixel.evaluation.figures import quality_against_time

    figure, shown = quality_against_time(dataset, methods)
    numbers.write_text(json.dumps(shown, indent=2) + "\n")
    return figure
