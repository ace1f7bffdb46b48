"""The figures of the ESPCN paper, drawn from any models: filters, crops, and quality against time."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import DatasetError
from subpixel.evaluation.drawing import OKABE_ITO, new_figure
from subpixel.evaluation.methods import Method
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import (
    crop_to_multiple,
    find_images,
    lr_plane,
    read_image,
)
from subpixel.models.model import Model
from subpixel.ops.color import luma_8bit
from subpixel.ops.pixel_shuffle import activation_patterns, transposed_kernel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REPEATS = 5


def first_layer(model: Model) -> "Figure":
    """Draw the filters of the first layer, strongest first, as in Figures 3 (a) and 4 (a) of the paper.

    Each filter is scaled by its own largest weight: black is negative, gray is zero, white is positive.
    """
    weights = model.weights["layers.0.weight"]
    return _grid(weights[:, 0], f"{model.name}: filters of the first layer", "one for each output channel")


def last_layer(model: Model) -> "Figure":
    """Draw the filters of the last layer in HR space, strongest first, as in Figures 3 (b) and 4 (b).

    The filters of a sub-pixel convolution are drawn after the shuffle, as the kernels of the equivalent
    transposed convolution, one for each input channel.
    """
    spec = model.spec
    weights = model.weights[f"layers.{len(spec.layers) - 1}.weight"]
    kernels = transposed_kernel(weights, spec.shuffle)[0]
    shuffled = "shuffled into HR space, " if spec.shuffle > 1 else ""
    return _grid(kernels, f"{model.name}: filters of the last layer", f"{shuffled}one for each input channel")


def equivalence(scale: int = 2, side: int = 4) -> "Figure":
    """Draw why a deconvolution is a convolution in LR space: which weights of a kernel act on which phase.

    On the left is the kernel of a transposed convolution, with each weight in the color of its phase. On the
    right are the filters of the equivalent sub-pixel convolution, one for each phase (arXiv 1609.07009,
    figures 4 to 8).

    Args:
        scale: stride of the transposed convolution.
        side: of its kernel, in HR pixels; a multiple of ``scale``.
    """
    figure = new_figure((0.45 * side * (1 + scale), 0.45 * side + 1.0))
    left, *others = figure.subplots(1, 1 + scale**2, width_ratios=[side / 2, *[side / scale / 2] * scale**2])
    patterns = activation_patterns(side, scale).reshape(scale**2, side, side)
    phases = patterns.argmax(0)
    numbers = np.arange(side**2).reshape(side, side)
    _cells(left, numbers, phases)
    left.set_title(f"{side} x {side} kernel,\nstride {scale}", fontsize=9)
    taps = -(-side // scale)
    for phase, axes in enumerate(others):
        row, column = np.nonzero(patterns[phase])
        inner = numbers[row, column].reshape(taps, taps)
        _cells(axes, inner[::-1, ::-1], np.full((taps, taps), phase))
        axes.set_title(f"phase {phase // scale}, {phase % scale}", fontsize=9)
    figure.suptitle(
        "each weight acts on one phase: the kernel is the filters, interleaved and rotated", fontsize=8
    )
    return figure


def crops(folder: Path, methods: Sequence[Method], *, count: int = 4, side_px: int = 90) -> "Figure":
    """Draw crops of the images on which methods differ most, with PSNR, as in Figures 5 and 6 of the paper.

    Args:
        folder: a test set of HR images.
        methods: of one scale; the first is the baseline for the others.
        count: number of images, those with the largest gain first.
        side_px: side of a crop in HR pixels.

    Raises:
        DatasetError: the folder contains no readable images, or none as large as a crop.
    """
    scale = methods[0].scale
    rows = []
    for name, hr, lr in _pairs(folder, scale):
        if min(hr.shape) < side_px:
            continue
        results = [method.upscale(lr) for method in methods]
        scores = [psnr_db(hr, result, shave=scale) for result in results]
        rows.append((max(scores[1:]) - scores[0], name, hr, results, scores))
    if not rows:
        raise DatasetError(
            f"{folder}: contains no image of at least {side_px}x{side_px} pixels, the size of a crop"
        )
    rows = sorted(rows, key=lambda row: -row[0])[:count]
    figure = new_figure((2.0 * (len(methods) + 1), 2.25 * len(rows)))
    grid = figure.subplots(len(rows), len(methods) + 1, squeeze=False)
    for (_, name, hr, results, scores), line in zip(rows, grid, strict=True):
        region = _region_of_largest_gain(hr, results, side_px)
        titles = [f"{one.name}\n{score:.2f} dB" for one, score in zip(methods, scores, strict=True)]
        for axes, image, title in zip(line, [hr, *results], [f"{name}, original", *titles], strict=True):
            axes.imshow(image[region], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(title, fontsize=8)
            axes.set_axis_off()
    return figure


def quality_against_time(folder: Path, methods: Sequence[Method]) -> tuple["Figure", list[dict[str, Any]]]:
    """Draw mean PSNR on a test set against mean time per image, as in Figure 2 of the paper.

    Each method upscales each image five times, and the median counts.

    Returns:
        The figure, and its numbers: for each method its name, its engine, ``psnr_db`` and ``milliseconds``.
    """
    measured = _measure(folder, methods)
    figure = new_figure((6.4, 4.2))
    axes = figure.subplots()
    for number, row in enumerate(measured):
        axes.plot(
            row["milliseconds"],
            row["psnr_db"],
            "o^sDvP*X"[(number + number // 8) % 8],  # beyond 8 methods, other pairs of marker and color
            color=OKABE_ITO[number % 8],
            markersize=9,
            label=f"{row['method']} ({row['engine'] or 'NumPy'})",
        )
    axes.legend(fontsize=8, loc="lower right", frameon=False)
    axes.set_xscale("log")
    times = [row["milliseconds"] for row in measured]
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    crowded = max(times) > 20 * min(times)  # then label only the powers of ten
    axes.xaxis.set_minor_formatter(lambda value, position: "" if crowded else f"{value:g}")
    axes.margins(0.25, 0.15)
    axes.set_xlabel("mean time per image (ms, less is better)")
    axes.set_ylabel("mean luma PSNR (dB)")
    axes.set_title(f"{folder.name} x{methods[0].scale}", fontsize=10)
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, measured


def _measure(folder: Path, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Mean PSNR and mean time of each method. All methods take turns on each image."""
    scale = methods[0].scale
    psnrs: dict[str, list[float]] = {method.name: [] for method in methods}
    times: dict[str, list[float]] = {method.name: [] for method in methods}
    for _, hr, lr in _pairs(folder, scale):
        for method in methods:
            spent = []
            for _ in range(_REPEATS):
                started = time.perf_counter()
                result = method.upscale(lr)
                spent.append(time.perf_counter() - started)
            psnrs[method.name].append(psnr_db(hr, result, shave=scale))
            times[method.name].append(float(np.median(spent)) * 1000)
    return [
        {
            "method": method.name,
            "engine": f"{method.engine} {method.precision}" if method.engine else None,
            "psnr_db": round(float(np.mean(psnrs[method.name])), 3),
            "milliseconds": round(float(np.mean(times[method.name])), 3),
        }
        for method in methods
    ]


def _pairs(folder: Path, scale: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield name, HR luma and LR luma of each image of a test set."""
    for file in find_images(folder):
        hr = crop_to_multiple(luma_8bit(read_image(file)), scale)
        yield file.stem, hr, lr_plane(hr, scale)


def _grid(filters: NDArray[np.float32], title: str, legend: str) -> "Figure":
    """Draw filters ``(N, side, side)`` in rows, the strongest (by the sum of absolute weights) first."""
    order = np.argsort(-np.abs(filters).sum((1, 2)))
    columns = 16 if len(filters) > 32 else 8
    rows = -(-len(filters) // columns)
    figure = new_figure((0.42 * columns, 0.42 * rows + 0.6))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, order, strict=False):
        largest = float(np.abs(filters[index]).max()) or 1.0
        axes.imshow(filters[index], cmap="gray", vmin=-largest, vmax=largest, interpolation="nearest")
    figure.suptitle(f"{title}\n{legend}\nblack negative, gray zero, white positive", fontsize=7)
    return figure


def _cells(axes: Any, numbers: NDArray[np.intp], phases: NDArray[np.intp]) -> None:
    """Draw a square of numbered weights, each in the color of its phase."""
    side = len(numbers)
    for row in range(side):
        for column in range(side):
            color = OKABE_ITO[int(phases[row, column]) % len(OKABE_ITO)]
            axes.add_patch(_rectangle(column, side - 1 - row, color))
            axes.text(column + 0.5, side - 0.5 - row, str(numbers[row, column]), ha="center", va="center")
    axes.set_xlim(0, side)
    axes.set_ylim(0, side)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _rectangle(x: float, y: float, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, facecolor=color, alpha=0.55, edgecolor="white", linewidth=2)


def _region_of_largest_gain(
    hr: NDArray[np.uint8], results: Sequence[NDArray[np.uint8]], side_px: int
) -> tuple[slice, slice]:
    """The crop, on a grid of half crops, in which the last result has the largest gain over the first.

    Gain is the difference of their squared errors.
    """
    gain = (hr - results[0].astype(np.float64)) ** 2 - (hr - results[-1].astype(np.float64)) ** 2
    largest, best = -np.inf, (slice(0, side_px), slice(0, side_px))
    for top in range(0, hr.shape[0] - side_px + 1, side_px // 2):
        for left in range(0, hr.shape[1] - side_px + 1, side_px // 2):
            region = (slice(top, top + side_px), slice(left, left + side_px))
            if (total := float(gain[region].sum())) > largest:
                largest, best = total, region
    return best
