"""`subpixel evaluate`: PSNR and SSIM of a model on a test set, beside bicubic and the published numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.display import ignore_closed_stdout, stderr_console
from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import EngineOption, PrecisionOption, ThreadsOption, width_and_height
from subpixel.errors import SubpixelError

if TYPE_CHECKING:
    from subpixel.evaluation.protocol import Degradation
    from subpixel.evaluation.report import ClipReport, ImageReport, Setup
    from subpixel.evaluation.video import ClipSetup


@handle_signals("interrupted")
def evaluate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="A test set: a folder of HR images, or a folder that contains a folder HR. "
            "Or HR video clips, or one folder of clips.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A packaged model (see `subpixel models`), a .safetensors file, or bicubic; "
            "`default-xN` for the scale if left out.",
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option("--scale", "-s", min=1, max=8, help="Factor; needed without -m and for bicubic."),
    ] = None,
    degradation: Annotated[
        str, typer.Option(help="How LR is made from HR: bicubic, gaussian, or bd (see docs/protocol.md).")
    ] = "bicubic",
    sigma_px: Annotated[
        float | None,
        typer.Option(help="For gaussian: standard deviation of the blur in HR pixels."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Size of the frames in raw .yuv clips (planar 8-bit 4:2:0), WIDTHxHEIGHT."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Use only so many frames from the start of each clip.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Of clips: image leaves out a border of SCALE pixels, full-frame nothing, "
            "vespcn 8 pixels and two frames at each end.  [default: image]",
            show_default=False,
        ),
    ] = None,
    crf: Annotated[
        int | None, typer.Option(help="Compress the LR frames of clips with H.264 at this CRF.")
    ] = None,
    temporal: Annotated[
        bool,
        typer.Option("--temporal", help="Also measure the temporal consistency of clips; needs OpenCV."),
    ] = False,
    vmaf: Annotated[
        bool,
        typer.Option("--vmaf", help="Also measure VMAF and VMAF-NEG of clips; needs imageio-ffmpeg."),
    ] = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure the quality of a model on your test set: PSNR and SSIM on luma, as in the literature.

    Each image is downscaled, upscaled by the model, and compared with the original, without a border of SCALE
    pixels. For video, the result of a clip is the mean over its frames.
    """
    from subpixel.evaluation.protocol import Degradation
    from subpixel.evaluation.video import ClipProtocol, ClipSetup

    if scale is None and model in (None, "bicubic"):
        raise typer.BadParameter("give a scale, such as -s 3", param_hint="--scale")
    frame_size = None if size is None else width_and_height(size)
    with exit_on_error(2, ValueError, SubpixelError):
        setup = _setup(model, scale, engine, precision, threads, Degradation(degradation, sigma_px))
        measured = ClipSetup(
            setup.method.scale,
            setup.degradation,
            crf,
            ClipProtocol(protocol or "image"),
            temporal=temporal,
            vmaf=vmaf,
        )
    options = {
        "--frames": frames is not None,
        "--protocol": protocol is not None,
        "--crf": crf is not None,
        "--temporal": temporal,
        "--vmaf": vmaf,
    }
    with exit_on_error(2, ValueError), exit_on_error(1, SubpixelError):
        clips = _find_clips(inputs, frame_size, [name for name, given in options.items() if given])
    report: ClipReport | ImageReport
    with exit_on_error(1, SubpixelError):
        if clips:
            for note in setup.method.notes:
                typer.echo(f"note: {note}", err=True)
            report = _on_clips(clips, setup, measured, frame_size, frames)
        else:
            report = _on_images(inputs[0], setup)
    _print(report, as_json)


def _setup(
    model: str | None,
    scale: int | None,
    engine: str,
    precision: str,
    threads: int | None,
    degradation: "Degradation",
) -> "Setup":
    from subpixel.evaluation.methods import find_method
    from subpixel.evaluation.report import Setup

    if model == "bicubic" and (engine, precision) != ("auto", "auto"):
        raise ValueError("--engine and --precision are for networks, and bicubic is not a network")
    method = find_method(model, scale=scale, engine=engine, precision=precision, threads=threads)
    return Setup(method, degradation)


def _find_clips(inputs: list[Path], size: tuple[int, int] | None, for_clips: list[str]) -> list[Path]:
    """The clips among the inputs; ``for_clips`` are the options in use that images do not have."""
    from subpixel.evaluation.clips import find_clips

    clips = find_clips(inputs, size)
    if for_clips and not clips:
        raise ValueError(f"{inputs[0]}: not a video clip; leave out {for_clips[0]}, which is for clips")
    return clips


def _on_images(folder: Path, setup: "Setup") -> "ImageReport":
    """Evaluate a test set, with a progress bar on a terminal."""
    from rich.progress import track

    from subpixel.evaluation import protocol
    from subpixel.evaluation.report import ImageReport

    console = stderr_console()
    files = track(
        protocol.find_images(folder),
        "evaluating",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    method = setup.method
    images = [protocol.evaluate_file(file, method.upscale, method.scale, setup.degradation) for file in files]
    return ImageReport(folder, setup, tuple(images))


def _on_clips(
    clips: list[Path],
    setup: "Setup",
    measured: "ClipSetup",
    size: tuple[int, int] | None,
    frames: int | None,
) -> "ClipReport":
    """Evaluate clips, with a progress bar on a terminal that also counts frames."""
    from rich.progress import BarColumn, Progress, TextColumn

    from subpixel.evaluation.report import ClipReport
    from subpixel.evaluation.video import evaluate_frames

    console = stderr_console()
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    scores = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("evaluating", total=len(clips))
        for clip in clips:

            def show(frame: int, name: str = clip.name) -> None:
                bar.update(task, description=f"{name}, frame {frame}")

            upscale = setup.method.upscale_frames
            scores.append(evaluate_frames(clip, upscale, measured, size=size, frames=frames, progress=show))
            bar.advance(task)
    return ClipReport(setup, measured, tuple(scores))


def _print(report: "ImageReport | ClipReport", as_json: bool) -> None:
    """Print the result to stdout: JSON, or tables with an empty line between them."""
    from rich.console import Console

    with ignore_closed_stdout():
        if as_json:
            typer.echo(json.dumps(report.to_json()))
            return
        console = Console(markup=False, emoji=False, highlight=False)  # names of images are not markup
        for number, table in enumerate(report.tables()):
            if number:
                console.print()
            console.print(table)
