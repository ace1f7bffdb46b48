"""Networks for video on the native engine: `NumpyHistory` in int8, to the integer, but fast."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.history.application import Application
from subpixel.engines.history.motion import MotionCompensation
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.numpy_history import (
    FrameState,
    checked_history,
    follows,
    inside,
    is_smooth,
    with_still_parts,
)
from subpixel.models.history import ZERO, correction, without_history
from subpixel.models.model import Model

Samples = NDArray[Any]
Planes = NDArray[np.uint8]


class NativeHistory:
    """Upscales the frames of a video in int8, each with the help of the one before.

    Attributes:
        model: a network with a history.
    """

    precision = "int8"

    def __init__(self, model: Model, *, threads: int = 1, target: str | None = None) -> None:
        """Prepare the network; much of its code is compiled at first use.

        Args:
            model: the network.
            threads: to use for a frame.
            target: name of an instruction set, by default the fastest one that the processor has.

        Raises:
            EngineError: the model has no history or no int8 layers, or this processor is not supported.
        """
        self.model, self.history = model, checked_history(model)
        network = correction(model)
        self._context_px = network.spec.halo_px
        self._base = NativeEngine(without_history(model), threads=threads, target=target)
        self._correction = NativeEngine(network, threads=threads, target=target)
        self._motion = MotionCompensation(model.scale, self.history, threads=threads, target=target)
        self._application = Application(model, threads=threads, target=target)

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
        rounded = self._application.eight_bits
        frame, result = rounded(plane), base
        hidden = np.full((self.history.state, *frame.shape), ZERO, np.uint8)
        if follows(state, frame):
            eight_bits = rounded(base)
            inputs, opened = self._inputs(plane, frame, eight_bits, state)
            outputs = self._correction(inputs, context_px=self._context_px)
            computed = self._application.changed(base, inside(inputs, self._context_px), outputs, opened)
            result, hidden = with_still_parts(self.model, frame, state, (base, eight_bits), computed)
        return result, FrameState(frame, rounded(result), hidden)

    def _inputs(
        self, plane: Samples, frame: Planes, base: Planes, state: FrameState
    ) -> tuple[Planes, NDArray[np.bool_]]:
        """Return the inputs of the correction with their context, and which pixels are open."""
        aligned = self._motion.align(frame, state.frame)
        opened = aligned.explained() & ~is_smooth(plane)
        height, width = (side + 2 * self._context_px for side in frame.shape)
        planes = np.full((self._correction.model.spec.channels, height, width), ZERO, np.uint8)
        self._motion.write_inputs(
            inside(planes, self._context_px),
            aligned,
            opened,
            base=base,
            result=state.result,
            hidden=state.hidden,
        )
        return planes, opened
