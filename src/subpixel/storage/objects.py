"""A storage under a prefix of a bucket, with conditional writes in place of locks and renames."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from subpixel.storage.base import Conflict, Entry, Stored
from subpixel.storage.outputs import mapped
from subpixel.storage.paths import ObjectPath

_REMOVED = b""
"""The content of a file that was removed at a version. S3 has no removal under a condition, but it has
replacement: such a file becomes empty, and counts as missing."""


class ObjectStorage:
    """Objects under a prefix of a bucket; see `subpixel.storage.base.Storage` for the methods.

    The version of a file is its ETag.
    """

    def __init__(self, folder: ObjectPath) -> None:
        self._folder = folder
        self.location = str(folder)

    @property
    def scratch(self) -> Path:
        """The folder of temporary files."""
        return Path(tempfile.gettempdir())

    def read(self, name: str) -> Stored:
        """Return the content and ETag of an object."""
        path = self._path(name)
        with path.client() as store:
            found = store.get(path.key)
            data = bytes(found.bytes())
        if data == _REMOVED:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return Stored(data, found.meta["e_tag"] or "")

    def open(self, name: str) -> IO[bytes]:
        """Open an object for reading; ranges of it are read when they are needed."""
        return self._path(name).open()

    def create(self, name: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Create an object only if it does not exist. All objects are durable."""
        with contextlib.ExitStack() as stack:
            content = stack.enter_context(mapped(data)) if isinstance(data, Path) else data
            try:
                self._put(name, content, "create")
            except FileExistsError as error:
                found = self._path(name).status()
                if found.size != len(_REMOVED):
                    raise
                try:
                    self._put(name, content, {"e_tag": found.version})
                except Conflict:
                    raise error from None

    def replace(self, name: str, data: bytes, version: str) -> str:
        """Replace the content of an object if it still has an ETag."""
        try:
            return self._put(name, data, {"e_tag": version})
        except (FileNotFoundError, FileExistsError) as error:
            raise Conflict(f"{self._path(name)}: was changed by another process") from error

    def delete(self, name: str, version: str | None = None) -> None:
        """Remove an object; with a version, it is made empty, and counts as missing from then on."""
        with contextlib.suppress(FileNotFoundError):
            if version is None:
                path = self._path(name)
                with path.client() as store:
                    store.delete(path.key)
                return
            try:
                self.replace(name, _REMOVED, version)
            except Conflict:
                self.read(name)  # a missing file is fine
                raise

    def entries(self, prefix: str = "") -> list[Entry]:
        """List objects, without hidden ones and removed ones."""
        top = self._path(prefix.rpartition("/")[0])
        found = []
        for path, status in top.walk():
            name = str(path.relative_to(self._folder))
            if status.size != len(_REMOVED) and name.startswith(prefix):
                found.append(Entry(name, status.size))
        return found

    def remove(self) -> None:
        """Remove all objects under the prefix."""
        with contextlib.suppress(OSError):
            keys = [path.key for path, _ in self._folder.walk(hidden=True)]
            with self._folder.client() as store:
                store.delete(keys)

    def prune(self) -> None:
        """Remove what counts as missing, if there is nothing else: a bucket has no empty folders."""
        with contextlib.suppress(OSError):
            found = list(self._folder.walk(hidden=True))
            if found and all(status.size == len(_REMOVED) for _, status in found):
                with self._folder.client() as store:
                    store.delete([path.key for path, _ in found])

    def _put(self, name: str, data: Any, mode: Any) -> str:
        path = self._path(name)
        with path.client(len(data)) as store:
            return store.put(path.key, data, mode=mode)["e_tag"] or ""

    def _path(self, name: str) -> ObjectPath:
        return self._folder / name if name else self._folder
