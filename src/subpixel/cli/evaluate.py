"""`subpixel evaluate`: a model's PSNR and SSIM on a test set, beside bicubic and the published numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.display import to_stdout
from subpixel.cli.errors import exiting, stoppable
from subpixel.cli.options import width_and_height
from subpixel.errors import SubpixelError

if TYPE_CHECKING:
    from rich.console import Console

    from subpixel.evaluation.protocol import UpscaleLuma
    from subpixel.evaluation.report import ClipsReport, Method, Report


@stoppable("interrupted")
def evaluate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="A folder of HR pictures, or one that holds them in a folder HR; or HR video clips, "
            "or a folder of clips alone.",
            show_default=False,
        ),
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
    size: Annotated[
        str | None,
        typer.Option(help="Of the frames in raw .yuv clips (planar 8-bit 4:2:0), WIDTHxHEIGHT."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Of each clip, use only so many frames from its start.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, halide, onnxruntime or numpy.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or int8.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure a model as the literature does: PSNR and SSIM on luma, a border of SCALE pixels left out.

    Each picture is made smaller, enlarged again by the model, and compared with itself. So is each frame of
    a video; there, the mean PSNR over the frames is given.
    """
    from rich.console import Console

    from subpixel.evaluation import protocol
    from subpixel.evaluation.methods import find_method
    from subpixel.evaluation.report import Method
    from subpixel.evaluation.video import find_clips

    if scale is None and model in (None, "bicubic"):
        raise typer.BadParameter("give a scale, such as -s 3", param_hint="--scale")
    sides = None if size is None else width_and_height(size)
    with exiting(2, ValueError, SubpixelError):
        if model == "bicubic" and (engine, precision) != ("auto", "auto"):
            raise ValueError("--engine and --precision are for networks, and bicubic is none")
        degrade = protocol.Degradation(degradation, sigma_px)
        found = find_method(model, scale=scale, engine=engine, precision=precision, threads=threads)
        upscale = found.upscale
        method = Method(found.scale, found.name, found.engine, found.precision, degrade)
    with exiting(2, ValueError), exiting(1, SubpixelError):
        clips = find_clips(inputs, sides)
        if frames is not None and not clips:
            raise ValueError(f"{inputs[0]}: is no video clip, of which --frames could be used")

    messages = Console(stderr=True, highlight=False, markup=False, emoji=False)
    report: Report | ClipsReport
    with exiting(1, SubpixelError):
        if clips:
            report = _on_clips(clips, upscale, method, sides, frames, messages)
        else:
            report = _on_pictures(inputs[0], upscale, method, messages)
    with to_stdout():
        if as_json:
            typer.echo(json.dumps(report.to_json()))
            return
        results = Console(markup=False, emoji=False, highlight=False)  # names of pictures are text
        for number, table in enumerate(report.tables()):
            if number:
                results.print()
            results.print(table)


def _on_pictures(folder: Path, upscale: "UpscaleLuma", method: "Method", messages: "Console") -> "Report":
    """Evaluate a test set, with a bar where there is a terminal."""
    from rich.progress import track

    from subpixel.evaluation import protocol
    from subpixel.evaluation.report import Report

    files = track(
        protocol.pictures(folder),
        "evaluating",
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )
    images = tuple(protocol.evaluate_file(file, upscale, method.scale, method.degradation) for file in files)
    return Report(folder, method, images)


def _on_clips(
    clips: list[Path],
    upscale: "UpscaleLuma",
    method: "Method",
    size: tuple[int, int] | None,
    frames: int | None,
    messages: "Console",
) -> "ClipsReport":
    """Evaluate clips, with a bar that counts frames too where there is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn

    from subpixel.evaluation.report import ClipsReport
    from subpixel.evaluation.video import evaluate_clip

    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    scores = []
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("evaluating", total=len(clips))
        for clip in clips:

            def show(done: int, name: str = clip.name) -> None:
                bar.update(task, description=f"{name}, frame {done}")

            scores.append(
                evaluate_clip(
                    clip,
                    upscale,
                    method.scale,
                    method.degradation,
                    size=size,
                    frames=frames,
                    progress=show,
                )
            )
            bar.advance(task)
    return ClipsReport(method, tuple(scores))
