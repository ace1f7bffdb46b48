"""Application of the correction of a network for video, and rounding to 8 bits, on several threads."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.color import LANES
from subpixel.engines.history.change import CHANGE, change
from subpixel.engines.history.motion import Masks
from subpixel.engines.history.program import Program
from subpixel.engines.history.rounding import ROUND_SAMPLES, round_samples
from subpixel.engines.machine_code import Call
from subpixel.engines.native import targets
from subpixel.engines.native.engine import cut
from subpixel.engines.numpy_history import FrameState, checked_history
from subpixel.engines.thread_pool import ThreadPool
from subpixel.models.history import integer_shares
from subpixel.models.model import Model

Samples = NDArray[Any]
Planes = NDArray[np.uint8]

MIN_ROWS = 16
"""Fewest LR rows for which a thread is used."""


class Application:
    """Applies corrections in int8, and rounds samples to 8 bits. Any number of threads may use it at once."""

    def __init__(self, model: Model, *, threads: int = 1, target: str | None = None) -> None:
        """Prepare it; code is compiled at first use.

        Args:
            model: the network.
            threads: to use in a call.
            target: name of an instruction set, by default the fastest one that the processor has.

        Raises:
            EngineError: this processor is not supported.
        """
        self._scale, self._shares = model.scale, integer_shares(model).astype(np.int16)
        self._is_bounded = checked_history(model).bounded
        self._threads, self._instructions = threads, targets.find(target)
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._pool = ThreadPool(threads - 1)

    def changed(
        self,
        base: tuple[Samples, Planes],
        inputs: Planes,
        outputs: Planes,
        masks: Masks,
        state: FrameState,
    ) -> tuple[Samples, Planes]:
        """Apply a correction: see `changed` and `with_still_parts` of `subpixel.engines.numpy_history`.

        Args:
            base: the result without history, ``(scale*H, scale*W)`` uint8, uint16 or float32, as it is and
                with 8 bits.
            inputs, outputs: of the correction, ``(channels, H, W)``, without context.
            masks: which pixels are open, which stay, and which are bounded.
            state: that of the frame before.

        Returns:
            The result of the network, and its state ``(state, H, W)``.
        """
        (height, width), scale = masks.opened.shape, self._scale
        samples, rounded, previous = (
            _in_whole_vectors(array, scale * width, scale * LANES) for array in (*base, state.result)
        )
        everywhere = masks.held is None
        held = masks.opened if masks.held is None else masks.held
        inputs, outputs, opened, still, held, old = (
            _in_whole_vectors(array, width, LANES)
            for array in (inputs[: scale**2], outputs, masks.opened, masks.still, held, state.hidden)
        )
        across = opened.shape[1]
        result = np.empty((scale * height, scale * across), samples.dtype)
        hidden = np.empty((len(old), height, across), np.uint8)
        program = self._program(change, CHANGE, scale, samples.itemsize, self._is_bounded, everywhere)

        def call(rows: slice) -> Call:
            return program.call(
                inputs=inputs,
                inputs_row=inputs.strides[1],
                inputs_plane=inputs.strides[0],
                outputs=outputs,
                outputs_row=outputs.strides[1],
                outputs_plane=outputs.strides[0],
                opened=opened,
                opened_row=opened.strides[0],
                still=still,
                still_row=still.strides[0],
                held=held,
                held_row=held.strides[0],
                base=samples,
                base_row=samples.strides[0],
                rounded=rounded,
                rounded_row=rounded.strides[0],
                previous=previous,
                previous_row=previous.strides[0],
                result=result,
                result_row=result.strides[0],
                hidden=hidden,
                hidden_row=hidden.strides[1],
                hidden_plane=hidden.strides[0],
                old=old,
                old_row=old.strides[1],
                old_plane=old.strides[0],
                state=len(hidden),
                shares=self._shares,
                first=rows.start,
                stop=rows.stop,
                columns=across,
            )

        self._run(height, call)
        return result[:, : scale * width], hidden[..., :width]

    def eight_bits(self, samples: Samples) -> Planes:
        """Round samples, ``(H, W)``: see `subpixel.models.history.eight_bits`."""
        if samples.dtype == np.uint8:
            return samples
        height, width = samples.shape
        samples = _in_whole_vectors(samples, width, LANES)
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

    def _program(self, emit: Callable[..., Any], arguments: Mapping[str, Any], *numbers: int) -> Program:
        """Return a program, which is compiled or loaded at its first use."""
        key = emit, *numbers
        if key not in self._programs:
            self._programs[key] = Program(emit, arguments, self._instructions, *numbers)
        return self._programs[key]

    def _run(self, rows: int, call: Callable[[slice], Call]) -> None:
        """Run calls for parts of the rows."""
        parts = max(1, min(self._threads, rows // MIN_ROWS))
        self._pool.run([call(part) for part in cut(rows, parts)])


def _in_whole_vectors(array: Samples, width: int, least: int) -> Samples:
    """Return an array, or a copy whose rows are packed and have at least so many samples."""
    if width >= least and array.strides[-1] == array.itemsize:
        return array
    more = max(0, least - width)
    return np.ascontiguousarray(np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, more)]))
