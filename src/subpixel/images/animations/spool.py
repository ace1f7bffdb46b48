"""Arrays that wait in a temporary file."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from subpixel.images.codecs import deflate


class _Entry(NamedTuple):
    length: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Spool:
    """Keeps arrays in a compressed temporary file, which the end of the process removes."""

    def __init__(self, folder: Path) -> None:
        """Create the file in a folder: the one for temporary files may be in memory."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        self._entries: list[_Entry] = []

    def add(self, array: NDArray[Any]) -> None:
        """Append a C-contiguous array."""
        data = deflate.compress_stream(array)
        self._file.write(data)
        self._entries.append(_Entry(len(data), array.shape, array.dtype))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read the arrays from the first one on."""
        self._file.seek(0)
        for entry in self._entries:
            data = isal_zlib.decompress(self._file.read(entry.length))
            yield np.frombuffer(data, entry.dtype).reshape(entry.shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file."""
        self._file.close()
