"""The reference for networks for video, in NumPy: `subpixel.models.history` has the arithmetic."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import smooth
from subpixel.engines.base import from_float, to_float
from subpixel.engines.flat import is_flat
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import history
from subpixel.models.model import Model
from subpixel.models.quantization import WHITE, run_integer_layer
from subpixel.ops.block_motion import Alignment, align, between_samples, moved, whole_pixels
from subpixel.ops.convolution import activate, convolve
from subpixel.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle


@dataclass(frozen=True)
class FrameState:
    """What goes from a frame to the next one."""

    frame: NDArray[np.uint8]
    """``(H, W)``: the frame, rounded to 8 bits."""
    result: NDArray[Any]
    """``(scale*H, scale*W)``: its result; uint8 in int8, otherwise float32 in [0, 1], not clipped."""
    hidden: NDArray[Any]
    """``(state, H, W)``; uint8 in int8, with the zero point `history.ZERO`, otherwise float32."""


class NumpyHistory:
    """Upscales the frames of a video, each with the help of the one before.

    Attributes:
        model: a network with a history.
        precision: "fp32" or "int8".
    """

    def __init__(self, model: Model, *, precision: str = "fp32") -> None:
        """Prepare the network.

        Raises:
            EngineError: the model has no history, or int8 is asked for and it has no int8 layers.
        """
        if model.spec.history is None:
            raise EngineError(f"model {model.name} upscales each frame by itself: it has no history")
        self.model, self.precision = model, precision
        self.history, self._scale = model.spec.history, model.spec.scale
        self._engine = NumpyEngine(model, precision=precision)
        self._integers = history.history_integer_layers(model) if precision == "int8" else ()

    def __call__(self, planes: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Upscale the planes of a video in order; see `step`."""
        state = None
        for plane in planes:
            result, state = self.step(plane, state)
            yield result

    def step(self, plane: NDArray[Any], state: FrameState | None) -> tuple[NDArray[Any], FrameState]:
        """Upscale the next frame.

        Args:
            plane: ``(H, W)``, as for `Engine.__call__`.
            state: that of the frame before; None for the first frame, and after a cut. So is one of another
                size.

        Returns:
            The result ``(scale*H, scale*W)`` in the plane's dtype, and the state for the next frame.
        """
        if self._integers:
            return self.correct(plane, self._engine(plane), state)
        frame = history.eight_bits(plane)
        return self._step(plane, frame, _of_size(state, frame.shape))

    def correct(
        self, plane: NDArray[Any], base: NDArray[Any], state: FrameState | None
    ) -> tuple[NDArray[Any], FrameState]:
        """Upscale the next frame, whose result without history is known; only in int8.

        Args:
            plane, state: see `step`.
            base: ``(scale*H, scale*W)`` in the plane's dtype.
        """
        frame = history.eight_bits(plane)
        return self._int8_step(plane, base, frame, _of_size(state, frame.shape))

    def _step(
        self, plane: NDArray[Any], frame: NDArray[np.uint8], state: FrameState | None
    ) -> tuple[NDArray[Any], FrameState]:
        scale, channels = self._scale, self.history.state
        result = self._engine.run(to_float(plane[None]))[0]
        hidden = np.zeros((channels, *frame.shape), np.float32)
        if state is not None:
            aligned, opened = self._aligned(plane, frame, state)
            old, old_hidden = self._moved(state, aligned)
            difference = _phases(old.astype(np.float64) - result, scale)
            levels = np.stack([aligned.detail, aligned.residual]) / 255
            outputs = self._layers(np.concatenate([difference, levels, old_hidden]) * opened)
            largest = history.MAX_GATE / history.CHANGE_STEPS
            gate = opened * np.clip(outputs[-1:] / history.GATE_WIDTH + 0.5, 0, largest)
            shares = history.integer_shares(self.model)[:, None, None] / history.CHANGE_STEPS
            change = gate * (outputs[: scale**2] + shares * difference)
            result = (result + pixel_shuffle(change, scale)[0]).astype(np.float32)
            hidden = (gate * np.clip(outputs[scale**2 : -1], -1, 1)).astype(np.float32)
        return from_float(result, plane.dtype), FrameState(frame, result, hidden)

    def _layers(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        for index, layer in enumerate(self.history.layers, len(self.model.spec.layers)):
            values = convolve(values, *self.model.layer_weights(index))
            values = activate(values, layer.activation, self.model.weights.get(f"layers.{index}.slope"))
        return values

    def _int8_step(
        self, plane: NDArray[Any], result: NDArray[Any], frame: NDArray[np.uint8], state: FrameState | None
    ) -> tuple[NDArray[Any], FrameState]:
        scale, channels = self._scale, self.history.state
        hidden = np.full((channels, *frame.shape), history.ZERO, np.uint8)
        if state is not None:
            aligned, opened = self._aligned(plane, frame, state)
            inputs, difference = self._int8_inputs(history.eight_bits(result), state, aligned, opened)
            outputs = self._int8_layers(inputs)
            gate = np.minimum(outputs[-1:], history.MAX_GATE) * opened
            correction = 128 // history.CORRECTION_STEPS * (outputs[: scale**2] - history.ZERO)
            shares = history.integer_shares(self.model)[:, None, None]
            change = history.gated(gate, correction + shares * difference)
            result = history.changed_samples(result, pixel_shuffle(change, scale)[0])
            new = history.gated(gate, outputs[scale**2 : -1] - history.ZERO)
            hidden = (new + history.ZERO).astype(np.uint8)
        return result, FrameState(frame, history.eight_bits(result), hidden)

    def _int8_inputs(
        self,
        base: NDArray[np.uint8],
        state: FrameState,
        aligned: Alignment,
        opened: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the inputs of the history's layers, 0 to 255, and the difference of the results."""
        old, old_hidden = self._moved(state, aligned)
        difference = _phases(np.clip(old.astype(np.int64) - base, -128, 127), self._scale).astype(np.int64)
        levels = np.clip(np.stack([aligned.detail, aligned.residual]), -128, 127)
        signed = np.concatenate([difference, levels, old_hidden.astype(np.int64) - history.ZERO])
        return (signed * opened + history.ZERO).astype(np.float64), difference

    def _int8_layers(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        zero_point = np.full(len(values), history.ZERO, np.float64)
        for convolution, layer in zip(self.history.layers, self._integers, strict=True):
            values = run_integer_layer(values, zero_point, convolution, layer, last=False)
            zero_point = layer.zero_point.astype(np.float64)
        return values.astype(np.int64)

    def _aligned(
        self, plane: NDArray[Any], frame: NDArray[np.uint8], state: FrameState
    ) -> tuple[Alignment, NDArray[np.bool_]]:
        """Align the previous frame; return where pixels are open, too."""
        spec = self.history
        aligned = align(
            frame,
            state.frame,
            self._scale * spec.parts,
            block_px=spec.block_px,
            range_px=spec.range_px,
            fit_limit=spec.fit_limit,
        )
        return aligned, aligned.fits & ~self._is_smooth(plane[None])

    def _is_smooth(self, tensor: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the network without history has no influence on the result."""
        if self.precision == "fp32" or tensor.dtype == np.uint8:
            return is_flat(tensor)
        samples = tensor.astype(np.float32)
        return np.asarray(smooth.weights(samples, WHITE.get(tensor.dtype.name, 1)) == 0)

    def _moved(self, state: FrameState, aligned: Alignment) -> tuple[NDArray[Any], NDArray[Any]]:
        """Move the last result and the hidden state onto the frame."""
        block, scale, parts = self.history.block_px, self._scale, self.history.parts
        samples = between_samples(state.result, parts)
        result = moved(samples[None], aligned.motion, scale * block, parts)[0]
        return result, moved(state.hidden, whole_pixels(aligned.motion, scale * parts), block)


def _of_size(state: FrameState | None, shape: tuple[int, ...]) -> FrameState | None:
    return state if state is not None and state.frame.shape == shape else None


def _phases(values: NDArray[Any], scale: int) -> NDArray[Any]:
    """Unshuffle ``(scale*H, scale*W)`` to ``(scale**2, H, W)``."""
    return pixel_unshuffle(values[None], scale)
