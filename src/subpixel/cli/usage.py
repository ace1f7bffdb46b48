"""Checks of the command line before any work: empty arguments, ``~``, unused options, terminals."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from subpixel.batch import ExistingOutputs, Job
from subpixel.files import PIPE
from subpixel.images.formats import EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.images.formats import FORMATS
from subpixel.storage.paths import Location, is_folder, locate

FILES = "Folders and many files"
IMAGES = "Images"
VIDEOS = "Videos"
"""Panels of ``--help``. An option for images or videos is refused if no job is of that kind."""

_HOME = re.compile(r"(?:--[\w-]+=|-[a-z])?(~[^/\\]*)(?:[/\\]|$)")
"""An argument with a path that begins with ``~`` or ``~user``."""

_EMPTY = re.compile(r"(?:--[\w-]+=)?")
"""An empty argument, such as ``"$NAME"`` with an unset variable; as a path it would be the current folder."""


class Group(TyperGroup):
    """The commands of `subpixel`; refuses empty arguments and an unexpanded ``~`` for all of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Group.parse_args`."""
        for number, argument in enumerate(args):
            if _EMPTY.fullmatch(argument):
                shown = argument or (f"{args[number - 1]} ''" if number else "''")
                _exit(f"{shown}: the argument is empty; leave it out, or set the variable that it comes from")
            found = _HOME.match(argument)
            if found is None or os.path.lexists(found[1]):
                continue
            path = argument[found.start(1) :]
            if (meant := os.path.expanduser(path)) != path:  # noqa: PTH111 - pathlib raises for an unknown user
                _exit(f"{path}: the shell does not expand ~ inside quotes and after =; write {meant}")
        return super().parse_args(ctx, args)


def _exit(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def refuse_unused(context: typer.Context, jobs: Sequence[Job]) -> None:
    """Raise ValueError if an option was given that no job can use."""
    outputs = {job.output.suffix.lower() for job in jobs if not job.is_video}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        option, panel = parameter.opts[0], getattr(parameter, "rich_help_panel", None)
        if panel == IMAGES and not outputs:
            raise ValueError(f"{option} is for images, and no input is one; leave it out")
        if panel == VIDEOS and not any(job.is_video for job in jobs):
            raise ValueError(f"{option} is for videos, and no input is one; leave it out")
        if parameter.name == "quality":
            _check_quality_used(option, outputs)


def _check_quality_used(option: str, outputs: set[str]) -> None:
    with_quality = [format_ for format_ in FORMATS if format_.has_quality]
    if not any(outputs.intersection(format_.extensions) for format_ in with_quality):
        names = ", ".join(format_.name for format_ in with_quality)
        raise ValueError(f"{option} is for {names}, and no output is one; leave it out")


def existing_outputs(output: str | None, *, overwrite: bool, skip: bool, newer: bool) -> ExistingOutputs:
    """Return what happens to outputs that exist; raise ValueError for options that exclude each other."""
    chosen: dict[str, ExistingOutputs] = {
        "--overwrite": "overwrite",
        "--skip-existing": "skip",
        "--newer": "newer",
    }
    given = [name for name, wanted in zip(chosen, (overwrite, skip, newer), strict=True) if wanted]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other; use one of them")
    if not given:
        return "refuse"
    if output == PIPE and given[0] != "--overwrite":
        raise ValueError(f"{given[0]} is for files, and -o - writes to stdout; leave it out")
    return chosen[given[0]]


def refuse_terminal(inputs: Sequence[Location], output: str | None) -> None:
    """Raise ValueError if a video would be written to the terminal or read from the keyboard."""
    if output == PIPE and sys.stdout.isatty():
        raise ValueError(
            "-o - would write a video to the terminal; end the command with `| mpv -` or `> video.y4m`"
        )
    if PIPE in map(str, inputs) and sys.stdin.isatty():
        raise ValueError(
            "- is a video on stdin, and stdin is the terminal; begin the command with `cat video.mp4 |`"
        )


def folder_made_for_one_file(inputs: Sequence[Location], output: str | None) -> Location | None:
    """Return the folder to create for one input file, if ``output`` has neither an extension nor a slash."""
    if output is None:
        return None
    one_file = len(inputs) == 1 and not is_folder(inputs[0])
    folder = locate(output)
    bare = output != PIPE and not folder.suffix and not output.endswith(("/", os.sep))
    exists = os.path.lexists(output) or is_folder(folder)
    return folder if one_file and bare and not exists else None


def warnings_for(job: Job, frames: int) -> list[str]:
    """Return the warnings about a job that was done, but that the user may have meant differently.

    Args:
        job: the job.
        frames: the frames of its output.
    """
    if frames == 1 and job.is_video and job.source.suffix.lower() in IMAGE_EXTENSIONS:
        if str(job.output) == PIPE:
            return ["is an image, and the output a video of one frame; for an image, name a file with -o"]
        return [f"is an image, and {job.output} a video of one frame; for an image, end the output in .png"]
    return []
