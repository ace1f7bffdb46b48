"""``subpixel train``: train a model from a configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.errors import exiting, stoppable
from subpixel.errors import ConfigError, SubpixelError
from subpixel.files import is_file, leaving_no_empty_folder, make_folder_of

if TYPE_CHECKING:
    from subpixel.training.config import TrainingConfig
    from subpixel.training.loop import Progress, Run


@stoppable("interrupted; --resume goes on from the last epoch")
def train(
    config: Annotated[
        Path, typer.Argument(help="TOML file that says what to train and how.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for checkpoint, logs and model.  [default: runs/NAME]",
            show_default=False,
        ),
    ] = None,
    datasets: Annotated[
        Path, typer.Option(envvar="SUBPIXEL_DATASETS", help="Folder that holds the folders of pictures.")
    ] = Path("../shared/datasets"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Fuse the network's kernels first, for passes in bf16; pays in time."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.  [default: all]", show_default=False)
    ] = None,
) -> None:
    """Train a model: checkpoints every epoch, progress, TensorBoard logs, and a model file at the end.

    A run that was stopped, in whatever way, goes on with --resume and gives the same weights.
    """
    try:
        import torch

        from subpixel.training.config import load_config
        from subpixel.training.loop import CHECKPOINT, Run, choose_device
        from subpixel.training.result import finished_model
    except ModuleNotFoundError as error:
        _say(f"error: training needs {error.name}: pip install 'subpixel[train]'")
        raise typer.Exit(2) from None
    with exiting(2, ConfigError):
        chosen = load_config(config)
        where = choose_device(device)
    folder = output or Path("runs") / chosen.name
    if is_file(folder / CHECKPOINT) and not resume:
        _say(f"error: {folder} holds a run already: pass --resume to go on, or another --output")
        raise typer.Exit(2)
    if threads:
        torch.set_num_threads(threads)
    with exiting(1, SubpixelError):
        with leaving_no_empty_folder(folder / CHECKPOINT):
            make_folder_of(folder / CHECKPOINT)
            _say(f"reading {', '.join(chosen.data.folders)} from {datasets}")
            run = Run(chosen, datasets, folder, where, compiled=compiled)
            if resume and run.resume():
                _say(f"going on after epoch {run.next_epoch}")
        _describe(run)
        run.train(lambda progress: _show(progress, chosen))
        _say("measuring the finished model")
        model = finished_model(run, config)
        path = folder / f"{model.name}.safetensors"
        model.save(path)
    numbers = ", ".join(f"{name} {value:.2f} dB" for name, value in model.metadata.psnr_db.items())
    _say(f"{path}: {numbers or 'no test set at hand'}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _describe(run: "Run") -> None:
    patches = run.patches
    left_out = f" ({patches.skipped} smaller than a patch left out)" if patches.skipped else ""
    batches = f"{patches.batches_per_epoch} batches an epoch"
    _say(f"{len(patches.heights)} pictures and copies{left_out}, {batches}, on {run.device.type}")


def _show(progress: "Progress", config: "TrainingConfig") -> None:
    """One line an epoch, on a terminal and in a log."""
    hours, rest = divmod(round(progress.eta_seconds), 3600)
    psnr = (
        ""
        if progress.validation_psnr_db is None
        else f"  {config.validation.folder} {progress.validation_psnr_db:.3f} dB"
    )
    _say(
        f"epoch {progress.epoch}/{progress.epochs}  cost {progress.cost:.4g}  rate {progress.rate:.2e}{psnr}"
        f"  {progress.seconds:.0f} s, ETA {hours}:{rest // 60:02d}:{rest % 60:02d}"
    )
