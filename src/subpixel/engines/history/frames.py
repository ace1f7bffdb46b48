"""Networks for video on the native engine: `NumpyHistory` in int8, to the integer, but fast."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.color import LANES
from subpixel.engines.history.change import CHANGE, change
from subpixel.engines.history.motion import MotionCompensation
from subpixel.engines.history.program import Program
from subpixel.engines.history.rounding import ROUND_SAMPLES, round_samples
from subpixel.engines.machine_code import Call
from subpixel.engines.native import targets
from subpixel.engines.native.engine import NativeEngine, cut
from subpixel.engines.numpy_history import FrameState, checked_history, follows, inside, is_smooth
from subpixel.engines.thread_pool import ThreadPool
from subpixel.models.history import ZERO, correction, integer_shares, without_history
from subpixel.models.model import Model

Samples = NDArray[Any]
Planes = NDArray[np.uint8]

MIN_ROWS = 16
"""Fewest LR rows for which a thread is used."""


class NativeHistory:
    """Upscales the frames of a video in int8, each with the help of the one before.

    Attributes:
        model: a network with a history.
    """

    precision = "int8"

    def __init__(self, model: Model, *, threads: int = 1, target: str | None = None) -> None:
        """Prepare the network; code is compiled at first use.

        Args:
            model: the network.
            threads: to use for a frame.
            target: name of an instruction set, by default the fastest one that the processor has.

        Raises:
            EngineError: the model has no history or no int8 layers, or this processor is not supported.
        """
        self.history = checked_history(model)
        self.model, self.threads = model, threads
        network = correction(model)
        self._context_px = network.spec.halo_px
        self._base = NativeEngine(without_history(model), threads=threads, target=target)
        self._correction = NativeEngine(network, threads=threads, target=target)
        self._shares = integer_shares(model).astype(np.int16)
        self._motion = MotionCompensation(model.scale, self.history, threads=threads, target=target)
        self._instructions = targets.find(target)
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._pool = ThreadPool(threads - 1)

    def __call__(self, planes: Iterable[Samples]) -> Iterator[Samples]:
        """Upscale the planes of a video in order; see `step`."""
        state = None
        for plane in planes:
            result, state = self.step(plane, state)
            yield result

    def step(self, plane: Samples, state: FrameState | None) -> tuple[Samples, FrameState]:
        """Upscale the next frame: see `NumpyHistory.step`."""
        if plane.dtype == np.float64:
            result, after = self.step(plane.astype(np.float32), state)
            return result.astype(np.float64), after
        return self.correct(plane, self._base(plane), state)

    def correct(self, plane: Samples, base: Samples, state: FrameState | None) -> tuple[Samples, FrameState]:
        """Upscale the next frame, whose result without history is known: see `NumpyHistory.correct`."""
        frame, result = self._eight_bits(plane), base
        hidden = np.full((self.history.state, *frame.shape), ZERO, np.uint8)
        if follows(state, frame):
            inputs, opened = self._inputs(plane, frame, self._eight_bits(base), state)
            outputs = self._correction(inputs, context_px=self._context_px)
            result, hidden = self._changed(base, inputs, outputs, opened)
        return result, FrameState(frame, self._eight_bits(result), hidden)

    def _inputs(
        self, plane: Samples, frame: Planes, base: Planes, state: FrameState
    ) -> tuple[Planes, NDArray[np.bool_]]:
        """Return the inputs of the correction with their context, and which pixels are open."""
        (height, width), context_px = frame.shape, self._context_px
        channels = self.model.scale**2 + 2 + self.history.state
        inputs = np.full((channels, height + 2 * context_px, width + 2 * context_px), ZERO, np.uint8)
        aligned = self._motion.align(frame, state.frame)
        opened = aligned.explained() & ~is_smooth(plane)
        self._motion.write_inputs(
            inside(inputs, context_px), aligned, opened, base=base, result=state.result, hidden=state.hidden
        )
        return inputs, opened

    def _changed(
        self, base: Samples, inputs: Planes, outputs: Planes, opened: NDArray[np.bool_]
    ) -> tuple[Samples, Planes]:
        """Apply the correction: see `numpy_history.changed`."""
        (height, width), scale = opened.shape, self.model.scale
        inside = inputs[: scale**2, self._context_px :, self._context_px :]
        across = max(width, LANES)
        if width < LANES:
            more = LANES - width
            base = np.pad(base, [(0, 0), (0, scale * more)])
            opened = np.pad(opened, [(0, 0), (0, more)])
            inside, outputs = (np.pad(planes, [(0, 0), (0, 0), (0, more)]) for planes in (inside, outputs))
        result = np.empty_like(base)
        hidden = np.empty((self.history.state, height, across), np.uint8)
        program = self._program(change, CHANGE, scale, base.itemsize)

        def call(rows: slice) -> Call:
            return program.call(
                inputs=inside,
                inputs_row=inside.strides[1],
                inputs_plane=inside.strides[0],
                outputs=outputs,
                outputs_row=outputs.strides[1],
                outputs_plane=outputs.strides[0],
                opened=opened,
                opened_row=opened.strides[0],
                base=base,
                base_row=base.strides[0],
                result=result,
                result_row=result.strides[0],
                hidden=hidden,
                hidden_row=hidden.strides[1],
                hidden_plane=hidden.strides[0],
                state=len(hidden),
                shares=self._shares,
                first=rows.start,
                stop=rows.stop,
                columns=across,
            )

        self._run(height, call)
        return result[:, : scale * width], hidden[..., :width]

    def _eight_bits(self, samples: Samples) -> Planes:
        """Round samples: see `subpixel.models.history.eight_bits`."""
        if samples.dtype == np.uint8:
            return samples
        height, width = samples.shape
        if width < LANES or samples.strides[1] != samples.itemsize:
            samples = np.pad(samples, [(0, 0), (0, max(0, LANES - width))])
        out = np.empty(samples.shape, np.uint8)
        program = self._program(round_samples, ROUND_SAMPLES, samples.itemsize)

        def call(rows: slice) -> Call:
            return program.call(
                samples=samples,
                samples_row=samples.strides[0],
                out=out,
                out_row=out.strides[0],
                first=rows.start,
                stop=rows.stop,
                columns=samples.shape[1],
            )

        self._run(height, call)
        return out[:, :width]

    def _program(self, emit: Callable[..., Any], arguments: dict[str, Any], *numbers: int) -> Program:
        """Return a program, which is compiled or loaded at its first use."""
        key = emit, *numbers
        if key not in self._programs:
            self._programs[key] = Program(emit, arguments, self._instructions, *numbers)
        return self._programs[key]

    def _run(self, rows: int, call: Callable[[slice], Call]) -> None:
        """Run calls for parts of the rows."""
        parts = max(1, min(self.threads, rows // MIN_ROWS))
        self._pool.run([call(part) for part in cut(rows, parts)])
