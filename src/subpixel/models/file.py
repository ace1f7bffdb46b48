"""Reading a ``.safetensors`` file of unknown origin: checks come before anything large is read.

The header lists all arrays, so shapes and dtypes are checked before an array is read.
"""

import reprlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from subpixel.errors import ModelError
from subpixel.files import is_file

MAX_HEADER_BYTES = 2**20
"""Largest header: metadata, and the arrays' names and shapes. The packaged models have at most 8 kB."""

_DTYPES = {
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "U8": "uint8",
}
"""NumPy's names for the dtypes of the format; those that no model uses are for messages."""


class TensorFile:
    """An open file: metadata, and arrays that are read on request."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}
        self.keys: frozenset[str] = frozenset(file.keys())

    def array(self, key: str, shape: tuple[int, ...], dtypes: Collection[str]) -> NDArray[Any]:
        """Read an array; `ModelError` if it has another shape or dtype."""
        header = self._file.get_slice(key)
        found = tuple(header.get_shape())
        if found != shape:
            raise ModelError(f"{key} has shape {short(found)}, expected {shape}")
        dtype = header.get_dtype()
        if _DTYPES.get(dtype) not in dtypes:
            raise ModelError(f"{key} is {_DTYPES.get(dtype, dtype)}, expected {' or '.join(dtypes)}")
        array: NDArray[Any] = self._file.get_tensor(key)
        return array

    def arrays(
        self, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Collection[str]]
    ) -> dict[str, NDArray[Any]]:
        """Read all arrays; `ModelError` if the names in the file are not exactly those of ``shapes``."""
        if missing := shapes.keys() - self.keys:
            raise ModelError(f"weights missing: {listed(missing)}")
        if unknown := self.keys - shapes.keys():
            raise ModelError(f"weights that the spec does not have: {listed(unknown)}")
        return {key: self.array(key, shape, dtypes[key]) for key, shape in shapes.items()}


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file. Errors inside of the ``with`` block become a `ModelError` too, and name the file.

    Raises:
        ModelError: the path is not a regular file or not a ``.safetensors`` file, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            yield TensorFile(file)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (SafetensorError, OSError, MemoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise ModelError(f"{path}: not a readable .safetensors file ({error})") from error


def _check_header(path: Path) -> None:
    """Refuse input that would block or take long: a pipe, a device, or a header of many megabytes."""
    if not is_file(path) and path.exists():
        raise ModelError("not a regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
    if MAX_HEADER_BYTES < length <= size:
        raise ModelError(f"its header has {length} bytes, more than the limit of {MAX_HEADER_BYTES}")


def short(value: object) -> str:
    """Return a value's ``repr``, shortened to fit a line."""
    return reprlib.repr(value)


def listed(names: Collection[str], max_shown: int = 5) -> str:
    """List names, sorted; after ``max_shown`` of them, only the number of the others."""
    shown = ", ".join(
        name if len(name) <= 80 and name.isprintable() else short(name) for name in sorted(names)[:max_shown]
    )
    return shown if len(names) <= max_shown else f"{shown} and {len(names) - max_shown} more"
