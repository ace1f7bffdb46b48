"""Upscaling of pixel art: rules instead of networks, for whole pixels instead of luma.

A rule copies pixels, so an integer factor makes no new colors, and alpha is exact. For any other size, the
next larger factor of the rule is reduced by averaging areas. So all pixels of the source stay equally wide,
and only where they meet colors are mixed.
"""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import from_float, to_float
from subpixel.engines.color.kernel import resample
from subpixel.engines.select import available_cpus, count_at_once
from subpixel.engines.upsampling import Resizing, Upsampling
from subpixel.ops.pixel_art import nearest, scale2x, scale3x
from subpixel.ops.resample import area_taps
from subpixel.options import MAX_SCALE, PixelArtRuleName, Wrap

RULES = get_args(PixelArtRuleName)

DEFAULT_RULE: PixelArtRuleName = "nearest"
"""The rule for pixel art if the caller names none: it adds nothing, and sprites side by side do not mix."""


@dataclass(frozen=True)
class PixelArtRule:
    """A rule at one scale. It takes the place of a `subpixel.Model`."""

    rule: PixelArtRuleName
    scale: int
    """The factor per side."""

    @property
    def name(self) -> str:
        """Such as ``"nearest-x4"``."""
        return f"{self.rule}-x{self.scale}"

    @property
    def halo_px(self) -> int:
        """How many pixels around a pixel decide what becomes of it."""
        return 0 if self.rule == "nearest" else 1

    def digest(self) -> str:
        """Return the name, which determines the result."""
        return self.name

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Upscale ``(H, W, C)`` of any dtype."""
        if self.rule == "nearest":
            return nearest(pixels, self.scale)
        return scale2x(pixels) if self.scale == 2 else scale3x(pixels)


def find_rules(name: str) -> list[PixelArtRule]:
    """Return a rule at its scales, the smallest first; empty if a name is not that of a rule.

    Args:
        name: ``"nearest"``, ``"epx"``, or with a scale, ``"nearest-x4"``. Then this scale is the first.
    """
    scales: dict[PixelArtRuleName, Sequence[int]] = {"nearest": range(2, MAX_SCALE + 1), "epx": (2, 3)}
    found = [PixelArtRule(rule, scale) for rule in RULES for scale in scales[rule]]
    named = [each for each in found if each.name == name]
    rule = named[0].rule if named else name
    return named + [each for each in found if each.rule == rule and each not in named]


@dataclass(frozen=True)
class PixelArtEngine:
    """Runs a rule; stands where networks have a `subpixel.engines.base.Engine`."""

    model: PixelArtRule
    threads: int
    name = "numpy"
    precision = "exact"
    is_exact = True
    target = platform.machine()

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Upscale a plane ``(H, W)`` of any dtype."""
        return self.model(plane[..., None])[..., 0]


@dataclass(frozen=True)
class CompiledRule:
    """A rule that is ready to run; stands where networks have a `subpixel.engines.select.CompiledModel`."""

    engine: PixelArtEngine
    reason: str = "numpy: a rule for pixel art, without a network"

    @property
    def model(self) -> PixelArtRule:
        """The rule."""
        return self.engine.model

    @property
    def scale(self) -> int:
        """The factor per side."""
        return self.model.scale

    @property
    def frames_at_once(self) -> int:
        """How many frames of a video to upscale at once."""
        return count_at_once(self.engine.threads)


class PixelArtFamily:
    """A rule at its scales; stands where networks have a `subpixel.engines.family.ModelFamily`."""

    sharpness = 0.0

    def __init__(self, models: Sequence[PixelArtRule], threads: int | None = None) -> None:
        """Store the rules; by default, there is one thread per CPU.

        Raises:
            ValueError: ``threads`` is below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.models = tuple(sorted(models, key=lambda model: model.scale))
        self._compiled = {
            each.scale: CompiledRule(PixelArtEngine(each, threads or available_cpus()))
            for each in self.models
        }

    def compiled(self, scale: int) -> CompiledRule:
        """Return the rule of a scale."""
        return self._compiled[scale]

    def select(self, source: tuple[int, int], target: tuple[int, int]) -> list[CompiledRule]:
        """Return the rules that pixels pass to get from one size to another, in order.

        Their scales have the smallest product that is enough: 5 is 2 * 3 for a rule of the scales 2 and 3.

        Raises:
            ValueError: the target is too large.
        """
        ratio = max(to / side for side, to in zip(source, target, strict=True))
        if ratio > MAX_SCALE:
            raise ValueError(f"x{ratio:.4g} is too much, at most x{MAX_SCALE} is possible; ask for less")
        products: dict[int, list[int]] = {1: []}
        for product in range(2, 2 * MAX_SCALE):
            ways = [
                [*products[product // scale], scale]
                for scale in self._compiled
                if product % scale == 0 and product // scale in products
            ]
            if ways:
                products[product] = min(ways, key=len)
        scales = products[min(product for product in products if product >= ratio)]
        return [self._compiled[scale] for scale in sorted(scales, reverse=True)]

    def upsampling(
        self, source: tuple[int, int], target: tuple[int, int], wrap: Wrap | None = None
    ) -> "PixelArtUpsampling":
        """Return what makes images of one size into images of another size. Raises as `select`."""
        engines = [compiled.engine for compiled in self.select(source, target)]
        return PixelArtUpsampling(engines, source, target, wrap)


class PixelArtUpsampling(Resizing):
    """Resizes whole pixels by rules, completely or in parts; see `Resizing`."""

    def __init__(
        self,
        engines: Sequence[PixelArtEngine],
        source: tuple[int, ...],
        target: tuple[int, int] | None = None,
        wrap: Wrap | None = None,
    ) -> None:
        """Prepare the averages of both axes.

        Args:
            engines: in the order of their use.
            source, target, wrap: see `Resizing`.

        Raises:
            ValueError: see `Resizing`.
        """
        steps = [(engine.model.scale, engine.model.halo_px) for engine in engines]
        super().__init__(steps, source, target, wrap)
        self.engines = tuple(engines)
        self._rules, before = [engine.model for engine in engines], self._largest
        if self.reduces and all(rule.rule == "nearest" for rule in self._rules):
            # The average over repeated pixels is the average over the pixels themselves.
            self._rules, before = [], self.source
        self._taps = [area_taps(*sides) for sides in zip(before, self.target, strict=True)]

    @property
    def threads(self) -> int:
        """Maximum number of CPU threads."""
        return max((engine.threads for engine in self.engines), default=1)

    def upscale(
        self,
        pixels: NDArray[Any],
        part: tuple[slice, slice],
        origin: tuple[int, int],
        out: NDArray[Any],
        *,
        alpha: bool,
    ) -> None:
        """Fill ``out``, a part of the result, of the dtype of the pixels or another one.

        Args:
            pixels: ``(H, W, C)``: the pixels under the part, and ``context_px`` around them.
            part: the rows and columns of the target.
            origin: row and column in the source of the first one of ``pixels``.
            out: ``(H, W, C)``.
            alpha: whether the last channel is straight alpha.
        """
        for rule in self._rules:
            pixels = rule(pixels)
        top, left = (first * math.prod(rule.scale for rule in self._rules) for first in origin)
        if not self.reduces:
            rows, columns = part
            pixels = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            out[...] = pixels if pixels.dtype == out.dtype else from_float(to_float(pixels), out.dtype)
            return
        large = np.moveaxis(to_float(pixels), -1, 0)
        weights = large[-1] if alpha else None
        for channel, plane in enumerate(large):
            result = self._average(plane, part, (top, left))
            if weights is not None and channel < len(large) - 1:
                # Colors count as much as they are visible.
                total = self._average(weights, part, (top, left))
                visible = self._average(plane * weights, part, (top, left))
                np.divide(visible, total, out=result, where=total > 0)
            out[..., channel] = from_float(np.clip(result, 0, 1), out.dtype)

    def _average(
        self, plane: NDArray[np.float32], part: tuple[slice, slice], origin: tuple[int, int]
    ) -> NDArray[np.float32]:
        return resample(plane, self._taps[0], self._taps[1], part, origin)


AnyUpsampling = Upsampling | PixelArtUpsampling
"""From one size to another, by networks or by rules."""
