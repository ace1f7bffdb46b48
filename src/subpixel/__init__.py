"""Subpixel: super-resolution with efficient sub-pixel convolutional networks.

>>> import numpy as np, subpixel
>>> result = subpixel.upscale_image("small.png", "large.png", scale=3)
>>> result = subpixel.upscale_video("film.mp4", "film-large.mkv", scale=2)
>>> upscaler = subpixel.load("default", scale=3)
>>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape  # or a Pillow image, or a PyTorch tensor
(60, 90, 3)

Importing this module is fast: each public name is loaded at its first use.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from subpixel.comparison.compare import Comparison, compare
    from subpixel.errors import (
        ClusterError,
        ConfigError,
        DatasetError,
        EncoderError,
        EngineError,
        ImageTooLarge,
        InputError,
        ModelError,
        OutputError,
        OutputExists,
        OutputIsInput,
        SubpixelError,
        UnreadableImage,
        UnreadableVideo,
        UnsupportedImage,
        UnsupportedVideo,
    )
    from subpixel.images.upscale import upscale_image
    from subpixel.loading import available_models, load
    from subpixel.models.model import Model, ModelMetadata, load_model
    from subpixel.models.spec import Convolution, ModelSpec
    from subpixel.results import ImageResult, Progress, VideoResult
    from subpixel.upscaler import Upscaler
    from subpixel.video.upscale import upscale_video

_NAMES_BY_MODULE = {
    "subpixel.comparison.compare": ("Comparison", "compare"),
    "subpixel.errors": (
        "ClusterError",
        "ConfigError",
        "DatasetError",
        "EncoderError",
        "EngineError",
        "ImageTooLarge",
        "InputError",
        "ModelError",
        "OutputError",
        "OutputExists",
        "OutputIsInput",
        "SubpixelError",
        "UnreadableImage",
        "UnreadableVideo",
        "UnsupportedImage",
        "UnsupportedVideo",
    ),
    "subpixel.images.upscale": ("upscale_image",),
    "subpixel.loading": ("available_models", "load"),
    "subpixel.models.model": ("Model", "ModelMetadata", "load_model"),
    "subpixel.models.spec": ("Convolution", "ModelSpec"),
    "subpixel.results": ("ImageResult", "Progress", "VideoResult"),
    "subpixel.upscaler": ("Upscaler",),
    "subpixel.video.upscale": ("upscale_video",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "ClusterError",
    "Comparison",
    "ConfigError",
    "Convolution",
    "DatasetError",
    "EncoderError",
    "EngineError",
    "ImageResult",
    "ImageTooLarge",
    "InputError",
    "Model",
    "ModelError",
    "ModelMetadata",
    "ModelSpec",
    "OutputError",
    "OutputExists",
    "OutputIsInput",
    "Progress",
    "SubpixelError",
    "UnreadableImage",
    "UnreadableVideo",
    "UnsupportedImage",
    "UnsupportedVideo",
    "Upscaler",
    "VideoResult",
    "available_models",
    "compare",
    "load",
    "load_model",
    "upscale_image",
    "upscale_video",
]


_RENAMED = {"Description": "ModelSpec", "Facts": "ModelMetadata"}
"""Names of version 0.1, which are removed in 0.3."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name in _RENAMED:
        warnings.warn(
            f"subpixel.{name} is now subpixel.{_RENAMED[name]}; the old name is removed in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return __getattr__(_RENAMED[name])
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
