"""A ZIP of results, written while it is sent."""

import io
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 2**18


class _Sink(io.RawIOBase):
    """A file that cannot seek, and keeps what was written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def stream_archive(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """Yield a ZIP of files, stored as they are: images and videos are compressed already.

    Args:
        files: name and path of each. Equal names get a number; files that are gone are left out.
    """
    sink = _Sink()
    used: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for wanted, path in files:
            try:
                file = path.open("rb")
            except OSError:
                continue
            name = _unused(wanted, used)
            with file, archive.open(zipfile.ZipInfo(name, _time(path)), "w", force_zip64=True) as entry:
                while data := file.read(_CHUNK_BYTES):
                    entry.write(data)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def _unused(name: str, used: set[str]) -> str:
    stem, suffix = name.removesuffix(Path(name).suffix), Path(name).suffix
    number, result = 2, name
    while result.casefold() in used:
        result, number = f"{stem} ({number}){suffix}", number + 1
    used.add(result.casefold())
    return result


def _time(path: Path) -> tuple[int, int, int, int, int, int]:
    moment = time.localtime(path.stat().st_mtime)
    return (max(1980, moment.tm_year), *moment[1:6])
