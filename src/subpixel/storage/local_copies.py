"""Temporary local files for inputs and outputs that are no paths: bytes, file objects, objects of buckets."""

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from subpixel.errors import InputError, OutputError, SubpixelError
from subpixel.files import Source, Target
from subpixel.storage.paths import ObjectPath, locate, name_of


class Paths(NamedTuple):
    """The paths of the input and the output, and their names in messages."""

    input: str
    output: str
    input_name: str
    output_name: str


@contextmanager
def as_paths(
    input: Source, output: Target, extension: str = "", *, copies_object: bool = True
) -> Iterator[Paths]:
    """Give bytes and file objects temporary paths, so that the rest of the library handles paths only.

    The input is copied to a temporary file. The body writes the output to another one, which is copied to
    the file object afterwards; if the body raises, nothing is written to it. Messages name the object, not
    the temporary file.

    Args:
        input: see `Source`; a file object is read from its current position to its end.
        output: see `Target`. That of an object in a bucket stays; `subpixel.storage.outputs` writes there.
        extension: of the temporary output, with the dot.
        copies_object: whether an input in a bucket is copied too; else its URL stays, and it is read by
            ranges.

    Raises:
        InputError: the file object of the input cannot be read, or the input is a URL or a pattern.
        OutputError: the file object of the output cannot be written to, or no temporary folder can be made.
    """
    refuse_urls_and_patterns(input)
    _refuse_url(output)
    names = _name_of(input), _name_of(output)
    is_copied = _is_copied(input, copies_object)
    if not is_copied and isinstance(output, str | os.PathLike):
        yield Paths(*names, *names)
        return
    with temporary_folder() as folder:
        source, target = names
        if is_copied:
            file = folder / f"input{'' if names[0] in _NAMELESS else Path(names[0]).suffix}"
            _read_into(file, input, names[0])
            source = str(file)
        if not isinstance(output, str | os.PathLike):
            target = str(folder / f"output{extension}")
        try:
            yield Paths(source, target, *names)
        except SubpixelError as error:
            message = str(error).replace(source, names[0]).replace(target, names[1])
            raise type(error)(message) from error
        if not isinstance(output, str | os.PathLike):
            _write_to(output, Path(target), names[1])


def _refuse_url(output: Target) -> None:
    if not isinstance(output, str | os.PathLike) or isinstance(locate(output), ObjectPath):
        return
    name = os.fsdecode(output)
    if _URL.match(name) and not os.path.lexists(Path(name).parent):
        url = _URL.sub(r"\1://", name, count=1)
        raise OutputError(f"{url}: is a URL, and only local files and s3:// are written; name another output")


def _is_copied(input: Source, copies_object: bool) -> bool:
    if not isinstance(input, str | os.PathLike):
        return True
    return copies_object and isinstance(locate(input), ObjectPath)


_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])", re.IGNORECASE)
"""The start of a URL; pathlib has removed one of its slashes. A single letter is a drive of Windows."""


def refuse_urls_and_patterns(input: Source) -> None:
    """Raise `InputError` for a URL, or for a pattern such as ``*.png``, that is not the name of a file.

    ``s3://`` is no such URL.
    """
    if not isinstance(input, str | os.PathLike) or os.path.lexists(input):
        return
    if isinstance(locate(input), ObjectPath):
        return
    name = os.fsdecode(input)
    if scheme := _URL.match(name):
        local = scheme[1].lower() == "file"
        cure = "pass its path instead" if local else "download the file first, for example with curl -O"
        url = name if local else _URL.sub(r"\1://", name, count=1)
        raise InputError(f"{url}: is a URL, and only local files and s3:// are read; {cure}")
    if any(character in name for character in "*?["):
        if glob.glob(name):  # noqa: PTH207 - the pattern may be absolute
            cure = "pass the files that it matches; a shell expands it if it is not in quotes"
        else:
            cure = "no file matches it; check the folder and the extension"
        raise InputError(f"{name}: is a pattern, not a file: {cure}")


_NAMELESS = ("<bytes>", "<file>")


def _name_of(file: Any) -> str:
    """Return the name of a path, bytes or a file object in messages."""
    if isinstance(file, str | os.PathLike):
        return name_of(file)
    if isinstance(file, bytes | bytearray | memoryview):
        return _NAMELESS[0]
    name = getattr(file, "name", None)  # an int if the file was opened by its descriptor
    return name if isinstance(name, str) and name else _NAMELESS[1]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards. Raises `OutputError` if there can be none."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="subpixel-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be made ({error.strerror or error}); set TMPDIR to another folder"
        ) from error
    with folder as path:
        yield Path(path)


def _read_into(file: Path, data: Any, name: str) -> None:
    """Copy bytes, the rest of a file object, or an object of a bucket, to a new file."""
    try:
        if isinstance(data, str | os.PathLike):
            if isinstance(found := locate(data), ObjectPath):
                found.download(file)
            return
        with file.open("wb") as copy:
            if isinstance(data, bytes | bytearray | memoryview):
                copy.write(data)
            else:
                shutil.copyfileobj(data, copy)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: could not be read ({reason})") from error


def _write_to(target: IO[bytes], file: Path, name: str) -> None:
    """Copy a file to a file object."""
    try:
        with file.open("rb") as result:
            shutil.copyfileobj(result, target)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise OutputError(f"{name}: could not be written ({error})") from error
