"""What several commands read from their options in the same way."""

import re

import typer


def width_and_height(size: str, most_pixels: int | None = None) -> tuple[int, int]:
    """Width and height that ``--size`` gives as ``WIDTHxHEIGHT``, of at most ``most_pixels``.

    Raises `typer.BadParameter` for anything else.
    """
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    width, height = map(int, sides.groups()) if sides else (0, 0)
    if not width * height or (most_pixels is not None and width * height > most_pixels):
        bound = "" if most_pixels is None else f", of at most {most_pixels} pixels"
        raise typer.BadParameter(
            f"{size!r}: expected WIDTHxHEIGHT, such as 640x360{bound}", param_hint="--size"
        )
    return width, height
