"""Which model and engine a file gets: what was asked for, or else what suits the file."""

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from subpixel.arguments import check_choice, check_wholes
from subpixel.content import Content
from subpixel.engines.base import Engine
from subpixel.options import ContentKind, EngineName, Precision, SourceKind
from subpixel.upscaler import Upscaler, load


class Selection(NamedTuple):
    """An upscaler for one file, and why that one."""

    upscaler: Upscaler
    content: Content | None
    """What the file is taken for, where that decided the model."""

    def as_result(self, engine: Engine) -> dict[str, Any]:
        """The fields of a `subpixel.results.Result` about the model, the engine that ran it, and why."""
        return {
            "scale": self.upscaler.scale,
            "model": self.upscaler.model.name,
            "engine": engine.name,
            "precision": engine.precision,
            "target": engine.target,
            "threads": engine.threads,
            "reason": self.upscaler.reason,
            "content": self.content.kind if self.content else "",
            "content_reason": self.content.reason if self.content else "",
        }


def select(
    upscaler: Upscaler | None,
    *,
    model: str | os.PathLike[str] | None,
    scale: int | None,
    content: ContentKind | None,
    engine: EngineName,
    precision: Precision,
    threads: int | None,
    guess: Callable[[], Content],
) -> Selection:
    """The upscaler that is given, or else one for a model, or for a scale and what the file holds.

    The last few that were loaded are kept, so that a loop over files loads and compiles nothing twice.

    Args:
        upscaler: instead of all else.
        model, scale, engine, precision, threads: see `load`; a path of a model file will do as a model.
        content: "clean", "compressed", or "auto", which is the default where no model is named: then
            ``guess`` says, which looks at the file.

    Raises:
        ValueError: an upscaler and something else, or a model and a content.
    """
    if upscaler is not None and not isinstance(upscaler, Upscaler):
        raise TypeError(f"upscaler must be what `load` returns, not {type(upscaler).__name__}")
    if model is not None and not isinstance(model, str | os.PathLike):
        raise TypeError(f"model must be a name or a path, not {model!r}")
    if isinstance(model, os.PathLike):
        model = Path(model)
    check_choice(ContentKind, content=content)
    check_choice(EngineName, engine=engine)
    check_choice(Precision, precision=precision)
    check_wholes(scale=scale, threads=threads)
    options = (model, scale, content, threads)
    if upscaler is not None:
        if any(option is not None for option in options) or (engine, precision) != ("auto", "auto"):
            raise ValueError("give an upscaler, or a scale, a model, a content and an engine, not both")
        return Selection(upscaler, None)
    found = None
    if model is None:
        found = guess() if content is None or content == "auto" else Content(content, "asked for")
    elif content is not None:
        raise ValueError("give a model or a content, not both")
    stamp = None
    if isinstance(model, Path) or (model is not None and model.endswith(".safetensors")):
        with contextlib.suppress(OSError):  # `load` says what is wrong
            status = Path(model).stat()
            stamp = (status.st_mtime_ns, status.st_size)
    kind = found.kind if found else None
    return Selection(_loaded(model, scale, kind, engine, precision, threads, stamp), found)


_MOST_KEPT = 4
"""Upscalers; each takes some MB, and a network that was compiled loads in milliseconds."""


@lru_cache(maxsize=_MOST_KEPT, typed=True)
def _loaded(
    model: str | Path | None,
    scale: int | None,
    content: SourceKind | None,
    engine: EngineName,
    precision: Precision,
    threads: int | None,
    stamp: tuple[int, int] | None,
) -> Upscaler:
    """`load`, for the last few; a model file that has changed since has another ``stamp``."""
    return load(model, scale=scale, content=content, engine=engine, precision=precision, threads=threads)
