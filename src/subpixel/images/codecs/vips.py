"""libvips decodes JPEG, PNG and most TIFFs, row by row; it tells when a part is missing.

Only these readers are used, on the calling thread alone. Its writers, and its reader of WebP, go through a
pool of threads, which hangs in a process that was forked after the pool had begun.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyvips
from numpy.typing import NDArray

Error = pyvips.Error

Span = tuple[int, int] | bytes
"""A part of a file, as its place and length; or the bytes themselves."""

_BAND_BYTES = 1 << 21
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16}


class Decoder:
    """A picture whose header has been read; its pixels are decoded when they are asked for."""

    def __init__(
        self,
        loader: str,
        file: IO[bytes],
        spans: Sequence[Span] | None = None,
    ) -> None:
        """Read the header.

        Args:
            loader: "jpegload", "pngload" or "tiffload".
            file: to read from; it must stay open.
            spans: what makes up the picture; by default all of the file.

        Raises:
            Error: libvips cannot read it.
        """
        # libvips keeps no reference to the source, nor the source to what is called.
        self._source = pyvips.SourceCustom()
        self._calls = _Calls()
        if spans is None:
            self._source.on_read(self._calls.guarded(file.read, b""))
            self._source.on_seek(self._calls.guarded(file.seek, -1))
        else:
            self._source.on_read(self._calls.guarded(_Spans(file, spans).read, b""))
        load = getattr(pyvips.Image, f"{loader}_source")
        with self._calls.raising():
            self.image = load(self._source, access="sequential", fail_on="warning")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and bands."""
        return self.image.height, self.image.width, self.image.bands

    def samples(self) -> NDArray[Any]:
        """Decode: ``(H, W)`` or ``(H, W, n)``, uint8 or uint16.

        Raises:
            Error: damaged, or cut off.
            KeyError: samples of another kind.
        """
        height, width, bands = self.shape
        dtype = np.dtype(_DTYPES[self.image.format])
        result = np.empty((height, width, bands), dtype)
        band = max(1, _BAND_BYTES // (width * bands * dtype.itemsize))
        region = pyvips.Region.new(self.image)
        try:
            for top in range(0, height, band):
                rows = result[top : top + band]
                with self._calls.raising():
                    data = region.fetch(0, top, width, len(rows))
                rows[...] = np.frombuffer(data, dtype).reshape(rows.shape)
        finally:
            self.image.invalidate()  # or libvips keeps it for the next who asks for the same
        return result[..., 0] if bands == 1 else result


class _Spans:
    """Reads parts of a file, and what was put between them, as if they were one file."""

    def __init__(self, file: IO[bytes], spans: Sequence[Span]) -> None:
        self._file = file
        self._spans = [span for span in reversed(spans) if isinstance(span, bytes) or span[1]]

    def read(self, size: int) -> bytes:
        if not self._spans:
            return b""
        span = self._spans.pop()
        if isinstance(span, bytes):
            data, rest = span[:size], span[size:]
            self._spans += [rest] if rest else []
            return data
        place, length = span
        self._file.seek(place)
        data = self._file.read(min(size, length))
        if data and len(data) < length:
            self._spans.append((place + len(data), length - len(data)))
        return data


class _Calls:
    """Calls that C makes, through which no error can pass: it is kept, and raised behind C."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def guarded(self, call: Callable[..., Any], failed: bytes | int) -> Callable[..., Any]:
        """The same call, with what it answers where it fails: to libvips, the end of the file."""

        def attempt(*arguments: Any) -> Any:
            try:
                return call(*arguments) if self._error is None else failed
            except BaseException as error:  # Ctrl-C too
                self._error = error
                return failed

        return attempt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise what a call has raised, rather than what libvips made of it."""
        try:
            yield
        except pyvips.Error:
            if self._error is not None:
                raise self._error from None
            raise
