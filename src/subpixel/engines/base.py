"""The interface of all engines, and the code that they share: conversion of samples, and tiles.

An engine compiles a `Model` into a function that upscales planes. Engines are interchangeable: their results
differ only by the rounding of their precision.

Frames of videos are passed to an engine as a whole. Images, and results whose size is no multiple, go through
`subpixel.engines.upsampling`, which passes tiles to `Engine.run`.
"""

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError
from subpixel.models.model import Model
from subpixel.models.quantization import integer_layers
from subpixel.models.spec import ModelSpec
from subpixel.ops.resize import imresize

F = TypeVar("F", np.float32, np.float64)

TILE_SIDE_PX = 512
"""Side of a square tile in LR pixels.

At 512, the halo costs little (3% more work for ESPCN's 4 pixels), and the values between ESPCN's layers need
about 100 MB.
"""


@dataclass(frozen=True)
class Tile:
    """A tile of an image, as rows and columns in LR pixels."""

    read: tuple[slice, slice]
    """The pixels to read, with the halo, in coordinates of the whole image."""
    keep: tuple[slice, slice]
    """The pixels whose result is kept, in coordinates of the image without its context."""
    crop: tuple[slice, slice]
    """The same pixels, in coordinates of ``read``."""


def tiles(
    height: int, width: int, halo_px: int, side_px: int = TILE_SIDE_PX, context_px: int = 0
) -> Iterator[Tile]:
    """Cut a ``height`` x ``width`` image into nearly equal tiles of at most ``side_px**2`` pixels.

    Memory depends on the area, so an image with one side shorter than ``side_px`` gets longer tiles. An image
    with a small enough area is one tile.

    Each tile also reads ``halo_px`` pixels of its neighbors. With the network's halo or a larger one, the
    tiles together equal the result for the whole image: at the image border there is no halo, so the
    network's zero padding is at the same place, and elsewhere the pixels that zero padding changes are
    cropped.

    The outermost ``context_px`` pixels of the image are read, but they are not part of the result.
    """
    area = side_px**2
    rows = _spans(height, max(side_px, area // width), halo_px, context_px)
    tallest = max(keep.stop - keep.start for _, keep, _ in rows)
    columns = _spans(width, area // tallest, halo_px, context_px)
    for row in rows:
        for column in columns:
            read, keep, crop = zip(row, column, strict=True)
            yield Tile(read, keep, crop)


def _spans(length: int, max_length: int, halo_px: int, context_px: int) -> list[tuple[slice, slice, slice]]:
    """Cut one axis into pieces; return ``read``, ``keep`` and ``crop`` of each (see `Tile`)."""
    inner = length - 2 * context_px
    count = -(-inner // max_length)
    edges = [context_px + inner * index // count for index in range(count + 1)]
    spans = []
    for start, stop in pairwise(edges):
        first, last = max(start - halo_px, 0), min(stop + halo_px, length)
        keep = slice(start - context_px, stop - context_px)
        spans.append((slice(first, last), keep, slice(start - first, stop - first)))
    return spans


def hr_span(span: slice, scale: int) -> slice:
    """Return the HR pixels that belong to a span of LR pixels."""
    return slice(span.start * scale, span.stop * scale)


class Engine(ABC):
    """A model compiled for one device. Call it to upscale a plane; several threads may call it at once.

    Attributes:
        name: the name on the command line.
        precisions: the supported precisions; the first is the default.
        precision: "fp32" or "int8".
        target: the processor that the engine was compiled for, as text for people.
        model: the model that it was compiled from.
        threads: maximum number of CPU threads.
        tile_side_px: images of more than ``tile_side_px**2`` LR pixels are cut into tiles of at most this
            area.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    tile_side_px: int = TILE_SIDE_PX
    target: str = platform.machine()

    def __init__(
        self, model: Model, *, precision: str = "fp32", threads: int = 1, tile_side_px: int | None = None
    ) -> None:
        """Compile ``model``; by default the engine chooses ``tile_side_px``.

        Raises:
            EngineError: the engine does not support the precision, or int8 is requested and the model has no
                int8 layers.
        """
        if precision not in self.precisions:
            raise EngineError(
                f"engine {self.name} does not compute in {precision}, only in {', '.join(self.precisions)}"
            )
        self._integers = integer_layers(model) if precision == "int8" else ()
        self.model = model
        self.precision = precision
        self.threads = threads
        if tile_side_px is not None:
            self.tile_side_px = tile_side_px

    @property
    def is_exact(self) -> bool:
        """Whether all engines give the same samples on all processors; see `subpixel.models.quantization`."""
        return self.precision == "int8" and self.model.spec.layers[-1].activation != "tanh"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle only model and options: compiled code does not leave its process."""
        return partial(type(self), self.model, **self._options()), ()

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the constructor, without the model."""
        tile_side_px = self.__dict__.get("tile_side_px")  # None: the class's default
        return {"precision": self.precision, "threads": self.threads, "tile_side_px": tile_side_px}

    @abstractmethod
    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pass a C-contiguous ``(channels, H, W)`` tensor in [0, 1] through the network, without tiles.

        H and W are at least 1. The result is ``(channels, scale*H, scale*W)`` and not clipped.
        """

    def __call__(
        self, plane: NDArray[Any], *, context_px: int = 0, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Upscale a plane. Large planes are cut into tiles, so memory besides input and output is bounded.

        Args:
            plane: ``(H, W)``, or ``(channels, H, W)`` for a network with several channels. uint8 and uint16
                use their full range (0..255, 0..65535); floats are in [0, 1]. Floats may overshoot by at most
                1 to each side, as resampled images do.
            context_px: width of a border of ``plane`` that is read but not upscaled. Outside of its input,
                the network sees zeros. To choose other values, pad the plane by ``halo_px`` of the network,
                and pass this width.
            out: an array of the result's shape and dtype, of any strides, for the result. If it overlaps
                ``plane``, the plane is copied first.

        Returns:
            ``(scale*H, scale*W)`` or ``(channels, scale*H, scale*W)``, for H and W without the context, in
            the input's dtype. Integers are rounded half up and clipped. Floats are neither rounded nor
            clipped; float64 is computed in float32. If ``out`` is given, this is ``out``.

        Raises:
            ValueError: the shape does not fit the network, the context or ``out``; the dtype is another one;
                ``out`` is read-only; or a float is NaN, infinite or far outside [0, 1].
            EngineError: the engine failed.
        """
        tensor = self._checked(plane)
        if not 0 <= 2 * context_px < min(tensor.shape[1:]):
            raise ValueError(f"a plane of shape {plane.shape} has no pixels inside a context of {context_px}")
        scale = self.model.scale
        sides = [(side - 2 * context_px) * scale for side in plane.shape[-2:]]
        if out is None:
            out = np.empty((*plane.shape[:-2], *sides), plane.dtype)
        elif out.shape != (*plane.shape[:-2], *sides) or out.dtype != plane.dtype:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, which does not fit {plane.dtype} {plane.shape}"
            )
        elif not out.flags.writeable:  # compiled code would write nevertheless, or crash
            raise ValueError("out is read-only")
        elif np.may_share_memory(tensor, out):
            tensor = tensor.copy()
        self._upscale(tensor, out[None] if out.ndim == 2 else out, context_px)
        return out

    def _upscale(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int) -> None:
        """Fill ``result`` from ``tensor``, both ``(channels, H, W)`` and checked by `__call__`."""
        scale = self.model.scale
        _, height, width = tensor.shape
        halo_px = self.model.spec.halo_px
        for tile in tiles(height, width, halo_px, self.tile_side_px, context_px):
            upscaled = self.run_samples(tensor[:, *tile.read])
            kept = upscaled[:, *(hr_span(span, scale) for span in tile.crop)]
            result[:, *(hr_span(span, scale) for span in tile.keep)] = kept

    def run_samples(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Do the same as `run` for samples of any supported dtype and strides, as `__call__` does."""
        return from_float(self.run(to_float(tensor)), tensor.dtype)

    def _checked(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return the plane as ``(channels, H, W)``; raise ValueError if it is not valid input."""
        channels = self.model.spec.channels
        tensor = plane[None] if plane.ndim == 2 and channels == 1 else plane
        if tensor.ndim != 3 or tensor.shape[0] != channels or 0 in tensor.shape:
            expected = f"(H, W) or ({channels}, H, W)" if channels == 1 else f"({channels}, H, W)"
            raise ValueError(f"expected a plane of shape {expected}, H and W from 1 up, not {plane.shape}")
        if plane.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
            raise ValueError(f"expected uint8, uint16, float32 or float64 samples, not {plane.dtype}")
        if plane.dtype.kind == "f":
            low, high = float(plane.min()), float(plane.max())
            if not (low >= -1 and high <= 2):  # also true for NaN, unlike `low < -1 or high > 2`
                raise ValueError(f"float samples must be finite and in [0, 1], not {low:g} to {high:g}")
        return tensor


def upsample_input(tensor: NDArray[F], spec: ModelSpec) -> NDArray[F]:
    """Return the input of the first layer: the ``(channels, H, W)`` tensor, upsampled if the spec says so."""
    if spec.upsampling == "shuffle":
        return tensor
    return np.stack([imresize(plane, spec.scale) for plane in tensor])


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Convert samples to C-contiguous float32: integers are divided by their maximum, floats unchanged."""
    if samples.dtype.kind == "u":
        # A product, not a quotient: compiled engines multiply, and all engines must get the same input.
        floats: NDArray[np.float32] = np.multiply(
            samples, np.float32(1 / np.iinfo(samples.dtype).max), dtype=np.float32, order="C"
        )
        return floats
    return np.ascontiguousarray(samples, np.float32)


def from_float(samples: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert back, the inverse of `to_float`: integers are rounded half up and clipped, floats are not."""
    if dtype.kind != "u":
        return samples.astype(dtype, copy=False)
    largest = np.iinfo(dtype).max
    # The product is exact in float64, so there is one rounding, as with the fused multiply-add of compiled
    # engines.
    scaled: NDArray[np.float64] = np.multiply(samples, largest, dtype=np.float64)
    scaled += 0.5
    return np.clip(scaled, 0, largest, out=scaled).astype(dtype)
