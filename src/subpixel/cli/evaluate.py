"""`subpixel evaluate`: a model's PSNR and SSIM on a test set, beside bicubic and the published numbers."""

import json
from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.errors import exiting, stoppable
from subpixel.errors import SubpixelError


@stoppable("interrupted")
def evaluate(
    dataset: Annotated[
        Path, typer.Argument(help="A folder of HR pictures, or one that holds them in a folder HR.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A packaged model (see `subpixel models`), a .safetensors file, or bicubic; "
            "by default the packaged one for the scale.",
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option("--scale", "-s", min=1, max=8, help="Factor; needed unless the model's name has it."),
    ] = None,
    degradation: Annotated[str, typer.Option(help="How LR is made: bicubic or gaussian.")] = "bicubic",
    sigma_px: Annotated[
        float | None, typer.Option(help="Standard deviation of the Gaussian blur in HR pixels.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, halide, onnxruntime or numpy.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure a model as the literature does: PSNR and SSIM on luma, a border of SCALE pixels left out.

    Each picture is made smaller, enlarged again by the model, and compared with itself.
    """
    from rich.console import Console
    from rich.progress import track

    from subpixel.evaluation import protocol
    from subpixel.evaluation.report import Report
    from subpixel.upscaler import load

    if scale is None and model in (None, "bicubic"):
        raise typer.BadParameter("give a scale, such as -s 3", param_hint="--scale")
    upscale: protocol.UpscaleLuma
    with exiting(2, ValueError, SubpixelError):
        degrade = protocol.Degradation(degradation, sigma_px)
        if model == "bicubic":
            assert scale is not None
            name, runner, arithmetic, upscale = model, None, None, protocol.bicubic(scale)
        else:
            upscaler = load(model, scale=scale, engine=engine, precision=precision, threads=threads)
            upscale, name, scale = upscaler.engine, upscaler.model.name, upscaler.scale
            runner, arithmetic = upscaler.engine.name, upscaler.engine.precision

    messages = Console(stderr=True)
    with exiting(1, SubpixelError):
        files = track(
            protocol.pictures(dataset),
            "evaluating",
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        images = tuple(protocol.evaluate_file(file, upscale, scale, degrade) for file in files)

    report = Report(dataset, scale, name, runner, arithmetic, degrade, images)
    if as_json:
        typer.echo(json.dumps(report.to_json()))
        return
    results = Console(markup=False, emoji=False, highlight=False)  # names of pictures are text
    results.print(report.table())
    if (others := report.published_table()) is not None:
        results.print()
        results.print(others)
