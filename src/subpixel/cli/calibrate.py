"""`subpixel calibrate`: add int8 layers to a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subpixel.cli.display import stderr_console
from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.cli.options import OverwriteOption
from subpixel.errors import DatasetError, ModelError, SubpixelError

if TYPE_CHECKING:
    from subpixel.models.model import Model


@handle_signals("interrupted; nothing was written")
def calibrate(
    model: Annotated[
        str, typer.Argument(help="A packaged model (see `subpixel models`) or a .safetensors file.")
    ],
    images: Annotated[
        Path, typer.Argument(help="A folder of HR images like those it was trained on; never a test set.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", "-s", min=1, max=8, help="Factor of the model; 2 by default, if its name has none."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for the random choice of crops and pixels.")] = 0,
    contrast_share: Annotated[
        float,
        typer.Option(
            min=0.0001,
            max=1,
            help="Weight of synthetic black and white blocks: larger for text, smaller for photographs.",
        ),
    ] = 0.01,
    half: Annotated[
        bool, typer.Option("--half", help="Round the float32 weights to 16 bits first, for a smaller file.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Add int8 layers to a model, for `--precision int8`.

    The images are downscaled, and the int8 layers are fitted so that they give what the float32 layers give.
    The float32 weights do not change, except with `--half`. Networks for video get their int8 layers in
    training.
    """
    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output}: the name must end in .safetensors", param_hint="--output")
    with exit_on_error(2, ModelError):
        chosen = _find_luma_model(model, scale)
        if half:
            chosen = chosen.in_half_precision()
    with exit_on_error(1, SubpixelError):
        result = _fit(chosen, images, seed, contrast_share)
        result.save(output, overwrite=overwrite)
    typer.echo(
        f"wrote {output}: {result.name} with int8 layers, calibrated on {result.metadata.calibration}",
        err=True,
    )


def _find_luma_model(name: str, scale: int | None) -> "Model":
    from subpixel.models import catalog as packaged

    model = packaged.find(name, scale=scale)
    if model.spec.channels != 1:
        raise ModelError(
            f"model {model.name} has {model.spec.channels} channels; `calibrate` takes models of one, luma"
        )
    return model


def _fit(model: "Model", folder: Path, seed: int, contrast_share: float) -> "Model":
    """Read the images and fit the int8 layers, with a progress bar on a terminal."""
    from rich.progress import Progress

    from subpixel.evaluation import protocol
    from subpixel.models.calibration import calibrate as fit
    from subpixel.models.calibration import check_model

    check_model(model)  # before all images are read
    console = stderr_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        planes = [
            protocol.lr_plane(protocol.read_image(file), model.scale)
            for file in bar.track(protocol.find_images(folder), description="reading")
        ]
        task = bar.add_task("fitting", total=1)
        try:
            return fit(
                model,
                planes,
                source=f"{_dataset(folder)}, {len(planes)} images, seed {seed}, contrast {contrast_share:g}",
                seed=seed,
                contrast_share=contrast_share,
                progress=lambda fraction: bar.update(task, completed=fraction),
            )
        except ValueError as error:
            raise DatasetError(f"{folder}: {error}") from error


def _dataset(folder: Path) -> str:
    """The usual name of a folder of images: a dataset, or a part of one, such as BSDS500/train."""
    *_, parent, name = ("", *folder.resolve().parts)
    return f"{parent}/{name}" if name in ("train", "val", "test") else name
