"""Smooth areas of deep samples: where the input is linear, so is the output.

An int8 network makes corrections of about a step of 8 bits even where a picture is only a ramp, such as a
clear sky. In 8 bits they vanish; in 16 bits or floats they would be bands. So deep samples, uint16 and
float32, are upsampled linearly where they are smooth, and by the network elsewhere:

    bend       = the largest |second difference| of the pixels within 1 row and column, over all channels
    weight     = (bend - 2.6) / 2 in steps of 1/255, clipped to 0..1
    output     = linear + weight * (network - linear)

Second differences are those of a row, and of a column. Pixels outside of the input equal the outermost ones.
So a ramp stays a ramp, also where it ends, if it takes 100 pixels or more from black to white, and flat areas
stay flat. What is lost is hardly visible: a pattern of one step up and down bends by 2 steps. The rule is
part of the definition of int8 networks (`subpixel.models.quantization`), and raises their PSNR a little.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.pixel_art import nearest

NO_WEIGHT_STEPS, FULL_WEIGHT_STEPS = 2.6, 4.6
"""The largest bend that gets weight 0, and the smallest one that gets weight 1, in steps of 1/255.

A ramp of 100 pixels rises by 2.58 steps per pixel, which is also how much it bends where it ends.
"""

Plane = NDArray[np.float32]


def weight_constants(white: float) -> tuple[np.float32, np.float32]:
    """Return what is subtracted from a bend, and the factor after it; ``white`` is the largest sample."""
    steps = FULL_WEIGHT_STEPS - NO_WEIGHT_STEPS
    return np.float32(NO_WEIGHT_STEPS * white / 255), np.float32(255 / (steps * white))


def neighbor_weight(scale: int, phase: int) -> tuple[int, np.float32]:
    """Return the second pixel that an HR pixel lies between, -1 or 1 from its own, and its weight."""
    numerator = 2 * phase + 1 - scale  # in steps of half an HR pixel
    return (-1 if numerator < 0 else 1), np.float32(abs(numerator) / (2 * scale))


def weights(tensor: Plane, white: float) -> Plane:
    """Return the weight of the network, ``(H, W)``, for a ``(channels, H, W)`` input from 0 to ``white``."""
    padded = _padded(tensor)
    middle = tensor
    across = (padded[:, 1:-1, :-2] - middle) + (padded[:, 1:-1, 2:] - middle)
    down = (padded[:, :-2, 1:-1] - middle) + (padded[:, 2:, 1:-1] - middle)
    bends = np.maximum(np.abs(across), np.abs(down)).max(axis=0, keepdims=True)
    columns = _padded(bends)[0]
    rows = np.maximum(np.maximum(columns[:, :-2], columns[:, 1:-1]), columns[:, 2:])
    around = np.maximum(np.maximum(rows[:-2], rows[1:-1]), rows[2:])
    subtracted, factor = weight_constants(white)
    result: Plane = np.clip((around - subtracted) * factor, np.float32(0), np.float32(1))
    return result


def linear(tensor: Plane, scale: int) -> Plane:
    """Upsample ``(channels, H, W)`` by linear interpolation, first along columns, then along rows."""
    return _between(_between(tensor, scale).swapaxes(1, 2), scale).swapaxes(1, 2)


def blend(network: Plane, tensor: Plane, white: float) -> Plane:
    """Return the network's output, ``(channels, scale*H, scale*W)``, except where ``tensor`` is smooth."""
    scale = network.shape[1] // tensor.shape[1]
    plain = linear(tensor, scale)
    weight: Plane = nearest(weights(tensor, white), scale)
    return plain + weight * (network - plain)


def _between(tensor: Plane, scale: int) -> Plane:
    """Interpolate along axis 1."""
    channels, height, width = tensor.shape
    padded = np.pad(tensor, [(0, 0), (1, 1), (0, 0)], mode="edge")
    result = np.empty((channels, height, scale, width), np.float32)
    for phase in range(scale):
        step, weight = neighbor_weight(scale, phase)
        neighbor = padded[:, 1 + step : 1 + step + height]
        result[:, :, phase] = tensor + weight * (neighbor - tensor)
    return result.reshape(channels, height * scale, width)


def _padded(tensor: NDArray[Any]) -> NDArray[Any]:
    return np.pad(tensor, [(0, 0), (1, 1), (1, 1)], mode="edge")
