"""Opening a ``.safetensors`` file of unknown origin: what is refused before anything large is read.

The header says which arrays there are, so shapes and dtypes are compared before an array is read.
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
"""Of a file's header: metadata, and the arrays' names and shapes. The largest that ships has 8 kB."""

_DTYPES = {
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "U8": "uint8",
}
"""NumPy's names for those of the file format that appear in a model, or nearly."""


class TensorFile:
    """An open file: its metadata, and arrays by name, each read when it is asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}
        self.keys: frozenset[str] = frozenset(file.keys())

    def array(self, key: str, shape: tuple[int, ...], dtypes: Collection[str]) -> NDArray[Any]:
        """Read an array; `ModelError` where shape or dtype is another."""
        described = self._file.get_slice(key)
        found = tuple(described.get_shape())
        if found != shape:
            raise ModelError(f"{key} has shape {short(found)}, expected {shape}")
        dtype = described.get_dtype()
        if _DTYPES.get(dtype) not in dtypes:
            raise ModelError(f"{key} is {_DTYPES.get(dtype, dtype)}, expected {' or '.join(dtypes)}")
        array: NDArray[Any] = self._file.get_tensor(key)
        return array

    def arrays(
        self, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Collection[str]]
    ) -> dict[str, NDArray[Any]]:
        """Read the arrays of these names, all of which must be there, and no others."""
        if missing := shapes.keys() - self.keys:
            raise ModelError(f"weights missing: {listed(missing)}")
        if unknown := self.keys - shapes.keys():
            raise ModelError(f"weights that the description does not have: {listed(unknown)}")
        return {key: self.array(key, shape, dtypes[key]) for key, shape in shapes.items()}


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file.

    Raises `ModelError` where it is no regular file, no ``.safetensors`` file, or damaged, also for what goes
    wrong while it is open; the message names the file.
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
    """Refuse what would block or take long: a pipe or a device, a header of many megabytes."""
    if not is_file(path) and path.exists():
        raise ModelError("is no regular file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
    if MAX_HEADER_BYTES < length <= size:
        raise ModelError(f"its header has {length} bytes, more than the limit of {MAX_HEADER_BYTES}")


def short(value: object) -> str:
    """A value as it looks in Python, cut to a length that fits a line."""
    return reprlib.repr(value)


def listed(names: Collection[str], most: int = 5) -> str:
    """Names, sorted, of which no more than some are written out."""
    shown = ", ".join(
        name if len(name) <= 80 and name.isprintable() else short(name) for name in sorted(names)[:most]
    )
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
