"""An object of a bucket as a file that is read by ranges."""

import errno
import io
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from subpixel.storage.base import Conflict

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from subpixel.storage.paths import ObjectPath

_FIRST_BYTES = 256 << 10
"""How much is read at a position that does not continue an earlier range."""

_MOST_BYTES = 4 << 20
"""Each range that continues another one has twice its size, up to this one: few bytes are read in vain after
a jump, and a request's delay does not matter while the file is read on."""

_KEPT = 6
"""How many ranges are kept: sound and pictures of a file may lie far apart, and are read in turn."""


class _Range(NamedTuple):
    start: int
    end: int
    content: "Future[memoryview]"


class RangedFile(io.RawIOBase):
    """A file object for an object of a bucket. While it is read on, the next range is read ahead."""

    def __init__(self, path: "ObjectPath", size: int, version: str) -> None:
        """Open a file; if its version changes, reading fails."""
        self._path = path
        self._size = size
        self._version = version
        self.name = str(path)
        self._position = 0
        self._ranges: OrderedDict[int, _Range] = OrderedDict()
        """By their start; the last one was used last."""
        self._threads = ThreadPoolExecutor(2, "subpixel-read-ahead")

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read at any position."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "the position is before the beginning", self.name)
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into a buffer, at most to the end of a range; return how many bytes."""
        target = memoryview(buffer).cast("B")
        if self._position >= self._size or not target:
            return 0
        found = self._range_at(self._position)
        try:
            content = found.content.result()
        except OSError:
            del self._ranges[found.start]  # so that the caller may try again
            raise
        begin = self._position - found.start
        part = content[begin : begin + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        """Close the file; ranges that are read ahead are given up."""
        if not self.closed:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._ranges.clear()
        super().close()

    def _range_at(self, position: int) -> _Range:
        """Return the range with a position, and read the one after it ahead if the file is being read on."""
        found = next((each for each in self._ranges.values() if each.start <= position < each.end), None)
        if found is None:
            before = next((each for each in self._ranges.values() if _continues(position, each)), None)
            found = self._request(position, _FIRST_BYTES if before is None else 2 * _length(before))
        self._ranges.move_to_end(found.start)
        if _length(found) > _FIRST_BYTES and found.end < self._size and found.end not in self._ranges:
            self._request(found.end, 2 * _length(found))
            self._ranges.move_to_end(found.start)
        return found

    def _request(self, start: int, length: int) -> _Range:
        end = min(start + min(length, _MOST_BYTES), self._size)
        requested = _Range(start, end, self._threads.submit(self._fetch, start, end))
        self._ranges[start] = requested
        while len(self._ranges) > _KEPT:
            self._ranges.popitem(last=False)
        return requested

    def _fetch(self, start: int, end: int) -> memoryview:
        try:
            content = self._path.read(start, end, self._version)
        except (Conflict, FileNotFoundError) as error:
            raise OSError(
                errno.ESTALE, "was replaced or removed while it was read; run it again", self.name
            ) from error
        if len(content) != end - start:
            raise OSError(errno.EIO, "the server gave less than was asked for; try again", self.name)
        return content


def _length(found: _Range) -> int:
    return found.end - found.start


def _continues(position: int, earlier: _Range) -> bool:
    return 0 <= position - earlier.end <= _length(earlier)
