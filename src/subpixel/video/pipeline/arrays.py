"""Upscales frames that are arrays by a network for video; by other networks, arrays are images."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import from_float, to_float
from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import PixelArtFamily
from subpixel.engines.upsampling import Upsampling
from subpixel.images.chroma import split_rgb
from subpixel.images.tiles import upscale_array
from subpixel.sizes import TargetSize
from subpixel.video.pipeline.history import corrected, history_of, reduced
from subpixel.video.pipeline.links import FrameLink

_DTYPES = (np.uint8, np.uint16, np.float32)


class ArrayUpscaler:
    """Upscale gray and RGB frames, ``(H, W)`` and ``(H, W, 3)``, uint8, uint16 or float32 in [0, 1]."""

    def __init__(self, family: ModelFamily | PixelArtFamily, target: TargetSize) -> None:
        """Store the models and the size of results."""
        self._family, self._target = family, target
        self._upsampling, self._history = cache(self._find_upsampling), cache(history_of)

    def takes(self, frame: Any) -> bool:
        """Whether a frame is such an array, and there is a network for video for it, which this prepares."""
        if isinstance(self._family, PixelArtFamily) or not any(
            model.spec.history for model in self._family.models
        ):
            return False
        if not isinstance(frame, np.ndarray) or frame.dtype not in _DTYPES or frame.size == 0:
            return False
        is_image = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 3)
        return is_image and self._history(self._upsampling(*frame.shape[:2])) is not None

    def __call__(self, frame: NDArray[Any], link: FrameLink) -> NDArray[Any]:
        """Upscale a frame that is linked to the one before."""
        upsampling = self._upsampling(*frame.shape[:2])
        history = self._history(upsampling)
        assert history is not None
        luma = split_rgb(frame)[0] if frame.ndim == 3 else frame
        context_px = history.upsampling.context_px
        base = history.upsampling.engines[0](np.pad(luma, context_px, mode="edge"), context_px=context_px)
        result = corrected(history.network, luma, base, link)
        large = to_float(result) if upsampling.is_one_network else reduced(result, upsampling)
        if frame.ndim == 2:
            return from_float(np.clip(large, 0, 1), frame.dtype)
        return upscale_array(frame, _KnownLuma(upsampling, large))

    def _find_upsampling(self, height: int, width: int) -> Upsampling:
        to_width, to_height = self._target.for_source(width, height)
        result = self._family.upsampling((height, width), (to_height, to_width))
        assert isinstance(result, Upsampling)
        return result


class _KnownLuma(Upsampling):
    """Upsampling whose result for luma is known."""

    def __init__(self, upsampling: Upsampling, luma: NDArray[np.float32]) -> None:
        super().__init__(upsampling.engines, upsampling.source, upsampling.target)
        self._luma = luma

    def upsample(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the plane, which `finish` does not need."""
        return plane

    def finish(
        self, plane: NDArray[np.float32], part: tuple[slice, slice], origin: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Return a part of the known result."""
        return self._luma[part]
