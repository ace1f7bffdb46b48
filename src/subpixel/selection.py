"""The model and engine for a file: those that the caller names, or those that suit the file."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from subpixel.arguments import check_choice, check_integers, check_shares
from subpixel.content import Content
from subpixel.engines.pixel_art import AnyUpsampling
from subpixel.engines.select import check_engine
from subpixel.loading import load
from subpixel.options import ContentKind, EngineName, Precision
from subpixel.sizes import check_scale
from subpixel.upscaler import Upscaler


class Selection(NamedTuple):
    """An upscaler for one file, and the reason for it."""

    upscaler: Upscaler
    content: Content | None
    """How the source was classified, if that selected the model."""

    def as_result(self, upsampling: AnyUpsampling) -> dict[str, Any]:
        """Return the fields of a `subpixel.results.Result` that describe the models and the engine."""
        engines = upsampling.engines or [self.upscaler.engine]
        engine = engines[0]
        return {
            "scale": upsampling.scale,
            "sharpness": upsampling.sharpness,
            "model": " and ".join(dict.fromkeys(each.model.name for each in upsampling.engines)) or "none",
            "engine": engine.name,
            "precision": engine.precision,
            "target": engine.target,
            "threads": engine.threads,
            "reason": self.upscaler.reason,
            "content": self.content.kind if self.content else "",
            "content_reason": self.content.reason if self.content else "",
        }


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The arguments of `upscale_image` and `upscale_video` that select a model and an engine.

    Raises:
        ValueError: options that exclude each other, or an unknown value.
        TypeError: an option of the wrong type.
    """

    upscaler: Upscaler | None = None
    """Used as it is; it excludes all other options."""
    model: str | os.PathLike[str] | None = None
    """The name of a packaged model, or the path of a model file."""
    scale: float | None = None
    content: ContentKind | None = None
    """Selects the model, and excludes ``model``; "auto", the default, classifies the file."""
    engine: EngineName = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    sharpness: float = 0.0

    def __post_init__(self) -> None:
        if self.upscaler is not None and not isinstance(self.upscaler, Upscaler):
            raise TypeError(f"upscaler must be what `load` returns, not {type(self.upscaler).__name__}")
        if self.model is not None and not isinstance(self.model, str | os.PathLike):
            raise TypeError(f"model must be a name or a path, not {self.model!r}")
        check_choice(ContentKind, content=self.content)
        check_engine(self.engine)
        check_choice(Precision, precision=self.precision)
        check_integers(threads=self.threads)
        check_scale(self.scale)
        check_shares(sharpness=self.sharpness)
        if self.upscaler is not None and replace(self, upscaler=None) != ModelOptions():
            raise ValueError(
                "pass either an upscaler or options that select one "
                "(scale, model, content, engine, precision, threads, sharpness), not both"
            )
        if self.model is not None and self.content is not None:
            raise ValueError("pass either a model or a content, not both")

    def select(self, classify: Callable[[], Content]) -> Selection:
        """Return the upscaler for one file. The last few are cached, so that a loop loads each model once.

        Args:
            classify: classifies the file; called only if its content selects the model.

        Raises:
            ModelError, EngineError, ValueError: see `load`.
        """
        if self.upscaler is not None:
            return Selection(self.upscaler, None)
        content = None
        if self.model is None:
            wanted = self.content
            content = classify() if wanted is None or wanted == "auto" else Content(wanted, "requested")
        model = Path(self.model) if isinstance(self.model, os.PathLike) else self.model
        options = replace(self, model=model, content=content.kind if content else None)
        return Selection(_load_cached(options, self._file_version()), content)

    def _file_version(self) -> tuple[int, int] | None:
        """Time and size of the model file, which change when it is replaced; None for a packaged model."""
        if isinstance(self.model, os.PathLike) or (self.model or "").endswith(".safetensors"):
            with contextlib.suppress(OSError):  # `load` reports the error
                status = Path(self.model or "").stat()
                return status.st_mtime_ns, status.st_size
        return None


_CACHE_SIZE = 4
"""Upscalers take some MB each; a network that was compiled before loads in milliseconds."""


@lru_cache(maxsize=_CACHE_SIZE)
def _load_cached(options: ModelOptions, file_version: tuple[int, int] | None) -> Upscaler:
    """Call `load`, unless the same model file was loaded with the same options before."""
    content = None if options.content == "auto" else options.content
    return load(
        options.model,
        scale=options.scale,
        content=content,
        engine=options.engine,
        precision=options.precision,
        threads=options.threads,
        sharpness=options.sharpness,
    )
