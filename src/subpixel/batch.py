"""A run over files and folders: which file becomes which."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from subpixel.errors import OutputError
from subpixel.files import PIPE, is_folder
from subpixel.images.formats import EXTENSIONS as PICTURE_EXTENSIONS
from subpixel.video.media.containers import INPUT_EXTENSIONS as VIDEO_EXTENSIONS
from subpixel.video.media.containers import OUTPUT_EXTENSIONS as WRITTEN_VIDEO_EXTENSIONS

_TRANSPORT_STREAM = b"\x47"


class Job(NamedTuple):
    """One file that becomes another."""

    source: Path
    output: Path

    @property
    def is_video(self) -> bool:
        """Whether it is one for `subpixel.video`, going by the names."""
        extensions = {path.suffix.lower() for path in self}
        return PIPE in map(str, self) or not extensions.isdisjoint(VIDEO_EXTENSIONS)


@dataclass
class Plan:
    """What a run will do."""

    jobs: list[Job] = field(default_factory=list)
    """In order."""
    skipped: int = 0
    """How many files in input folders are neither pictures nor videos by their names."""


def plan(inputs: Sequence[Path], output: str, *, recursive: bool = False) -> Plan:
    """Decide on the outputs, without reading any input.

    One input file and an ``output`` that ends in an extension make one file, as do "-", which stands for
    stdin and stdout. In every other case ``output`` is a folder, made where it is missing. There, each input
    keeps its name, and where that does not end in the extension of a format that is written, ``.png`` is
    added, or ``.mkv`` to a video. Folders give their pictures and videos, known by their extensions and not
    hidden, with ``recursive`` also those of the folders inside them, whose tree is kept.

    Raises:
        ValueError: inputs and output do not fit together; nothing should be done then.
        OutputError: ``output`` is a file of a format that is not written.
    """
    if not output:
        raise ValueError('the output has no name; "." is this folder')
    target = Path(output)
    into_folder = is_folder(target) or output.endswith(("/", os.sep))
    one_file = len(inputs) == 1 and not is_folder(inputs[0])
    if PIPE in (output, *map(str, inputs)) and (not one_file or into_folder):
        raise ValueError('"-" stands for one video: give one input, and one file or "-" as output')
    if str(inputs[0]) == PIPE and target.suffix.lower() in PICTURE_EXTENSIONS:
        raise ValueError(f'"-" stands for a video, and {target} is a picture, which is made of a file')
    if output == PIPE or (one_file and not into_folder and target.suffix):
        if output != PIPE and target.suffix.lower() not in _WRITTEN:
            known = ", ".join(_WRITTEN)
            raise OutputError(
                f"{target}: nothing is written with the extension {target.suffix!r}; known: {known}"
            )
        return Plan([Job(inputs[0], target)])
    need = "several inputs need a folder" if len(inputs) > 1 else "a folder as input needs a folder as output"
    if not is_folder(target) and os.path.lexists(target):
        if one_file:
            raise ValueError(f"{target}: does not tell the format; end it in {', '.join(_WRITTEN)}")
        raise ValueError(f"{target}: is a file; {need}")
    if not into_folder and target.suffix.lower() in _WRITTEN:
        raise ValueError(f"{target}: {need}; is this one, end it in {os.sep}")
    result = Plan()
    for source in inputs:
        if not is_folder(source):
            result.jobs.append(Job(source, target / _writable(source.name)))
            continue
        if source.resolve() == target.resolve():
            raise ValueError(f"{target}: is the input folder itself; name another output folder")
        before = len(result.jobs)
        for path in _files(source, recursive, target.resolve()):
            if _is_wanted(path):
                place = path.relative_to(source)
                result.jobs.append(Job(path, target / place.with_name(_writable(place.name))))
            else:
                result.skipped += 1
        if len(result.jobs) == before:
            deeper = "" if recursive else "; --recursive looks into its folders too"
            known = ", ".join((*PICTURE_EXTENSIONS, *VIDEO_EXTENSIONS))
            raise ValueError(f"{source}: holds no pictures or videos ({known}){deeper}")
    _check(result.jobs)
    return result


_WRITTEN = (*PICTURE_EXTENSIONS, *WRITTEN_VIDEO_EXTENSIONS)


def _writable(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in _WRITTEN:
        return name
    return f"{name}.mkv" if suffix in VIDEO_EXTENSIONS else f"{name}.png"


def _is_wanted(path: Path) -> bool:
    """Whether a file in a folder is a picture or a video by its name."""
    suffix = path.suffix.lower()
    if suffix == ".ts":  # also that of TypeScript
        try:
            with path.open("rb") as file:
                return file.read(1) == _TRANSPORT_STREAM
        except OSError:
            return True  # whoever is to enlarge it says what is wrong
    return suffix in PICTURE_EXTENSIONS or suffix in VIDEO_EXTENSIONS


def _files(folder: Path, recursive: bool, leave_out: Path) -> Iterator[Path]:
    """The files in a folder that are not hidden, sorted; links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() != leave_out
        )
        yield from (here / name for name in sorted(names) if not name.startswith("."))
        if not recursive:
            return


def _check(jobs: Iterable[Job]) -> None:
    """Refuse that two inputs become one output, or that an output replaces another's input."""
    sources: dict[Path, Path] = {}
    inputs = {source.resolve() for source, _ in jobs}
    for source, output in jobs:
        place = output.resolve()
        if place in sources:
            raise ValueError(f"{sources[place]} and {source} would both become {output}; run them one by one")
        if place in inputs and place != source.resolve():
            raise ValueError(f"{output}: is one of the inputs; name another output folder")
        sources[place] = source
