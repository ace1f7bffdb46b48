"""The size of a result: from a factor, or from the sides that the caller asks for."""

import re
from dataclasses import dataclass
from fractions import Fraction

from subpixel.arguments import check_choice, check_integers, check_numbers
from subpixel.options import MAX_SCALE, Fit

SizeArgument = str | tuple[int, int]
"""``(width, height)`` in pixels, ``"1920x1080"``, or a name such as ``"1080p"`` or ``"4k"``."""

_NAMED_SIZES = {"4k": (3840, 2160), "8k": (7680, 4320)}
_LINES = re.compile(r"(\d{2,4})p")
_SIDES = re.compile(r"(\d+)\s*[xX×]\s*(\d+)")


@dataclass(frozen=True, kw_only=True)
class PixelGeometry:
    """How players show the pixels of a source, and what its result must be like. The default is an image."""

    aspect: Fraction = Fraction(1)
    """Width over height of a pixel."""
    square: bool = False
    """Whether the result has square pixels."""
    quarter_turn: bool = False
    """Whether players rotate frames by 90 or 270 degrees."""
    even: bool = False
    """Whether both sides of the result must be even. They are then rounded to the nearest even number that
    ``fit`` allows; an odd integer becomes one more."""


IMAGE = PixelGeometry()


@dataclass(frozen=True, kw_only=True)
class TargetSize:
    """What a caller asks for: a factor, or one or both sides of the result.

    Raises:
        ValueError: values that exclude each other, or that are out of range.
        TypeError: a value of the wrong type.
    """

    scale: float | None = None
    """The factor per side."""
    size: SizeArgument | None = None
    """Both sides, as players show them. A named size has the orientation of the source: for a portrait, 1080p
    is 1080x1920."""
    width: int | None = None
    height: int | None = None
    fit: Fit | None = None
    """What happens if width and height have another shape than the source; None is "inside"."""

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_integers(width=self.width, height=self.height)
        check_choice(Fit, fit=self.fit)
        sides = self.width is not None or self.height is not None
        if (self.scale is not None) + (self.size is not None) + sides > 1:
            raise ValueError("pass only one of scale, size, and width or height")
        if None in self._sides() and self.fit is not None:
            raise ValueError(
                "fit is about two sides: pass a size, or both width and height, or leave fit out"
            )

    def or_scale(self, scale: float) -> "TargetSize":
        """Return this, or a factor if the caller asks for nothing."""
        asked = (self.scale, self.size, self.width, self.height)
        return TargetSize(scale=scale) if all(value is None for value in asked) else self

    def for_source(self, width: int, height: int, geometry: PixelGeometry = IMAGE) -> tuple[int, int]:
        """Return width and height of the result for a source, both as they are stored.

        Args:
            width, height: of the source, in pixels.
            geometry: of the pixels.

        Raises:
            ValueError: nothing is asked for.
        """
        shown = Fraction(width) * geometry.aspect, Fraction(height)
        shape = shown if geometry.square else (Fraction(width), Fraction(height))
        if self.scale is not None:
            limits: tuple[int | None, int | None] = (None, None)
            ratio = Fraction(float(self.scale)).limit_denominator(10_000)
        else:
            limits = self._sides()
            if shown[1] > shown[0] if self._is_named() else geometry.quarter_turn:
                limits = limits[1], limits[0]
            if geometry.even and self.fit != "exact":
                # Before the other side follows, so that the shape is kept.
                limits = self._even(limits[0]), self._even(limits[1])
            ratios = [limit / side for limit, side in zip(limits, shape, strict=True) if limit is not None]
            if not ratios:
                raise ValueError("pass a scale, a size, a width or a height")
            ratio = max(ratios) if self.fit == "cover" else min(ratios)
            if self.fit == "exact" and None not in limits:
                shape = Fraction(limits[0] or 1), Fraction(limits[1] or 1)
                ratio = Fraction(1)
        step = 2 if geometry.even else 1
        # Rounded half up. No side passes its limit, as limits are multiples of the step.
        sides = [max(1, int(side * ratio / step + Fraction(1, 2))) * step for side in shape]
        return sides[0], sides[1]

    def _even(self, limit: int | None) -> int | None:
        """The nearest even limit that ``fit`` allows."""
        if limit is None or limit % 2 == 0:
            return limit
        return limit + 1 if self.fit == "cover" else max(2, limit - 1)

    def _is_named(self) -> bool:
        return isinstance(self.size, str) and not _SIDES.fullmatch(self.size.strip())

    def _sides(self) -> tuple[int | None, int | None]:
        """Width and height that are asked for; of a named size, those of a landscape."""
        if self.size is None:
            width, height = self.width, self.height
        elif isinstance(self.size, str):
            width, height = _parse(self.size)
        else:
            try:
                if isinstance(self.size, bytes):
                    raise TypeError
                width, height = self.size
            except (TypeError, ValueError):
                raise TypeError(f"size must be (width, height) or a string, not {self.size!r}") from None
            check_integers(width=width, height=height)
        for name, value in (("width", width), ("height", height)):
            if value is not None and value < 1:
                raise ValueError(f"the {name} must be at least 1 pixel, not {value}")
        return width, height


def check_scale(scale: float | None) -> None:
    """Raise TypeError unless the value is a number or None, ValueError unless it is in 1 to `MAX_SCALE`."""
    check_numbers(scale=scale)
    if scale is not None and not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be at least 1 and at most {MAX_SCALE}, not {scale}")


def _parse(size: str) -> tuple[int, int]:
    text = size.strip().lower()
    if text in _NAMED_SIZES:
        return _NAMED_SIZES[text]
    if found := _SIDES.fullmatch(text):
        return int(found[1]), int(found[2])
    if found := _LINES.fullmatch(text):
        lines = int(found[1])
        return (lines * 16 // 9 + 1) // 2 * 2, lines
    raise ValueError(
        f"unknown size {size!r}; write WIDTHxHEIGHT such as 1920x1080, or 720p, 1080p, 1440p, 2160p, 4k or 8k"
    )
