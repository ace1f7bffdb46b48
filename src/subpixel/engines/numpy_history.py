"""The reference for networks for video, in NumPy: `subpixel.models.history` has the arithmetic."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import smooth
from subpixel.engines.base import from_float, to_float
from subpixel.engines.flat import is_flat
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import history
from subpixel.models.model import Model
from subpixel.models.quantization import WHITE
from subpixel.models.spec import History, ModelSpec
from subpixel.ops.block_motion import Alignment, align, between_samples, moved, still, whole_pixels
from subpixel.ops.convolution import activate, convolve, pad
from subpixel.ops.pixel_art import nearest
from subpixel.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle


@dataclass(frozen=True)
class FrameState:
    """What goes from a frame to the next one."""

    frame: NDArray[np.uint8]
    """``(H, W)``: the frame, rounded to 8 bits; a copy, because callers may change theirs meanwhile."""
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
        self.history = checked_history(model)
        self.model, self.precision = model, precision
        self._engine = NumpyEngine(model, precision=precision)
        correction = history.correction(model)
        self._context_px = correction.spec.halo_px
        self._correction = NumpyEngine(correction, precision=precision)

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
        if plane.dtype == np.float64:
            result, after = self.step(plane.astype(np.float32), state)
            return result.astype(np.float64), after
        if self.precision == "int8":
            return self.correct(plane, self._engine(plane), state)
        return self._step(plane, history.eight_bits(plane), state)

    def correct(
        self, plane: NDArray[Any], base: NDArray[Any], state: FrameState | None
    ) -> tuple[NDArray[Any], FrameState]:
        """Upscale the next frame, whose result without history is known; only in int8.

        Args:
            plane, state: see `step`; not float64.
            base: the result without history, ``(scale*H, scale*W)`` in the plane's dtype.
        """
        frame, result = owned(history.eight_bits(plane), plane), base
        hidden = np.full((self.history.state, *frame.shape), history.ZERO, np.uint8)
        if follows(state, frame):
            spec, eight_bits = self.model.spec, history.eight_bits(base)
            inputs, opened, held = correction_inputs(spec, plane, frame, eight_bits, state, self._context_px)
            outputs = self._corrected(inputs)
            computed = changed(self.model, base, inside(inputs, self._context_px), outputs, opened, held)
            is_still = still(frame, state.frame, self.history.block_px)
            result, hidden = with_still_parts(self.model, is_still, state, (base, eight_bits), computed)
        return result, FrameState(frame, history.eight_bits(result), hidden)

    def _step(
        self, plane: NDArray[Any], frame: NDArray[np.uint8], state: FrameState | None
    ) -> tuple[NDArray[Any], FrameState]:
        spec, squares = self.model.spec, self.model.scale**2
        result = self._engine.run(to_float(plane[None]))[0]
        hidden = np.zeros((self.history.state, *frame.shape), np.float32)
        if follows(state, frame):
            aligned = alignment(spec, frame, state)
            opened = aligned.fits & ~is_flat(plane[None])
            old, old_hidden = moved_state(spec, state, aligned)
            difference = phases(old.astype(np.float64) - result, spec.scale)
            levels = np.stack([aligned.detail, aligned.residual]) / 255
            outputs = self._layers(np.concatenate([difference, levels, old_hidden]) * opened)
            largest = history.MAX_GATE / history.CHANGE_STEPS
            gate = opened * np.clip(outputs[-1:] / history.GATE_WIDTH + 0.5, 0, largest)
            shares = history.integer_shares(self.model)[:, None, None] / history.CHANGE_STEPS
            change = gate * (outputs[:squares] + shares * difference)
            held = bounded_pixels(self.history, aligned.motion, frame.shape)
            change = np.where(held, bounded(change, difference), change)
            result = (result + pixel_shuffle(change, spec.scale)[0]).astype(np.float32)
            hidden = (gate * np.clip(outputs[squares:-1], -1, 1)).astype(np.float32)
            is_still = still(frame, state.frame, self.history.block_px)
            result = np.where(nearest(is_still, spec.scale), state.result, result)
            hidden = np.where(is_still, state.hidden, hidden)
        return from_float(result, plane.dtype), FrameState(owned(frame, plane), result, hidden)

    def _layers(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        context_px, (height, width) = self._context_px, values.shape[1:]
        values = pad(values, context_px)
        for index, layer in enumerate(self.history.layers, len(self.model.spec.layers)):
            values = convolve(values, *self.model.layer_weights(index))
            values = activate(values, layer.activation, self.model.weights.get(f"layers.{index}.slope"))
        return values[:, context_px : context_px + height, context_px : context_px + width]

    def _corrected(self, inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the outputs of the correction, without the context."""
        return self._correction(inputs, context_px=self._context_px)


def follows(state: FrameState | None, frame: NDArray[np.uint8]) -> TypeGuard[FrameState]:
    """Whether a state is that of a frame of the same size."""
    return state is not None and state.frame.shape == frame.shape


def owned(frame: NDArray[np.uint8], plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the samples of a frame for its state: copied, unless rounding has made new ones of ``plane``."""
    return frame.copy() if frame is plane else frame


def checked_history(model: Model) -> History:
    """Return the history of a model; raises `EngineError` if it has none."""
    if model.spec.history is None:
        raise EngineError(f"model {model.name} upscales each frame by itself: it has no history")
    return model.spec.history


def alignment(spec: ModelSpec, frame: NDArray[np.uint8], state: FrameState) -> Alignment:
    """Align the previous frame."""
    assert spec.history is not None
    return align(
        frame,
        state.frame,
        spec.scale * spec.history.parts,
        block_px=spec.history.block_px,
        range_px=spec.history.range_px,
        fit_limit=spec.history.fit_limit,
    )


def moved_state(spec: ModelSpec, state: FrameState, aligned: Alignment) -> tuple[NDArray[Any], NDArray[Any]]:
    """Move the last result and the hidden state onto the frame."""
    assert spec.history is not None
    quarter_px, scale, parts = spec.history.block_px // 2, spec.scale, spec.history.parts
    samples = between_samples(state.result, parts)
    result = moved(samples[None], aligned.motion, scale * quarter_px, parts)[0]
    return result, moved(state.hidden, whole_pixels(aligned.motion, scale * parts), quarter_px)


def correction_inputs(
    spec: ModelSpec,
    plane: NDArray[Any],
    frame: NDArray[np.uint8],
    base: NDArray[np.uint8],
    state: FrameState,
    context_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Prepare the correction of a frame in int8.

    Args:
        spec: of the network.
        plane: the frame, ``(H, W)``.
        frame: the same with 8 bits.
        base: its result without history, ``(scale*H, scale*W)``, with 8 bits.
        state: that of the frame before.
        context_px: width of the border around the inputs.

    Returns:
        The inputs ``(channels, H + 2*context_px, W + 2*context_px)``, and which pixels are open, and
        bounded, ``(H, W)``.
    """
    aligned = alignment(spec, frame, state)
    opened = aligned.fits & ~is_smooth(plane)
    assert spec.history is not None
    held = bounded_pixels(spec.history, aligned.motion, frame.shape)
    old, old_hidden = moved_state(spec, state, aligned)
    differences = phases(old.astype(np.int64) - base, spec.scale)
    signed = np.concatenate([differences, [aligned.detail, aligned.residual]])
    levels = np.clip(signed, -history.ZERO, history.ZERO - 1) + history.ZERO
    values = np.where(opened, np.concatenate([levels, old_hidden]), history.ZERO)
    return pad(values, context_px, np.full(len(values), history.ZERO)).astype(np.uint8), opened, held


def changed(
    model: Model,
    result: NDArray[Any],
    inputs: NDArray[np.uint8],
    outputs: NDArray[np.uint8],
    opened: NDArray[np.bool_],
    held: NDArray[np.bool_],
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Apply the correction of a frame in int8.

    Args:
        model: the network.
        result: that without history, ``(scale*H, scale*W)``.
        inputs, outputs: of the correction, ``(channels, H, W)``, without context.
        opened, held: which pixels are open, and bounded, ``(H, W)``.

    Returns:
        The result of the network, and its state ``(state, H, W)``.
    """
    scale, squares = model.scale, model.scale**2
    differences, corrections = (
        planes[:squares].astype(np.int64) - history.ZERO for planes in (inputs, outputs)
    )
    hidden = outputs[squares : len(outputs) - 2].astype(np.int64) - history.ZERO
    gate = np.minimum(outputs[-1:].astype(np.int64), history.MAX_GATE) * opened  # the last two are equal
    shares = history.integer_shares(model)[:, None, None]
    steps = 128 // history.CORRECTION_STEPS
    change = history.gated(gate, steps * corrections + shares * differences)
    change = np.where(held, bounded(change, history.CHANGE_STEPS * differences), change)
    state = history.gated(gate, hidden) + history.ZERO
    return history.changed_samples(result, pixel_shuffle(change, scale)[0]), state.astype(np.uint8)


def bounded_pixels(spec: History, motion: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where results are bounded, ``(H, W)``; ``motion`` is that of the blocks' quarters."""
    if not spec.bounded or spec.bounded_in_motion:
        return np.full(shape, spec.bounded)
    height, width = shape
    return nearest((motion == 0).all(axis=0), spec.block_px // 2)[:height, :width]


def bounded(change: NDArray[Any], difference: NDArray[Any]) -> NDArray[Any]:
    """Clip changes to the range from 0 to a difference."""
    return np.asarray(np.clip(change, np.minimum(difference, 0), np.maximum(difference, 0)))


def with_still_parts(
    model: Model,
    is_still: NDArray[np.bool_],
    state: FrameState,
    base: tuple[NDArray[Any], NDArray[np.uint8]],
    computed: tuple[NDArray[Any], NDArray[np.uint8]],
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Let the previous result and state stay where nothing changed, in int8.

    Args:
        model: the network.
        is_still: where nothing changed, ``(H, W)``.
        state: that of the frame before.
        base: the result without history, ``(scale*H, scale*W)``, as it is and with 8 bits.
        computed: the result and the state of `changed`.
    """
    result, hidden = computed
    samples, eight_bits = base
    stays = state.result
    if samples.dtype != np.uint8:
        difference = state.result.astype(np.int64) - eight_bits
        stays = history.changed_samples(samples, history.CHANGE_STEPS * difference)
    return np.where(nearest(is_still, model.scale), stays, result), np.where(is_still, state.hidden, hidden)


def inside(planes: NDArray[Any], context_px: int) -> NDArray[Any]:
    """Return planes without their context."""
    return planes[:, context_px:-context_px, context_px:-context_px]


def phases(values: NDArray[Any], scale: int) -> NDArray[Any]:
    """Unshuffle ``(scale*H, scale*W)`` to ``(scale**2, H, W)``."""
    return pixel_unshuffle(values[None], scale)


def is_smooth(plane: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the int8 network without history has no influence on the result."""
    if plane.dtype == np.uint8:
        return is_flat(plane[None])
    weights = smooth.weights(plane[None].astype(np.float32), WHITE[plane.dtype.name])
    return np.asarray(weights == 0)
