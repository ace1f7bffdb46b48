"""Int8 layers for the history of a network for video, from sequences of frames."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.numpy_history import NumpyHistory
from subpixel.models.calibration import (
    CONTRAST_SHARE,
    Calibration,
    Crops,
    contrast_patterns,
    placeholder,
)
from subpixel.models.history import STATE_STEPS, ZERO, output_constants, without_history
from subpixel.models.model import Model

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
    squares, state = model.scale**2, recorder.history.state
    scale = np.repeat((1 / 255, 1 / STATE_STEPS), (squares + 2, state))
    zero_point = np.full(len(scale), float(ZERO))
    calibration = Calibration(
        model, crops, scale, zero_point, contrast_share, rng, first=len(base.spec.layers)
    )
    for _ in layers:
        calibration.add_layer()
    metadata = replace(model.metadata, calibration=source)
    return replace(model, metadata=metadata, quantized=(*base.quantized, *calibration.layers))


class _Recorder(NumpyHistory):
    """Upscales clips with an int8 base and a history in float32, and records the history's inputs."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, precision="int8")
        self._recorded: list[NDArray[np.float64]] = []

    def inputs(self, clip: Iterable[Plane]) -> list[NDArray[np.float64]]:
        """Return the inputs of the history's layers for each frame but the first: integers, 0 to 255."""
        self._recorded = []
        for _ in self(clip):
            pass
        return self._recorded

    def _int8_layers(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        self._recorded.append(values)
        steps = np.repeat((255, STATE_STEPS), (len(values) - self.history.state, self.history.state))
        outputs = self._layers((values - ZERO) / steps[:, None, None])
        scale, zero_point = (one[:, None, None] for one in output_constants(self.model.scale, self.history))
        return np.asarray(np.clip(np.rint(outputs / scale + zero_point), 0, 255), np.int64)
