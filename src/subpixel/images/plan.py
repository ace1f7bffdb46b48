"""Which file becomes which, for a run over files and folders."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subpixel.images.formats import EXTENSIONS, format_of


@dataclass
class Plan:
    """What a run will do."""

    jobs: list[tuple[Path, Path]] = field(default_factory=list)
    """Input and output files, in order."""
    skipped: int = 0
    """How many files in input folders are no pictures by their names."""


def plan(inputs: Sequence[Path], output: str, *, recursive: bool = False) -> Plan:
    """Decide on the outputs, without reading any picture.

    One input file and an ``output`` that ends in an extension make one file. In every other case
    ``output`` is a folder, made where it is missing. There, each picture keeps its name, and where that
    does not end in the extension of a format that is written, ``.png`` is added. Folders give their
    pictures, known by their extensions and not hidden, with ``recursive`` also those of the folders inside
    them, whose tree is kept.

    Raises:
        ValueError: inputs and output do not fit together; nothing should be done then.
        OutputError: ``output`` is a file of a format that is not written.
    """
    target = Path(output)
    is_folder = target.is_dir() or output.endswith(("/", os.sep))
    if len(inputs) == 1 and not inputs[0].is_dir() and not is_folder and target.suffix:
        format_of(target)
        return Plan([(inputs[0], target)])
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target}: is a file; several pictures need a folder")
    if not is_folder and target.suffix.lower() in EXTENSIONS:
        raise ValueError(f"{target}: several pictures need a folder; is this one, end it in {os.sep}")
    result = Plan()
    for source in inputs:
        if not source.is_dir():
            result.jobs.append((source, target / _writable(source.name)))
            continue
        if source.resolve() == target.resolve():
            raise ValueError(f"{target}: is the input folder itself; name another output folder")
        before = len(result.jobs)
        for path in _files(source, recursive, target.resolve()):
            if path.suffix.lower() in EXTENSIONS:
                result.jobs.append((path, target / path.relative_to(source)))
            else:
                result.skipped += 1
        if len(result.jobs) == before:
            deeper = "" if recursive else "; --recursive looks into its folders too"
            raise ValueError(f"{source}: holds no pictures ({', '.join(EXTENSIONS)}){deeper}")
    _check(result.jobs)
    return result


def _writable(name: str) -> str:
    return name if Path(name).suffix.lower() in EXTENSIONS else f"{name}.png"


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


def _check(jobs: Iterable[tuple[Path, Path]]) -> None:
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
