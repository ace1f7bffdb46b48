"""Upscales frames that are arrays or Pillow images by a network for video; by others, they are images."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from subpixel.engines.base import from_float, to_float
from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import PixelArtFamily
from subpixel.engines.upsampling import Upsampling
from subpixel.images.alpha import fill_hidden_colors
from subpixel.images.chroma import split_rgb
from subpixel.images.pillow import from_samples, to_samples, with_info_of
from subpixel.images.tiles import upscale_array
from subpixel.sizes import TargetSize
from subpixel.video.pipeline.history import corrected, history_of, missing_history, reduced
from subpixel.video.pipeline.links import FrameLink

_DTYPES = (np.uint8, np.uint16, np.float32, np.float64)

_UNKNOWN_RANGE = ("I", "F")
"""Modes of Pillow that cannot be upscaled."""


class ArrayUpscaler:
    """Upscale gray and RGB frames, with or without alpha.

    They are Pillow images, or arrays ``(H, W)``, ``(H, W, 3)`` and ``(H, W, 4)`` of uint8, uint16, or float32
    or float64 in [0, 1]. Alpha is upscaled by itself, as that of images.
    """

    def __init__(self, family: ModelFamily | PixelArtFamily, target: TargetSize) -> None:
        """Store the models and the size of results."""
        self._family, self._target = family, target
        self._upsampling, self._history = cache(self._find_upsampling), cache(history_of)
        self._is_for_video = not isinstance(family, PixelArtFamily) and any(
            model.spec.history for model in family.models
        )

    def takes(self, frame: Any) -> bool:
        """Whether a frame is such an image, and there is a network for video for it, which this prepares."""
        if not self._is_for_video or (sides := _sides(frame)) is None:
            return False
        return self._history(self._upsampling(*sides)) is not None

    def missing_history(self, frame: Any, *, is_video_frame: bool) -> list[str]:
        """What users are told if a network for video upscales a frame by itself, see `missing_history`."""
        if not self._is_for_video:
            return []
        sides = (frame.height, frame.width) if is_video_frame else _sides(frame)
        if sides is not None:
            return missing_history(self._family, self._upsampling(*sides))
        kind = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        return [
            f"{kind}: a network for video upscales this frame by itself; the frames before help only frames "
            "of PyAV, Pillow images, and arrays (H, W), (H, W, 3) and (H, W, 4) of uint8, uint16, float32 or "
            "float64; convert the frames"
        ]

    def __call__(self, frame: Any, link: FrameLink) -> Any:
        """Upscale a frame that is linked to the one before."""
        if isinstance(frame, Image):
            samples = to_samples(frame)
            has_alpha = samples.ndim == 3 and samples.shape[2] in (2, 4)
            return with_info_of(frame, from_samples(self._samples(samples, link, has_alpha)))
        dtype = np.dtype(np.float32) if frame.dtype.kind == "f" else frame.dtype.newbyteorder("=")
        result = self._samples(frame.astype(dtype, copy=False), link, frame.shape[2:] == (4,))
        return result.astype(frame.dtype, copy=False)

    def _samples(self, samples: NDArray[Any], link: FrameLink, has_alpha: bool) -> NDArray[Any]:
        if not has_alpha:
            return self._opaque(samples, link)
        upsampling = self._upsampling(*samples.shape[:2])
        colors = fill_hidden_colors(samples)[..., :-1]
        colors = np.ascontiguousarray(colors[..., 0] if colors.shape[2] == 1 else colors)
        return np.dstack(
            [self._opaque(colors, link), upscale_array(samples[..., -1:], upsampling, alpha=True)]
        )

    def _opaque(self, samples: NDArray[Any], link: FrameLink) -> NDArray[Any]:
        """Upscale ``(H, W)`` or ``(H, W, 3)``."""
        upsampling = self._upsampling(*samples.shape[:2])
        history = self._history(upsampling)
        assert history is not None
        luma = split_rgb(samples)[0] if samples.ndim == 3 else samples
        context_px = history.upsampling.context_px
        base = history.upsampling.engines[0](np.pad(luma, context_px, mode="edge"), context_px=context_px)
        result = corrected(history.network, luma, base, link)
        large = to_float(result) if upsampling.is_one_network else reduced(result, upsampling)
        if samples.ndim == 2:
            return from_float(np.clip(large, 0, 1), samples.dtype)
        return upscale_array(samples, _KnownLuma(upsampling, large))

    def _find_upsampling(self, height: int, width: int) -> Upsampling:
        to_width, to_height = self._target.for_source(width, height)
        result = self._family.upsampling((height, width), (to_height, to_width))
        assert isinstance(result, Upsampling)
        return result


def _sides(frame: Any) -> tuple[int, int] | None:
    """Height and width of an image that the frame before may help; None for anything else."""
    if isinstance(frame, Image):
        return None if frame.mode in _UNKNOWN_RANGE or 0 in frame.size else (frame.height, frame.width)
    if not isinstance(frame, np.ndarray) or frame.size == 0 or frame.dtype.newbyteorder("=") not in _DTYPES:
        return None
    is_image = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (3, 4))
    return (frame.shape[0], frame.shape[1]) if is_image else None


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
