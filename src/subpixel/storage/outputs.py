"""Writing outputs, at a local path or in a bucket: they appear when they are complete."""

import contextlib
import mimetypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from subpixel import files
from subpixel.errors import OutputError, OutputExists, OutputIsInput
from subpixel.files import Target
from subpixel.storage.local_copies import temporary_folder
from subpixel.storage.paths import Location, ObjectPath, locate

_MOST_BYTES_AT_ONCE = 1 << 30
"""A larger file is sent in parts. S3 takes up to 5 GB at once, but what fails is sent anew as a whole."""

_PART_BYTES = 16 << 20
_MOST_PARTS = 5_000
_PARTS_AT_ONCE = 4

_IDENTITY = "subpixel-identity"
"""The metadata of an object that has the identity of the temporary file that it was sent from."""


@contextmanager
def write_whole(path: Location, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary file; when the body succeeds, it becomes the output in one step.

    A local file is written by `subpixel.files.write_atomically`. An object is sent from a file in the folder
    for temporary files, which so needs space for it.

    Raises:
        OutputExists: ``path`` exists and ``overwrite`` is false. For an object this is checked before the
            body, and again by the server (beyond 1 GiB: just before the last request).
        OutputError: it cannot be written.
    """
    if not isinstance(path, ObjectPath):
        with files.write_atomically(path, overwrite=overwrite) as part:
            yield part
        return
    check_writable(path, overwrite=overwrite)
    with temporary_folder() as folder:
        part = folder / f"output{path.suffix}"
        try:
            part.touch()
            yield part
            _upload(part, path, overwrite=overwrite)
        except FileExistsError:
            raise OutputExists(f"{path}: another process created it meanwhile; name another output") from None
        except OSError as error:
            raise OutputError(f"{path}: could not be written ({error.strerror or error})") from error


def check_writable(path: Location, *, overwrite: bool) -> None:
    """Check, without writing, that `write_whole` can write a file, as far as that can be known.

    Raises:
        OutputExists: it exists, and ``overwrite`` is false.
        OutputError: it cannot be written, or its bucket cannot be reached.
    """
    if not isinstance(path, ObjectPath):
        files.check_writable(path, overwrite=overwrite)
        return
    if not path.name:
        raise OutputError(f"{path}: is a bucket, not the name of an object; add one")
    with _writing_errors(path):
        exists = path.is_file()
    if exists and not overwrite:
        raise OutputExists(f"{path}: exists already; pass --overwrite (overwrite=True) to replace it")


def identity(path: Location) -> str:
    """Return what tells an output from a replacement of it: the same for what `write_whole` yields.

    Raises ``OSError`` if there is no such file or object.
    """
    if isinstance(path, ObjectPath):
        return path.attribute(_IDENTITY)
    status = path.stat()
    return f"{status.st_size}.{status.st_mtime_ns}"


def refuse_existing(path: Location) -> None:
    """Raise `OutputExists` if there is such a file or object."""
    if isinstance(path, ObjectPath):
        check_writable(path, overwrite=False)
    else:
        files.refuse_existing(path)


def refuse_input(output: Location, input: Location) -> None:
    """Raise `OutputIsInput` if both are the same file or object."""
    if isinstance(output, Path) and isinstance(input, Path):
        files.refuse_input(output, input)
    elif output == input:
        raise OutputIsInput(f"{output}: is the input; name another output")


def make_folder_of(path: Location) -> None:
    """Create the folder of a file; a bucket needs none. Raises `OutputError`."""
    if isinstance(path, Path):
        files.make_folder_of(path)


@contextmanager
def remove_empty_folders_on_error(output: Target) -> Iterator[None]:
    """If the body raises, remove the folders above ``output`` that it created and left empty."""
    if isinstance(output, str | os.PathLike) and isinstance(locate(output), ObjectPath):
        yield
        return
    with files.remove_empty_folders_on_error(output):
        yield


@contextmanager
def mapped(file: Path) -> Iterator[Any]:
    """Yield the content of a local file as a buffer that is not read into memory as a whole."""
    with file.open("rb") as opened:
        if not file.stat().st_size:
            yield b""  # an empty file cannot be mapped
            return
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _upload(file: Path, path: ObjectPath, *, overwrite: bool) -> None:
    """Send a file; the object appears when all of it is there."""
    size = file.stat().st_size
    attributes = {_IDENTITY: identity(file)}
    if media_type := mimetypes.guess_type(path.name)[0]:
        attributes["Content-Type"] = media_type
    options: dict[str, Any] = {"attributes": attributes}
    if size <= _MOST_BYTES_AT_ONCE:
        with mapped(file) as content, path.client(size) as store:
            store.put(path.key, content, mode="overwrite" if overwrite else "create", **options)
        return
    part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))
    options |= {"buffer_size": part_bytes, "max_concurrency": _PARTS_AT_ONCE}
    import obstore

    with file.open("rb") as opened, path.client(part_bytes * _PARTS_AT_ONCE) as store:
        writer = obstore.open_writer(store, path.key, **options)
        while part := opened.read(part_bytes):
            writer.write(part)
        # Of uploads in parts, obstore sends no condition with the last request, which makes the object.
        if not overwrite and path.is_file():
            raise FileExistsError
        writer.close()


@contextlib.contextmanager
def _writing_errors(path: ObjectPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot write there ({error.strerror or error})") from error
