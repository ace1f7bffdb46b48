"""`Upscaler`: upscales images and frames in memory."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from subpixel.arguments import check_choice, check_integers, check_shares
from subpixel.engines.base import Engine
from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import CompiledRule, PixelArtEngine, PixelArtFamily, PixelArtRule
from subpixel.engines.select import CompiledModel, check_engine
from subpixel.errors import ModelError
from subpixel.models.model import Model
from subpixel.options import EngineName, Fit, Precision, Wrap
from subpixel.sizes import SizeArgument, TargetSize, check_scale

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_EXAMPLE_PX = 1000
"""A side that shows which models a factor needs."""

Samples = TypeVar("Samples", bound=np.generic)
Frame = TypeVar("Frame")


class SupportsArray(Protocol):
    """An object that NumPy can convert to an array."""

    def __array__(self) -> NDArray[Any]: ...


class Upscaler:
    """Upscales images in memory with one model, or with models of one name at several scales.

    An upscaler can be called from several threads. It can be pickled, so that other processes can use it
    (``pool.map(upscaler, images)``); each process creates the engine again. Two upscalers are equal if they
    have the same network, engine and precision, and so give the same results.

    >>> import numpy as np, subpixel
    >>> upscaler = subpixel.Upscaler(subpixel.load_model("mine.safetensors"), engine="numpy", threads=1)
    >>> upscaler
    <Upscaler default-x2: x2, numpy fp32, 1 thread>
    >>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape
    (40, 60, 3)

    Attributes:
        scale: the factor per side if a call names no size: an integer, or a number such as 1.5.
        family: the models and their engines.
    """

    def __init__(
        self,
        model: Model | Sequence[Model] | Sequence[PixelArtRule],
        engine: EngineName | Engine = "auto",
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        scale: float | None = None,
        sharpness: float = 0.0,
    ) -> None:
        """Compile ``model`` for an engine.

        Args:
            model: a network with one channel; see `load` and `load_model`. Or several of different scales:
                each is compiled at its first use. Rules for pixel art come from `load`.
            engine: ``"auto"``, the name of an engine, or an engine that was compiled from this model.
            precision: ``"auto"``, ``"fp32"`` or ``"int8"``; see `subpixel.options.Precision`.
            threads: the number of CPU threads; by default one per CPU that the process may use.
            scale: the factor per side, 1 to 16; by default the scale of the first model. For a factor that no
                model has, the model with the next larger scale upscales the image, or two models one after
                the other do, and Lanczos reduces the result.
            sharpness: 0 to 1. 0 is the result of the network. More makes edges steeper, without halos; PSNR
                falls.

        Raises:
            ModelError: the network has more than one channel.
            EngineError: the engine is not installed, or cannot run this model.
            ValueError, TypeError: a wrong argument, such as an unknown engine.
        """
        models: tuple[Any, ...] = tuple(model) if isinstance(model, Sequence) else (model,)
        check_integers(threads=threads)
        check_scale(scale)
        check_shares(sharpness=sharpness)
        check_choice(Precision, precision=precision)
        if not isinstance(engine, Engine):
            check_engine(engine)
        self.family = _family(models, engine, precision, threads, sharpness)
        factor = float(models[0].scale if scale is None else scale)
        self.scale = int(factor) if factor.is_integer() else factor
        width, height = TargetSize(scale=self.scale).for_source(_EXAMPLE_PX, _EXAMPLE_PX)
        used = self.family.select((_EXAMPLE_PX, _EXAMPLE_PX), (height, width))
        self._used = used or [self.family.compiled(models[0].scale)]

    def __repr__(self) -> str:
        threads = f"{self.engine.threads} thread{'s' * (self.engine.threads != 1)}"
        names = " and ".join(dict.fromkeys(each.model.name for each in self._used))
        sharpness = f", sharpness {self.sharpness:g}" if self.sharpness else ""
        engine = f"{self.engine.name} {self.engine.precision}"
        return f"<Upscaler {names}: x{self.scale:g}, {engine}, {threads}{sharpness}>"

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Upscaler) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        """Everything that affects the results."""
        return (
            self.family.models,
            self.scale,
            self.sharpness,
            self.engine.name,
            self.engine.precision,
        )

    @property
    def compiled(self) -> CompiledModel | CompiledRule:
        """The first model that is used at `scale`, and its engine."""
        return self._used[0]

    @property
    def model(self) -> Model | PixelArtRule:
        """The first network, or rule for pixel art, that is used at `scale`."""
        return self.compiled.model

    @property
    def engine(self) -> Engine | PixelArtEngine:
        """The engine that runs it."""
        return self.compiled.engine

    @property
    def sharpness(self) -> float:
        """How much results are sharpened, 0 to 1."""
        return self.family.sharpness

    @property
    def reason(self) -> str:
        """Why this engine was selected, as text for users."""
        return self.compiled.reason

    @overload
    def __call__(
        self,
        image: "Image",
        *,
        size: SizeArgument | None = None,
        fit: Fit | None = None,
        wrap: Wrap | None = None,
    ) -> "Image": ...

    @overload
    def __call__(
        self,
        image: NDArray[Samples],
        *,
        size: SizeArgument | None = None,
        fit: Fit | None = None,
        wrap: Wrap | None = None,
    ) -> NDArray[Samples]: ...

    @overload
    def __call__(
        self,
        image: "Tensor",
        *,
        size: SizeArgument | None = None,
        fit: Fit | None = None,
        wrap: Wrap | None = None,
    ) -> "Tensor": ...

    @overload
    def __call__(
        self,
        image: "SupportsArray",
        *,
        size: SizeArgument | None = None,
        fit: Fit | None = None,
        wrap: Wrap | None = None,
    ) -> NDArray[Any]: ...

    def __call__(
        self,
        image: Any,
        *,
        size: SizeArgument | None = None,
        fit: Fit | None = None,
        wrap: Wrap | None = None,
    ) -> Any:
        """Upscale an image or a batch of images.

        >>> import numpy as np, subpixel
        >>> upscaler = subpixel.load("default", scale=3)
        >>> upscaler(np.zeros((20, 30, 3), np.uint8)).shape
        (60, 90, 3)
        >>> upscaler(np.zeros((8, 20, 30, 3), np.uint8)).shape
        (8, 60, 90, 3)
        >>> from PIL import Image
        >>> upscaler(Image.open("small.png")).size
        (144, 120)
        >>> upscaler(Image.open("small.png"), size=(100, 80)).size
        (100, 80)

        Args:
            image: an array ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``; a Pillow image; a PyTorch tensor
                ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``; or another object with ``__array__`` or
                ``__dlpack__``, which is converted to an array. 3 channels are RGB, 4 are RGB and straight
                alpha, any other number are independent planes. Samples are uint8 or uint16 (full range),
                float32 or float64 (in [0, 1]).
            size: the size of the result, instead of ``scale``: ``(width, height)``, or a name such as
                "1080p" or "1920x1080". If the image is larger, Lanczos reduces it without a network.
            fit: see `subpixel.options.Fit`. By default, the result has exactly the size ``(width, height)``,
                and a name keeps the shape of the image, as "inside" does.
            wrap: "x", "y" or "both": the axes along which the image continues with its opposite side, as a
                texture that is repeated does. By default, it continues with its outermost pixels.

        Returns:
            An object of the same type, axes and dtype, ``scale`` times larger per side or of the given size.
            Floats are clipped to [0, 1].

            - A tensor is on the same device, without gradients.
            - A Pillow image has mode L, LA, RGB, RGBA or I;16 and the same ``info``. A palette, CMYK or Lab
              becomes RGB (CMYK and Lab by their color profile, which is then left out), and 1 bit becomes L.
              The EXIF orientation is not applied; `PIL.ImageOps.exif_transpose` does that.
            - For an object with ``__array__`` or ``__dlpack__``, the result is a NumPy array.

        Raises:
            ValueError: the shape or the range is not one of these.
            TypeError: the type or the dtype is not one of these.
            UnsupportedImage: a Pillow image of mode I or F, whose range is unknown.
        """
        check_choice(Wrap, wrap=wrap)
        target = _target(size, fit).or_scale(self.scale)
        if isinstance(image, np.ndarray):
            return self._array(image, target, wrap)
        torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
        if torch is not None and isinstance(image, torch.Tensor):
            return self._tensor(image, torch, target, wrap)
        from PIL.Image import Image

        if isinstance(image, Image):
            return self._pillow_image(image, target, wrap)
        return self._array(_as_array(image), target, wrap)

    def _array(self, image: NDArray[Any], target: TargetSize, wrap: Wrap | None) -> NDArray[Any]:
        """Upscale an array ``(H, W)``, ``(H, W, C)`` or ``(N, H, W, C)``."""
        _check(image)
        if not image.dtype.isnative:  # big-endian samples, as PNG stores them, for example
            native = self._array(image.astype(image.dtype.newbyteorder("=")), target, wrap)
            return native.astype(image.dtype)
        if image.ndim < 4:
            return self._samples(image, target, wrap, alpha=image.ndim == 3 and image.shape[2] == 4)
        return np.stack([self._samples(one, target, wrap, alpha=image.shape[3] == 4) for one in image])

    def _tensor(self, image: Any, torch: Any, target: TargetSize, wrap: Wrap | None) -> Any:
        """Upscale a PyTorch tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``."""
        if image.ndim not in (2, 3, 4):
            raise ValueError(f"expected a tensor (H, W), (C, H, W) or (N, C, H, W), not {tuple(image.shape)}")
        try:
            samples = image.detach().cpu().numpy()
        except TypeError as error:  # a dtype that NumPy lacks, or a sparse tensor
            raise TypeError(f"{_DTYPES}, not {image.dtype} ({error})") from error
        if image.ndim == 2:
            return torch.from_numpy(self._array(samples, target, wrap)).to(image.device)
        large = np.moveaxis(self._array(np.moveaxis(samples, -3, -1), target, wrap), -1, -3)
        return torch.from_numpy(np.ascontiguousarray(large)).to(image.device)

    def _pillow_image(self, image: "Image", target: TargetSize, wrap: Wrap | None) -> "Image":
        from subpixel.images.pillow import from_samples, to_samples, with_info_of

        samples = to_samples(image)
        result = from_samples(
            self._samples(samples, target, wrap, alpha=samples.ndim == 3 and samples.shape[2] in (2, 4))
        )
        return with_info_of(image, result)

    def _samples(
        self, samples: NDArray[Any], target: TargetSize, wrap: Wrap | None, *, alpha: bool
    ) -> NDArray[Any]:
        from subpixel.images.tiles import upscale_array

        height, width = samples.shape[:2]
        to_width, to_height = target.for_source(width, height)
        upsampling = self.family.upsampling((height, width), (to_height, to_width), wrap)
        return upscale_array(samples, upsampling, alpha=alpha)

    def frames(
        self, frames: "Iterable[Frame]", *, size: SizeArgument | None = None, fit: Fit | None = None
    ) -> "Iterator[Frame]":
        """Upscale frames from any source, such as a decoder, a camera or a generator.

        Another thread iterates over ``frames``, and a few frames are upscaled ahead while the caller uses the
        results. Close or delete the iterator to stop the threads.

        >>> import numpy as np, subpixel
        >>> upscaler = subpixel.load("default", scale=2)
        >>> for large in upscaler.frames(np.zeros((20, 30), np.uint8) for _ in range(2)):
        ...     print(large.shape)
        (40, 60)
        (40, 60)

        Args:
            frames: ``VideoFrame`` objects of PyAV in any pixel format, or images as for `__call__`. They may
                differ in size and type. Interlaced frames are upscaled as they are; deinterlace them first.
                A network for video sees the frame before, if it runs alone in int8, and frames are those of
                PyAV, Pillow images, or arrays ``(H, W)``, ``(H, W, 3)`` and ``(H, W, 4)``; alpha is upscaled
                by itself. Other frames are upscaled by themselves, and a `UserWarning` says so once.
            size, fit: see `__call__`.

        Yields:
            One result per frame, in order. For a ``VideoFrame``, it is a ``VideoFrame`` in planar Y'CbCr or
            gray with the same depth, chroma subsampling, times and tags. The network upscales luma, FFmpeg's
            bicubic upscales chroma.

        Raises:
            UnsupportedVideo: FFmpeg cannot convert a ``VideoFrame`` to planes.
            TypeError: ``frames`` is one array; or see `__call__`.
            ValueError: see `__call__`.
            Exception: an error of the iterable itself is raised after the results of the frames before it.
        """
        from subpixel.video.pipeline.in_memory import upscale_frames

        if isinstance(frames, np.ndarray) and frames.ndim == 2:
            raise TypeError(
                f"frames must be given one after another, such as [array], not as one array {frames.shape}, "
                "whose rows are no frames"
            )
        return upscale_frames(
            frames,
            self.family,
            _target(size, fit).or_scale(self.scale),
            upscale_image=lambda image: self(image, size=size, fit=fit),
            check=_check,
            workers=self.compiled.frames_at_once,
        )


def _target(size: SizeArgument | None, fit: Fit | None) -> TargetSize:
    """What a call asks for. Two numbers are meant exactly; few images have the shape of a name."""
    if fit is None and size is not None:
        fit = "inside" if isinstance(size, str) else "exact"
    return TargetSize(size=size, fit=fit)


def _as_array(image: Any) -> NDArray[Any]:
    """Convert an object with ``__array__`` or ``__dlpack__`` to an array."""
    if hasattr(image, "__array__"):
        return np.asarray(image)
    if hasattr(image, "__dlpack__"):
        return np.from_dlpack(image)
    raise TypeError(
        "expected a NumPy array, a Pillow image, a PyTorch tensor, or an object with __array__ or "
        f"__dlpack__, not {type(image).__name__}"
    )


def _family(
    models: tuple[Any, ...],
    engine: EngineName | Engine,
    precision: Precision,
    threads: int | None,
    sharpness: float,
) -> ModelFamily | PixelArtFamily:
    """Compile models, see `Upscaler.__init__`."""
    if models and all(isinstance(each, PixelArtRule) for each in models):
        if sharpness:
            raise ValueError("sharpness is for networks, and a rule for pixel art is none; leave it out")
        return PixelArtFamily(models, threads)
    for each in models:
        if not isinstance(each, Model):
            raise TypeError(
                f"expected a Model, not {type(each).__name__}; subpixel.load takes a name or a scale"
            )
        if each.spec.channels != 1:
            raise ModelError(f"{each.name} has {each.spec.channels} channels; use a model with 1 channel")
    if not models:
        raise ValueError("pass at least one model")
    if not isinstance(engine, Engine):
        return ModelFamily(models, engine, precision, threads, sharpness=sharpness)
    if len(models) > 1 or models[0] is not engine.model:
        raise ValueError(f"the engine was compiled from another model, {engine.model.name}")
    return ModelFamily(models, compiled=[CompiledModel(engine, "given")], sharpness=sharpness)


_DTYPES = "expected uint8, uint16, float32 or float64 samples"


def _check(image: NDArray[Any]) -> None:
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"expected an image of shape (H, W) or (H, W, C), or a batch (N, H, W, C), not {image.shape}"
        )
    if image.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.float32, np.float64):
        raise TypeError(f"{_DTYPES}, not {image.dtype}")
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())  # NaN if any sample is NaN
        if not np.isfinite([low, high]).all():
            count = image.size - np.count_nonzero(np.isfinite(image))
            raise ValueError(f"{count} of {image.size} samples are NaN or infinite; replace them first")
        if low < 0 or high > 1:
            cure = (
                "divide them by the largest possible value, such as 255"
                if high > 1 and low >= 0
                else "clip them"
            )
            raise ValueError(f"float samples must be in [0, 1], and are in [{low:g}, {high:g}]; {cure}")
