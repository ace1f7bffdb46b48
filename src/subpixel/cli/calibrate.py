"""`subpixel calibrate`: give a model 8-bit layers."""

from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.errors import exiting, stoppable
from subpixel.errors import DatasetError, ModelError, SubpixelError


@stoppable("interrupted; nothing was written")
def calibrate(
    model: Annotated[
        str, typer.Argument(help="A packaged model (see `subpixel models`), or a .safetensors file.")
    ],
    pictures: Annotated[
        Path, typer.Argument(help="A folder of large pictures such as it was trained on; never a test set.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    seed: Annotated[int, typer.Option(help="Of the choice of crops and pixels.")] = 0,
    contrast_share: Annotated[
        float,
        typer.Option(
            min=0.0001, max=1, help="How much black and white counts: more for text, less for pictures."
        ),
    ] = 0.01,
    half: Annotated[
        bool, typer.Option("--half", help="Round the float32 weights to 16 bits first, for a smaller file.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Give a model 8-bit layers, for `--precision int8`; its float32 weights stay but for `--half`.

    The pictures are made smaller, and the 8-bit layers fitted so that they give what the float32 ones do.
    """
    from rich.console import Console
    from rich.progress import Progress

    from subpixel.evaluation import protocol
    from subpixel.models import catalog as packaged
    from subpixel.models.calibration import calibrate as fit

    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output}: the name must end in .safetensors", param_hint="--output")
    with exiting(2, ModelError):
        chosen = packaged.find(model)
        if chosen.spec.channels != 1:
            raise ModelError(f"model {chosen.name} has {chosen.spec.channels} channels; this is for luma")
        if half:
            chosen = chosen.in_half_precision()
    people = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    with (
        exiting(1, SubpixelError),
        Progress(console=people, transient=True, disable=not people.is_terminal) as bar,
    ):
        planes = [
            protocol.lr_plane(protocol.read_picture(file), chosen.scale)
            for file in bar.track(protocol.pictures(pictures), description="reading")
        ]
        task = bar.add_task("fitting", total=1)
        source = f"{_dataset(pictures)}, {len(planes)} pictures, seed {seed}, contrast {contrast_share:g}"
        try:
            result = fit(
                chosen,
                planes,
                source=source,
                seed=seed,
                contrast_share=contrast_share,
                progress=lambda done: bar.update(task, completed=done),
            )
        except ValueError as error:
            raise DatasetError(f"{pictures}: {error}") from error
        result.save(output, overwrite=overwrite)
    people.print(f"{output}: {result.name} with 8-bit layers, calibrated on {source}")


def _dataset(folder: Path) -> str:
    """What people call a folder of pictures: a dataset, or a part of one, such as BSDS500/train."""
    *_, parent, name = ("", *folder.resolve().parts)
    return f"{parent}/{name}" if name in ("train", "val", "test") else name
