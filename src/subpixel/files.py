"""Atomic writing of files."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from subpixel.errors import OutputError, OutputExists, OutputIsInput

try:
    import fcntl
except ImportError:  # Windows: partial files of killed processes stay there
    fcntl = None  # type: ignore[assignment]

PIPE = "-"
"""The path that means stdin or stdout."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""An input: a path, the bytes of a file, or a file object opened for reading bytes."""

Target = str | os.PathLike[str] | IO[bytes]
"""An output: a path, or a file object opened for writing bytes."""

_RANDOM_DIGITS = 16
_ATTEMPTS = 10

T = TypeVar("T")


@contextmanager
def remove_empty_folders_on_error(output: Target) -> Iterator[None]:
    """If the body raises, remove the folders above ``output`` that it created and left empty.

    Does nothing for a file object.
    """
    missing = []
    if isinstance(output, str | os.PathLike):
        for folder in Path(os.path.realpath(output)).parents:
            if os.path.lexists(folder):
                break
            missing.append(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # raised at the first folder that is not empty
            for folder in missing:
                folder.rmdir()
        raise


@contextmanager
def write_atomically(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the body succeeds, the file is renamed to ``path``.

    The data is flushed to disk before the rename, so that after a crash or a power failure ``path`` is
    complete or missing. If the body raises (also KeyboardInterrupt), the temporary file is removed, and so
    are the folders that were created for it. A killed process leaves ``.NAME.RANDOM.part`` behind; the next
    write to the same path removes it.

    A replaced file keeps its permissions. If ``path`` is a link, its target is replaced.

    Raises:
        OutputExists: ``path`` exists and ``overwrite`` is false. This is checked before the body, and again
            with the rename (in one step, if the file system has hard links).
        OutputError: the folder cannot be written to, the disk is full, or the body raised another
            ``OSError``.
    """
    with remove_empty_folders_on_error(path), _partial_file(path, overwrite=overwrite) as part:
        yield part


@contextmanager
def _partial_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    if not overwrite:
        refuse_existing(path)
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not is_file(target):  # noqa: PTH110 - as in `is_file`
        raise OutputError(f"{path}: is not a regular file and cannot be replaced; name another output")
    # The name is chosen before the file is created: an interrupt at any moment finds it and removes it.
    part = target.with_name(f"{_part_prefix(target)}{secrets.token_hex(_RANDOM_DIGITS // 2)}.part")
    handle = None
    try:
        try:
            _remove_leftovers(target)
            handle = in_made_folder(target.parent, lambda: _create_locked(part))
        except OSError as error:
            raise _not_writable(path, error) from error
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            part.replace(target)
        else:
            rename_to_new(part, target)
        flush_folder(target.parent)
    except FileExistsError:
        raise OutputExists(f"{path}: another process created it meanwhile; name another output") from None
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)  # releases the lock, which shows other processes that the file is in use


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Check, without writing, that `write_atomically` can write a file, as far as that can be known.

    Raises:
        OutputExists: it exists, and ``overwrite`` is false.
        OutputError: it is no regular file, its name is too long, or its folder cannot be written to.
    """
    if not overwrite:
        refuse_existing(path)
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not is_file(target):  # noqa: PTH110 - as in `is_file`
        raise OutputError(f"{path}: is not a regular file and cannot be replaced; name another output")
    try:
        for folder in target.parents:
            if not os.path.lexists(folder):
                continue
            if not is_folder(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if hasattr(os, "pathconf"):
                longest = os.pathconf(folder, "PC_NAME_MAX")
                if any(len(os.fsencode(name)) > longest for name in target.relative_to(folder).parts):
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            break
    except OSError as error:
        raise _not_writable(path, error) from error


def refuse_existing(path: Path) -> None:
    """Raise `OutputExists` if the path exists, even as a dangling link."""
    if os.path.lexists(path):
        raise OutputExists(f"{path}: exists already; pass --overwrite (overwrite=True) to replace it")


def refuse_input(output: Path, input: Path) -> None:
    """Raise `OutputIsInput` if both are the same file, perhaps through a link.

    Raises `OutputError` if the file system does not accept the name of the output, such as one that is too
    long.
    """
    try:
        same = is_file(input) and output.exists() and output.samefile(input)
    except OSError as error:
        raise _not_writable(output, error) from error
    if same:
        raise OutputIsInput(f"{output}: is the input file; name another output")


def is_file(path: Path) -> bool:
    """Whether a path is a regular file; False for a name that is too long, for which pathlib raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False for a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112


def make_folder_of(path: Path) -> None:
    """Create the folder of a file, or of the target of a link; raise `OutputError` if that fails."""
    try:
        in_made_folder(Path(os.path.realpath(path)).parent, lambda: None)
    except OSError as error:
        raise _not_writable(path, error) from error


def in_made_folder(folder: Path, create: Callable[[], T]) -> T:
    """Make a folder if it is missing, and return what ``create`` makes in it.

    Another thread or process, whose output failed, may remove the folder in between, as it is empty. Then it
    is made again.
    """
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(FileNotFoundError):
            _make_folder(folder)
            return create()
    _make_folder(folder)
    return create()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        if os.path.lexists(folder) and not is_folder(folder):
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error  # removed meanwhile


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot write there ({error.strerror or error})")


def lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock a file, which is created if it is missing.

    The lock ends when the returned file descriptor is closed, or with the process.

    Args:
        path: of the file.
        shared: whether other processes may have a shared lock at the same time.

    Returns:
        The file descriptor, or None if another process has a lock that excludes this one.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if fcntl is not None:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a file system without locks
            pass
    return handle


def _part_prefix(target: Path) -> str:
    # A file name has at most 255 bytes, and a character in it up to 4.
    return f".{target.name[:55]}."


def _create_locked(part: Path) -> int:
    """Create an empty file with default permissions, and lock it."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if part.exists():
            return handle
        os.close(handle)  # another process removed it as a leftover before it was locked


def _remove_leftovers(target: Path) -> None:
    """Remove the partial files of ``target`` that killed processes left.

    A process locks its partial file while it writes, and the system releases the lock when the process ends.
    So a file that can be locked is in use by no process.
    """
    if fcntl is None:
        return
    prefix, length = _part_prefix(target), len(_part_prefix(target)) + _RANDOM_DIGITS + len(".part")
    # Folders of many thousand outputs are listed for each of them: pathlib's glob takes twice the time.
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError, PermissionError):
        names = os.listdir(target.parent)  # noqa: PTH208
    for name in names:
        if not name.startswith(prefix) or len(name) != length or not name.endswith(".part"):
            continue
        leftover = target.with_name(name)
        with contextlib.suppress(OSError):
            handle = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(handle)


def rename_to_new(part: Path, target: Path) -> None:
    """Rename ``part``, but raise `FileExistsError` if ``target`` exists, which a rename would replace."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError from None
        part.replace(target)
    else:
        # At once: flushing the folder takes long enough for a kill to leave both names. Another process may
        # have taken the part for a leftover.
        part.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder, so that a power failure cannot undo a rename in it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
