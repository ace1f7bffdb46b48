"""The engine: cuts an image into rectangles, and upscales each with one call of a kernel on one thread."""

import logging
import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import code_cache
from subpixel.engines.base import Engine, to_float
from subpixel.engines.flat import copy_flat_areas
from subpixel.engines.machine_code import compiling
from subpixel.engines.native.kernel import NativeKernel, compile_object
from subpixel.engines.native.layers import SAMPLE_BYTES, Samples
from subpixel.engines.native.pack import arithmetic, pack
from subpixel.engines.native.plan import Plan, make_plan
from subpixel.engines.native.targets import find
from subpixel.engines.thread_pool import ThreadPool
from subpixel.models.model import Model
from subpixel.models.quantization import deep_shift

log = logging.getLogger(__name__)

MIN_ROWS, MIN_COLUMNS = 24, 64
"""Smallest height of bands and width of strips: smaller ones spend too much time on their halo."""

_NAMES: dict[np.dtype[Any], Samples] = {np.dtype(samples): samples for samples in SAMPLE_BYTES}


class NativeEngine(Engine):
    """Int8 networks, see `subpixel.engines.native`. Compiles a kernel for each dtype at first use."""

    name = "native"
    precisions = ("int8",)

    def __init__(
        self,
        model: Model,
        *,
        precision: str = "int8",
        threads: int = 1,
        tile_side_px: int | None = None,
        target: str | None = None,
    ) -> None:
        """See `Engine`.

        ``target`` is the name of an instruction set, by default the fastest one that the processor has.
        Raises `EngineError` also if this processor is not supported.
        """
        super().__init__(model, precision=precision, threads=threads, tile_side_px=tile_side_px)
        self._instructions = find(target)
        self.target, self._asked_target = self._instructions.name, target
        self._kernels: dict[Samples, NativeKernel] = {}
        self._strips = cache(self._cut_columns)
        self._pool = ThreadPool(threads - 1)

    def _options(self) -> dict[str, Any]:
        """See `Engine._options`."""
        return super()._options() | {"target": self._asked_target}

    def _kernel(self, samples: Samples) -> NativeKernel:
        if samples not in self._kernels:
            with compiling:
                if samples not in self._kernels:
                    self._kernels[samples] = self._make_kernel(samples)
        return self._kernels[samples]

    def _make_kernel(self, samples: Samples) -> NativeKernel:
        """Load a kernel's code from the cache, or build it, which is logged because it takes longer."""
        how, shift = arithmetic(self.model), deep_shift(self._integers[0])
        plan = make_plan(self.model.spec, self._instructions, how, samples, shift)

        def build() -> bytes:
            kept = "" if code_cache.folder() is None else "; the cache keeps the result"
            log.info("compiling %s for this processor%s", self.model.name, kept)
            try:
                return compile_object(plan)
            finally:
                log.debug("compiled %s", self.model.name)

        return NativeKernel(code_cache.load_or_build(plan.determining, build), plan, pack(self.model, plan))

    def _cut_columns(self, width: int, samples: Samples = "uint8") -> list[slice]:
        return strips(self._kernel(samples).plan, width)

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`. Uses only the calling thread: callers that cut tiles have their own threads."""
        return self.run_samples(tensor)

    def run_samples(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """See `Engine.run_samples`."""
        channels, height, width = tensor.shape
        scale = self.model.scale
        result = np.empty((channels, height * scale, width * scale), tensor.dtype)
        self._compute(tensor, result, 0, 1)
        return result

    def _upscale(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int) -> None:
        """See `Engine._upscale`. There are no tiles."""
        self._compute(tensor, result, context_px, self.threads)

    def _compute(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int, threads: int) -> None:
        """Fill ``result`` from ``tensor`` without the context, on so many threads."""
        if tensor.dtype == np.float64:
            floats = np.empty(result.shape, np.float32)
            self._compute(to_float(tensor), floats, context_px, threads)
            result[...] = floats
            return
        if tensor.strides[2] != tensor.itemsize:
            tensor = tensor.copy(order="C")
        target = result if result.strides[2] == result.itemsize else np.empty_like(result, order="C")
        samples = _NAMES[tensor.dtype]
        kernel = self._kernel(samples)
        height, width = (side - 2 * context_px for side in tensor.shape[1:])
        bands = max(1, min(threads, height // MIN_ROWS))
        rectangles = [
            (rows, columns) for columns in self._strips(width, samples) for rows in cut(height, bands)
        ]
        for start in range(0, len(rectangles), threads):
            # Only a few calls at once: each needs working memory, and Ctrl-C takes effect only between them.
            some = rectangles[start : start + threads]
            calls = kernel.calls(tensor, target, some, context_px)
            if threads > 1:
                self._pool.run(calls)
            else:
                calls[0]()
        plan = kernel.plan
        if self.model.spec.residual != "none" and not plan.keeps_flat and not plan.deep:
            copy_flat_areas(tensor, target, context_px)
        if target is not result:
            result[...] = target


def strips(plan: Plan, width: int) -> list[slice]:
    """Cut the columns of an image so that a kernel's rows stay in cache, and little is computed twice."""
    least = math.ceil(width * plan.bytes_per_column / plan.instructions.cache_bytes)
    most = max(1, width // MIN_COLUMNS)
    counts = range(min(least, most), min(2 * least, least + 8, most) + 1)
    return list(cut(width, min(counts, key=lambda count: plan.work(width, cut(width, count)))))


def cut(length: int, count: int) -> Iterator[slice]:
    """Cut a length into ``count`` pieces of about equal length."""
    return (slice(*piece) for piece in pairwise(length * number // count for number in range(count + 1)))
