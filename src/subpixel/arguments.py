"""Checks of the arguments of public functions, so that a wrong type is reported before any work.

In each check the keywords are the names of the arguments; messages show them.
"""

import io
import math
import os
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, get_args

import numpy as np

_MAX_VALUE_CHARS = 80
"""A message shows the type of a value whose repr is longer."""


def check_paths(**arguments: Any) -> None:
    """Raise TypeError unless the values are paths."""
    _check(arguments, str | os.PathLike, "a path (str or os.PathLike)")


def check_files(*, input: Any, output: Any) -> None:
    """Raise TypeError unless the values are a `subpixel.files.Source` and a `subpixel.files.Target`."""
    if not isinstance(input, bytes | bytearray | memoryview) and not _is_binary(input, "read"):
        _check({"input": input}, str | os.PathLike, "a path, bytes or a binary file object")
    if not _is_binary(output, "write"):
        _check({"output": output}, str | os.PathLike, "a path or a binary file object")


def _is_binary(file: Any, method: str) -> bool:
    return callable(getattr(file, method, None)) and not isinstance(file, io.TextIOBase)


def check_choice(literal: Any, **arguments: Any) -> None:
    """Raise TypeError unless the values are strings or None, ValueError unless ``literal`` contains them."""
    check_strings(**arguments)
    for name, value in arguments.items():
        if value is not None and value not in get_args(literal):
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(get_args(literal))}")


def check_strings(**arguments: Any) -> None:
    """Raise TypeError unless the values are strings or None."""
    _check(arguments, str | None, "a string")


def check_integers(**arguments: Any) -> None:
    """Raise TypeError unless the values are integers or None; bool is not an integer."""
    _check(arguments, int | np.integer | None, "an integer")


def check_numbers(**arguments: Any) -> None:
    """Raise TypeError unless the values are real numbers or None, ValueError for NaN and infinity, and for
    integers that no float can hold.
    """
    _check(arguments, Real | None, "a number")
    for name, value in arguments.items():
        try:
            is_finite = value is None or math.isfinite(value)
        except OverflowError:  # an integer
            raise ValueError(f"{name} is too large: it must be less than 1.8e308") from None
        if not is_finite:
            raise ValueError(f"{name} must be finite, not {value!r}")


def check_shares(**arguments: Any) -> None:
    """Raise TypeError unless the values are real numbers or None, ValueError unless they are in 0 to 1."""
    check_numbers(**arguments)
    for name, value in arguments.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must be at least 0 and at most 1, not {value!r}")


def check_mappings(**arguments: Any) -> None:
    """Raise TypeError unless the values are mappings or None."""
    _check(arguments, Mapping | None, "a mapping")


def check_callables(**arguments: Any) -> None:
    """Raise TypeError unless the values can be called."""
    _check(arguments, Callable, "callable")


def _check(arguments: Mapping[str, Any], types: Any, description: str) -> None:
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, types):
            shown = repr(value)
            if "\n" in shown or len(shown) > _MAX_VALUE_CHARS:  # an image, for example
                shown = type(value).__name__
            raise TypeError(f"{name} must be {description}, not {shown}")
