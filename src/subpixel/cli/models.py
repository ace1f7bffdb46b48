"""`subpixel models`: list the packaged models."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subpixel.cli.display import ignore_closed_stdout
from subpixel.cli.errors import exit_on_error
from subpixel.errors import SubpixelError

if TYPE_CHECKING:
    from rich.table import Table

    from subpixel.models.model import Model


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per model, each on its own line.")
    ] = False,
) -> None:
    """List the packaged models with their size, cost, quality and license.

    The cost is multiply-adds per LR pixel. The quality is the mean PSNR on luma, with LR made by bicubic.
    """
    from rich.console import Console

    from subpixel.models import catalog as packaged

    with exit_on_error(1, SubpixelError):
        found = [packaged.find(name) for name in (*packaged.names(), *packaged.video_names())]
    with ignore_closed_stdout():
        if as_json:
            for model in found:
                typer.echo(json.dumps(_to_json(model)))
        else:
            Console().print(_table(found))


def _table(models: list["Model"]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # to fit a terminal of 80 columns
        pad_edge=False,
        caption="multiply-adds per LR pixel; mean PSNR in dB on luma, LR by bicubic\n"
        "single images: video as best, video-compressed as best-compressed\n"
        "without a network, for pixel art: nearest, epx",
    )
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "multiply-\nadds"):  # the scale is part of the name
        table.add_column(heading, justify="right")
    test_sets = list(dict.fromkeys(name for model in models for name in model.metadata.psnr_db))
    for name in test_sets:
        table.add_column(name, justify="right")
    table.add_column("license")
    for model in models:
        psnr_db = (model.metadata.psnr_db.get(name) for name in test_sets)
        table.add_row(
            model.name,
            f"{model.spec.parameters:,}",
            f"{model.spec.macs_per_lr_pixel:,}",
            *("" if value is None else f"{value:.2f}" for value in psnr_db),
            model.metadata.license,
        )
    return table


def _to_json(model: "Model") -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.metadata.version,
        "scale": model.scale,
        "parameters": model.spec.parameters,
        "macs_per_lr_pixel": model.spec.macs_per_lr_pixel,
        "halo_px": model.spec.halo_px,
        "psnr_db": dict(model.metadata.psnr_db),
        "training_data": model.metadata.training_data,
        "recipe": model.metadata.config,
        "license": model.metadata.license,
    }
