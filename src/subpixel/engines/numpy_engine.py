"""The reference engine: the network as papers define it, in NumPy.

It is slow and simple. Tests compare the other engines with it, and it runs where no faster engine can be
imported.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine, upsample_input
from subpixel.engines.flat import copy_flat_areas
from subpixel.engines.smooth import blend
from subpixel.models.quantization import (
    WHITE,
    deep_first_layer,
    deep_shift,
    quantize_input,
    round_samples,
    run_integer_layer,
)
from subpixel.ops.convolution import activate, convolve
from subpixel.ops.pixel_shuffle import pixel_shuffle

Float = np.float64


class NumpyEngine(Engine):
    """NumPy in float64, with one rounding to float32 at the end; int8 is exact to the integer.

    ``threads`` has no effect: NumPy's matrix product uses threads of its own (``OPENBLAS_NUM_THREADS``).
    """

    name = "numpy"
    precisions = ("fp32", "int8")
    tile_side_px = 128  # `convolve` copies each pixel's window: about 100 MB for ESPCN's second layer

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        if self.precision == "int8":
            return self._run_int8(tensor)
        values = self._run_fp32(tensor)
        spec = self.model.spec
        hr = pixel_shuffle(values, spec.shuffle)
        if spec.residual == "none":
            return hr.astype(np.float32)
        hr = hr + _repeated(tensor, spec.scale)
        result: NDArray[np.float32] = hr.astype(np.float32)
        copy_flat_areas(tensor, result)
        return result

    def run_samples(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """See `Engine.run_samples`. In int8, samples are rounded once, as in compiled engines."""
        spec = self.model.spec
        if self.precision == "int8" and spec.upsampling == "shuffle" and tensor.dtype != np.float64:
            return self._run_int8(tensor)
        return super().run_samples(tensor)

    def _run_fp32(self, tensor: NDArray[np.float32]) -> NDArray[Float]:
        values = upsample_input(tensor.astype(np.float64), self.model.spec)
        for index, layer in enumerate(self.model.spec.layers):
            values = convolve(values, *self.model.layer_weights(index))
            values = activate(values, layer.activation, self.model.weights.get(f"layers.{index}.slope"))
        return values

    def _run_int8(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Pass samples, uint8, uint16 or float32, through the int8 network."""
        spec, white, deep = self.model.spec, WHITE[tensor.dtype.name], tensor.dtype != np.uint8
        samples = upsample_input(tensor, spec)
        output = self.int8_layers(samples)
        residual = spec.residual == "nearest"
        if not deep:
            output = output + _repeated(samples, spec.scale) if residual else output
            result = round_samples(output, tensor.dtype)
            if residual:
                copy_flat_areas(tensor, result)
            return result
        floats, network = samples.astype(np.float32), output.astype(np.float32)
        network = network + _repeated(floats, spec.scale) if residual else network
        return round_samples(blend(network, floats, white), tensor.dtype)

    def int8_layers(self, samples: NDArray[Any]) -> NDArray[Float]:
        """Pass ``(channels, H, W)`` uint8, uint16 or float32 through the int8 layers and the shuffle.

        Returns:
            ``(channels, scale*H, scale*W)``, in the unit of the samples, neither rounded nor with the
            residual.
        """
        layers = list(self._integers)
        values, zero_point = quantize_input(samples), np.zeros(len(samples))
        if samples.dtype != np.uint8:
            values = values // 2 ** deep_shift(layers[0])
            layers[0] = deep_first_layer(layers[0])
        for convolution, layer in zip(self.model.spec.layers, layers, strict=True):
            last, white = layer is layers[-1], WHITE[samples.dtype.name]
            values = run_integer_layer(values, zero_point, convolution, layer, last=last, white=white)
            zero_point = layer.zero_point.astype(np.float64)
        return pixel_shuffle(values, self.model.spec.shuffle)


def _repeated(tensor: NDArray[Any], scale: int) -> NDArray[Any]:
    return tensor.repeat(scale, axis=1).repeat(scale, axis=2)
