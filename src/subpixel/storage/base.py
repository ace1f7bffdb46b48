"""The contract of a storage: a folder of files that several processes and machines use at once."""

from pathlib import Path
from typing import IO, NamedTuple, Protocol


class Stored(NamedTuple):
    """The content of a file, and what tells whether it changed."""

    data: bytes
    version: str
    """Differs after each change to other content; opaque."""


class Entry(NamedTuple):
    """A file in a storage."""

    name: str
    size: int
    """In bytes."""


class Conflict(Exception):  # noqa: N818 - no fault: another process was first
    """A file is not at the version that the caller saw: another process changed or removed it."""


class Storage(Protocol):
    """A folder on disk, or a prefix in a bucket, that several machines use at once.

    Names are relative, with "/" between folders; no part of a name begins with a dot. Folders appear with
    their first file. A file appears under its name when it is complete. Besides the errors below, each method
    raises ``OSError`` if the storage cannot be reached, read or written.
    """

    location: str
    """The path or URL, for messages."""

    @property
    def scratch(self) -> Path:
        """A local folder for temporary files that `create` takes; the best place, as it may save a copy.

        The name of a file there begins with a dot. Whoever makes a file there also removes it.
        """

    def read(self, name: str) -> Stored:
        """Return the content of a small file. Raises ``FileNotFoundError``."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading; it is seekable, and not read into memory as a whole.

        Raises ``FileNotFoundError``.
        """

    def create(self, name: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Create a file in one step, only if it does not exist.

        Args:
            name: of the file.
            data: its content, not empty, or a local file with it. That file must not be changed afterwards,
                since it may become this file; its own name stays.
            durable: whether it must survive a power failure, which takes longer.

        Raises:
            FileExistsError: it exists.
        """

    def replace(self, name: str, data: bytes, version: str) -> str:
        """Replace the content of a small file in one step if it still has a version; return the new version.

        A power failure may undo it, or damage the file.

        Raises:
            Conflict: it has another version, or was removed.
        """

    def delete(self, name: str, version: str | None = None) -> None:
        """Remove a file; with a version, only if it still has that. A missing file is fine.

        Raises:
            Conflict: it has another version.
        """

    def entries(self, prefix: str = "") -> list[Entry]:
        """List the files whose names begin with a prefix, sorted by name, with those in subfolders."""

    def remove(self) -> None:
        """Remove the folder and everything in it, as far as that is possible."""

    def prune(self) -> None:
        """Remove empty folders, as far as that is possible, and if there are no files, also temporary ones.

        Other processes may use the storage meanwhile; what they create stays.
        """
