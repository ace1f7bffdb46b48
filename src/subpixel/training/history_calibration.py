"""Int8 layers for the history of a network for video, from sequences of frames."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.numpy_history import NumpyHistory
from subpixel.errors import EngineError
from subpixel.models.calibration import (
    CONTRAST_SHARE,
    Calibration,
    Crops,
    contrast_patterns,
    placeholder,
)
from subpixel.models.history import ZERO, correction, without_history
from subpixel.models.model import Model, QuantizedLayer
from subpixel.models.quantization import MAX_BIAS

Plane = NDArray[np.uint8]


def calibrate_history(
    model: Model,
    base: Model,
    clips: Sequence[Iterable[Plane]],
    *,
    source: str = "",
    seed: int = 0,
    contrast_share: float = CONTRAST_SHARE,
) -> Model:
    """Add int8 layers to a network for video.

    The clips are upscaled with its base, and the history's layers are calibrated on their inputs. Those of
    contrast patterns, which stay and then move by a pixel, take part as in `calibrate`.

    Args:
        model: a network with a history.
        base: the same network `without_history`, with the int8 layers that `calibrate` gives.
        clips: sequences of LR frames ``(H, W)`` uint8. A few dozen of 8 frames and 100 x 100 pixels are
            enough.
        source, seed, contrast_share: as for `calibrate`.

    Raises:
        ValueError: ``base`` is another network, or there are fewer pixels than a layer has weights for each
            output.
        EngineError: the model has no history, or an accumulator could exceed 32 bits.
    """
    if not base.quantized or replace(base, quantized=()) != without_history(replace(model, quantized=())):
        raise ValueError(f"base must be {model.name} without its history, with int8 layers")
    layers = model.spec.convolutions[len(base.spec.layers) :]
    complete = replace(model, quantized=(*base.quantized, *map(placeholder, layers)))
    rng = np.random.default_rng([seed, 1])
    patterns = [pattern[0].astype(np.uint8) for pattern in contrast_patterns(1, model.scale, rng)]
    moving = [[one, one, np.roll(one, (1, 1), (0, 1))] for one in patterns]
    recorder = _Recorder(complete)
    crops = Crops(
        *([values for clip in group for values in recorder.inputs(clip)] for group in (clips, moving))
    )
    network = _around_zero(correction(model))
    channels = network.spec.channels
    scale, zero_point = np.full(channels, 1 / 255), np.full(channels, float(ZERO))
    calibration = Calibration(network, crops, scale, zero_point, contrast_share, rng)
    for _ in layers:
        calibration.add_layer()
    quantized = calibration.layers
    quantized[0] = _from_zero(quantized[0])
    true_outputs = {name: array[: layers[-1].outputs] for name, array in vars(quantized[-1]).items()}
    quantized[-1] = QuantizedLayer(**true_outputs)
    metadata = replace(model.metadata, calibration=source)
    return replace(model, metadata=metadata, quantized=(*base.quantized, *quantized))


def _around_zero(network: Model) -> Model:
    """Return the correction as a network that takes samples minus their zero point.

    So least squares see numbers around zero, and the first layer's padding is the zero point.
    """
    bias, weight = "layers.0.bias", network.weights["layers.0.weight"]
    shifted = network.weights[bias] + weight.sum((1, 2, 3), np.float64) * ZERO / 255
    return replace(network, weights=dict(network.weights) | {bias: shifted.astype(np.float32)})


def _from_zero(layer: QuantizedLayer) -> QuantizedLayer:
    """Return the first layer as one that takes samples; `EngineError` if its bias does not fit then."""
    steps = layer.bias / layer.weight_scale - ZERO * layer.weight.sum((1, 2, 3), np.float64)
    if np.abs(steps).max() > MAX_BIAS:
        raise EngineError("the first layer of the history has too many inputs for 8 bits")
    return replace(layer, bias=(steps * layer.weight_scale).astype(np.float32))


class _Recorder(NumpyHistory):
    """Upscales clips with an int8 base and a correction in float32, and records the correction's inputs."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, precision="int8")
        self._correction = NumpyEngine(correction(model))
        self._recorded: list[NDArray[np.float64]] = []

    def inputs(self, clip: Iterable[Plane]) -> list[NDArray[np.float64]]:
        """Return the correction's inputs with their context, for each frame but the first."""
        self._recorded = []
        for _ in self(clip):
            pass
        return self._recorded

    def _corrected(self, inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._recorded.append(inputs.astype(np.float64))
        return super()._corrected(inputs)
