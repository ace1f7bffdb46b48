"""The oracle: the network as the papers write it, in NumPy, for other engines to be held against.

It is slow, and means to be beyond doubt. It stands in where no faster engine can be imported.
"""

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine, enlarged_first
from subpixel.engines.flat import keep_flat
from subpixel.models.quantization import integer_outputs
from subpixel.ops.convolution import activated, convolve
from subpixel.ops.pixel_shuffle import pixel_shuffle

Float = np.float64


class NumpyEngine(Engine):
    """fp32: every layer in float64, rounded to float32 once, at the end. int8: the integers, exactly.

    ``threads`` is not honored: NumPy's matrix product has its own (``OPENBLAS_NUM_THREADS``).
    """

    name = "numpy"
    precisions = ("fp32", "int8")
    tile_side_px = 128  # each pixel's window is copied out: about 100 MB for ESPCN's second layer

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        if self.precision == "int8":
            picture, values = self._through_integers(tensor)
        else:
            picture, values = tensor, self._through_reals(tensor)
        spec = self.model.spec
        hr = pixel_shuffle(values, spec.shuffle)
        if spec.residual == "none":
            return hr.astype(np.float32)
        hr = hr + picture.repeat(spec.scale, axis=1).repeat(spec.scale, axis=2)
        result: NDArray[np.float32] = hr.astype(np.float32)
        keep_flat(tensor, result)
        return result

    def _through_reals(self, tensor: NDArray[np.float32]) -> NDArray[Float]:
        values = enlarged_first(tensor.astype(np.float64), self.model.spec)
        for index, layer in enumerate(self.model.spec.layers):
            sums = convolve(values, *self.model.layer_weights(index))
            values = activated(sums, layer.activation, self.model.weights.get(f"layers.{index}.slope"))
        return values

    def _through_integers(self, tensor: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[Float]]:
        """The input as 8 bits make it, and the last layer's values."""
        levels = np.clip(np.floor(tensor * np.float32(255) + np.float32(0.5)), 0, 255)
        values, zeros = levels.astype(np.float64), np.zeros(len(levels))
        for described, layer in zip(self.model.spec.layers, self._integers, strict=True):
            values = integer_outputs(values, zeros, described, layer, last=layer is self._integers[-1])
            zeros = layer.zero.astype(np.float64)
        return levels / np.float32(255), values
