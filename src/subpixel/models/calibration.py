"""Post-training quantization: converts a float32 network to int8, layer by layer, without gradient descent.

To round each weight to the nearest step costs ESPCN 0.5 to 1.6 dB. This module does the following instead,
for each layer in turn, on pixels of real images:

1. The layer's inputs are the outputs of the int8 layers before it, so that it corrects their errors. Its
   targets are the float32 network's values before the activation.
2. Least squares finds new weights and a new bias.
3. The weights are rounded one column at a time. After each column, the later columns change to compensate for
   its rounding error (GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 3). The bias comes last and is not
   rounded.

Each output channel has its own scale and zero point. Between layers, they are chosen so that 8 bits span the
channel's range; for weights, the scale is the candidate with the smallest rounding error.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from subpixel.arguments import check_callables
from subpixel.errors import EngineError
from subpixel.models.model import Model, QuantizedLayer
from subpixel.models.quantization import MAX_BIAS, integer_layer, run_integer_layer
from subpixel.models.spec import Convolution
from subpixel.ops.convolution import activate, convolve, pad
from subpixel.ops.resize import imresize

Float = np.float64

MAX_PIXELS, MAX_CONTRAST_PIXELS = 300_000, 20_000
"""Pixels of photos, and of contrast patterns, that decide a layer: far more than an output has weights."""

CROP_SIDE_PX, MAX_CROPS = 96, 120
"""Largest side, and largest number, of the crops that are taken from the planes."""

RIDGE = 1e-6
"""Ridge, relative to the mean squared input: weights of inputs that never vary do not change."""

CONTRAST_SHARE = 0.01
"""Weight of the contrast patterns relative to the photos.

Contrast patterns are random black and white blocks and shapes. Text and drawings look like them, photos do
not. Without them, layers whose range ends where that of photos ends produced errors of up to 255 on text.
"""

CONTRASTS = ((16, 235), (0, 255))
"""Black and white in the limited range of video luma, and in the full range."""

RANGES = np.geomspace(0.004, 1.0, 30)
"""Candidates for the range of a channel's 8 bits, as fractions of its minimum and maximum."""

MAX_RELATIVE_ERROR = 10
"""Errors are clipped at this multiple of a channel's RMS value on photos.

On contrast patterns, some channels have values a hundred times as large. Without the limit, the range would
cover them, and photos would be rounded coarsely.
"""

MAX_RANGE_PIXELS = 10_000
"""Values of a channel that decide its range."""

MIN_SCALE = 1e-3
"""Smallest output scale: channels that hardly vary need no finer steps. Slightly above `MIN_TANH_SCALE`."""

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Candidates for a weight scale, as fractions of the scale at which the largest weight is 127 steps."""


@dataclass(frozen=True)
class Crops:
    """The values before a layer, ``(channels, H, W)`` for each crop of the calibration images."""

    photos: list[NDArray[Float]]
    contrast: list[NDArray[Float]]

    def __iter__(self) -> Iterator[NDArray[Float]]:
        return iter([*self.photos, *self.contrast])

    def map(self, function: Callable[[NDArray[Float]], NDArray[Float]]) -> "Crops":
        """Apply a function to each crop."""
        return Crops([function(crop) for crop in self.photos], [function(crop) for crop in self.contrast])


def calibrate(
    model: Model,
    planes: Sequence[NDArray[np.uint8]],
    *,
    source: str = "",
    seed: int = 0,
    contrast_share: float = CONTRAST_SHARE,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Model:
    """Add int8 layers to a model.

    Args:
        model: any network that works in LR space; its float32 weights do not change.
        planes: typical input, ``(H, W)`` or ``(channels, H, W)`` uint8; never from a test set. About 20
            images of 100 x 100 pixels are enough for ESPCN.
        source: name of the planes, for the model's metadata.
        seed: for the random choice of crops and pixels.
        contrast_share: weight of black and white patterns relative to the planes, above 0. A larger weight
            makes text and drawings more exact, and photos slightly less exact.
        progress: called with the completed fraction after each layer.

    Returns:
        The same model with ``quantized`` set.

    Raises:
        ValueError: there are no planes, a plane has the wrong shape or dtype, ``contrast_share`` is not
            positive, or there are fewer pixels than a layer has weights for each output.
        EngineError: an accumulator could exceed 32 bits, or the network does not work in LR space, or it is
            one for video.
    """
    check_callables(progress=progress)
    check_model(model)
    if contrast_share <= 0:
        raise ValueError(f"contrast_share must be above 0, not {contrast_share}")
    rng, channels = np.random.default_rng(seed), model.spec.channels
    crops = Crops(_crops(planes, channels, rng), contrast_patterns(channels, model.scale, rng))
    calibration = Calibration(
        model, crops, np.full(channels, 1 / 255), np.zeros(channels), contrast_share, rng
    )
    for index in range(len(model.spec.layers)):
        calibration.add_layer()
        progress((index + 1) / len(model.spec.layers))
    metadata = replace(model.metadata, calibration=source)
    return replace(model, metadata=metadata, quantized=tuple(calibration.layers))


def check_model(model: Model) -> None:
    """Raise `EngineError` for a network that `calibrate` gives no int8 layers."""
    if model.spec.upsampling == "bicubic":
        raise EngineError(f"model {model.name} works in HR space, and has no form in 8 bits; use fp32")
    if model.spec.history is not None:
        raise EngineError(
            f"model {model.name} is for video: such networks get their int8 layers in training "
            "(subpixel train), from sequences of frames"
        )


class Calibration:
    """The int8 layers so far of a chain of layers, and the values after the last of them."""

    def __init__(
        self,
        model: Model,
        inputs: Crops,
        scale: NDArray[Float],
        zero_point: NDArray[Float],
        contrast_share: float,
        rng: np.random.Generator,
    ) -> None:
        """Start with the inputs of the first layer.

        Args:
            model: the float32 network.
            inputs: integers from 0 to 255.
            scale, zero_point: of each of their channels.
            contrast_share: as for `calibrate`.
            rng: for the random choice of pixels.
        """
        self.model, self.contrast_share, self.rng = model, contrast_share, rng
        self.layers: list[QuantizedLayer] = []
        self.quantized = inputs
        """Outputs of the int8 layers: integers from 0 to 255."""
        self.exact = inputs.map(lambda crop: (crop - zero_point[:, None, None]) * scale[:, None, None])
        """Outputs of the float32 network."""
        self.scale, self.zero_point = scale, zero_point
        """Of the channels of ``quantized``."""

    def add_layer(self) -> None:
        """Quantize the next layer, and pass the crops through it."""
        index = len(self.layers)
        convolution = self.model.spec.layers[index]
        weight, bias = self.model.layer_weights(index)
        slope = self.model.weights.get(f"layers.{index}.slope")
        targets = self.exact.map(lambda crop: convolve(crop, weight, bias))
        moments, products = _least_squares_terms(
            self.quantized, self.zero_point, targets, convolution, self.contrast_share, self.rng
        )
        scaled = (weight * self.scale[:, None, None]).reshape(len(weight), -1)
        start = np.concatenate([scaled, bias[:, None]], axis=1).astype(np.float64)
        rounded, step = _round(start, moments, products)
        input_zero_point = self.zero_point
        self.exact = targets.map(lambda crop: activate(crop, convolution.activation, slope))
        last = index == len(self.model.spec.layers) - 1
        if last:  # its output is not quantized
            self.scale, self.zero_point = np.ones(len(weight)), np.zeros(len(weight))
        else:
            self.scale, self.zero_point = _ranges(self.exact, self.contrast_share, self.rng)
        self.layers.append(
            QuantizedLayer(
                weight=np.rint(rounded[:, :-1] / step[:, None]).astype(np.int8).reshape(weight.shape),
                weight_scale=step.astype(np.float32),
                bias=rounded[:, -1].astype(np.float32),
                output_scale=self.scale.astype(np.float32),
                output_zero_point=self.zero_point.astype(np.uint8),
            )
        )
        if not last:
            self._run_newest_layer(input_zero_point)

    def _run_newest_layer(self, input_zero_point: NDArray[Float]) -> None:
        """Pass the crops through the last of the int8 layers so far."""
        index = len(self.layers) - 1
        convolution = self.model.spec.layers[index]
        layer = integer_layer(
            self.model, index, self.layers[-1], input_zero_point.astype(np.uint8), last=False
        )
        self.quantized = self.quantized.map(
            lambda crop: run_integer_layer(crop, input_zero_point, convolution, layer, last=False)
        )


def _crops(
    planes: Sequence[NDArray[np.uint8]], channels: int, rng: np.random.Generator
) -> list[NDArray[Float]]:
    """Cut a random crop out of each of at most `MAX_CROPS` random planes: ``(channels, H, W)``."""
    chosen = [planes[number] for number in rng.permutation(len(planes))[:MAX_CROPS]]
    crops = []
    for plane in chosen:
        tensor = plane[None] if plane.ndim == 2 else plane
        if tensor.ndim != 3 or len(tensor) != channels or tensor.dtype != np.uint8:
            raise ValueError(f"expected uint8 planes of {channels} channels, not {plane.dtype} {plane.shape}")
        corner = [int(rng.integers(max(side - CROP_SIDE_PX, 0) + 1)) for side in tensor.shape[1:]]
        spans = (slice(start, start + CROP_SIDE_PX) for start in corner)
        crops.append(tensor[:, *spans].astype(np.float64))
    return crops


def contrast_patterns(channels: int, scale: int, rng: np.random.Generator) -> list[NDArray[Float]]:
    """Make random blocks of 1 to 5 pixels, and shapes with smooth outlines, downscaled like photos."""
    patterns = []
    for (black, white), side in product(CONTRASTS, (1, 2, 3, 5)):
        mask = np.stack([random_blocks(64, side, rng) for _ in range(channels)])
        patterns.append(np.where(mask, white, black).astype(np.float64))
    for (black, white), size in product(CONTRASTS, (1.5, 2.5, 4.0, 6.0)):
        mask = np.stack([_shapes(64 * scale, size * scale, rng) for _ in range(channels)], axis=-1)
        small = imresize(np.where(mask, white, black).astype(np.uint8), 1 / scale)
        patterns.append(small.transpose(2, 0, 1).astype(np.float64))
    return patterns


def _shapes(side_px: int, size_px: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Threshold smooth noise: shapes of about ``size_px`` pixels in a square."""
    smooth = imresize(rng.standard_normal((math.ceil(side_px / size_px),) * 2), size_px)[:side_px, :side_px]
    return np.asarray(smooth > np.quantile(smooth, rng.uniform(0.25, 0.75)))


def random_blocks(side_px: int, block_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Make a square of ``side_px`` pixels from square blocks that are true or false at random."""
    blocks = rng.integers(0, 2, (side_px // block_px + 1,) * 2)
    return np.asarray(blocks.repeat(block_px, axis=0).repeat(block_px, axis=1)[:side_px, :side_px] == 1)


def _least_squares_terms(
    inputs: Crops,
    zero_point: NDArray[Float],
    targets: Crops,
    convolution: Convolution,
    contrast_share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[Float], NDArray[Float]]:
    """Return the weighted means of `_moments` over photos and contrast patterns."""
    moments, products, count = _moments(
        inputs.photos, zero_point, targets.photos, convolution, MAX_PIXELS, rng
    )
    contrast_moments, contrast_products, _ = _moments(
        inputs.contrast, zero_point, targets.contrast, convolution, MAX_CONTRAST_PIXELS, rng
    )
    if count <= (weights := convolution.inputs * convolution.kernel**2):
        raise ValueError(f"only {count} pixels to decide {weights} weights: pass more or larger images")
    return moments + contrast_share * contrast_moments, products + contrast_share * contrast_products


def _moments(
    inputs: list[NDArray[Float]],
    zero_point: NDArray[Float],
    targets: list[NDArray[Float]],
    convolution: Convolution,
    max_pixels: int,
    rng: np.random.Generator,
) -> tuple[NDArray[Float], NDArray[Float], int]:
    """Return the means, over random pixels, of x xᵀ and of x times the targets, and the number of pixels.

    x is a pixel's window of inputs minus the zero point, and a 1 for the bias. Pixels at the borders take
    part: the network's response to its padding is unlike anything inside of an image. Without them, it costs
    0.5 dB.
    """
    size = convolution.inputs * convolution.kernel**2
    moments, products = np.zeros((size + 1, size + 1)), np.zeros((size + 1, convolution.outputs))
    share, count = max_pixels / max(1, sum(crop[0].size for crop in targets)), 0
    for crop, target in zip(inputs, targets, strict=True):
        windows = sliding_window_view(
            pad(crop, convolution.kernel // 2, zero_point) - zero_point[:, None, None],
            (convolution.kernel, convolution.kernel),
            axis=(1, 2),
        )
        chosen = rng.random(target.shape[1:]) < share
        x = np.ones((int(chosen.sum()), size + 1))
        x[:, :-1] = windows[:, chosen].transpose(1, 0, 2, 3).reshape(-1, size)
        moments += x.T @ x
        products += x.T @ target[:, chosen].T
        count += len(x)
    return moments / max(1, count), products / max(1, count), count


def _round(
    start: NDArray[Float], moments: NDArray[Float], products: NDArray[Float]
) -> tuple[NDArray[Float], NDArray[Float]]:
    """Do steps 2 and 3: return rows of weights, with the bias last, and the step of each row's weights."""
    errors = products - moments @ start.T
    moments = moments + RIDGE * max(moments.diagonal()[:-1].mean(), 1.0) * np.eye(len(moments))
    solved = start + np.linalg.solve(moments, errors).T
    # Row j of this factor tells how the columns after j compensate for an error in column j.
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    largest = np.abs(solved[:, :-1]).max(axis=1)
    # If a channel is all bias, its weights would get a step so small that the bias does not fit.
    min_step = np.abs(solved[:, -1]) / (MAX_BIAS / 2) + np.finfo(np.float32).tiny
    best_cost = np.full(len(solved), np.inf)
    best, best_step = solved.copy(), np.ones(len(solved))
    for shrink in SHRINKS:
        step = np.maximum(largest * shrink / 127, min_step).astype(np.float32).astype(np.float64)
        rounded = _round_columns(solved, factor, step)
        error = rounded - solved
        cost = ((error @ moments) * error).sum(axis=1)
        better = cost < best_cost
        best_cost[better], best[better], best_step[better] = cost[better], rounded[better], step[better]
    return best, best_step


def _round_columns(rows: NDArray[Float], factor: NDArray[Float], step: NDArray[Float]) -> NDArray[Float]:
    """Round all columns except the bias, each with compensation for the columns before it (GPTQ)."""
    compensated, rounded = rows.copy(), rows.copy()
    for column in range(rows.shape[1] - 1):
        exact = compensated[:, column]
        rounded[:, column] = np.clip(np.rint(exact / step), -127, 127) * step
        error = (exact - rounded[:, column]) / factor[column, column]
        compensated[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    rounded[:, -1] = compensated[:, -1]
    return rounded


def _ranges(
    crops: Crops, contrast_share: float, rng: np.random.Generator
) -> tuple[NDArray[Float], NDArray[Float]]:
    """Choose each channel's scale and zero point: the candidate with the smallest error on its values.

    It is better to clip a few extreme values than to round all others more coarsely. 0 is always
    representable.
    """
    lowest = np.minimum(np.min([crop.min(axis=(1, 2)) for crop in crops], axis=0), 0)
    highest = np.maximum(np.max([crop.max(axis=(1, 2)) for crop in crops], axis=0), 0)
    samples = []
    for group, share in ((crops.photos, 1.0), (crops.contrast, contrast_share)):
        values = np.concatenate([crop.reshape(len(crop), -1) for crop in group], axis=1)
        samples.append((values[:, rng.permutation(values.shape[1])[:MAX_RANGE_PIXELS]], share))
    mean_square = np.mean(samples[0][0] ** 2, axis=1)[:, None]

    def parameters(below: NDArray[Float], above: NDArray[Float]) -> tuple[NDArray[Float], NDArray[Float]]:
        """Scale and zero point of the range from ``below * lowest`` to ``above * highest``."""
        scale = np.maximum((highest * above - lowest * below) / 255, MIN_SCALE).astype(np.float32)
        return scale, np.clip(np.rint(-lowest * below / scale), 0, 255)

    def cost(below: NDArray[Float], above: NDArray[Float]) -> NDArray[Float]:
        """Mean squared error of the range, with large errors clipped."""
        scale, zero_point = (values[:, None] for values in parameters(below, above))
        total = np.zeros(len(lowest))
        for sample, share in samples:
            quantized = np.clip(np.rint(sample / scale + zero_point), 0, 255)
            error = ((quantized - zero_point) * scale - sample) ** 2
            total += share * np.mean(np.minimum(error, MAX_RELATIVE_ERROR**2 * mean_square), axis=1)
        return total

    one = np.ones(len(lowest))
    below = above = one
    for _ in range(2):
        above = RANGES[np.argmin([cost(below, fraction * one) for fraction in RANGES], axis=0)]
        below = RANGES[np.argmin([cost(fraction * one, above) for fraction in RANGES], axis=0)]
    return parameters(below, above)


def placeholder(convolution: Convolution) -> QuantizedLayer:
    """A layer of the right shape that computes zeros."""
    ones = np.ones(convolution.outputs, np.float32)
    shape = (convolution.outputs, convolution.inputs, convolution.kernel, convolution.kernel)
    return QuantizedLayer(
        np.zeros(shape, np.int8), ones, np.zeros_like(ones), ones, np.zeros(convolution.outputs, np.uint8)
    )
