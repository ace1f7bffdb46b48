"""The library's front door: a model and an engine, to be called on images."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from subpixel.arguments import check_paths, check_texts, check_wholes
from subpixel.engines.base import Engine
from subpixel.engines.select import CompiledModel, choose
from subpixel.errors import ModelError
from subpixel.models.catalog import DEFAULT_SCALE
from subpixel.models.model import Model, load_model

if TYPE_CHECKING:
    from PIL.Image import Image

_PATIENCE_SECONDS = 1
"""For which `Upscaler.frames` waits for a source that is asked to stop; a camera may never answer."""

Samples = TypeVar("Samples", bound=np.generic)
Frame = TypeVar("Frame")


class Upscaler:
    """Enlarges images with one model on one engine.

    It can be pickled, and so be given to other processes (``pool.map(upscaler, images)``), which make the
    engine anew.

    Attributes:
        compiled: the model and the engines that run it.
    """

    def __init__(
        self,
        model: Model,
        engine: str | Engine = "auto",
        *,
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Make ``model`` ready to run.

        Args:
            model: a network over one channel; see `load` and `load_model`.
            engine: ``"auto"``, the name of an engine, or one that was compiled from this model.
            precision: ``"auto"``, ``"fp32"`` or ``"int8"``; see `subpixel.engines.select.choose`.
            threads: how many CPU threads to use; all by default.

        Raises:
            ModelError: the network works on more than one channel.
            EngineError: the engine is unknown, not installed, or cannot run this model.
        """
        if not isinstance(model, Model):
            raise TypeError(
                f"expected a Model, not {type(model).__name__}; subpixel.load takes a name or a scale"
            )
        check_wholes(threads=threads)
        if model.spec.channels != 1:
            raise ModelError(f"model {model.name} has {model.spec.channels} channels; images need one of 1")
        if isinstance(engine, Engine):
            if engine.model is not model:
                raise ValueError(f"the engine was compiled from another model, {engine.model.name}")
            self.compiled = CompiledModel(engine, engine, "given")
        else:
            self.compiled = choose(model, engine, precision, threads)

    @property
    def model(self) -> Model:
        """The network."""
        return self.compiled.model

    @property
    def engine(self) -> Engine:
        """What runs the network on samples of 8 bits."""
        return self.compiled.engine

    @property
    def reason(self) -> str:
        """Why this engine, in words for people."""
        return self.compiled.reason

    @property
    def scale(self) -> int:
        """How many times larger each side becomes."""
        return self.compiled.scale

    @overload
    def __call__(self, image: "Image") -> "Image": ...

    @overload
    def __call__(self, image: NDArray[Samples]) -> NDArray[Samples]: ...

    def __call__(self, image: "Image | NDArray[Any]") -> "Image | NDArray[Any]":
        """Enlarge an image.

        Args:
            image: either an array ``(H, W)``, or ``(H, W, n)`` where 3 bands are RGB, 4 are RGB and straight
                alpha, and any other number are planes of their own; uint8, uint16 (over their whole range),
                float32 or float64 (in [0, 1]). Or a Pillow image.

        Returns:
            An array of the same kind, ``scale`` times larger each way; floats are clipped to [0, 1].
            For a Pillow image, one of mode L, LA, RGB, RGBA or I;16 with the same ``info``: a palette, CMYK
            or Lab becomes RGB (the latter two by their color profile, which is then left out), and 1 bit
            becomes L. Its EXIF orientation is not applied; `PIL.ImageOps.exif_transpose` does that.

        Raises:
            ValueError, TypeError: not such an array.
            UnsupportedImage: a Pillow image of mode I or F, whose range is not known.
        """
        from subpixel.images.tiles import enlarge

        if isinstance(image, np.ndarray):
            _check(image)
            if not image.dtype.isnative:  # as TIFF and PNG store them
                native: NDArray[Any] = self(image.astype(image.dtype.newbyteorder("=")))
                return native.astype(image.dtype)
            return enlarge(
                image, self.compiled.engine_for(image.dtype), alpha=image.ndim == 3 and image.shape[2] == 4
            )
        from PIL.Image import Image

        from subpixel.images.pillow import from_samples, to_samples

        if not isinstance(image, Image):
            raise TypeError(f"expected a Pillow image or a NumPy array, not {type(image).__name__}")
        samples = to_samples(image)
        alpha = samples.ndim == 3 and samples.shape[2] in (2, 4)
        result = from_samples(enlarge(samples, self.compiled.engine_for(samples.dtype), alpha=alpha))
        result.info = {key: value for key, value in image.info.items() if key != "transparency"}
        if image.mode in ("CMYK", "LAB"):
            result.info.pop("icc_profile", None)
        return result

    def frames(self, frames: "Iterable[Frame]") -> "Iterator[Frame]":
        """Enlarge frames as they come: from a decoder, a camera, or anywhere else.

        Reading the next frames, enlarging, and whatever the caller does with the results overlap: ``frames``
        is iterated over in another thread, and a few frames are worked on ahead. Closing the iterator, or
        letting go of it, stops that.

        >>> for large in upscaler.frames(frames): ...  # doctest: +SKIP

        Args:
            frames: PyAV's ``VideoFrame`` of any pixel format, or whatever a call takes; they may differ in
                size and kind.

        Yields:
            One result for each, in order. A ``VideoFrame`` becomes one of planar Y'CbCr or gray, of the same
            depth, subsampling, times and tags, its luma enlarged by the network, its chroma by FFmpeg's
            bicubic.

        Raises:
            UnsupportedVideo: a ``VideoFrame`` that FFmpeg cannot turn into planes.
            ValueError, TypeError: see `__call__`. What the iterable raises is raised behind its last frame.
        """
        from subpixel.video.pipeline.stages import Line

        line = Line()
        try:
            read = line.add("read", lambda: frames)
            yield from line.add_calls("upscale", self._frame_enlarger(), read, self.compiled.frames_at_once)
        finally:
            line.close(_PATIENCE_SECONDS)

    def _frame_enlarger(self) -> "Callable[[Any], Any]":
        from subpixel.video.pipeline.frames import FrameUpscaler

        enlarge_frame = FrameUpscaler(self.compiled)

        def enlarge(frame: Any) -> Any:
            if isinstance(frame, np.ndarray) or not hasattr(frame, "planes"):
                return self(frame)
            return enlarge_frame(frame)

        return enlarge


def load(
    name: str | None = None,
    *,
    scale: int | None = None,
    content: str | None = None,
    path: str | Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Upscaler:
    """Load a model and make it ready to run.

    >>> upscaler = load(scale=3)  # doctest: +SKIP
    >>> large = upscaler(image)   # doctest: +SKIP

    Args:
        name: of a packaged model, such as ``"espcn-t91-x3"``; the default for the scale if left out.
        scale: how many times larger each side becomes; x2 if neither name nor path says, as ``"best"``
            does not.
        path: of a model file (``.safetensors``), instead of a name.
        content: instead of a name what the default is to be for: ``"clean"`` sources, which it is for anyway,
            or ``"compressed"`` ones, as JPEGs and films are.
        engine, precision, threads: see `Upscaler`.

    Raises:
        ModelError: no such model, or its scale is not the one asked for.
        EngineError: see `Upscaler`.
        ValueError, TypeError: arguments that exclude each other, or of another type.
    """
    from subpixel.models import catalog as packaged

    if name is not None and not isinstance(name, str):
        is_scale = isinstance(name, int) and not isinstance(name, bool)
        cure = f"write load(scale={name})" if is_scale else "write load(path=...) for a file"
        raise TypeError(f"the first argument is a model's name, not {name!r}; {cure}")
    check_texts(content=content, engine=engine, precision=precision)
    check_wholes(scale=scale, threads=threads)
    if path is not None:
        check_paths(path=path)
    if content == "auto":
        known = ", ".join(packaged.DEFAULT_NETWORKS)
        raise ValueError(
            f"unknown content 'auto'; known: {known}. There is no file here that tells; upscale_image has one"
        )
    if sum(given is not None for given in (name, content, path)) > 1:
        raise ValueError("of name, content and path give one")
    if path is not None:
        model = load_model(path)
        if scale not in (None, model.scale):
            raise ModelError(f"{path}: enlarges x{model.scale}, not x{scale}; leave out the scale")
    elif name is not None:
        model = packaged.find(name, scale=scale)
    else:
        scale = DEFAULT_SCALE if scale is None else scale
        model = packaged.find(scale=scale, content=content or "clean")
    return Upscaler(model, engine, precision=precision, threads=threads)


def _check(image: NDArray[Any]) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"expected an image of shape (H, W) or (H, W, n), not {image.shape}")
    if image.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float32, np.float64):
        raise TypeError(f"expected uint8, uint16, float32 or float64 samples, not {image.dtype}")
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())  # NaN where any sample is
        if not np.isfinite([low, high]).all():
            count = image.size - np.count_nonzero(np.isfinite(image))
            raise ValueError(f"{count} of {image.size} samples are NaN or infinite; replace them first")
        if low < 0 or high > 1:
            cure = (
                "divide by the largest value, such as 255, first"
                if high > 1 and low >= 0
                else "clip them first"
            )
            raise ValueError(f"float samples must lie in [0, 1], and lie in [{low:g}, {high:g}]; {cure}")
