"""`subpixel train`: train a model from a config."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.errors import ConfigError, SubpixelError
from subpixel.files import is_file, make_folder_of, remove_empty_folders_on_error

if TYPE_CHECKING:
    import torch

    from subpixel.training.config import TrainingConfig
    from subpixel.training.loop import EpochReport, Run


@handle_signals("interrupted; --resume continues after the last complete epoch")
def train(
    config: Annotated[
        Path, typer.Argument(help="A TOML file that describes the training.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the checkpoint, logs and model.  [default: runs/NAME]",
            show_default=False,
        ),
    ] = None,
    datasets: Annotated[
        Path,
        typer.Option(
            envvar="SUBPIXEL_DATASETS", help="Folder that contains the folders of images named in the config."
        ),
    ] = Path("../shared/datasets"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in the output folder.")
    ] = False,
    resume_from: Annotated[
        Path | None,
        typer.Option(
            "--resume-from",
            help="Continue from a small checkpoint (unfinished.safetensors) of another run's folder, unless "
            "--resume finds a checkpoint.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Fuse the kernels of bf16 steps with torch.compile; pays off in long runs."
        ),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.  [default: all]", show_default=False)
    ] = None,
) -> None:
    """Train a model from a config. Needs PyTorch.

    The output folder gets a checkpoint after every epoch, TensorBoard logs, and at the end the model. An
    interrupted run continues with `--resume`, and gives the same weights as an uninterrupted one. To continue
    on another machine, keep `unfinished.safetensors`, which is small, and pass it to `--resume-from`.
    """
    try:
        import torch

        from subpixel.training.config_file import load_config
        from subpixel.training.loop import choose_device
    except ModuleNotFoundError as error:
        _print(f"error: training needs {error.name}: pip install 'subpixel[train]'")
        raise typer.Exit(2) from None
    with exit_on_error(2, ConfigError):
        chosen = load_config(config)
        torch_device = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    folder = output or Path("runs") / chosen.name
    run = _prepare(
        chosen, datasets, folder, torch_device, resume=resume, resume_from=resume_from, compiled=compiled
    )
    with exit_on_error(1, SubpixelError):
        run.train(lambda report: _print_epoch(report, chosen))
        _finish(run, config, folder)


def _prepare(
    config: "TrainingConfig",
    datasets: Path,
    folder: Path,
    device: "torch.device",
    *,
    resume: bool,
    compiled: bool,
    resume_from: Path | None,
) -> "Run":
    """Read the data, and the checkpoint of a run to resume; print what will be trained on."""
    from subpixel.training.checkpoint import CHECKPOINT
    from subpixel.training.loop import Run

    if is_file(folder / CHECKPOINT) and not resume:
        _print(f"error: {folder} contains a run already: pass --resume to continue it, or another --output")
        raise typer.Exit(2)
    with exit_on_error(1, SubpixelError), remove_empty_folders_on_error(folder / CHECKPOINT):
        make_folder_of(folder / CHECKPOINT)
        clips = [] if config.clips is None else [config.clips.folder]
        _print(f"reading {', '.join([*clips, *config.data.folders])} from {datasets}")
        run = Run(config, datasets, folder, device, compiled=compiled)
        if resume and run.resume():
            _print(f"resuming after epoch {run.next_epoch}")
        elif resume_from is not None:
            run.resume_from(resume_from)
            _print(f"continuing {resume_from} after epoch {run.next_epoch}")
    patches = run.patches
    skipped = f" ({patches.skipped} smaller than a patch skipped)" if patches.skipped else ""
    batches = f"{patches.batches_per_epoch} batches per epoch"
    _print(f"{patches.description}{skipped}, {batches}, on {device.type}")
    return run


def _finish(run: "Run", config: Path, folder: Path) -> None:
    """Calibrate the trained model, measure it on the test sets, save it, and print its path and PSNR."""
    from subpixel.training.result import finished_model

    _print("adding int8 layers, and measuring the trained model")
    model = finished_model(run, config)
    path = folder / f"{model.name}.safetensors"
    model.save(path)
    numbers = ", ".join(f"{name} {value:.2f} dB" for name, value in model.metadata.psnr_db.items())
    _print(f"wrote {path}: {numbers or 'no test set found'}")


def _print_epoch(report: "EpochReport", config: "TrainingConfig") -> None:
    """Print one line for an epoch, on a terminal and in a log alike."""
    hours, rest = divmod(round(report.eta_seconds), 3600)
    psnr = (
        ""
        if report.validation_psnr_db is None
        else f"  {config.validation.folder} {report.validation_psnr_db:.3f} dB"
    )
    _print(
        f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4g}  rate {report.rate:.2e}{psnr}"
        f"  {report.seconds:.0f} s, ETA {hours}:{rest // 60:02d}:{rest % 60:02d}"
    )


def _print(line: str) -> None:
    typer.echo(line, err=True)
