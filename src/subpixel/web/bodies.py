"""Bodies of requests: to disk as they come, from multipart forms, and as JSON."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from subpixel.web.errors import RequestError

_WRITE_BYTES = 2**20
"""Collected before each write, which another thread does."""

_SYNC_BYTES = 64 * 2**20
"""Written between two flushes to the disk."""

_MAX_JSON_BYTES = 64 * 2**10
_MAX_FIELD_BYTES = 64 * 2**10
_MAX_PARTS = 16
_MAX_HEADER_BYTES = 8 * 2**10


class FileWriter:
    """Writes a file in large pieces. Only other threads touch the disk, which may be slow."""

    def __init__(self, path: Path, offset: int, limit: int, check: Callable[[int], None]) -> None:
        """Prepare; the file is opened with the first write.

        Args:
            path: created if it is missing.
            offset: where to write; what the file has from there on is dropped.
            limit: the largest size of the file; more raises `RequestError` (413).
            check: called before each write with the size of the file; may raise.
        """
        self.size = offset
        self._path = path
        self._limit = limit
        self._check = check
        self._buffer = bytearray()
        self._unsynced = 0
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        """Add bytes."""
        if self.size + len(self._buffer) + len(data) > self._limit:
            raise RequestError(413, f"the body has more than {self._limit} bytes")
        self._buffer += data
        if len(self._buffer) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected."""
        if not self._buffer:
            return
        self._check(self.size)
        data, self._buffer = self._buffer, bytearray()
        writing = asyncio.ensure_future(asyncio.to_thread(self._write_all, data))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        except OSError as error:
            raise RequestError(507, f"the disk of the server cannot take it ({error.strerror})") from None
        finally:
            if writing.done() and writing.exception() is None:
                self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            await self.sync()

    async def sync(self) -> None:
        """Flush the file to the disk."""
        self._unsynced = 0
        if self._file is not None:
            await asyncio.to_thread(os.fsync, self._file.fileno())

    def close(self) -> None:
        """Close the file; what was collected and not written is lost."""
        if self._file is not None:
            self._file.close()

    def _write_all(self, data: bytearray) -> None:
        if self._file is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            self._file = os.fdopen(handle, "r+b", buffering=0)
            self._file.truncate(self.size)
            self._file.seek(self.size)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


async def save_body(request: Request, writer: FileWriter, *, sync: bool = True) -> bool:
    """Write the body of a request to a file; return False if the client went away before its end.

    What has arrived is written, and with ``sync`` flushed to the disk, in any case.
    """
    complete = True
    try:
        async for chunk in request.stream():
            await writer.write(chunk)
    except ClientDisconnect:
        complete = False
    finally:
        await writer.flush()
        if sync:
            await writer.sync()
    return complete


def content_length(request: Request) -> int | None:
    """Return the length of the body that a request states; None if it states none."""
    value = request.headers.get("content-length", "")
    return int(value) if value.isdecimal() else None


def refuse_long(request: Request, limit: int) -> None:
    """Raise `RequestError` (413) if a request states a body longer than the limit."""
    length = content_length(request)
    if length is not None and length > limit:
        raise RequestError(413, f"the body has {length} bytes, more than the limit of {limit}")


async def read_json(request: Request) -> Any:
    """Return the JSON value of a small body; None if the body is empty."""
    refuse_long(request, _MAX_JSON_BYTES)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_JSON_BYTES:
            raise RequestError(413, f"the body has more than {_MAX_JSON_BYTES} bytes")
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON ({error})") from None


def is_multipart(request: Request) -> bool:
    """Whether the body is a form with files."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


class MultipartForm:
    """Reads one file and some small fields from ``multipart/form-data``, as the body comes."""

    def __init__(self, request: Request, writer: FileWriter) -> None:
        """Prepare; raises `RequestError` without a boundary.

        Args:
            request: whose body is read.
            writer: gets the content of the field ``file``.
        """
        _, parameters = parse_options_header(request.headers["content-type"])
        boundary = parameters.get(b"boundary")
        if not boundary or len(boundary) > 70:
            raise RequestError(400, "the form has no boundary, or one that is too long")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """Of the file; None until it was found."""
        self._request = request
        self._writer = writer
        self._parts = self._header_bytes = 0
        self._is_complete = False
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._data = bytearray()
        self._pending: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def read(self) -> None:
        """Read the form.

        Raises:
            RequestError: it is not a form, too large, without a file, or the client went away.
        """
        try:
            async for chunk in self._request.stream():
                self._parser.write(chunk)
                await self._flush()
            self._parser.finalize()
            await self._flush()
        except FormParserError as error:
            raise RequestError(400, f"the form is not valid multipart/form-data ({error})") from None
        except ClientDisconnect:
            raise RequestError(400, "the connection broke") from None
        if not self._is_complete:  # the parser does not mind
            raise RequestError(400, "the form ends before its last boundary; send it again")
        if self.filename is None:
            raise RequestError(400, 'the form has no file; send it in the field "file"')
        await self._writer.flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for data in pending:
            await self._writer.write(data)

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise RequestError(413, f"the form has more than {_MAX_PARTS} parts")
        self._headers, self._header_bytes, self._data = {}, 0, bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise RequestError(413, f"a part of the form has more than {_MAX_HEADER_BYTES} bytes of headers")

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = parameters.get(b"name", b"").decode("utf-8", "replace")
        if self._field == "file":
            if self.filename is not None:
                raise RequestError(400, "the form has two files; send each in a request of its own")
            self.filename = parameters.get(b"filename", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == "file":
            self._pending.append(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > _MAX_FIELD_BYTES:
            raise RequestError(413, f"a field of the form has more than {_MAX_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._field and self._field != "file":
            self.fields[self._field] = self._data.decode("utf-8", "replace")
        self._field = None

    def _on_end(self) -> None:
        self._is_complete = True
