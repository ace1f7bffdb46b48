"""The state of a network for video from frame to frame.

It is the same whether a film is upscaled at once or in parts.

A segment must not depend on which run computes it, or the segments before it. So each has a state of its own,
which begins `WARM_UP_FRAMES` before the first frame of the segment. In a film that is upscaled at once, the
last frames of a segment belong to two segments: their result is that of the first, and they warm up the state
of the second.
"""

from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import to_float
from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import AnyUpsampling, PixelArtFamily
from subpixel.engines.select import correcting, is_for_video
from subpixel.engines.upsampling import Upsampling
from subpixel.models import catalog
from subpixel.video.pipeline import encode
from subpixel.video.pipeline.links import FrameLink

WARM_UP_FRAMES = 24
"""Results are within 0.02 dB of those of an endless run, see docs/research/2026-11-30-several-frames.md."""


class Corrects(Protocol):
    """A network that corrects the results of another one, frame by frame."""

    def correct(self, plane: NDArray[Any], base: NDArray[Any], state: Any) -> tuple[NDArray[Any], Any]:
        """Return the corrected result, and the state for the next frame.

        Args:
            plane: the frame, ``(H, W)``.
            base: its result without history, ``(scale*H, scale*W)`` of the same dtype.
            state: of the frame before; None for the first frame.
        """


class History(NamedTuple):
    """A network for video."""

    network: Corrects
    upsampling: Upsampling
    """The network without its history, and without what follows it."""


def has_history(upsampling: AnyUpsampling) -> TypeGuard[Upsampling]:
    """Whether a network for video upsamples, alone and in int8; else frames are upscaled by themselves."""
    if not isinstance(upsampling, Upsampling) or len(upsampling.engines) != 1:
        return False
    return is_for_video(upsampling.engines[0])


def history_of(upsampling: AnyUpsampling) -> History | None:
    """Prepare the network for video that upsamples; None if frames are upscaled by themselves."""
    if not has_history(upsampling):
        return None
    alone = Upsampling(upsampling.engines, upsampling.source)
    return History(correcting(upsampling.engines[0]), alone)


def missing_history(family: ModelFamily | PixelArtFamily, upsampling: AnyUpsampling) -> list[str]:
    """What users are told if networks for video see only single frames: why, and the cure. At most one text.

    Empty if no network for video runs, such as for a size that needs no network.
    """
    if isinstance(family, PixelArtFamily) or not isinstance(upsampling, Upsampling):
        return []
    engines = [engine for engine in upsampling.engines if engine.model.spec.history]
    if not engines or has_history(upsampling):
        return []
    reasons = []
    if len(upsampling.engines) > 1:
        largest = max(model.scale for model in family.models)
        reasons.append(
            "the frames before help only where one network alone reaches the size; "
            f"choose a factor of at most {largest}"
        )
    first = engines[0]
    if not is_for_video(first):
        other = "" if "int8" in first.precisions else " and no engine"
        reasons.append(
            f"the frames before help only in int8, and {first.name} computes {first.precision} here; "
            f"pass --precision int8 (precision='int8'){other}"
        )
    models = list(dict.fromkeys(engine.model for engine in engines))
    names = " and ".join(model.name for model in models)
    bases = " and ".join(filter(None, map(catalog.base_name, models))) or "the base alone"
    upscale = "upscale" if len(models) > 1 else "upscales"
    return [f"{names} {upscale} each frame by itself, with the result of {bases}: {'; '.join(reasons)}"]


def reduced(result: NDArray[Any], upsampling: Upsampling) -> NDArray[np.float32]:
    """Do what follows the network, to its whole result: reduce and sharpen it. Its edge continues."""
    context_px = upsampling.context_px
    large = to_float(np.pad(result, context_px * upsampling.factor, mode="edge"))
    part = slice(0, upsampling.target[0]), slice(0, upsampling.target[1])
    return upsampling.finish(large, part, (-context_px, -context_px))


def segments_of(number: int | None, *, warm_up: bool = False) -> tuple[int, ...]:
    """Return the segments that a frame belongs to, the one with its result first.

    Args:
        number: of its result in the film; None for frames that are no film, and have no segments.
        warm_up: whether the result is not wanted.
    """
    if number is None:
        return (0,)
    segment, index = divmod(number, encode.SEGMENT_FRAMES)
    next_ones = (segment + 1,) if index >= encode.SEGMENT_FRAMES - WARM_UP_FRAMES else ()
    return next_ones if warm_up else (segment, *next_ones)


def corrected(
    network: Corrects,
    plane: NDArray[Any],
    base: NDArray[Any],
    link: FrameLink,
    number: int | None = None,
    *,
    warm_up: bool = False,
) -> NDArray[Any]:
    """Correct a result with the states of the frame before, which ``link`` knows, and keep the new ones.

    Args:
        network, plane, base: see `Corrects`.
        link: of the frame.
        number, warm_up: see `segments_of`.
    """
    before = link.states()
    after: dict[int, tuple[int | None, Any]] = {}
    results = []
    for segment in segments_of(number, warm_up=warm_up):
        last, state = before.get(segment, (None, None))
        if number is not None and last is not None and last >= number:
            state = None  # the film is decoded again, from its start
        result, state = network.correct(plane, base, state)
        after[segment] = number, state
        results.append(result)
    link.keep(after)
    return results[0] if results else base
