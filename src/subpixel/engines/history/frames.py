"""Networks for video on the native engine: `NumpyHistory` in int8, to the integer, but fast."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.history.application import Application
from subpixel.engines.history.motion import MotionCompensation
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.numpy_history import FrameState, checked_history, follows, inside, owned
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
        self._spare: list[Planes] = []  # memory of earlier frames; methods of a list are atomic

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
        rounded, context_px = self._application.eight_bits, self._context_px
        frame = owned(rounded(plane), plane)
        if not follows(state, frame):
            hidden = np.full((self.history.state, *frame.shape), ZERO, np.uint8)
            return base, FrameState(frame, rounded(base), hidden)
        eight_bits = rounded(base)
        aligned = self._motion.align(frame, state.frame)
        masks = self._motion.masks(plane, aligned)
        inputs = self._memory(frame.shape)
        self._motion.write_inputs(
            inside(inputs, context_px),
            aligned,
            masks.opened,
            base=eight_bits,
            result=state.result,
            hidden=state.hidden,
        )
        outputs = self._correction(inputs, context_px=context_px)
        result, hidden = self._application.changed(
            (base, eight_bits), inside(inputs, context_px), outputs, masks, state
        )
        self._spare.append(inputs)
        return result, FrameState(frame, rounded(result), hidden)

    def _memory(self, frame_shape: tuple[int, ...]) -> Planes:
        """Return memory for inputs of the correction, in a border of `ZERO`: where possible, used before."""
        width = self._context_px
        shape = self._correction.model.spec.channels, *(side + 2 * width for side in frame_shape)
        with contextlib.suppress(IndexError):
            if (planes := self._spare.pop()).shape == shape:
                return planes
        planes = np.empty(shape, np.uint8)
        for edge in (slice(width), slice(-width, None)):
            planes[:, edge] = ZERO
            planes[:, :, edge] = ZERO
        return planes
