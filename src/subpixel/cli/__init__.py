"""The command line, with one file per command: it parses options, calls the library and prints.

Exit codes: 0 success, 1 an input failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
"""

from typing import Annotated

import typer

from subpixel import __version__
from subpixel.cli.bench import bench
from subpixel.cli.calibrate import calibrate
from subpixel.cli.compare import compare
from subpixel.cli.evaluate import evaluate
from subpixel.cli.export import export
from subpixel.cli.figures import figures
from subpixel.cli.models import models
from subpixel.cli.serve import serve
from subpixel.cli.train import train
from subpixel.cli.upscale import upscale
from subpixel.cli.usage import Group

app = typer.Typer(
    cls=Group,
    help="Upscale images and videos with efficient sub-pixel convolutional networks.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (upscale, serve, compare, models, evaluate, bench, export, train, calibrate, figures):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subpixel {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Upscale images and videos with efficient sub-pixel convolutional networks."""
