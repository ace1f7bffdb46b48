"""The arithmetic of a network for video: how the previous frame corrects a result.

For each frame x, with the previous frame x', its result y' and its state h':

1. The network without history gives the result b.
2. `subpixel.ops.block_motion.align` finds the motion of blocks, in ``scale * parts`` steps of an LR pixel: a
   pixel of the result, or half of one. Quarters of a block may move as the block next to them. It gives the
   residual r of each pixel after motion, the frame's detail, and which blocks motion explains. A pixel is
   *open* if motion explains its block, and the frame is not flat around it (`subpixel.engines.flat`). After
   a cut, none is.
3. y' is moved, interpolated by the same kernel as frames where motion is not of whole pixels. h' is moved by
   whole LR pixels. The inputs of the correction are, in LR space,

       moved y' - b (``scale**2`` phases in the shuffle's order), detail, r, moved h'

   all of them 0 where the pixel is closed.
4. The last of the history's layers gives a correction c for each phase, the new state, and the gate's
   argument z. With a trained share s for each phase,

       g      = min(max(z / 6 + 1 / 2, 0), 127 / 128), and 0 where the pixel is closed
       result = b + g * (c + s * (moved y' - b))
       h      = g * (the state's outputs, clipped to ±1)

   If the history is *bounded*, the result is clipped to the range between b and moved y', so that the
   correction cannot make an error in y' larger. Without ``bounded_in_motion``, only pixels are clipped whose
   quarter of a block has no motion.
   Outside of the frame, the inputs of the correction are 0 too.
5. Where nothing changed (`subpixel.ops.block_motion.still`), the previous result and state stay:

       result = b + (y' - b)
       h      = h'

   So a static scene does not change at all.

Without a previous frame, the result is b, and h is 0. So it is in closed pixels: to the bit in fp32, and to
the integer in int8. The shares are at most 127/128, and so is the gate.

**In fp32**, x, x' and their alignment are those of samples rounded to 8 bits (`eight_bits`); detail and r are
divided by 255. y' and h' are floats.

**In int8**, y' is rounded to 8 bits, too, and the correction is an ordinary network of scale 1, which any
engine computes (`correction`): it takes planes of 8-bit samples, and gives as many. The inputs have a zero
point of 128 and are clipped to 0..255: differences in 8-bit levels, and the state in steps of 1/127. So have
the outputs; the correction is in quarters of a level, and z in 6/128 from 64 on. With all operations on
integers,

       G      = min(gate, 127) where open, otherwise 0
       change = rounded_product(256 * G, 32 * (c - 128) + S * d)      in 1/128 of a level; S = round(128 * s)
       h      = rounded_product(256 * G, state - 128) + 128

where d is the clipped difference of the results; where results are bounded, the change is clipped to the
range from 0 to 128 * d. An 8-bit result is the network's 8-bit result without
history plus ``(change + 64) >> 7``, clipped. It is rounded twice, so that any engine can compute the result
without history. A 16-bit result gets ``(257 * change + 64) >> 7``, and floats get
``change * float32(1 / 32640)``. For such deep samples, pixels are also closed where the network has no weight
(`subpixel.engines.smooth`), so that ramps have no steps of 8 bits.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.models.model import Model, QuantizedLayer
from subpixel.models.quantization import rounded_product
from subpixel.models.spec import History, ModelSpec

ZERO = 128
"""The zero point of the correction's inputs, of its outputs but the gate, and of the state."""

STATE_STEPS = 127
"""Steps of the state from 0 to 1."""

CHANGE_STEPS = 128
"""Steps of a change in an 8-bit level, of the gate, and of a share, from 0 to 1."""

CORRECTION_STEPS = 4
"""Steps of the correction in an 8-bit level: it is at most 32 levels."""

GATE_WIDTH, GATE_ZERO, MAX_GATE = 6.0, 64, 127
"""The gate opens over this range of its argument; its value at 0, and its largest, in 1/128."""


def correction(model: Model) -> Model:
    """Return the correction of a network for video as a network of scale 1, from samples to samples.

    It takes planes of the inputs of the history's layers, and gives planes of their outputs. The outputs are
    one less, so the last plane repeats the gate. Pass the inputs with a context of `ModelSpec.halo_px`, in
    which all 8-bit samples are `ZERO`. The int8 layers of a history are those of this network.
    """
    spec, history = model.spec, model.spec.history
    assert history is not None
    *layers, last = history.layers
    inputs = history.layers[0].inputs
    layers.append(replace(last, outputs=inputs))
    start, result = len(spec.layers), ModelSpec(1, tuple(layers), inputs)
    names = [key.split(".")[1:] for key in result.shapes()]
    weights = {
        f"layers.{index}.{name}": model.weights[f"layers.{start + int(index)}.{name}"]
        for index, name in names
    }
    of_last = f"layers.{len(layers) - 1}"
    for key in (f"{of_last}.weight", f"{of_last}.bias"):
        weights[key] = _last_repeated(weights[key])
    _take_samples(weights, spec.scale, history)
    _give_samples(weights, of_last, spec.scale, history)
    quantized = model.quantized[start:]
    if quantized:
        arrays = {name: _last_repeated(array) for name, array in vars(quantized[-1]).items()}
        quantized = (*quantized[:-1], QuantizedLayer(**arrays))
    return Model(model.name, result, weights, quantized=quantized)


def _take_samples(weights: dict[str, NDArray[np.float32]], scale: int, history: History) -> None:
    """Change the first layer, in place, to one that takes samples from 0 to 1: 255 steps from -128 to 127."""
    steps = np.repeat((1 / 255, 1 / STATE_STEPS), (scale**2 + 2, history.state))[:, None, None]
    weight = weights["layers.0.weight"] * steps
    weights["layers.0.bias"] = (weights["layers.0.bias"] - ZERO * weight.sum((1, 2, 3))).astype(np.float32)
    weights["layers.0.weight"] = (255 * weight).astype(np.float32)


def _give_samples(weights: dict[str, NDArray[np.float32]], layer: str, scale: int, history: History) -> None:
    """Change the last layer, in place, to one that gives samples from 0 to 1."""
    counts = scale**2, history.state, 2
    steps = np.repeat((1 / (255 * CORRECTION_STEPS), 1 / STATE_STEPS, GATE_WIDTH / CHANGE_STEPS), counts)
    zero_points = np.repeat((ZERO, ZERO, GATE_ZERO), counts)
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    weights[f"{layer}.weight"] = (weight / (255 * steps[:, None, None, None])).astype(np.float32)
    weights[f"{layer}.bias"] = ((bias / steps + zero_points) / 255).astype(np.float32)


def _last_repeated(array: NDArray[Any]) -> NDArray[Any]:
    """Repeat the last output of ``(outputs, ...)``."""
    return np.concatenate([array, array[-1:]])


def without_history(model: Model) -> Model:
    """Return the network that upscales each frame by itself, with its int8 layers if there are any."""
    spec = replace(model.spec, history=None)
    weights = {key: model.weights[key] for key in spec.shapes()}
    return Model(model.name, spec, weights, model.metadata, model.quantized[: len(spec.layers)])


def integer_shares(model: Model) -> NDArray[np.int64]:
    """Return the shares of the previous result, ``(scale**2,)``, in 1/128."""
    shares = np.rint(model.weights["history.share"].astype(np.float64) * CHANGE_STEPS)
    return np.clip(shares, -MAX_GATE, MAX_GATE).astype(np.int64)


def eight_bits(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Round samples to 8 bits: uint8, uint16 over its whole range, or floats in [0, 1], clipped.

    uint16 has no halves; those of floats are rounded to even.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.uint16:
        return np.asarray((samples.astype(np.int64) + 128) // 257, np.uint8)
    return np.asarray(np.clip(np.rint(samples.astype(np.float64) * 255), 0, 255), np.uint8)


def gated(gate: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Multiply by the gate, 0 to `MAX_GATE` in 1/128, rounded half up."""
    return rounded_product(2 * CHANGE_STEPS * gate, values)


def changed_samples(samples: NDArray[Any], change: NDArray[np.int64]) -> NDArray[Any]:
    """Add a change, in 1/128 of an 8-bit level, to a result without history.

    Args:
        samples: the result: uint8, uint16 or float32.
        change: of the same shape.
    """
    half = CHANGE_STEPS // 2
    if samples.dtype == np.uint8:
        result = samples + ((change + half) // CHANGE_STEPS)
        return np.asarray(np.clip(result, 0, 255), np.uint8)
    if samples.dtype == np.uint16:
        result = samples + ((257 * change + half) // CHANGE_STEPS)
        return np.asarray(np.clip(result, 0, 65535), np.uint16)
    return np.asarray(samples + change.astype(np.float32) * np.float32(1 / (255 * CHANGE_STEPS)))
