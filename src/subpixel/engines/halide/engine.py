"""The engine: a picture cut into rectangles, each enlarged by one call of a kernel on one thread."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine, enlarged_first, from_float, to_float
from subpixel.engines.halide import cache
from subpixel.engines.halide.flat import keep_flat
from subpixel.engines.halide.helpers import Span, helpers
from subpixel.engines.halide.kernel import Kernel, compile_object, import_halide
from subpixel.engines.halide.machine import host_machine
from subpixel.engines.halide.pack import pack
from subpixel.engines.halide.plan import SAMPLES, Plan, make_plan
from subpixel.engines.matrices.kernel import MatrixKernel
from subpixel.engines.matrices.kernel import compile_object as compile_matrices
from subpixel.engines.matrices.layout import CACHE_BYTES, Layout, make_layout, suits
from subpixel.engines.matrices.pack import levels_fit_16_bits
from subpixel.engines.matrices.pack import pack as pack_matrices
from subpixel.errors import EngineError
from subpixel.models.model import Model

log = logging.getLogger(__name__)

MAX_LAYERS = 32
"""Compiling takes the square of the number of layers and more: half a minute for 32, minutes for 60."""

MOST_SAMPLES = 2**31 - 1
"""Of an array that a kernel reads or writes: its indices have 32 bits."""

_NAMES = {np.dtype(samples): samples for samples in SAMPLES}
"""To ask a dtype for its name takes longer than all else that is asked about an array."""

BY_MATRICES = {False: "uint8 by matrices", True: "uint8 by matrices, levels of 16 bits"}
"""Beside `plan.SAMPLES`, for the cache: by whether the layout is `short`."""

LEAST_ROWS, LEAST_COLUMNS = 24, 64
"""Lower bands, and narrower strips, spend too much time on what they share with their neighbors."""

LEAST_S = 1e-4
"""For bands that take less it does not pay to wake a helper."""

HEAD_START_S, MOST_HEAD_START_S = 3e-5, 4e-4
"""How much longer the caller's band should take than a helper's, which begins later: at first, and ever."""

MOST_LATE = 1 / 50
"""Of the time of the caller's band: helpers that were late or early by more had something else to do, and it
counts as so much."""


class HalideEngine(Engine):
    """Kernels for the model, one for each kind of samples, compiled (or found in the cache) at first use.

    Raises `EngineError` where Halide or llvmlite is missing, or the processor does not suit.
    """

    name = "halide"
    precisions = ("fp32", "int8")
    fast_in_int8 = True

    def __init__(
        self,
        model: Model,
        *,
        precision: str = "fp32",
        threads: int = 1,
        tile_side_px: int | None = None,
        target: str | None = None,
    ) -> None:
        """See `Engine`; ``target`` is one of `machine.KINDS`, by default the best that the processor is."""
        require()
        super().__init__(model, precision=precision, threads=threads, tile_side_px=tile_side_px)
        spec = model.spec
        if len(spec.layers) > MAX_LAYERS:
            raise EngineError(
                f"engine halide compiles at most {MAX_LAYERS} layers, and model {model.name} has "
                f"{len(spec.layers)}"
            )
        if spec.upsampling == "bicubic":
            # Pipelines begin where the layers do: in HR space, with what bicubic has made.
            spec = replace(spec, scale=1, upsampling="shuffle")
        self._plan = make_plan(spec, host_machine(target), precision)
        self.target = self._plan.machine.kind
        self._asked_target = target
        self._matrices = _by_matrices(model, self._plan)
        self._kernels: dict[str, Kernel | MatrixKernel] = {}
        self._strips: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._pace_s, self._head_start_s = 0.0, HEAD_START_S
        """What a pixel took last, on one thread; and the head start that has turned out to be right."""
        self._helpers = helpers(threads - 1)
        if not any(cache.holds(self._plan, samples) for samples in (*SAMPLES, *BY_MATRICES.values())):
            import_halide()  # better now, when another engine can still be chosen, than at the first picture

    def _options(self) -> dict[str, Any]:
        """See `Engine._options`."""
        return super()._options() | {"target": self._asked_target}

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`. On the calling thread alone: who works tile by tile has threads of their own."""
        tensor = enlarged_first(tensor, self.model.spec)
        channels, height, width = tensor.shape
        scale = self.model.spec.shuffle
        result = np.empty((channels, height * scale, width * scale), np.float32)
        kernel = self._kernel("float32")
        for rows, columns in self._rectangles(height, width, 1, "float32"):
            kernel(tensor, result, columns, rows)
        self._keep_flat(tensor, result)
        return result

    def _enlarge(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int) -> None:
        """See `Engine._enlarge`: here the samples go in and out as they are, the whole picture at once.

        Only float64, which no kernel takes, and pictures beyond 32-bit indices go tile by tile.
        """
        if tensor.dtype == np.float64 or max(tensor.size, result.size) > MOST_SAMPLES:
            super()._enlarge(tensor, result, context_px)
            return
        if self.model.spec.upsampling == "bicubic" and tensor.dtype != np.float32:
            floats = np.empty(result.shape, np.float32)
            self._enlarge(to_float(tensor), floats, context_px)
            result[...] = from_float(floats, result.dtype)
            return
        context_px *= self.model.scale // self.model.spec.shuffle
        tensor = enlarged_first(tensor, self.model.spec)
        if not _addressable(tensor):
            tensor = tensor.copy(order="C")
        place = result if _addressable(result) else np.empty_like(result, order="C")
        samples = _NAMES[tensor.dtype]
        kernel = self._kernel(samples)
        height, width = (side - 2 * context_px for side in tensor.shape[1:])
        pieces = self._rectangles(height, width, self.threads, samples)
        for start in range(0, len(pieces), self.threads):
            # So few at once, for each has working memory, and Ctrl-C is heard only when all are done.
            some = pieces[start : start + self.threads]
            self._learn(some, self._helpers.make(kernel.calls(tensor, place, some, context_px)))
        self._keep_flat(tensor, place, context_px)
        if place is not result:
            result[...] = place

    def _keep_flat(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int = 0) -> None:
        """What kernels leave out of the network: see `subpixel.engines.flat`."""
        if self.model.spec.residual != "none":
            keep_flat(tensor, result, context_px)

    def _learn(self, pieces: list[tuple[slice, slice]], spans: list[Span]) -> None:
        """Change the head start by some of what helpers were late."""
        rows, columns = pieces[0]
        began, ended = zip(*spans, strict=True)
        taken_s = ended[0] - began[0]
        self._pace_s = taken_s / ((rows.stop - rows.start) * (columns.stop - columns.start))
        together = max(began) < min(ended)
        if together and len(pieces) > 1 and columns == pieces[-1][1]:
            late_s = max(ended[1:]) - ended[0]
            most_s = MOST_LATE * taken_s
            late_s = min(max(late_s, -most_s), most_s)
            self._head_start_s = min(max(self._head_start_s + late_s / 4, 0), MOST_HEAD_START_S)

    def _rectangles(self, height: int, width: int, threads: int, samples: str) -> list[tuple[slice, slice]]:
        """Cut a picture into pieces, ``(rows, columns)``, for threads to take in turn.

        Columns are cut so that a kernel's rows stay in the second-level cache, into a number of strips at
        which little is computed only to be thrown away; rows so that every thread has something to do. The
        first piece is the caller's.
        """
        bands = max(1, min(threads, height // LEAST_ROWS))
        while bands > 1 and 0 < height * width * self._pace_s < bands * LEAST_S:
            bands -= 1
        strips = self._strip_count(width, samples)
        more = 0
        if bands > 1 and self._pace_s:
            more = min(int(self._head_start_s * strips / (self._pace_s * width)), height // 4)
        return [(rows, columns) for columns in _cut(width, strips) for rows in _cut(height, bands, more)]

    def _strip_count(self, width: int, samples: str) -> int:
        if (samples, width) not in self._strips:
            matrices = self._matrices_for(samples)
            plan: Plan | Layout = matrices[0] if matrices else self._plan
            cache_bytes = self._plan.machine.cache_bytes
            if matrices:
                cache_bytes = min(cache_bytes, CACHE_BYTES)
            least = -(-width * plan.bytes_per_column() // cache_bytes)
            most = max(1, width // LEAST_COLUMNS)
            counts = range(min(least, most), min(2 * least, least + 8, most) + 1)
            best = min(counts, key=lambda count: plan.work(width, _cut(width, count)))
            self._strips[samples, width] = best
        return self._strips[samples, width]

    def _matrices_for(self, samples: str) -> tuple[Layout, NDArray[np.uint8]] | None:
        """The network for AMX, where that is used: for samples of 8 bits alone."""
        return self._matrices if samples == "uint8" else None

    def _kernel(self, samples: str) -> Kernel | MatrixKernel:
        if samples not in self._kernels:
            with self._lock:
                if samples not in self._kernels:
                    self._kernels[samples] = self._make_kernel(samples)
        return self._kernels[samples]

    def _make_kernel(self, samples: str) -> Kernel | MatrixKernel:
        plan, matrices = self._plan, self._matrices_for(samples)
        if matrices:
            layout, parameters = matrices
            code = self._kept(BY_MATRICES[layout.short], lambda: compile_matrices(layout))
            return MatrixKernel(code, layout, parameters)
        return Kernel(self._kept(samples, lambda: compile_object(plan, samples)), pack(self.model, plan))

    def _kept(self, samples: str, build: Callable[[], bytes]) -> bytes:
        """A kernel's code from the cache, or else what is built now, which takes long enough to be told."""

        def told() -> bytes:
            log.info("compiling %s for this processor, which is done once", self.model.name)
            return build()

        return cache.kept(self._plan, samples, told)


def _by_matrices(model: Model, plan: Plan) -> tuple[Layout, NDArray[np.uint8]] | None:
    """A network and its parameters for AMX; None where the processor or the network does not suit."""
    if plan.products != "quads" or not plan.machine.matrices or not suits(plan.spec):
        return None
    layout = make_layout(plan.spec, short=levels_fit_16_bits(model))
    parameters = pack_matrices(model, layout)
    return None if parameters is None else (layout, parameters)


def _addressable(tensor: NDArray[Any]) -> bool:
    """Whether a kernel can use an array where it lies: a row's samples side by side, indices of 32 bits."""
    size = tensor.itemsize
    (planes, rows, _), (plane_step, row_step, step) = tensor.shape, tensor.strides
    whole = step == size and plane_step % size == row_step % size == 0
    return whole and max(abs(plane_step) * planes, abs(row_step) * rows) <= MOST_SAMPLES * size


def _cut(length: int, count: int, more: int = 0) -> Iterator[slice]:
    """So many pieces, all of about one length but for the first, which is longer by ``more``."""
    edges = [more + (length - more) * number // count for number in range(1, count + 1)]
    return (slice(*piece) for piece in pairwise([0, *edges]))


def require() -> None:
    """Raise `EngineError`, with the cure, where this engine cannot run."""
    host_machine()
    if find_spec("halide") is None:
        raise EngineError("engine halide needs the package halide: run `pip install halide`")
