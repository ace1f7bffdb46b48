"""The library's front door: a model and an engine, to be called on images."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from subpixel.arguments import check_choice, check_paths, check_texts, check_wholes
from subpixel.engines.base import Engine
from subpixel.engines.select import CompiledModel, choose
from subpixel.errors import ModelError
from subpixel.models.catalog import DEFAULT_SCALE
from subpixel.models.model import Model, load_model
from subpixel.options import EngineName, Precision, SourceKind

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_PATIENCE_SECONDS = 1
"""For which `Upscaler.frames` waits for a source that is asked to stop; a camera may never answer."""

Samples = TypeVar("Samples", bound=np.generic)
Frame = TypeVar("Frame")


class SupportsArray(Protocol):
    """What NumPy can make an array of."""

    def __array__(self) -> NDArray[Any]: ...


class Upscaler:
    """Makes images larger with one model on one engine.

    It can be pickled, and so be given to other processes (``pool.map(upscaler, images)``), which make the
    engine anew. Two are equal when they compute the same: the same network on the same engine in the same
    precision.

    >>> import numpy as np, subpixel
    >>> upscaler = subpixel.Upscaler(subpixel.load_model("mine.safetensors"), engine="numpy", threads=1)
    >>> upscaler
    <Upscaler default-x2: x2, numpy fp32, 1 thread>
    >>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape
    (40, 60, 3)

    Attributes:
        compiled: the model and the engines that run it.
    """

    def __init__(
        self,
        model: Model,
        engine: EngineName | Engine = "auto",
        *,
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> None:
        """Make ``model`` ready to run.

        Args:
            model: a network over one channel; see `load` and `load_model`.
            engine: ``"auto"``, the name of an engine, or one that was compiled from this model.
            precision: ``"auto"``, ``"fp32"`` or ``"int8"``; see `subpixel.options.Precision`.
            threads: how many CPU threads to use; all by default.

        Raises:
            ModelError: the network works on more than one channel.
            EngineError: the engine is not installed, or cannot run this model.
            ValueError, TypeError: a wrong argument, such as an unknown engine.
        """
        if not isinstance(model, Model):
            raise TypeError(
                f"expected a Model, not {type(model).__name__}; subpixel.load takes a name or a scale"
            )
        check_wholes(threads=threads)
        check_choice(Precision, precision=precision)
        if not isinstance(engine, Engine):
            check_choice(EngineName, engine=engine)
        if model.spec.channels != 1:
            raise ModelError(f"model {model.name} has {model.spec.channels} channels; images need one of 1")
        if isinstance(engine, Engine):
            if engine.model is not model:
                raise ValueError(f"the engine was compiled from another model, {engine.model.name}")
            self.compiled = CompiledModel(engine, engine, "given")
        else:
            self.compiled = choose(model, engine, precision, threads)

    def __repr__(self) -> str:
        kinds = dict.fromkeys(f"{each.name} {each.precision}" for each in self._engines)
        threads = f"{self.engine.threads} thread{'s' * (self.engine.threads != 1)}"
        return f"<Upscaler {self.model.name}: x{self.scale}, {' and '.join(kinds)}, {threads}>"

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Upscaler) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _engines(self) -> tuple[Engine, Engine]:
        return self.compiled.engine, self.compiled.deep

    @property
    def _identity(self) -> tuple[Any, ...]:
        """What decides the results."""
        return self.model, *((each.name, each.precision) for each in self._engines)

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

    @overload
    def __call__(self, image: "Tensor") -> "Tensor": ...

    @overload
    def __call__(self, image: "SupportsArray") -> NDArray[Any]: ...

    def __call__(self, image: Any) -> Any:
        """Make an image, or a batch of images, larger.

        >>> import numpy as np, subpixel
        >>> upscaler = subpixel.load("default", scale=3)
        >>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape
        (60, 90, 3)
        >>> upscaler(np.zeros((8, 20, 30, 3), np.uint8)).shape
        (8, 60, 90, 3)
        >>> from PIL import Image
        >>> upscaler(Image.open("small.png")).size
        (144, 120)

        Args:
            image: an array ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``; a Pillow image; a PyTorch tensor
                ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``; or any other object with ``__array__`` or
                ``__dlpack__``, which is taken as an array. 3 channels are RGB, 4 are RGB and straight alpha,
                any other number are planes of their own. Samples are uint8, uint16 (over their whole range),
                float32 or float64 (in [0, 1]).

        Returns:
            The same kind of object, ``scale`` times larger each way, with the same axes and dtype; floats are
            clipped to [0, 1]. A tensor comes back on its device, without gradients.
            For a Pillow image, one of mode L, LA, RGB, RGBA or I;16 with the same ``info``: a palette, CMYK
            or Lab becomes RGB (the latter two by their color profile, which is then left out), and 1 bit
            becomes L. Its EXIF orientation is not applied; `PIL.ImageOps.exif_transpose` does that.
            Other objects come back as NumPy arrays.

        Raises:
            ValueError, TypeError: the shape, the dtype or the range is another.
            UnsupportedImage: a Pillow image of mode I or F, whose range is not known.
        """
        if isinstance(image, np.ndarray):
            return self._array(image)
        torch = sys.modules.get("torch")  # whoever has a tensor has imported it
        if torch is not None and isinstance(image, torch.Tensor):
            return self._tensor(image, torch)
        from PIL.Image import Image

        if isinstance(image, Image):
            return self._pillow_image(image)
        return self._array(_as_array(image))

    def _array(self, image: NDArray[Any]) -> NDArray[Any]:
        """An array ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``."""
        _check(image)
        if not image.dtype.isnative:  # as TIFF and PNG store them
            native = self._array(image.astype(image.dtype.newbyteorder("=")))
            return native.astype(image.dtype)
        if image.ndim < 4:
            return self._samples(image, alpha=image.ndim == 3 and image.shape[2] == 4)
        count, height, width, channels = image.shape
        result = np.empty((count, height * self.scale, width * self.scale, channels), image.dtype)
        for one, large in zip(image, result, strict=True):
            large[...] = self._samples(one, alpha=channels == 4)
        return result

    def _tensor(self, image: Any, torch: Any) -> Any:
        """A PyTorch tensor, whose channels come before rows and columns."""
        if image.ndim not in (2, 3, 4):
            raise ValueError(f"expected a tensor (H, W), (C, H, W) or (N, C, H, W), not {tuple(image.shape)}")
        try:
            samples = image.detach().cpu().numpy()
        except TypeError as error:  # a dtype that NumPy does not have, or a sparse layout
            raise TypeError(f"{_DTYPES}, not {image.dtype} ({error})") from error
        if image.ndim == 2:
            return torch.from_numpy(self._array(samples)).to(image.device)
        large = np.moveaxis(self._array(np.moveaxis(samples, -3, -1)), -1, -3)
        return torch.from_numpy(np.ascontiguousarray(large)).to(image.device)

    def _pillow_image(self, image: "Image") -> "Image":
        from subpixel.images.pillow import from_samples, to_samples

        samples = to_samples(image)
        result = from_samples(self._samples(samples, alpha=samples.ndim == 3 and samples.shape[2] in (2, 4)))
        result.info = {key: value for key, value in image.info.items() if key != "transparency"}
        if image.mode in ("CMYK", "LAB"):
            result.info.pop("icc_profile", None)
        return result

    def _samples(self, samples: NDArray[Any], *, alpha: bool) -> NDArray[Any]:
        from subpixel.images.tiles import enlarge

        return enlarge(samples, self.compiled.engine_for(samples.dtype), alpha=alpha)

    def frames(self, frames: "Iterable[Frame]") -> "Iterator[Frame]":
        """Make frames larger as they come: from a decoder, a camera, or anywhere else.

        Reading the next frames, enlarging, and whatever the caller does with the results overlap: ``frames``
        is iterated over in another thread, and a few frames are worked on ahead. Closing the iterator, or
        letting go of it, stops that.

        >>> import numpy as np, subpixel
        >>> upscaler = subpixel.load("default", scale=2)
        >>> for large in upscaler.frames(np.zeros((20, 30), np.uint8) for _ in range(2)):
        ...     print(large.shape)
        (40, 60)
        (40, 60)

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


def available_models() -> list[str]:
    """The names of the models that come with the package, sorted.

    >>> import subpixel
    >>> "default-x3" in subpixel.available_models()
    True
    """
    from subpixel.models import catalog

    return catalog.names()


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    scale: int | None = None,
    content: SourceKind | None = None,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
) -> Upscaler:
    """Load a model and make it ready to run.

    >>> import subpixel
    >>> subpixel.load("default", scale=3, engine="numpy", threads=2)
    <Upscaler default-x3: x3, numpy fp32, 2 threads>
    >>> subpixel.load("mine.safetensors").scale
    2

    Args:
        model: the name of a packaged model (``"default"``, ``"best-x3"``; see `available_models`), or the
            path of a model file; a string is a path when it ends in ``.safetensors``. ``"default"`` if left
            out.
        scale: how many times larger each side becomes; 2 if neither name nor file says.
        content: instead of a model what it is for: ``"clean"`` sources, which the default is for anyway, or
            ``"compressed"`` ones, as JPEGs and videos are.
        engine, precision, threads: see `Upscaler`.
        path, name: what ``model`` was called until version 0.2; they go in 0.3.

    Raises:
        ModelError: no such model, or its scale is not the one asked for.
        EngineError: see `Upscaler`.
        ValueError, TypeError: arguments that exclude each other, unknown values, or another type.
    """
    from subpixel.models import catalog

    model = _without_old_names(model, path=path, name=name)
    check_texts(content=content)
    check_choice(EngineName, engine=engine)
    check_choice(Precision, precision=precision)
    check_wholes(scale=scale, threads=threads)
    if content not in (None, *catalog.DEFAULT_NETWORKS):
        known = ", ".join(catalog.DEFAULT_NETWORKS)
        raise ValueError(
            f"unknown content {content!r}; known: {known}. There is no file here that tells; "
            "upscale_image and upscale_video have one, and so 'auto'"
        )
    if model is not None and content is not None:
        raise ValueError("give a model or a content, not both")
    if isinstance(model, os.PathLike):
        found = load_model(Path(model))
        if scale not in (None, found.scale):
            raise ModelError(f"{model}: enlarges x{found.scale}, not x{scale}; leave out the scale")
    elif model is not None:
        found = catalog.find(model, scale=scale)
    else:
        found = catalog.find(scale=DEFAULT_SCALE if scale is None else scale, content=content or "clean")
    return Upscaler(found, engine, precision=precision, threads=threads)


def _without_old_names(model: Any, **old: Any) -> str | os.PathLike[str] | None:
    """The model that is asked for, by whichever argument."""
    for key, value in old.items():
        if value is None:
            continue
        warnings.warn(
            f"load({key}=...) is now load(...); the old argument goes in version 0.3",
            DeprecationWarning,
            stacklevel=3,
        )
        if model is not None:
            raise ValueError(f"give a model or {key}, not both")
        check_paths(**{key: value})
        model = Path(value) if key == "path" else value
    if model is not None and not isinstance(model, str | os.PathLike):
        is_scale = isinstance(model, int) and not isinstance(model, bool)
        cure = f"; write load(scale={model})" if is_scale else ""
        raise TypeError(f"model must be a name or a path, not {model!r}{cure}")
    return model


def _as_array(image: Any) -> NDArray[Any]:
    """What is neither an array, nor a tensor of PyTorch's, nor a Pillow image."""
    if hasattr(image, "__array__"):
        return np.asarray(image)
    if hasattr(image, "__dlpack__"):
        return np.from_dlpack(image)
    raise TypeError(
        "expected a NumPy array, a Pillow image, a PyTorch tensor, or what has __array__ or __dlpack__, "
        f"not {type(image).__name__}"
    )


_DTYPES = "expected uint8, uint16, float32 or float64 samples"


def _check(image: NDArray[Any]) -> None:
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"expected an image of shape (H, W) or (H, W, C), or a batch (N, H, W, C), not {image.shape}"
        )
    if image.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float32, np.float64):
        raise TypeError(f"{_DTYPES}, not {image.dtype}")
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
