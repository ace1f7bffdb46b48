"""The engine: a picture cut into rectangles, each enlarged by one call of a kernel on one thread."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.engines.halide import cache
from subpixel.engines.halide.kernel import Kernel, compile_object
from subpixel.engines.halide.machine import host_machine
from subpixel.engines.halide.pack import pack
from subpixel.engines.halide.plan import make_plan
from subpixel.errors import EngineError
from subpixel.model import Model

WORKING_SET_BYTES = 384 * 1024
"""Of the rows that a kernel keeps: three quarters of the smallest second-level cache that is common."""

LEAST_ROWS, LEAST_COLUMNS = 24, 64
"""Lower bands, and narrower strips, spend too much time on what they share with their neighbours."""


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
        super().__init__(model, precision=precision, threads=threads, tile_side_px=tile_side_px)
        require()
        self._plan = make_plan(model.description, host_machine(target), precision)
        self.target = self._plan.machine.kind
        parameters = pack(model, self._plan)
        self._parameters = (parameters.weights, parameters.offsets, parameters.factors)
        self._kernels: dict[str, Kernel] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads - 1, "subpixel") if threads > 1 else None

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        channels, height, width = tensor.shape
        scale = self.model.scale
        result = np.empty((channels, height * scale, width * scale), np.float32)
        self._enlarge(tensor, result)
        return result

    def _enlarge(self, tensor: NDArray[Any], result: NDArray[Any]) -> None:
        """See `Engine._enlarge`: here the samples go in and out as they are, the whole picture at once."""
        if tensor.dtype == np.float64:
            exact = np.empty(result.shape, np.float32)
            self._enlarge(tensor.astype(np.float32), exact)
            result[...] = exact
            return
        if tensor.strides[2] != tensor.itemsize:
            tensor = np.ascontiguousarray(tensor)
        kernel = self._kernel(tensor.dtype.name)
        todo = self.rectangles(*tensor.shape[1:])
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    rectangle = next(todo, None)
                if rectangle is None:
                    return
                rows, columns = rectangle
                kernel(tensor, self._parameters, result, columns, rows)

        helpers = [self._pool.submit(work) for _ in range(self.threads - 1)] if self._pool else []
        try:
            work()
        finally:
            for helper in helpers:
                helper.result()

    def rectangles(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Cut a picture into pieces, ``(rows, columns)``, for the threads to take in turn.

        Columns are cut so that a kernel's rows stay in the second-level cache, into a number of strips at
        which little is computed only to be thrown away; rows so that every thread has something to do.
        """
        least = -(-width * self._plan.bytes_per_column() // WORKING_SET_BYTES)
        most = max(1, width // LEAST_COLUMNS)
        counts = range(min(least, most), min(2 * least, most) + 1)
        strips = min(counts, key=lambda count: self._plan.work(width, _cut(width, count)))
        bands = max(1, min(self.threads, height // LEAST_ROWS))
        for columns in _cut(width, strips):
            for rows in _cut(height, bands):
                yield rows, columns

    def _kernel(self, samples: str) -> Kernel:
        with self._lock:
            if samples not in self._kernels:
                plan = self._plan
                self._kernels[samples] = Kernel(
                    cache.kept(plan, samples, lambda: compile_object(plan, samples))
                )
            return self._kernels[samples]


def _cut(length: int, count: int) -> Iterator[slice]:
    for number in range(count):
        yield slice(length * number // count, length * (number + 1) // count)


def require() -> None:
    """Raise `EngineError`, with the cure, where this engine cannot run."""
    for name in ("halide", "llvmlite"):
        if find_spec(name) is None:
            raise EngineError(f"engine halide needs the package {name}: run `pip install {name}`")
    host_machine()
