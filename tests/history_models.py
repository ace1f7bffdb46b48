"""Networks for video with random weights, and moving pictures to run them on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import skimage.data

from subpixel.engines.history.application import Application
from subpixel.engines.history.motion import Masks
from subpixel.engines.numpy_history import FrameState, changed, with_still_parts
from subpixel.evaluation.protocol import lr_plane
from subpixel.models import catalog
from subpixel.models.history import eight_bits
from subpixel.models.model import Model
from subpixel.models.spec import Convolution, History
from subpixel.ops.resize import imresize

BOUNDS: dict[str, dict[str, Any]] = {
    "free": {},
    "bounded": {"bounded": True},
    "bounded without motion": {"bounded": True, "bounded_in_motion": False},
}
"""Where results may be bounded."""


def history_spec(scale: int, *, state: int = 4, width: int = 8, **changes: int) -> History:
    """One hidden layer of PReLU."""
    squares = scale**2
    layers = (
        Convolution(squares + 2 + state, width, 3, "prelu"),
        Convolution(width, squares + state + 1, 3),
    )
    return replace(History(layers, state, range_px=3), **changes)


def video_model(scale: int = 4, *, seed: int = 1, strength: float = 0.1, **changes: int) -> Model:
    """The packaged ``fast`` with a history that changes a lot where the gate is open; without int8 layers."""
    base = catalog.find(f"fast-x{scale}")
    spec = replace(base.spec, history=history_spec(scale, **changes))
    rng = np.random.default_rng(seed)
    weights = dict(base.weights)
    for name, shape in spec.shapes().items():
        if name in weights:
            continue
        if name.endswith(".weight"):
            values = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith(".slope"):
            values = rng.uniform(-0.2, 0.9, shape)
        else:
            values = rng.normal(0, 0.02, shape)
        weights[name] = values.astype(np.float32)
    last = f"layers.{len(spec.convolutions) - 1}"
    weights[f"{last}.weight"][: scale**2] *= strength
    weights[f"{last}.weight"][-1] *= 20
    weights["history.share"] = rng.uniform(0.3, 0.9, scale**2).astype(np.float32)
    return Model("video-test", spec, weights)


class Correction(NamedTuple):
    """What a result is corrected from."""

    base: np.ndarray
    eight_bits: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    masks: Masks
    state: FrameState

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Correction":
        """The same with other arrays."""
        *arrays, masks, state = self
        fields: dict[str, Any] = vars(state)
        of_state = FrameState(**{name: function(array) for name, array in fields.items()})
        of_masks = Masks(*(None if one is None else function(one) for one in masks))  # type: ignore[arg-type]
        return Correction(*map(function, arrays), of_masks, of_state)

    def applied(self, application: Application) -> tuple[np.ndarray, np.ndarray]:
        """The result and the state in machine code."""
        base, eight_bits, *others = self
        return application.changed((base, eight_bits), *others)

    def expected(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """The same in NumPy."""
        spec, opened = model.spec.history, self.masks.opened
        assert spec is not None
        held = np.full(opened.shape, spec.bounded) if self.masks.held is None else self.masks.held
        computed = changed(model, self.base, self.inputs, self.outputs, opened, held)
        base = self.base, self.eight_bits
        return with_still_parts(model, self.masks.still, self.state, base, computed)


def random_correction(model: Model, height: int, width: int, dtype: str) -> Correction:
    """Random values, also the extremes."""
    assert model.spec.history is not None
    rng, scale, channels = (
        np.random.default_rng(width),
        model.scale,
        model.scale**2 + 2 + model.spec.history.state,
    )
    inputs, outputs = (
        np.where(
            rng.random((channels, height, width)) < 0.3, 255 * rng.integers(0, 2, (height, width)), values
        )
        for values in rng.integers(0, 256, (2, channels, height, width))
    )
    white = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    base = white * rng.integers(0, 2, (scale * height, scale * width))
    base = np.where(rng.random(base.shape) < 0.2, base, white * rng.random(base.shape))
    outputs[-1] = outputs[-2]
    opened = rng.random((height, width)) < 0.8
    still = np.repeat(rng.random((height, -(-width // 8))) < 0.3, 8, axis=1)[:, :width]
    base = base.astype(dtype)
    previous = np.where(
        rng.random(base.shape) < 0.2, 255 - eight_bits(base), rng.integers(0, 256, base.shape)
    )
    hidden = rng.integers(0, 256, (model.spec.history.state, height, width), np.uint8)
    state = FrameState(np.zeros((height, width), np.uint8), previous.astype(np.uint8), hidden)
    planes = inputs.astype(np.uint8), outputs.astype(np.uint8)
    spec, held = model.spec.history, None
    if spec.bounded and not spec.bounded_in_motion:
        held = rng.random((height, width)) < 0.5
    return Correction(base, eight_bits(base), *planes, Masks(opened, still, held), state)


def camera(
    frames: int, speed: tuple[int, int], side: int = 96, start: tuple[int, int] = (60, 60)
) -> np.ndarray:
    """HR frames ``(T, side, side)`` uint8 of a camera that moves by whole HR pixels."""
    large = imresize(skimage.data.camera()[60:220, 160:320], 2)
    corners = [(start[0] + speed[0] * n, start[1] + speed[1] * n) for n in range(frames)]
    return np.stack([large[row : row + side, column : column + side] for row, column in corners])


def lr_frames(hr: np.ndarray, scale: int) -> list[np.ndarray]:
    """The LR frames of HR frames."""
    return [lr_plane(frame, scale) for frame in hr]
