"""Writes ONNX files: a graph of nodes and constants in the wire format of Protocol Buffers.

The field numbers are those of ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Fields
are written in the order of their numbers, as the reference implementation does.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 13, 7
"""ONNX 1.8 of 2020. The graphs need nothing newer, and more programs read an older version."""

_FLOAT = 1
_DTYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.uint8): 2, np.dtype(np.int8): 3, np.dtype(np.int32): 6,
           np.dtype(np.int64): 7}  # fmt: skip
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
"""Wire types."""


class Graph:
    """A graph under construction, from the input ``lr`` to the output ``hr``."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self.constants: dict[str, NDArray[Any]] = {}
        """Float32, uint8, int8, int32 or int64 of any shape, by name. Nodes may name them as inputs."""

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name.

        Attributes are integers, floats, strings, or lists of integers.
        """
        parts = [_text(1, each) for each in inputs]
        parts += [_text(2, output), _text(3, output), _text(4, operator)]
        parts += [_message(5, _attribute(*each)) for each in sorted(attributes.items())]
        self._nodes.append(b"".join(parts))
        return output

    def encode(
        self,
        name: str,
        *,
        lr_shape: Sequence[int | str],
        scale: int,
        producer_version: str,
        doc_string: str = "",
        properties: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the content of an ``.onnx`` file.

        Args:
            name: the name of the graph.
            lr_shape: of ``lr``, float32: ``(N, C, H, W)``. A string is a variable.
            scale: ``hr`` is ``(N, C, scale*H, scale*W)``, float32.
            producer_version: version of Subpixel.
            doc_string: description for people.
            properties: metadata.
        """
        hr_shape = [*lr_shape[:2]]
        hr_shape += [f"{scale}*{each}" if isinstance(each, str) else scale * each for each in lr_shape[2:]]
        graph = [_message(1, node) for node in self._nodes]
        graph.append(_text(2, name))
        graph += [_message(5, _tensor(*each)) for each in self.constants.items()]
        graph.append(_message(11, _images("lr", lr_shape)))
        graph.append(_message(12, _images("hr", hr_shape)))
        parts = [_integer(1, IR_VERSION), _text(2, "subpixel"), _text(3, producer_version)]
        parts.append(_text(6, doc_string) if doc_string else b"")
        parts += [_message(7, b"".join(graph)), _message(8, _text(1, "") + _integer(2, OPSET))]
        parts += [_message(14, _text(1, key) + _text(2, value)) for key, value in (properties or {}).items()]
        return b"".join(parts)


def _attribute(name: str, value: Any) -> bytes:
    """An ``AttributeProto``."""
    if isinstance(value, float):
        body, kind = _key(2, _FIXED32) + struct.pack("<f", value), 1
    elif isinstance(value, int):
        body, kind = _integer(3, value), 2
    elif isinstance(value, str):
        body, kind = _text(4, value), 3
    else:
        body, kind = _integers(8, value), 7
    return _text(1, name) + body + _integer(20, kind)


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    """A ``TensorProto``."""
    array = np.asarray(array)
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return _integers(1, array.shape) + _integer(2, _DTYPES[array.dtype]) + _text(8, name) + _message(9, data)


def _images(name: str, shape: Sequence[int | str]) -> bytes:
    """A ``ValueInfoProto`` of float32."""
    sizes = [_text(2, each) if isinstance(each, str) else _integer(1, each) for each in shape]
    dimensions = b"".join(_message(1, size) for size in sizes)
    return _text(1, name) + _message(2, _message(1, _integer(1, _FLOAT) + _message(2, dimensions)))


def _integers(field: int, values: Iterable[int]) -> bytes:
    return b"".join(_integer(field, value) for value in values)


def _integer(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, body: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(body)) + body


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])
