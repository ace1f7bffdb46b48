"""The choice of engine and precision, with the reason."""

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from subpixel.arguments import check_choice
from subpixel.engines.base import Engine
from subpixel.errors import EngineError
from subpixel.models.model import Model
from subpixel.options import EngineName, Precision

ENGINES = get_args(EngineName)[1:]
"""Names of the engines, the fastest first."""

OLD_ENGINES = ("halide",)
"""Names of engines that are gone: `choose` warns, and takes the fastest engine instead."""

_MAX_AT_ONCE = 4
"""Each frame or image in work needs memory, and delays the first one."""

PRECISIONS = get_args(Precision)[1:]
"""Names of the precisions; not every engine supports each of them."""


@dataclass(frozen=True)
class CompiledModel:
    """A model ready to run."""

    engine: Engine
    reason: str
    """Why this engine was chosen, as text for people."""

    @property
    def model(self) -> Model:
        """The network."""
        return self.engine.model

    @property
    def scale(self) -> int:
        """The factor by which width and height grow."""
        return self.engine.model.scale

    @property
    def frames_at_once(self) -> int:
        """How many frames of a video to upscale at once."""
        return count_at_once(self.engine.threads)


def choose(
    model: Model,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> CompiledModel:
    """Compile a model for an engine, by default the fastest one that runs on this machine.

    The choice depends only on the arguments and the machine, not on the amount of work. So an image gets the
    same result alone and as one of many.

    Args:
        model: the model to compile.
        engine: a name in `ENGINES`, or "auto".
        precision: a name in `PRECISIONS`, or "auto": the engine's own, which is int8 for "native", and fp32
            for all others.
        threads: maximum number of CPU threads; by default, the CPUs available to this process.

    Raises:
        EngineError: the engine is not installed, does not support this processor or the precision; or int8 is
            requested and the model has no int8 layers. Only "auto" falls back to another engine, and then the
            reason says why.
        ValueError: an unknown name, or ``threads`` is below 1.
    """
    if engine in OLD_ENGINES:
        message = f"engine {engine} is gone: native computes int8, onnxruntime fp32; auto chooses"
        warnings.warn(message, FutureWarning, stacklevel=2)
        engine = "auto"
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"unknown engine {engine!r}; known: auto, {', '.join(ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; known: auto, {', '.join(PRECISIONS)}")
    if threads is None:
        threads = available_cpus()
    elif threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if engine != "auto":
        return _compile(engine, model, precision, threads, "requested")
    return _first(ENGINES, model, precision, threads)


def is_for_video(engine: Engine) -> bool:
    """Whether the frames before can correct the results: the model has a history, and int8, which is fast."""
    return engine.model.spec.history is not None and engine.precision == "int8"


def correcting(engine: Engine) -> Any:
    """Return what corrects the results of an engine that `is_for_video`: `NumpyHistory`, or its fast twin.

    Raises:
        EngineError: its code cannot be compiled.
    """
    if engine.name != "native":
        from subpixel.engines.numpy_history import NumpyHistory

        return NumpyHistory(engine.model, precision="int8")
    from subpixel.engines.history.frames import NativeHistory

    return NativeHistory(engine.model, threads=engine.threads, target=engine.target)


def check_engine(engine: Any) -> None:
    """Raise TypeError unless the value is a string or None, ValueError unless it is the name of an engine."""
    if engine not in OLD_ENGINES:
        check_choice(EngineName, engine=engine)


def count_at_once(threads: int) -> int:
    """Return how many frames, or images, to upscale at once: with one, CPUs are idle at its end."""
    return min(threads, _MAX_AT_ONCE)


def available_cpus() -> int:
    """Return how many CPUs this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first(names: Sequence[str], model: Model, precision: str, threads: int) -> CompiledModel:
    """Compile a model for the first engine that works; the reason says why others do not."""
    failures: list[str] = []
    for name in names:
        why = "the fastest installed" if not failures else "; ".join(failures)
        if name == "numpy" and failures:
            why = f"slow: {why}"
            _warn(f"note: only the slow engine numpy can run model {model.name}: {'; '.join(failures)}")
        try:
            return _compile(name, model, precision, threads, why)
        except EngineError as error:
            if name == names[-1]:
                raise
            if str(error) not in failures:
                failures.append(str(error))
            if name == "native":
                _check_target()
    raise AssertionError("the last engine is returned or raises")


def _check_target() -> None:
    """Warn if the environment asks for an instruction set that cannot be used: all else is slower."""
    from subpixel.engines.native.processor import features

    try:
        features()
    except EngineError:
        return  # without llvmlite, there are no targets
    from subpixel.engines.native.targets import TARGET_VARIABLE, find

    try:
        if os.environ.get(TARGET_VARIABLE):
            find()
    except EngineError as error:
        _warn(f"note: {TARGET_VARIABLE} cannot be used: {error}")


@cache
def _warn(message: str) -> None:
    """Log a warning, once in a process."""
    logging.getLogger("subpixel").warning(message)


def _compile(name: str, model: Model, precision: str, threads: int, why: str) -> CompiledModel:
    engine_type = _engine_type(name)
    wanted = engine_type.precisions[0] if precision == "auto" else precision
    compiled = engine_type(model, precision=wanted, threads=threads)
    return CompiledModel(compiled, f"{_describe(compiled)}: {why}")


def _describe(engine: Engine) -> str:
    threads = "1 thread" if engine.threads == 1 else f"{engine.threads} threads"
    return f"{engine.name} on {engine.target}, {threads}, {engine.precision}"


def _engine_type(name: str) -> type[Engine]:
    """Return the class of a name. It is imported only now, because each engine imports large libraries."""
    if name == "native":
        from subpixel.engines.native.processor import features

        features()  # raises without llvmlite, which the next line needs
        from subpixel.engines.native.engine import NativeEngine

        return NativeEngine
    if name == "onnxruntime":
        from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine
    if name == "numpy":
        from subpixel.engines.numpy_engine import NumpyEngine

        return NumpyEngine
    raise AssertionError(f"no engine has the name {name!r}")
