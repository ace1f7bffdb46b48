"""Temporal consistency of a clip: warping error, tOF, and flicker where nothing moves. Needs OpenCV.

OpenCV estimates the optical flow of luma: by DIS (Kroeger et al. 2016, preset medium) between HR frames for
the warping error, and by Farneback's method with the parameters of TecoGAN's program for tOF.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError

Plane = NDArray[np.uint8]

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
"""Pyramid scale, levels, window, iterations, polynomial's neighborhood and sigma, flags: those of TecoGAN."""

STATIC_CHANGE = 2
"""Most change between two HR frames, in 8-bit levels, for an area to count as static."""

STATIC_RADIUS_PX = 8
"""Half the side of that area, in HR pixels: far enough for LR pixels to be static too at x4."""


@dataclass(frozen=True)
class TemporalScores:
    """Temporal consistency of a model's result; all are better if lower."""

    warping_error: float
    """Mean squared difference between a frame and the previous one moved along the flow of HR, with samples
    in [0, 1], outside of occlusions (Lai et al. 2018, arXiv 1808.00449)."""
    hr_warping_error: float
    """The same of HR itself: what flow and interpolation leave. A blurry result can be below it."""
    tof_px: float
    """Mean length of the difference between the flows of the result and of HR, in HR pixels (TecoGAN, Chu et
    al. 2020, arXiv 1811.09393)."""
    flicker: float | None
    """Mean absolute change of the error between two frames, in 8-bit levels, where HR is static; None if
    nothing is."""
    static_share: float
    """The share of pixels that are static."""


@dataclass(frozen=True)
class PairScores:
    """The measurements on two neighboring frames, from which `pooled` makes `TemporalScores`."""

    warping_error: float
    hr_warping_error: float
    tof_px: float
    flicker_sum: float
    static_pixels: int
    pixels: int


class TemporalMeter:
    """Measures each frame of a clip against the previous one."""

    def __init__(self, border_px: int) -> None:
        """Start before the first frame; ``border_px`` HR pixels along each border are left out.

        Raises:
            EngineError: OpenCV is not installed.
        """
        try:
            import cv2
        except ModuleNotFoundError:
            raise EngineError(
                "temporal consistency needs OpenCV, which is not installed: "
                "run `pip install 'subpixel[evaluate]'`"
            ) from None
        self._cv2: Any = cv2  # its stubs lack DISOpticalFlow_create
        self._border = border_px
        self._dis = self._cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._previous: tuple[Plane, Plane] | None = None
        self.pairs: list[PairScores] = []
        """One entry less than there were frames."""

    def add(self, hr: Plane, sr: Plane) -> None:
        """Measure the next frame, and its result, against the previous one; both are ``(H, W)`` uint8."""
        if self._previous is not None:
            self.pairs.append(self._measure(*self._previous, hr, sr))
        self._previous = hr, sr

    def _measure(self, old_hr: Plane, old_sr: Plane, hr: Plane, sr: Plane) -> PairScores:
        cv2 = self._cv2
        inside = np.s_[self._border : hr.shape[0] - self._border, self._border : hr.shape[1] - self._border]
        backward, forward = self._dis.calc(hr, old_hr, None), self._dis.calc(old_hr, hr, None)
        visible = self._visible(backward, forward)[inside]
        difference = cv2.calcOpticalFlowFarneback(old_sr, sr, None, *FARNEBACK)
        difference -= cv2.calcOpticalFlowFarneback(old_hr, hr, None, *FARNEBACK)
        still = (cv2.absdiff(hr, old_hr) <= STATIC_CHANGE).astype(np.uint8)
        side = 2 * STATIC_RADIUS_PX + 1
        static = cv2.erode(still, np.ones((side, side), np.uint8))[inside] > 0
        change = sr.astype(np.int16) - hr - (old_sr.astype(np.int16) - old_hr)
        return PairScores(
            self._warping_error(old_sr, sr, backward, inside, visible),
            self._warping_error(old_hr, hr, backward, inside, visible),
            float(np.linalg.norm(difference[inside], axis=-1).mean()),
            float(np.abs(change[inside][static]).sum()),
            int(static.sum()),
            static.size,
        )

    def _warped(self, plane: NDArray[Any], flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move a plane by the flow to it, with bicubic interpolation."""
        height, width = flow.shape[:2]
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        moved: NDArray[np.float32] = self._cv2.remap(
            plane, columns + flow[..., 0], rows + flow[..., 1], self._cv2.INTER_CUBIC
        )
        return moved

    def _visible(self, backward: NDArray[np.float32], forward: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The pixels whose flow leads into the frame and back to where it started (Ruder et al. 2016)."""
        height, width = backward.shape[:2]
        returned = np.stack([self._warped(forward[..., axis].copy(), backward) for axis in (0, 1)], axis=-1)
        distance = np.square(backward + returned).sum(-1)
        length = np.square(backward).sum(-1) + np.square(returned).sum(-1)
        columns = np.arange(width) + backward[..., 0]
        rows = np.arange(height)[:, None] + backward[..., 1]
        within = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
        visible: NDArray[np.bool_] = (distance <= 0.01 * length + 0.5) & within
        return visible

    def _warping_error(
        self,
        old: Plane,
        new: Plane,
        flow: NDArray[np.float32],
        inside: tuple[slice, slice],
        visible: NDArray[np.bool_],
    ) -> float:
        moved = self._warped(old.astype(np.float32) / 255, flow)[inside]
        errors = np.square(moved - new.astype(np.float32)[inside] / 255)[visible]
        return float(errors.mean()) if errors.size else 0.0


def pooled(pairs: Sequence[PairScores]) -> TemporalScores:
    """The means over pairs of frames; flicker is the mean over all static pixels of all pairs."""
    static = sum(pair.static_pixels for pair in pairs)
    return TemporalScores(
        float(np.mean([pair.warping_error for pair in pairs])),
        float(np.mean([pair.hr_warping_error for pair in pairs])),
        float(np.mean([pair.tof_px for pair in pairs])),
        sum(pair.flicker_sum for pair in pairs) / static if static else None,
        static / sum(pair.pixels for pair in pairs),
    )
