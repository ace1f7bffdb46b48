"""Reads configs from TOML files, and compares them with those in checkpoints."""

import json
import tomllib
import types
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from subpixel.errors import ConfigError
from subpixel.training.config import TrainingConfig


def load_config(path: Path) -> TrainingConfig:
    """Read a config from a TOML file. Old names of fields and values work, with a DeprecationWarning.

    Raises:
        ConfigError: the file is missing or not TOML, or a field is unknown, missing or has a wrong value. The
            message names the file, the field and the values that are allowed. Unknown fields are refused,
            because a misspelled one would silently train something else.
    """
    try:
        data, renamed = _with_current_names(tomllib.loads(path.read_text(encoding="utf-8")))
        for old, new in renamed:
            warnings.warn(f"{path}: {old} is now {new}", DeprecationWarning, stacklevel=2)
        return _build(TrainingConfig, data, "")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def stored_config(config: TrainingConfig) -> str:
    """Return a config as JSON, as checkpoints store it; without the tables that it does not have."""
    given = {name: value for name, value in asdict(config).items() if value is not None}
    return json.dumps(given, sort_keys=True)


def is_stored_config(stored: object, config: TrainingConfig) -> bool:
    """Return whether a checkpoint stores this config, with current or old names of fields and values.

    Fields that are newer than the checkpoint count with their defaults.
    """
    try:
        data = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict):
        return False
    try:
        return _build(TrainingConfig, _with_current_names(data)[0], "") == config
    except ConfigError:
        return False


_RENAMED_FIELDS = {
    "licence": "license",
    "optimiser": "optimizer",
    "quantisation": "quantization",
    "network.initialisation": "network.initialization",
    "network.mixed_with": "network.interpolated_with",
    "network.mixed_share": "network.interpolation_share",
    "data.turn": "data.augment",
}
"""Old names of fields, which work until version 0.3."""

_RENAMED_VALUES = {
    ("network.kind", "espcn-enlarged-first"): "espcn-pre-upsampling",
    ("network.initialization", "centred"): "centered",
    ("patches.drawn_by", "picture"): "image",
}
"""Old names of values, which work until version 0.3, by the field's current name."""


def _with_current_names(
    data: Mapping[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Replace old names in a config or one of its tables; return it and the replacements as (old, new)."""
    result: dict[str, Any] = {}
    renamed: list[tuple[str, str]] = []
    for name, value in data.items():
        current = _RENAMED_FIELDS.get(prefix + name, prefix + name)
        if current != prefix + name:
            renamed.append((prefix + name, current))
        if isinstance(value, dict) and not prefix:
            value, inside = _with_current_names(value, f"{current}.")
            renamed += inside
        elif isinstance(value, str) and (current, value) in _RENAMED_VALUES:
            new = _RENAMED_VALUES[current, value]
            renamed.append((f'{current} = "{value}"', f'"{new}"'))
            value = new
        result[current.removeprefix(prefix)] = value
    return result, renamed


T = TypeVar("T")


def from_table(kind: type[T], table: Mapping[str, Any]) -> T:
    """Make one of the config's dataclasses from a TOML table or JSON; `ConfigError` if it does not fit."""
    return _build(kind, table, "")


def _build(kind: type[T], data: Mapping[str, Any], prefix: str) -> T:
    """Make a dataclass of ``kind`` from a TOML table, checking each field's name and type."""
    hints = get_type_hints(kind)
    unknown = sorted(data.keys() - hints.keys())
    if unknown:
        raise ConfigError(f"unknown field {prefix}{unknown[0]}; known here: {', '.join(hints)}")
    values: dict[str, Any] = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        if entry.name in data:
            values[entry.name] = _convert(hints[entry.name], data[entry.name], prefix + entry.name)
    try:
        return kind(**values)
    except TypeError as error:  # a field without a default is missing
        missing = str(error).partition("argument")[2].lstrip("s: ") or str(error)
        raise ConfigError(f"missing {'in ' + prefix.rstrip('.') if prefix else 'field'}: {missing}") from None


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table, not {value!r}")
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name} must be one of {', '.join(map(repr, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{name} must be a list, not {value!r}")
        return tuple(_convert(arguments[0], item, name) for item in value)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:  # in JSON
            return None
        return _convert(next(kind for kind in arguments if kind is not type(None)), value, name)
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{name} is too large") from None
    if type(value) is not hint:
        raise ConfigError(f"{name} must be {hint.__name__}, not {value!r}")
    return value
