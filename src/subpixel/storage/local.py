"""A storage in a folder of a file system, local or shared.

Sound where ``link`` and ``rename`` are atomic: on all local file systems of Linux and macOS, on NFS, CephFS,
Lustre and GPFS. No locks are used, since a process that is stopped, or a machine that is cut off, would keep
them. Without hard links, such as on FAT, two processes may both create or replace a file.

`LocalStorage.replace` links the new content as the successor of the version that it replaces, which only one
process can do, and then renames it. If a process is stopped in between, another one renames it instead, but
only after some seconds: two that do it at the same time, while a third one comes late, could undo a change.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from subpixel.files import flush_folder, in_made_folder, rename_to_new
from subpixel.storage.base import Conflict, Entry, Stored

_STUCK_SECONDS = 2.0
"""After these, another process renames a successor. It takes a moment, if its process is not stopped."""


class LocalStorage:
    """A folder of a file system; see `subpixel.storage.base.Storage` for the methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.location = str(folder)
        self._seen: dict[tuple[str, str], float] = {}
        """Successors that were not yet renamed: of which file and version, and when they were first seen."""

    @property
    def scratch(self) -> Path:
        """The folder itself, so that `create` makes a link instead of a copy. It is created."""
        in_made_folder(self._folder, lambda: None)
        return self._folder

    def read(self, name: str) -> Stored:
        """Return the content and version of a file."""
        data = self._path(name).read_bytes()
        return Stored(data, _version(data))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return self._path(name).open("rb")

    def create(self, name: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Create a file only if it does not exist."""
        path = self._path(name)
        in_made_folder(path.parent, lambda: self._create(path, data, durable=durable))

    def _create(self, path: Path, data: bytes | Path, *, durable: bool) -> None:
        with self._part(path, data, durable=durable) as part:
            try:
                rename_to_new(part, path)
            except FileExistsError:
                if not _is_same(path, part):
                    raise
            if durable:
                flush_folder(path.parent)

    def replace(self, name: str, data: bytes, version: str) -> str:
        """Replace the content of a file if it still has a version."""
        path = self._path(name)
        self._check(name, version)
        successor = path.with_name(f".{path.name}.{version}.next")
        with self._part(path, data, durable=False) as part:
            try:
                rename_to_new(part, successor)
            except FileExistsError:
                if not _is_same(successor, part):
                    self._help(name, version, successor)
                    raise self._conflict(name) from None
            try:
                self._check(name, version)
            except Conflict:
                with contextlib.suppress(FileNotFoundError):  # another process has renamed it
                    successor.unlink()
                    raise  # it was replaced long before, and the name of the successor was free again
            _install(successor, path)
        return _version(data)

    def delete(self, name: str, version: str | None = None) -> None:
        """Remove a file."""
        path = self._path(name)
        if version is None:
            path.unlink(missing_ok=True)
            return
        taken = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        try:
            self._check(name, version)
            path.rename(taken)
        except (FileNotFoundError, Conflict):
            if path.exists():
                raise
            return
        try:
            if _version(taken.read_bytes()) != version:  # it was replaced after the check
                with contextlib.suppress(FileExistsError):
                    os.link(taken, path)
                raise self._conflict(name)
        finally:
            taken.unlink(missing_ok=True)

    def entries(self, prefix: str = "") -> list[Entry]:
        """List files; hidden ones belong to the storage and are left out."""
        top = self._folder / prefix.rpartition("/")[0]
        found = []
        for root, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for file in (Path(root) / name for name in names if not name.startswith(".")):
                name = file.relative_to(self._folder).as_posix()
                if name.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found.append(Entry(name, file.stat().st_size))
        return sorted(found)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def prune(self) -> None:
        """Remove empty folders, and if there are no files, also temporary ones."""
        if not self.entries():
            self.remove_temporary_files()
        for root, _, _ in os.walk(self._folder, topdown=False):
            with contextlib.suppress(OSError):  # it is not empty
                Path(root).rmdir()

    def remove_temporary_files(self) -> None:
        """Remove what killed processes left; call it only if no other process uses the folder."""
        for pattern in (".*.part", ".*.next"):
            for file in self._folder.rglob(pattern):
                file.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _help(self, name: str, version: str, successor: Path) -> None:
        """Rename a successor whose process has not done so for some seconds."""
        now = time.monotonic()
        if now - self._seen.setdefault((name, version), now) >= _STUCK_SECONDS:
            self._check(name, version)
            _install(successor, self._path(name))

    def _check(self, name: str, version: str) -> None:
        try:
            if self.read(name).version == version:
                return
        except FileNotFoundError:
            pass
        raise self._conflict(name)

    def _conflict(self, name: str) -> Conflict:
        return Conflict(f"{self._path(name)}: was changed by another process")

    @contextmanager
    def _part(self, path: Path, data: bytes | Path, *, durable: bool) -> Iterator[Path]:
        """Yield a temporary file beside ``path`` with the content; remove it afterwards."""
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        try:
            if isinstance(data, Path):
                _link_or_copy(data, part)
            else:
                part.write_bytes(data)
            if durable:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
            yield part
        finally:
            part.unlink(missing_ok=True)


def _install(successor: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process has done so
        successor.replace(path)


def _is_same(one: Path, other: Path) -> bool:
    """Whether both are one file: NFS says that a link exists if the answer to its first request was lost."""
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system, or one without hard links
        shutil.copyfile(source, target)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
