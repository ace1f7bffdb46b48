"""Upscaling to any size: a sequence of networks, then antialiased downscaling, then sharpening.

A network multiplies both sides by an integer. For other sizes, networks upscale the plane to at least the
target size, and Lanczos downscales the result.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.engines.color.kernel import resample
from subpixel.ops.resample import continued, radius, taps
from subpixel.ops.sharpen import blur_weights, sharpen
from subpixel.options import MAX_SCALE, Wrap

Plane = NDArray[np.float32]


def factors_for(ratio: float, available: Sequence[int]) -> tuple[int, ...]:
    """Choose the networks that upscale a side by ``ratio``.

    Args:
        ratio: target side divided by source side, of the axis with the larger quotient.
        available: the scales of the available networks. Each may be used several times.

    Returns:
        The scales of as few networks as possible, with the smallest product that is at least ``ratio``. The
        largest scale is first: at x5 this is 0.1 dB better. Empty if ``ratio`` is at most 1.

    Raises:
        ValueError: all available scales are 1, or ``ratio`` is above `MAX_SCALE`.
    """
    if ratio <= 1 + _TOLERANCE:
        return ()
    if ratio > MAX_SCALE + _TOLERANCE:
        raise ValueError(f"x{ratio:.4g} is too much, at most x{MAX_SCALE} is possible; ask for less")
    useful = [scale for scale in available if scale > 1]
    if not useful:
        raise ValueError("the model keeps the size of an image; choose one of a larger scale")
    for count in itertools.count(1):
        products = {
            math.prod(scales): scales
            for scales in itertools.combinations_with_replacement(sorted(useful, reverse=True), count)
            if math.prod(scales) >= ratio - _TOLERANCE
        }
        if products:
            return products[min(products)]
    raise AssertionError


_TOLERANCE = 1e-9


class Resizing:
    """From one size to another: steps that upscale by integers, then a reduction.

    Attributes:
        source: height and width of the input, in pixels.
        target: height and width of the output, in pixels.
        factor: the product of the scales of all steps; 1 without steps.
        reduces: whether the output of the last step is larger than the target.
        sharpness: how much luma is sharpened, 0 to 1.
        context_px: how many LR pixels around a part its computation needs.
        wraps: for rows and for columns, whether the input continues with its opposite side. Otherwise it
            continues with its outermost pixels.
    """

    sharpness = 0.0

    def __init__(
        self,
        steps: Sequence[tuple[int, int]],
        source: tuple[int, ...],
        target: tuple[int, int] | None = None,
        wrap: Wrap | None = None,
    ) -> None:
        """Store the sizes.

        Args:
            steps: scale and halo in pixels of each step.
            source: height and width of the input.
            target: height and width of the output, at most ``factor`` times those of the source, which is the
                default.
            wrap: the axes along which the input continues with its opposite side.

        Raises:
            ValueError: the target is larger.
        """
        self._has_steps = bool(steps)
        self.factor = 1
        context_px = 0.0
        for scale, halo_px in steps:
            context_px += halo_px / self.factor
            self.factor *= scale
        self.context_px = math.ceil(context_px)
        height, width = source
        largest = (height * self.factor, width * self.factor)
        self.source = (height, width)
        self.wraps = wrap in ("y", "both"), wrap in ("x", "both")
        self.target = largest if target is None else (target[0], target[1])
        if any(wanted > there for wanted, there in zip(self.target, largest, strict=True)):
            raise ValueError(f"steps of x{self.factor} do not make {source} into {target}")
        self.reduces = self.target != largest
        self._largest = largest

    @property
    def scale(self) -> float:
        """The factor per side, of the longer side; an integer if it is one."""
        source, target = max(zip(self.source, self.target, strict=True))
        return target // source if target % source == 0 else round(target / source, 4)

    @property
    def warnings(self) -> list[str]:
        """What users are told if nothing is upscaled."""
        if self._has_steps or self.sharpness:
            return []
        if self.target == self.source:
            return ["has the size that is asked for, so nothing was upscaled"]
        return ["is larger than the size that is asked for, so it was only reduced, without a model"]

    def pixels_under(self, span: slice, axis: int) -> slice:
        """Return the LR pixels along an axis that a part of the result covers."""
        side, target = self.source[axis], self.target[axis]
        return slice(span.start * side // target, -(-span.stop * side // target))


class Upsampling(Resizing):
    """Resizes planes by networks, completely or in parts; see `Resizing`."""

    def __init__(
        self,
        engines: Sequence[Engine],
        source: tuple[int, ...],
        target: tuple[int, int] | None = None,
        wrap: Wrap | None = None,
        *,
        sharpness: float = 0.0,
    ) -> None:
        """Prepare the taps of both axes.

        Args:
            engines: for networks of one channel, in the order of their use.
            source, target, wrap: see `Resizing`.
            sharpness: 0 to 1, see `subpixel.ops.sharpen`.

        Raises:
            ValueError: see `Resizing`.
        """
        steps = [(engine.model.scale, engine.model.spec.halo_px) for engine in engines]
        super().__init__(steps, source, target, wrap)
        self.engines = tuple(engines)
        self.sharpness = sharpness
        if self.reduces:
            sides = list(zip(self.source, self._largest, self.target, self.wraps, strict=True))
            self._reducing = [taps("lanczos", large, side, wraps=wraps) for _, large, side, wraps in sides]
            self._direct = [taps("bicubic", small, side, wraps=wraps) for small, _, side, wraps in sides]
            in_large = max(radius("lanczos", large, side) for _, large, side, _ in sides) + 1
            in_small = max(radius("bicubic", small, side) for small, _, side, _ in sides) + 1
            self.context_px += math.ceil(in_large / self.factor)
            self.context_px = max(self.context_px, math.ceil(in_small))
        self._beyond = [0, 0]
        """How many rows and columns beyond its edges `crop` can return, of planes that wrap."""
        if self.sharpness:
            self._prepare_sharpening()

    def _prepare_sharpening(self) -> None:
        ratios = [large / small for small, large in zip(self.source, self.target, strict=True)]
        self._blurs = [blur_weights(ratio) for ratio in ratios]
        radii = [len(weights) - 1 for weights in self._blurs]
        self.context_px += max(
            math.ceil(radius_px / ratio) + self.reduces
            for radius_px, ratio in zip(radii, ratios, strict=True)
        )
        self._beyond = [radius_px if wraps else 0 for radius_px, wraps in zip(radii, self.wraps, strict=True)]
        if self.reduces:
            pairs = zip(self._reducing, self._beyond, strict=True)
            self._reducing = [continued(each, count) for each, count in pairs]

    @property
    def is_identity(self) -> bool:
        """Whether samples stay as they are, because the target has the size of the source."""
        return not self.engines and not self.reduces and not self.sharpness

    @property
    def is_one_network(self) -> bool:
        """Whether one network alone makes the result."""
        return len(self.engines) == 1 and not self.reduces and not self.sharpness

    @property
    def threads(self) -> int:
        """Maximum number of CPU threads of the networks."""
        return max((engine.threads for engine in self.engines), default=1)

    def upsample(self, plane: Plane) -> Plane:
        """Pass a part of a plane, float32 in [0, 1], through the networks. The result is not clipped."""
        for number, engine in enumerate(self.engines):
            if number:
                plane = np.clip(plane, 0, 1)
            plane = engine.run(np.ascontiguousarray(plane[None]))[0]
        return plane

    def upsample_samples(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Pass a part of a plane of any supported dtype through the network, only if it `is_one_network`."""
        result: NDArray[Any] = self.engines[0].run_samples(plane[None])[0]
        return result

    def crop(self, plane: Plane, part: tuple[slice, slice], origin: tuple[int, int]) -> Plane:
        """Downscale the result of `upsample` to the target size, and crop it.

        Args:
            plane: the result of `upsample`.
            part: the rows and columns of the target to return.
            origin: row and column in the source of the first pixel of `upsample`'s input; negative if the
                input is padded there.
        """
        top, left = (first * self.factor for first in origin)
        if not self.reduces:
            rows, columns = part
            return plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        rows_taps, columns_taps = self._reducing
        rows, columns = (
            slice(span.start + beyond, span.stop + beyond)
            for span, beyond in zip(part, self._beyond, strict=True)
        )
        return resample(plane, rows_taps, columns_taps, (rows, columns), (top, left))

    def finish(self, plane: Plane, part: tuple[slice, slice], origin: tuple[int, int]) -> Plane:
        """Do the same as `crop` for a plane of luma, and sharpen it."""
        if not self.sharpness:
            return self.crop(plane, part, origin)
        near, missing = [], []
        for span, side, weights, wraps in zip(part, self.target, self._blurs, self.wraps, strict=True):
            first, last = span.start - len(weights) + 1, span.stop + len(weights) - 1
            kept = slice(first, last) if wraps else slice(max(first, 0), min(last, side))
            near.append(kept)
            missing.append((kept.start - first, last - kept.stop))
        samples = np.clip(self.crop(plane, (near[0], near[1]), origin), 0, 1)
        rows, columns = self._blurs
        return sharpen(np.pad(samples, missing, mode="edge"), rows, columns, self.sharpness)

    def resample(self, plane: Plane, part: tuple[slice, slice], origin: tuple[int, int]) -> Plane:
        """Compute a part of the target by bicubic alone; only if ``reduces`` is true. See `crop`."""
        rows_taps, columns_taps = self._direct
        return resample(plane, rows_taps, columns_taps, part, origin)
