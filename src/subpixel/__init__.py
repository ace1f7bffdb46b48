"""Subpixel: super-resolution with efficient sub-pixel convolutional networks.

>>> import numpy as np, subpixel
>>> result = subpixel.upscale_image("small.png", "large.png", scale=3)
>>> result = subpixel.upscale_video("film.mp4", "film-large.mkv", scale=2)
>>> upscaler = subpixel.load("default", scale=3)
>>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape  # an array, a Pillow image or a PyTorch tensor
(60, 90, 3)

Importing this module is cheap: each public name is loaded at its first use.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from subpixel.errors import (
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
    from subpixel.models.model import Model, ModelMetadata, load_model
    from subpixel.models.spec import Convolution, ModelSpec
    from subpixel.results import ImageResult, Progress, VideoResult
    from subpixel.upscaler import Upscaler, available_models, load
    from subpixel.video.upscale import upscale_video

_HOMES = {
    "subpixel.errors": (
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
    "subpixel.models.model": ("Model", "ModelMetadata", "load_model"),
    "subpixel.models.spec": ("Convolution", "ModelSpec"),
    "subpixel.results": ("ImageResult", "Progress", "VideoResult"),
    "subpixel.upscaler": ("Upscaler", "available_models", "load"),
    "subpixel.video.upscale": ("upscale_video",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
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
    "load",
    "load_model",
    "upscale_image",
    "upscale_video",
]


_RENAMED = {"Description": "ModelSpec", "Facts": "ModelMetadata"}
"""Names of version 0.1, which go in 0.3."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name in _RENAMED:
        warnings.warn(
            f"subpixel.{name} is now subpixel.{_RENAMED[name]}; the old name goes in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return __getattr__(_RENAMED[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
