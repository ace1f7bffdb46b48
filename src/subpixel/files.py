"""Writing files so that a reader never sees half of one."""

import contextlib
import glob
import inspect
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any, NamedTuple, ParamSpec, TypeVar

from subpixel.errors import InputError, OutputError, OutputExists, OutputIsInput, SubpixelError

try:
    import fcntl
except ImportError:  # Windows: leftovers of a killed process are not recognized there
    fcntl = None  # type: ignore[assignment]

PIPE = "-"
"""The path that means stdin or stdout."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""What is read: a path, the bytes of a file, or a file object opened for reading bytes."""

Target = str | os.PathLike[str] | IO[bytes]
"""What is written: a path, or a file object opened for writing bytes."""

_RANDOM_DIGITS = 16

P = ParamSpec("P")
R = TypeVar("R")


class Paths(NamedTuple):
    """Where the input and the output of a job are, and what people call them."""

    input: str
    output: str
    input_name: str
    output_name: str


@contextmanager
def as_paths(input: Source, output: Target, extension: str = "") -> Iterator[Paths]:
    """Give bytes and file objects a path, so that they take the way of any other file.

    The input is read into a temporary file, and the output is one until the body is done: nothing is
    written to a file object where the body raises. Errors name what was given, not the temporary file.

    Args:
        input: see `Source`; a file object is read from where it is to its end.
        output: see `Target`.
        extension: of the output, with the dot, where it is a file object.

    Raises:
        InputError: the input's file object cannot be read.
        OutputError: the output's file object cannot be written to, or there is no room for temporary files.
    """
    names = _name_of(input), _name_of(output)
    if isinstance(input, str | os.PathLike) and isinstance(output, str | os.PathLike):
        yield Paths(*names, *names)
        return
    with _temporary_folder() as folder:
        source, target = names
        if not isinstance(input, str | os.PathLike):
            file = folder / f"input{'' if names[0] in _NAMELESS else Path(names[0]).suffix}"
            _read_into(file, input, names[0])
            source = str(file)
        if not isinstance(output, str | os.PathLike):
            target = str(folder / f"output{extension}")
        try:
            yield Paths(source, target, *names)
        except SubpixelError as error:
            words = str(error).replace(source, names[0]).replace(target, names[1])
            raise type(error)(words) from error
        if not isinstance(output, str | os.PathLike):
            _write_to(output, Path(target), names[1])


_NAMELESS = ("<bytes>", "<file>")


def _name_of(file: Any) -> str:
    """What people call a path, bytes or a file object."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    if isinstance(file, bytes | bytearray | memoryview):
        return _NAMELESS[0]
    name = getattr(file, "name", None)  # a number where it was opened by a descriptor
    return name if isinstance(name, str) and name else _NAMELESS[1]


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="subpixel-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"no temporary folder can be made ({error.strerror or error})") from error
    with folder as path:
        yield Path(path)


def _read_into(file: Path, data: Any, name: str) -> None:
    """Copy bytes, or what a file object still has, into a new file."""
    try:
        with file.open("wb") as copy:
            if isinstance(data, bytes | bytearray | memoryview):
                copy.write(data)
            else:
                shutil.copyfileobj(data, copy)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: could not be read ({error})") from error


def _write_to(target: IO[bytes], file: Path, name: str) -> None:
    """Copy a file to a file object."""
    try:
        with file.open("rb") as made:
            shutil.copyfileobj(made, target)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise OutputError(f"{name}: could not be written ({error})") from error


@contextmanager
def leaving_no_empty_folder(path: Path) -> Iterator[None]:
    """Where the body raises, remove the folders above ``path`` that were missing before and are empty now."""
    missing = []
    for folder in Path(os.path.realpath(path)).parents:
        if os.path.lexists(folder):
            break
        missing.append(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that is not empty, and so those above it
            for folder in missing:
                folder.rmdir()
        raise


def without_empty_folders(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that writes to its argument ``output``, for `leaving_no_empty_folder`."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        output = signature.bind(*args, **kwargs).arguments["output"]
        if not isinstance(output, str | os.PathLike):  # the function itself says so
            return function(*args, **kwargs)
        with leaving_no_empty_folder(Path(output)):
            return function(*args, **kwargs)

    return call


@contextmanager
def write_atomically(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; on success it takes the final name.

    The data is flushed to the disk before the rename, so that after a crash or a power cut ``path`` is
    either whole or not there. When the body raises, KeyboardInterrupt included, the temporary file is
    removed, and so is a folder that was made for it. Only a process that is killed outright leaves its
    ``.NAME.RANDOM.part`` behind; the next write to the same name removes it.

    An existing file that is overwritten hands on its permissions, and a link is followed: its target is
    what gets replaced.

    Raises:
        OutputExists: ``path`` exists and ``overwrite`` is false. Checked again at the end, without a gap in
            which another process could create it unnoticed.
        OutputError: the folder cannot be written to, the disk is full, or the body raised any other
            ``OSError``.
    """
    with leaving_no_empty_folder(path), _written(path, overwrite=overwrite) as part:
        yield part


@contextmanager
def _written(path: Path, *, overwrite: bool) -> Iterator[Path]:
    if not overwrite:
        refuse_existing(path)
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not is_file(target):  # noqa: PTH110 - as in `is_file`
        raise OutputError(f"{path}: is no regular file, and cannot be replaced by one")
    # The name is settled before the file is made, so that an interrupt finds it to remove at any moment.
    part = target.with_name(f"{_part_prefix(target)}{secrets.token_hex(_RANDOM_DIGITS // 2)}.part")
    handle = None
    try:
        try:
            make_folder_of(path)
            _remove_leftovers(target)
            handle = _create_locked(part)
        except OSError as error:
            raise _not_there(path, error) from error
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            part.replace(target)
        else:
            _rename_to_new(part, target)
        flush_folder(target.parent)
    except FileExistsError:
        raise OutputExists(f"{path}: appeared while it was being written; left alone") from None
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
        if handle is not None:
            os.close(handle)  # ends the lock that says a process is still at work on the file


def refuse_existing(path: Path) -> None:
    """Raise `OutputExists` where something stands under a name, be it a link that leads nowhere."""
    if os.path.lexists(path):
        raise OutputExists(f"{path}: exists already; pass --overwrite (overwrite=True) to replace it")


def refuse_input(output: Path, input: Path) -> None:
    """Raise `OutputIsInput` where both are the same file, perhaps through a link.

    Raises `OutputError` where the output has a name that no file can have, such as one that is too long.
    """
    try:
        same = is_file(input) and output.exists() and output.samefile(input)
    except OSError as error:
        raise _not_there(output, error) from error
    if same:
        raise OutputIsInput(f"{output}: is the input itself; name another output")


def is_file(path: Path) -> bool:
    """Whether a path is a regular file: False for a name that no file can have, where pathlib raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, likewise."""
    return os.path.isdir(path)  # noqa: PTH112


def make_folder_of(path: Path) -> None:
    """Make the folder that a file, or what a link leads to, shall lie in; `OutputError` where that fails."""
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_there(path, error) from error


def _not_there(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot write there ({error.strerror or error})")


def lock(path: Path) -> int | None:
    """Take a file, made where it is missing, for this process alone.

    The lock ends when the handle that is returned is closed, or with the process, however it ends.

    Returns:
        The handle, or None where another process has the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a file system without locks
            pass
    return handle


def _part_prefix(target: Path) -> str:
    # A file name has at most 255 bytes, and a character up to 4.
    return f".{target.name[:55]}."


def _create_locked(part: Path) -> int:
    """Make a new, empty file with the permissions that any new file gets, and hold a lock on it."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if part.exists():
            return handle
        os.close(handle)  # another process took it for a leftover before it was locked


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of earlier tries at ``target``.

    A process holds a lock on its file while it writes, and the system drops the lock when the process
    ends, however it ends: a file that can be locked has nobody at work on it.
    """
    if fcntl is None:
        return
    ours = f"{glob.escape(_part_prefix(target))}{'[0-9a-f]' * _RANDOM_DIGITS}.part"
    for leftover in target.parent.glob(ours):
        with contextlib.suppress(OSError):
            handle = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(handle)


def _rename_to_new(part: Path, target: Path) -> None:
    """Rename, but raise `FileExistsError` where ``target`` exists, which a rename would silently replace."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError from None
        part.replace(target)


def flush_folder(folder: Path) -> None:
    """Flush the folder's entry too, without which a power cut may undo the rename."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
