"""Checks of arguments at the library's door: a wrong type is named there, not by whatever it meets later."""

import io
import math
import os
from collections.abc import Mapping
from numbers import Real
from typing import Any, get_args

import numpy as np

_MOST_SHOWN = 80
"""Characters of a value in a message; of a longer one the type is told."""


def check_paths(**given: Any) -> None:
    """Raise TypeError for what is no path."""
    _check(given, str | os.PathLike, "a path (str or os.PathLike)")


def check_files(*, input: Any, output: Any) -> None:
    """Raise TypeError for what is no file to read or to write: see `subpixel.files.as_paths`."""
    if not isinstance(input, bytes | bytearray | memoryview) and not _is_binary(input, "read"):
        _check({"input": input}, str | os.PathLike, "a path, bytes or a binary file object")
    if not _is_binary(output, "write"):
        _check({"output": output}, str | os.PathLike, "a path or a binary file object")


def _is_binary(file: Any, method: str) -> bool:
    return callable(getattr(file, method, None)) and not isinstance(file, io.TextIOBase)


def check_choice(kind: Any, **given: Any) -> None:
    """Raise TypeError for what is neither a string nor None, ValueError for one that a Literal lacks."""
    check_texts(**given)
    for name, value in given.items():
        if value is not None and value not in get_args(kind):
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(get_args(kind))}")


def check_texts(**given: Any) -> None:
    """Raise TypeError for what is neither a string nor None."""
    _check(given, str | None, "a string")


def check_wholes(**given: Any) -> None:
    """Raise TypeError for what is neither a whole number nor None."""
    _check(given, int | np.integer | None, "a whole number")


def check_numbers(**given: Any) -> None:
    """Raise TypeError for what is neither a number nor None, ValueError for NaN and infinity."""
    _check(given, Real | None, "a number")
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value!r}")


def check_mappings(**given: Any) -> None:
    """Raise TypeError for what is neither a mapping nor None."""
    _check(given, Mapping | None, "a mapping")


def _check(given: Mapping[str, Any], kinds: Any, words: str) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, kinds):
            shown = repr(value)
            if "\n" in shown or len(shown) > _MOST_SHOWN:  # an image, for example
                shown = type(value).__name__
            raise TypeError(f"{name} must be {words}, not {shown}")
