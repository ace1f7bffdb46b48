"""Composing frames from patches: GIF and APNG store only the changed rectangle of a frame."""

from collections.abc import Iterable, Iterator
from enum import Enum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from subpixel.images.animations.animation import Frame


class Disposal(Enum):
    """What happens to a patch after its delay."""

    KEEP = 0
    CLEAR = 1
    """Its rectangle becomes transparent."""
    RESTORE = 2
    """Its rectangle becomes what it was before."""


class Patch(NamedTuple):
    """The part of a frame that is drawn."""

    left: int
    top: int
    samples: NDArray[Any]
    """``(H, W, 2 or 4)`` with alpha. What is beyond the edges of the animation is not drawn."""
    delay: Fraction
    """Seconds."""
    disposal: Disposal = Disposal.KEEP
    blends: bool = True
    """Whether it is drawn over what is there, by its alpha, or replaces it."""


def compose(
    patches: Iterable[Patch], shape: tuple[int, int, int], dtype: DTypeLike, *, alpha: bool
) -> Iterator[Frame]:
    """Draw patches one after the other on a transparent canvas.

    Args:
        patches: in order.
        shape: of the canvas, ``(H, W, 2 or 4)``.
        dtype: uint8 or uint16.
        alpha: whether frames keep the alpha channel; without it, all their pixels must be opaque.

    Yields:
        A frame for each patch.
    """
    canvas = np.zeros(shape, dtype)
    for patch in patches:
        area = canvas[patch.top : patch.top + len(patch.samples)]
        area = area[:, patch.left : patch.left + patch.samples.shape[1]]
        samples = patch.samples[: area.shape[0], : area.shape[1]]
        before = area.copy() if patch.disposal is Disposal.RESTORE else None
        if patch.blends:
            _draw_over(area, samples)
        else:
            area[...] = samples
        yield Frame(_visible(canvas, alpha), patch.delay)
        if before is not None:
            area[...] = before
        elif patch.disposal is Disposal.CLEAR:
            area[...] = 0


def _visible(canvas: NDArray[Any], alpha: bool) -> NDArray[Any]:
    if alpha:
        return canvas.copy()
    return canvas[..., 0].copy() if canvas.shape[2] == 2 else canvas[..., :-1].copy()


def _draw_over(area: NDArray[Any], samples: NDArray[Any]) -> None:
    """Draw with straight alpha: the operator "over" of PNG, section 13.16."""
    largest = np.iinfo(area.dtype).max
    alpha = samples[..., -1]
    opaque = alpha == largest
    area[opaque] = samples[opaque]
    partial = (alpha > 0) & ~opaque
    if not partial.any():
        return
    above, below = (pixels[partial].astype(np.float64) / largest for pixels in (samples, area))
    share = above[:, -1:]
    rest = below[:, -1:] * (1 - share)
    result = np.empty_like(above)
    result[:, -1:] = share + rest
    result[:, :-1] = (above[:, :-1] * share + below[:, :-1] * rest) / (share + rest)
    area[partial] = np.rint(result * largest).astype(area.dtype)
