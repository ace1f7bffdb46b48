"""Videos in buckets, as FFmpeg reads them."""

import io

from subpixel.storage.paths import ObjectPath


class RemoteVideo:
    """A file object for PyAV that reads an object by ranges.

    FFmpeg asks again after an error, and PyAV raises the first one and prints all others. So after an error
    there seems to be the end of the file; whoever reads to the end calls `check`.
    """

    def __init__(self, path: ObjectPath) -> None:
        """Open an object. Raises ``OSError``."""
        self._file = path.open()
        self._error: OSError | None = None
        self.name = str(path)

    def read(self, size: int = -1) -> bytes:
        """Read up to a number of bytes. Raises ``OSError``, once."""
        if self._error is not None:
            return b""
        try:
            return self._file.read(size)
        except OSError as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position, and return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def check(self) -> None:
        """Raise the error that reading ended with, if any."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the object."""
        self._file.close()
