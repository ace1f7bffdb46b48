"""Decoding of JPEG, PNG and TIFF by libvips, row by row. It fails if a part of the image is missing.

It calls `_libvips`, the module of cffi in the package pyvips-binary. The usual package for Python, pyvips, is
built on the same module, but has no wheel.

Only these readers are used, and only on the calling thread. The writers of libvips, and its reader of WebP,
use a thread pool, which hangs in a process that was forked after the pool had started.
"""

from collections.abc import Sequence
from typing import IO, Any

import _libvips
import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int] | bytes
"""Offset and length of a part of a file, or bytes to insert."""

_BLOCK_BYTES = 1 << 21
_DTYPES = {0: np.uint8, 2: np.uint16}
"""By the number of `VipsBandFormat`."""
_OPTIONS = b"access=sequential,fail_on=warning"
_ALL_LOG_LEVELS = 0xFF

_ffi, _lib = _libvips.ffi, _libvips.lib


class Error(Exception):
    """What libvips says about a file that it cannot read."""

    def __init__(self) -> None:
        super().__init__(_ffi.string(_lib.vips_error_buffer()).decode(errors="replace"))
        _lib.vips_error_clear()


def _start() -> None:
    """Start libvips, and keep it from printing its warnings: what matters becomes an error."""
    if _lib.vips_init(b"subpixel"):
        raise Error
    # A handler must be a C function that does nothing, since Python may have ended when it is called.
    silent = _ffi.cast("GLogFunc", _ffi.addressof(_lib, "vips_cache_get_max"))
    _lib.g_log_set_handler(b"VIPS", _ALL_LOG_LEVELS, silent, _ffi.NULL)


_start()


def decode(loader: str, file: IO[bytes], spans: Sequence[Span] | None = None) -> NDArray[Any]:
    """Decode the pixels of an image file.

    Args:
        loader: "jpegload", "pngload" or "tiffload".
        file: the file, opened.
        spans: the parts to read as if they were one file; by default the complete file.

    Returns:
        ``(H, W)`` or ``(H, W, C)``, uint8 or uint16.

    Raises:
        Error: the file is damaged or truncated, or libvips cannot read it.
        KeyError: samples have another type.
    """
    data = _read(file, spans)  # must exist until the source is gone
    source = _checked(_lib.vips_source_new_from_memory(_ffi.from_buffer(data), len(data)))
    try:
        image = _load(loader, source)
        try:
            return _samples(image)
        finally:
            _lib.vips_image_invalidate_all(image)  # else libvips caches the image for later readers
            _lib.g_object_unref(image)
    finally:
        _lib.g_object_unref(source)


def _read(file: IO[bytes], spans: Sequence[Span] | None) -> bytes:
    if spans is None:
        file.seek(0)
        return file.read()
    parts = []
    for span in spans:
        if isinstance(span, bytes):
            parts.append(span)
        else:
            file.seek(span[0])
            parts.append(file.read(span[1]))
    return b"".join(parts)


def _load(loader: str, source: Any) -> Any:
    """Read the header, and return a ``VipsImage``, the pixels of which are decoded on demand."""
    operation = _checked(_lib.vips_operation_new(f"{loader}_source".encode()))
    try:
        if _lib.vips_object_set_from_string(_ffi.cast("VipsObject *", operation), _OPTIONS):
            raise Error
        with _Value(b"VipsSource") as value:
            _lib.g_value_set_object(value, source)
            _lib.g_object_set_property(_ffi.cast("GObject *", operation), b"source", value)
        built = _lib.vips_cache_operation_build(operation)
        if built == _ffi.NULL:
            _lib.vips_object_unref_outputs(_ffi.cast("VipsObject *", operation))
            raise Error
    finally:
        _lib.g_object_unref(operation)
    try:
        with _Value(b"VipsImage") as value:
            _lib.g_object_get_property(_ffi.cast("GObject *", built), b"out", value)
            image = _lib.g_value_get_object(value)
            _lib.g_object_ref(image)
        return _ffi.cast("VipsImage *", image)
    finally:
        _lib.vips_object_unref_outputs(_ffi.cast("VipsObject *", built))
        _lib.g_object_unref(built)


def _samples(image: Any) -> NDArray[Any]:
    height, width, channels = (_property(image, name) for name in (b"height", b"width", b"bands"))
    dtype = np.dtype(_DTYPES[_property(image, b"format")])
    result = np.empty((height, width, channels), dtype)
    block = max(1, _BLOCK_BYTES // (width * channels * dtype.itemsize))
    region = _checked(_lib.vips_region_new(image))
    nbytes = _ffi.new("size_t *")
    try:
        for top in range(0, height, block):
            rows = result[top : top + block]
            data = _checked(_lib.vips_region_fetch(region, 0, top, width, len(rows), nbytes))
            try:
                rows[...] = np.frombuffer(_ffi.buffer(data, nbytes[0]), dtype).reshape(rows.shape)
            finally:
                _lib.g_free(data)
    finally:
        _lib.g_object_unref(region)
    return result[..., 0] if channels == 1 else result


def _property(image: Any, name: bytes) -> int:
    with _Value(b"VipsBandFormat" if name == b"format" else b"gint") as value:
        _lib.g_object_get_property(_ffi.cast("GObject *", image), name, value)
        read = _lib.g_value_get_enum if name == b"format" else _lib.g_value_get_int
        return int(read(value))


class _Value:
    """A ``GValue`` of a type."""

    def __init__(self, type_name: bytes) -> None:
        self._value = _ffi.new("GValue *")
        _lib.g_value_init(self._value, _lib.g_type_from_name(type_name))

    def __enter__(self) -> Any:
        return self._value

    def __exit__(self, *error: object) -> None:
        _lib.g_value_unset(self._value)


def _checked(pointer: Any) -> Any:
    if pointer == _ffi.NULL:
        raise Error
    return pointer
