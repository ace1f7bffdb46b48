"""`subpixel compare`: a page that shows what models make of an image or a video."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from subpixel.cli.display import ignore_closed_stdout, open_display
from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import EngineOption, OverwriteOption, PrecisionOption, ThreadsOption
from subpixel.errors import EngineError, ModelError, SubpixelError


@handle_signals("interrupted")
def compare(
    input: Annotated[Path, typer.Argument(metavar="INPUT", help="An image or a video.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, such as page.html.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A packaged model (see `subpixel models`) or a .safetensors file; may be repeated. "
            "By default `default`, and the model that `upscale` selects for this input.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            "-s",
            min=1,
            max=8,
            metavar="<int range>",
            help="Factor; 2 unless the name of a model has another.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="What the input was made of, SCALE times as large: the page adds PSNR and SSIM."),
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Show this part of the input, in its pixels.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Of a video, how many frames, evenly spread; 5 by default.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    max_page_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Refuse more pixels than this on the page; 150 million by default."),
    ] = None,
) -> None:
    """Write a page that shows an image or a video before and after upscaling, for any browser.

    The page has a slider between any two of the original pixels, bicubic, the models and the reference, zooms
    to single pixels, and finds where the results differ most. It is one file with everything inside, and
    loads nothing from the network.
    """
    from subpixel.comparison.compare import compare as write_page

    options: dict[str, Any] = {"models": model or (), "reference": reference}
    options |= {"frames": frames, "engine": engine, "precision": precision, "threads": threads}
    if max_page_pixels is not None:
        options["max_page_pixels"] = max_page_pixels
    with open_display(1) as display:
        with exit_on_error(1, SubpixelError), exit_on_error(2, ValueError, ModelError, EngineError):
            page = write_page(
                input,
                output,
                crop=None if crop is None else _rectangle(crop),
                scale=None if scale is None else _factor(scale),
                overwrite=overwrite,
                progress=lambda progress: display.update(progress.fraction, input.name),
                **options,
            )
        for warning in page.warnings:
            display.print(f"note: {warning}")
    with ignore_closed_stdout():
        size = f"{page.width} x {page.height}"
        count = f", {page.frames} frames" if page.frames > 1 else ""
        typer.echo(f"{page.output}: {_bytes(page.size_bytes)}, {size}{count}: {', '.join(page.methods)}")
        for name, psnr_db in page.psnr_db.items():
            typer.echo(f"{name}: {psnr_db:.2f} dB")


def _factor(scale: float) -> int:
    """The scale as an integer; ValueError if it is none."""
    if not scale.is_integer():
        raise ValueError(f"the scale of a page must be a whole number from 1 to 8, not {scale:g}")
    return int(scale)


def _rectangle(text: str) -> tuple[int, int, int, int]:
    """X,Y,W,H as numbers; ValueError for anything else."""
    if not re.fullmatch(r"\s*\d{1,6}(\s*,\s*\d{1,6}){3}\s*", text):
        raise ValueError(
            f"--crop {text!r}: write X,Y,WIDTH,HEIGHT in pixels of the input, such as 100,50,320,240"
        )
    x, y, width, height = map(int, text.split(","))
    return x, y, width, height


def _bytes(count: int) -> str:
    """A size of a file for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
