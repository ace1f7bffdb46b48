"""Links each frame of a video to the one before it, so that what did not change is copied from its result.

A network for video gets its state in the same way.

Several frames are in work at once. A frame first computes what changed, then waits for the result of the
frame before. Frames begin in order, so that frame is in work already or finished, and the wait ends.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from subpixel.video.pipeline.unchanged import Rectangle, changed_rectangles, hr_part, other_rectangles

T = TypeVar("T")


class FrameLink:
    """The luma of a frame in work, and the link to the frame before.

    It is a context: at its end, the frame after this one no longer waits for it.

    Attributes:
        copied_share: how much of the luma was copied, 0 to 1.
    """

    def __init__(self, previous: "FrameLink | None" = None, *, private: bool = False) -> None:
        """Link a frame to the one before; None for the first one.

        ``private`` copies the luma for the next frame, because others may change the frames meanwhile.
        """
        self.copied_share = 0.0
        self._previous = previous
        self._private = private
        self._depths = 0, 0
        self._small: Future[NDArray[Any] | None] = Future()
        self._large: Future[NDArray[Any] | None] = Future()
        self._states: Future[dict[int, Any] | None] = Future()

    def __enter__(self) -> "FrameLink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._previous = None  # otherwise all frames would stay in memory
        waited_for: tuple[Future[Any], ...] = (self._small, self._large, self._states)
        for missing in waited_for:
            if not missing.done():
                missing.set_result(None)

    def changed(self, small: NDArray[Any], depths: tuple[int, int], halo_px: int) -> list[Rectangle] | None:
        """Compare the luma, ``(H, W)``, with that of the frame before.

        Args:
            small: as decoded.
            depths: bits of its samples and of those of the result.
            halo_px: see `changed_rectangles`.

        Returns:
            See `changed_rectangles`; None if there is no frame before, or one of another size or depth.
        """
        self._depths = depths
        self._small.set_result(self._kept(small))
        if self._previous is None:
            return None
        before = self._previous._small.result()
        if before is None or before.shape != small.shape or self._previous._depths != depths:
            return None
        return changed_rectangles(before, small, halo_px)

    def copy_others(self, large: NDArray[Any], rectangles: list[Rectangle], source: tuple[int, int]) -> bool:
        """Fill a result except for some rectangles from the result of the frame before.

        Args:
            large: the luma of the result.
            rectangles: what is not filled, in pixels of the source; none means that all of it is filled.
            source: height and width of the source. With rectangles, those of the result are multiples.

        Returns:
            Whether this succeeded; otherwise the frame before has no result, or one of another size.
        """
        assert self._previous is not None
        before = self._previous._large.result()
        if before is None or before.shape != large.shape:
            return False
        if not rectangles:
            np.copyto(large, before)
            self.copied_share = 1.0
            return True
        scale = large.shape[0] // source[0]
        copied = 0
        for rows, columns in other_rectangles(rectangles, source):
            part = hr_part((rows, columns), scale)
            large[part] = before[part]
            copied += (rows.stop - rows.start) * (columns.stop - columns.start)
        self.copied_share = copied / (source[0] * source[1])
        return True

    def finish(self, large: NDArray[Any]) -> None:
        """Offer the luma of the result to the frame after this one."""
        self._large.set_result(self._kept(large))

    def states(self) -> dict[int, Any]:
        """Wait for what the frame before has kept for this one; empty if there is nothing."""
        return {} if self._previous is None else self._previous._states.result() or {}

    def keep(self, states: dict[int, Any]) -> None:
        """Offer states to the frame after this one."""
        self._states.set_result(states)

    def _kept(self, samples: NDArray[Any]) -> NDArray[Any]:
        return samples.copy() if self._private else samples


def linked(
    items: Iterable[T], is_frame: Callable[[T], bool], *, private: bool = False
) -> Iterator[tuple[T, FrameLink | None]]:
    """Yield each item, and for a frame its link to the last frame before.

    Frames have to be upscaled in this order, or several at once, each in the context of its link.
    """
    link = None
    for item in items:
        if is_frame(item):
            link = FrameLink(link, private=private)
            yield item, link
        else:
            yield item, None
