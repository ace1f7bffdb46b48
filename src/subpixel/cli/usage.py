"""What is refused because it cannot be meant: options without use, films on a terminal, nothing, a ``~``."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from subpixel.batch import Job
from subpixel.files import PIPE, is_folder
from subpixel.images.formats import EXTENSIONS as PICTURE_EXTENSIONS
from subpixel.images.formats import JPEG, WEBP

PICTURES = "Pictures"
VIDEOS = "Videos"
"""The panels of `--help`, which say for what an option is."""

_HOME = re.compile(r"(?:--[\w-]+=|-[a-z])?(~[^/\\]*)(?:[/\\]|$)")

_EMPTY = re.compile(r"(?:--[\w-]+=)?")
"""What a shell makes of ``"$NAME"`` that is not set. Taken for a path, it would be the current folder."""


class Group(TyperGroup):
    """All commands; before any of them runs, an empty argument or a ``~`` in one is refused."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Group.parse_args`."""
        for number, argument in enumerate(args):
            if _EMPTY.fullmatch(argument):
                what = argument or (f"{args[number - 1]} ''" if number else "''")
                typer.echo(
                    f"error: {what}: an argument is empty; leave it out, or set the variable it comes from",
                    err=True,
                )
                raise typer.Exit(2)
            found = _HOME.match(argument)
            if found is None or os.path.lexists(found[1]):
                continue
            path = argument[found.start(1) :]
            if (meant := os.path.expanduser(path)) != path:  # noqa: PTH111 - pathlib raises for an unknown user
                typer.echo(
                    f"error: {path}: the shell left ~ as it is, as it does inside quotes and behind =; "
                    f"write {meant}",
                    err=True,
                )
                raise typer.Exit(2)
        return super().parse_args(ctx, args)


def refuse_unused(context: typer.Context, jobs: Sequence[Job]) -> None:
    """Raise ValueError for options that were given and that no job can use."""
    outputs = {job.output.suffix.lower() for job in jobs if not job.is_video}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        option, panel = parameter.opts[0], getattr(parameter, "rich_help_panel", None)
        if panel == PICTURES and not outputs:
            raise ValueError(f"{option} is for pictures, and no input is one")
        if panel == VIDEOS and not any(job.is_video for job in jobs):
            raise ValueError(f"{option} is for videos, and no input is one")
        if parameter.name == "quality" and outputs.isdisjoint((*JPEG.extensions, *WEBP.extensions)):
            raise ValueError(f"{option} is for JPEG and WebP, and no output is one")


def refuse_terminal(inputs: Sequence[Path], output: str) -> None:
    """Raise ValueError where a film would be read from the keyboard or shown as text."""
    if output == PIPE and sys.stdout.isatty():
        raise ValueError(
            "-o - would write a film to the terminal; end the command in `| mpv -` or `> film.y4m`"
        )
    if PIPE in map(str, inputs) and sys.stdin.isatty():
        raise ValueError(
            "- is a film on stdin, and stdin is the terminal; begin the command with `cat film |`"
        )


def folder_to_be(inputs: Sequence[Path], output: str) -> Path | None:
    """The folder that will be made for one file where ``output`` has no extension and ends in no slash."""
    one_file = len(inputs) == 1 and not is_folder(inputs[0])
    bare = output != PIPE and not Path(output).suffix and not output.endswith(("/", os.sep))
    return Path(output) if one_file and bare and not os.path.lexists(output) else None


def remarks(job: Job) -> list[str]:
    """What is told of a job although it was done as asked."""
    if job.is_video and job.source.suffix.lower() in PICTURE_EXTENSIONS:
        if str(job.output) == PIPE:
            return ["is a picture, and the output a video of one frame; name a file for a picture"]
        return [f"is a picture, and {job.output} a video of one frame; end the output in .png for a picture"]
    return []
