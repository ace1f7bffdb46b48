"""From a float32 network to its 8-bit form, layer by layer, with no gradient descent.

Rounding each weight to the nearest step costs ESPCN 0.5 to 1.6 dB. What is done instead, for each layer in
turn, on pixels of real pictures:

1. The inputs are those that the 8-bit layers before it give, so that a layer makes up for the errors of the
   earlier ones. Its targets are its sums (before the activation) in the float32 network.
2. Weights and bias are solved anew by least squares.
3. They are rounded one column at a time, and after each the columns still to come are moved so as to make
   up for what rounding did (GPTQ, Frantar et al. 2022, arXiv 2210.17323, section 3). The bias is not rounded,
   and comes last.

Each output channel gets a scale and a zero level of its own: between layers, so that its 256 levels span the
range that it has; in the weights, the scale (of a few) at which rounding does least harm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from subpixel.errors import EngineError
from subpixel.models.model import Model, QuantizedLayer
from subpixel.models.quantization import MAX_BIAS, integer_layers, integer_outputs
from subpixel.models.spec import Convolution
from subpixel.ops.convolution import activated, bordered, convolve
from subpixel.ops.resize import imresize

Float = np.float64

MAX_PIXELS, CONTRAST_PIXELS = 300_000, 20_000
"""So many pixels of pictures, and of black and white, decide a layer: far more than an output has weights."""

CROP_SIDE_PX, MAX_CROPS = 96, 120
"""Planes are cut down to pieces of at most this side, and at most so many are used."""

RIDGE = 1e-6
"""Of the mean squared input: keeps weights of inputs that never vary where they are."""

CONTRAST_SHARE = 0.01
"""How much black and white, in random blocks and shapes, counts beside pictures. Text and drawings look like
that, and pictures never do: layers whose levels end where those of pictures do made garbage of it, 255 levels
off."""

CONTRASTS = ((16, 235), (0, 255))
"""Black and white, in the range of video's luma and in the full one."""

RANGES = np.geomspace(0.004, 1.0, 30)
"""Fractions of the way from zero to a channel's extremes that its 256 levels may span."""

MOST_ERROR = 10
"""An error counts up to so many times a channel's usual value on pictures. On black and white some channels
take values a hundred times as large: if those were kept, pictures would be rounded coarsely."""

RANGE_PIXELS = 10_000
"""So many values of a channel decide its range."""

LEAST_SCALE = 1e-3
"""Of a channel's levels: one that hardly ever varies needs no finer ones, and `LEAST_TANH_SCALE` is near."""

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Weight scales tried, as fractions of the one at which the largest weight is 127 steps."""


def calibrate(
    model: Model,
    planes: Sequence[NDArray[np.uint8]],
    *,
    source: str = "",
    seed: int = 0,
    contrast_share: float = CONTRAST_SHARE,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Model:
    """Give a model 8-bit layers.

    Args:
        model: any network; its float32 weights stay as they are.
        planes: small pictures such as it will be given, ``(H, W)`` or ``(channels, H, W)``; never those of a
            test set. About 20 pictures of 100 x 100 pixels are enough for ESPCN.
        source: what the planes are, for the model's facts.
        seed: of the choice of crops and pixels.
        contrast_share: how much black and white, in random blocks and shapes, counts beside the planes: more
            makes text and drawings more exact, and pictures a little less. Above 0.
        progress: called with the fraction done.

    Returns:
        The same model with ``quantized`` set.

    Raises:
        ValueError: no planes, a share of 0 or less, or fewer pixels than a layer has weights for each output.
        EngineError: the network has sums too large for 32 bits, or does not work in LR space.
    """
    if model.spec.upsampling == "bicubic":
        raise EngineError(f"model {model.name} works in HR space, and has no form in 8 bits")
    if contrast_share <= 0:
        raise ValueError(f"contrast_share must be above 0, not {contrast_share}")
    rng = np.random.default_rng(seed)
    levels = _crops(planes, model.spec.channels, rng)
    pictures = len(levels)
    levels += _black_and_white(model.spec.channels, model.scale, rng)
    exact = [piece / 255 for piece in levels]
    zeros = np.zeros(model.spec.channels)
    scales = np.full(model.spec.channels, 1 / 255)
    quantized: list[QuantizedLayer] = []
    layers = model.spec.layers
    for index, described in enumerate(layers):
        weight, bias = model.layer_weights(index)
        sums = [convolve(piece, weight, bias) for piece in exact]
        start = np.concatenate([(weight * scales[:, None, None]).reshape(len(weight), -1), bias[:, None]], 1)
        (moments, products, seen), (contrast_moments, contrast_products, _) = (
            _moments(levels[part], zeros, sums[part], described, most, rng)
            for part, most in ((slice(pictures), MAX_PIXELS), (slice(pictures, None), CONTRAST_PIXELS))
        )
        if seen <= weight[0].size:
            raise ValueError(
                f"only {seen} pixels to decide {weight[0].size} weights: give more or larger pictures"
            )
        moments += contrast_share * contrast_moments
        products += contrast_share * contrast_products
        rounded, step = _round(start.astype(np.float64), moments, products)
        exact = [
            activated(piece, described.activation, model.weights.get(f"layers.{index}.slope"))
            for piece in sums
        ]
        last = index == len(layers) - 1
        scales, zeros = (
            _ranges(exact, pictures, contrast_share, rng)
            if not last
            else (np.ones(len(weight)), np.zeros(len(weight)))
        )
        quantized.append(
            QuantizedLayer(
                weight=np.rint(rounded[:, :-1] / step[:, None]).astype(np.int8).reshape(weight.shape),
                weight_scale=step.astype(np.float32),
                bias=rounded[:, -1].astype(np.float32),
                output_scale=scales.astype(np.float32),
                output_zero=zeros.astype(np.uint8),
            )
        )
        if not last:
            levels = _through(model, quantized, levels)
        progress((index + 1) / len(layers))
    return replace(model, metadata=replace(model.metadata, calibration=source), quantized=tuple(quantized))


def _crops(
    planes: Sequence[NDArray[np.uint8]], channels: int, rng: np.random.Generator
) -> list[NDArray[Float]]:
    chosen = [planes[number] for number in rng.permutation(len(planes))[:MAX_CROPS]]
    pieces = []
    for plane in chosen:
        tensor = plane[None] if plane.ndim == 2 else plane
        if tensor.ndim != 3 or len(tensor) != channels or tensor.dtype != np.uint8:
            raise ValueError(f"expected uint8 planes of {channels} channels, not {plane.dtype} {plane.shape}")
        corner = [int(rng.integers(max(side - CROP_SIDE_PX, 0) + 1)) for side in tensor.shape[1:]]
        inside = (slice(start, start + CROP_SIDE_PX) for start in corner)
        pieces.append(tensor[:, *inside].astype(np.float64))
    return pieces


def _black_and_white(channels: int, scale: int, rng: np.random.Generator) -> list[NDArray[Float]]:
    """Random blocks of 1 to 5 pixels, and shapes with smooth outlines, made small as pictures are."""
    pieces = []
    for (black, white), side in product(CONTRASTS, (1, 2, 3, 5)):
        white_here = np.stack([random_blocks(64, side, rng) for _ in range(channels)])
        pieces.append(np.where(white_here, white, black).astype(np.float64))
    for (black, white), size in product(CONTRASTS, (1.5, 2.5, 4.0, 6.0)):
        drawn = np.stack([_shapes(64 * scale, size * scale, rng) for _ in range(channels)], axis=-1)
        small = imresize(np.where(drawn, white, black).astype(np.uint8), 1 / scale)
        pieces.append(small.transpose(2, 0, 1).astype(np.float64))
    return pieces


def _shapes(side_px: int, size_px: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A square in which noise, smooth over about so many pixels, is above a level, or is not."""
    smooth = imresize(rng.standard_normal((math.ceil(side_px / size_px),) * 2), size_px)[:side_px, :side_px]
    return np.asarray(smooth > np.quantile(smooth, rng.uniform(0.25, 0.75)))


def random_blocks(side_px: int, block_px: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A square of square blocks, true or false at random."""
    blocks = rng.integers(0, 2, (side_px // block_px + 1,) * 2)
    return np.asarray(blocks.repeat(block_px, axis=0).repeat(block_px, axis=1)[:side_px, :side_px] == 1)


def _moments(
    levels: list[NDArray[Float]],
    zeros: NDArray[Float],
    sums: list[NDArray[Float]],
    described: Convolution,
    most_pixels: int,
    rng: np.random.Generator,
) -> tuple[NDArray[Float], NDArray[Float], int]:
    """Means, over pixels, of what each sees times what it sees, and times its targets; and their number.

    Seen are inputs, in steps from zero, and a 1 for the bias. Pixels at the pieces' borders are not left out:
    what the network does with its padding is quite unlike anything inside a picture, and left to chance it
    costs 0.5 dB.
    """
    size = described.inputs * described.kernel**2
    moments, products = np.zeros((size + 1, size + 1)), np.zeros((size + 1, described.outputs))
    share, count = most_pixels / max(1, sum(piece[0].size for piece in sums)), 0
    for piece, target in zip(levels, sums, strict=True):
        windows = sliding_window_view(
            bordered(piece, described.kernel // 2, zeros) - zeros[:, None, None],
            (described.kernel, described.kernel),
            axis=(1, 2),
        )
        kept = rng.random(target.shape[1:]) < share
        seen = np.ones((int(kept.sum()), size + 1))
        seen[:, :-1] = windows[:, kept].transpose(1, 0, 2, 3).reshape(-1, size)
        moments += seen.T @ seen
        products += seen.T @ target[:, kept].T
        count += len(seen)
    return moments / max(1, count), products / max(1, count), count


def _round(
    start: NDArray[Float], moments: NDArray[Float], products: NDArray[Float]
) -> tuple[NDArray[Float], NDArray[Float]]:
    """Steps 2 and 3: rows of weights, the bias last, that are whole multiples of each row's step."""
    errors = products - moments @ start.T
    moments = moments + RIDGE * max(moments.diagonal()[:-1].mean(), 1.0) * np.eye(len(moments))
    solved = start + np.linalg.solve(moments, errors).T
    # Row j of this factor says how the columns after j make up for an error in column j.
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    largest = np.abs(solved[:, :-1]).max(axis=1)
    # A step so small that the bias would not fit serves a channel that is all bias.
    least = np.abs(solved[:, -1]) / (MAX_BIAS / 2) + np.finfo(np.float32).tiny
    best_cost = np.full(len(solved), np.inf)
    best, best_step = solved.copy(), np.ones(len(solved))
    for shrink in SHRINKS:
        step = np.maximum(largest * shrink / 127, least).astype(np.float32).astype(np.float64)
        rounded = _round_columns(solved, factor, step)
        off = rounded - solved
        cost = ((off @ moments) * off).sum(axis=1)
        better = cost < best_cost
        best_cost[better], best[better], best_step[better] = cost[better], rounded[better], step[better]
    return best, best_step


def _round_columns(rows: NDArray[Float], factor: NDArray[Float], step: NDArray[Float]) -> NDArray[Float]:
    moved, rounded = rows.copy(), rows.copy()
    for column in range(rows.shape[1] - 1):
        wanted = moved[:, column]
        rounded[:, column] = np.clip(np.rint(wanted / step), -127, 127) * step
        error = (wanted - rounded[:, column]) / factor[column, column]
        moved[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    rounded[:, -1] = moved[:, -1]
    return rounded


def _ranges(
    pieces: list[NDArray[Float]], pictures: int, contrast_share: float, rng: np.random.Generator
) -> tuple[NDArray[Float], NDArray[Float]]:
    """Each channel's scale and zero level: those, of some, at which the values that it took lose least.

    A few extreme values are better clipped than all others rounded more coarsely. Zero always has a level.
    """
    lowest = np.minimum(np.min([piece.min(axis=(1, 2)) for piece in pieces], axis=0), 0)
    highest = np.maximum(np.max([piece.max(axis=(1, 2)) for piece in pieces], axis=0), 0)
    samples = []
    for part, share in ((pieces[:pictures], 1.0), (pieces[pictures:], contrast_share)):
        values = np.concatenate([piece.reshape(len(piece), -1) for piece in part], axis=1)
        samples.append((values[:, rng.permutation(values.shape[1])[:RANGE_PIXELS]], share))
    usual = np.mean(samples[0][0] ** 2, axis=1)[:, None]

    def span(below: NDArray[Float], above: NDArray[Float]) -> tuple[NDArray[Float], NDArray[Float]]:
        scale = np.maximum((highest * above - lowest * below) / 255, LEAST_SCALE).astype(np.float32)
        return scale, np.clip(np.rint(-lowest * below / scale), 0, 255)

    def cost(below: NDArray[Float], above: NDArray[Float]) -> NDArray[Float]:
        scale, zero = (of[:, None] for of in span(below, above))
        total = np.zeros(len(lowest))
        for sample, share in samples:
            levels = np.clip(np.rint(sample / scale + zero), 0, 255)
            error = ((levels - zero) * scale - sample) ** 2
            total += share * np.mean(np.minimum(error, MOST_ERROR**2 * usual), axis=1)
        return total

    one = np.ones(len(lowest))
    below = above = one
    for _ in range(2):
        above = RANGES[np.argmin([cost(below, fraction * one) for fraction in RANGES], axis=0)]
        below = RANGES[np.argmin([cost(fraction * one, above) for fraction in RANGES], axis=0)]
    return span(below, above)


def _through(
    model: Model, quantized: list[QuantizedLayer], levels: list[NDArray[Float]]
) -> list[NDArray[Any]]:
    """The pieces after the newest of the layers done so far."""
    index = len(quantized) - 1
    # integer_layers looks at a whole model: what comes after is filled in with anything that fits.
    rest = [_placeholder(layer) for layer in model.spec.layers[index + 1 :]]
    layer = integer_layers(replace(model, quantized=(*quantized, *rest)))[index]
    zeros = quantized[index - 1].output_zero if index else np.zeros(model.spec.channels)
    described = model.spec.layers[index]
    return [
        integer_outputs(piece, zeros.astype(np.float64), described, layer, last=False) for piece in levels
    ]


def _placeholder(described: Convolution) -> QuantizedLayer:
    ones = np.ones(described.outputs, np.float32)
    shape = (described.outputs, described.inputs, described.kernel, described.kernel)
    return QuantizedLayer(
        np.zeros(shape, np.int8), ones, np.zeros_like(ones), ones, np.zeros(described.outputs, np.uint8)
    )
