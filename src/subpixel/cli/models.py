"""`subpixel models`: what ships in the package."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subpixel.cli.display import to_stdout
from subpixel.cli.errors import exiting
from subpixel.errors import SubpixelError

if TYPE_CHECKING:
    from subpixel.models.model import Model


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, one for each model.")
    ] = False,
) -> None:
    """List the packaged models: scale, cost for each LR pixel, PSNR on luma (bicubic protocol), license."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from subpixel.models import catalog as packaged

    with exiting(1, SubpixelError):
        found = [packaged.find(name) for name in packaged.names()]
    if as_json:
        with to_stdout():
            for model in found:
                typer.echo(json.dumps(_facts(model)))
        return
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # to fit a terminal of 80 columns
        pad_edge=False,
        caption="multiply-adds per LR pixel; mean PSNR in dB on luma, LR by bicubic",
    )
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "multiply-\nadds"):  # the scale is part of the name
        table.add_column(heading, justify="right")
    sets = list(dict.fromkeys(name for model in found for name in model.metadata.psnr_db))
    for name in sets:
        table.add_column(name, justify="right")
    table.add_column("license")
    for model in found:
        psnr_db = (model.metadata.psnr_db.get(name) for name in sets)
        table.add_row(
            model.name,
            f"{model.spec.parameters:,}",
            f"{model.spec.macs_per_lr_pixel:,}",
            *("" if value is None else f"{value:.2f}" for value in psnr_db),
            model.metadata.license,
        )
    with to_stdout():
        Console().print(table)


def _facts(model: "Model") -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.metadata.version,
        "scale": model.scale,
        "parameters": model.spec.parameters,
        "macs_per_lr_pixel": model.spec.macs_per_lr_pixel,
        "halo_px": model.spec.halo_px,
        "psnr_db": dict(model.metadata.psnr_db),
        "training_data": model.metadata.training_data,
        "recipe": model.metadata.recipe,
        "license": model.metadata.license,
    }
