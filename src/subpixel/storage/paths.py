"""Where files are: a local path, or an object in a bucket. `locate` tells one from the other."""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NamedTuple

from subpixel import files
from subpixel.storage.bucket import bucket_errors, store_for
from subpixel.storage.ranged import RangedFile

_S3 = re.compile(r"s3:[/\\]+(?P<bucket>[^/\\]*)[/\\]?(?P<key>.*)", re.IGNORECASE | re.DOTALL)
"""An URL of S3; pathlib has removed one of its slashes, and under Windows turned them."""


_BUFFER_BYTES = 64 << 10


class Status(NamedTuple):
    """What a listing tells about an object."""

    size: int
    modified_ns: int
    """When it was written, in nanoseconds since 1970."""
    version: str
    """The ETag, which changes with the content."""


@dataclass(frozen=True, order=True)
class ObjectPath(os.PathLike[str]):
    """The place of an object or of a folder in a bucket, with what the project needs of `pathlib.Path`.

    A folder is a prefix; it exists as long as there is an object below it.
    """

    bucket: str
    key: str
    """Without a slash at its ends; empty for the whole bucket."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, name: str | PurePath) -> "ObjectPath":
        added = name.as_posix() if isinstance(name, PurePath) else name
        return self if added == "." else ObjectPath(self.bucket, f"{self.key}/{added}" if self.key else added)

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The extension, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "ObjectPath":
        """The folder."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def relative_to(self, folder: "ObjectPath") -> PurePosixPath:
        """Return the path from a folder to this one."""
        return PurePosixPath(self.key).relative_to(folder.key)

    def absolute(self) -> "ObjectPath":
        """Return this path, which is the same everywhere."""
        return self

    def is_below(self, folder: "ObjectPath") -> bool:
        """Whether this is in a folder of the same bucket, or in a folder in it."""
        return self.bucket == folder.bucket and PurePosixPath(self.key).is_relative_to(folder.key)

    def with_name(self, name: str) -> "ObjectPath":
        """Return another path in the same folder."""
        return self.parent / name

    def status(self) -> Status:
        """Return size, time and version of an object.

        Raises:
            FileNotFoundError: there is none.
            OSError: the bucket cannot be read.
        """
        try:
            # Unlike HEAD, the answer to GET says what is wrong.
            with self.client() as store:
                return _status(store.get(self.key, options={"range": (0, 1)}).meta)
        except OSError as error:
            if "InvalidRange" not in (error.strerror or ""):
                raise
        with self.client() as store:
            return _status(store.head(self.key))  # it is empty

    def attribute(self, name: str) -> str:
        """Return metadata of an object, empty if it has none. Raises ``OSError``."""
        with self.client() as store:
            return str(store.get(self.key, options={"head": True}).attributes.get(name, ""))

    def is_file(self) -> bool:
        """Whether there is an object of this name. Raises ``OSError`` if the bucket cannot be read."""
        try:
            return bool(self.key) and self.status() is not None
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there is an object below this path. Raises ``OSError`` as `is_file`."""
        with self.client() as store:
            return any(map(len, store.list(self.key or None)))

    def walk(self, *, recursive: bool = True, hidden: bool = False) -> Iterator[tuple["ObjectPath", Status]]:
        """List the objects in a folder, sorted by name.

        Raises ``OSError`` if the bucket cannot be read.

        Args:
            recursive: whether to list those in its subfolders too.
            hidden: whether to list those whose name, or the name of whose folder, begins with a dot.
        """
        with self.client() as store:
            if recursive:
                found = [meta for chunk in store.list(self.key or None) for meta in chunk]
            else:
                found = store.list_with_delimiter(self.key or None)["objects"]
        for meta in sorted(found, key=lambda meta: meta["path"].split("/")):
            path = ObjectPath(self.bucket, meta["path"])
            if hidden or not any(part.startswith(".") for part in path.relative_to(self).parts):
                yield path, _status(meta)

    def open(self) -> IO[bytes]:
        """Open an object for reading by ranges. Raises ``FileNotFoundError`` and ``OSError``."""
        status = self.status()
        return io.BufferedReader(RangedFile(self, status.size, status.version), _BUFFER_BYTES)

    def read(self, start: int, end: int, version: str = "") -> memoryview:
        """Return the bytes of a range that is not empty.

        Raises:
            FileNotFoundError: there is no such object.
            Conflict: it has another version.
            OSError: the bucket cannot be read.
        """
        options: dict[str, Any] = {"range": (start, end)}
        if version:
            options["if_match"] = version
        with self.client() as store:
            return memoryview(store.get(self.key, options=options).bytes())

    def download(self, file: Path) -> None:
        """Copy an object to a local file. Raises ``FileNotFoundError`` and ``OSError``."""
        with file.open("wb") as copy, self.client() as store:
            for chunk in store.get(self.key):
                copy.write(chunk)

    @contextmanager
    def client(self, sent_bytes: int = 0) -> Iterator[Any]:
        """Yield obstore's client of the bucket; its errors become those of `bucket_errors`.

        Args:
            sent_bytes: of the largest request; more time is given to large ones.

        Raises ``OSError`` for a key with an empty part, which obstore would take for another one.
        """
        if self.key.startswith("/") or "//" in self.key:
            raise OSError(errno.EINVAL, "names with empty parts (//) are not supported", str(self))
        store = store_for(self.bucket, sent_bytes)
        with bucket_errors(str(self)):
            yield store


Location = Path | ObjectPath


def locate(name: str | os.PathLike[str]) -> Location:
    """Return the place that a name means: ``s3://BUCKET/KEY`` is an object, all else a local path.

    Nothing is read.
    """
    if isinstance(name, ObjectPath):
        return name
    if found := _S3.match(os.fspath(name)):
        return ObjectPath(found["bucket"], found["key"].removesuffix("/"))
    return Path(name)


def is_file(path: Location) -> bool:
    """Whether there is a regular file or an object; False if that cannot be known."""
    if isinstance(path, Path):
        return files.is_file(path)
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Location) -> bool:
    """Whether there is a folder, in a bucket with objects in it; False if that cannot be known."""
    if isinstance(path, Path):
        return files.is_folder(path)
    try:
        return path.is_dir()
    except OSError:
        return False


def modified_ns(path: Location) -> int:
    """Return when a file or object was written, in nanoseconds since 1970. Raises ``OSError``."""
    return path.status().modified_ns if isinstance(path, ObjectPath) else path.stat().st_mtime_ns


def size_of(path: Location) -> int:
    """Return the size of a file or object, in bytes. Raises ``OSError``."""
    return path.status().size if isinstance(path, ObjectPath) else os.path.getsize(path)  # noqa: PTH202


def name_of(path: str | os.PathLike[str]) -> str:
    """Return a path as text; that of an object is its URL, though pathlib may have removed a slash."""
    found = locate(path)
    return str(found) if isinstance(found, ObjectPath) else os.fspath(path)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _status(meta: Any) -> Status:
    since = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1)
    return Status(meta["size"], since * 1000, meta["e_tag"] or "")
