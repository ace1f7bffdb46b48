"""The contract that every engine keeps, and what they share: samples in and out, and tiles.

An engine compiles a `Model` into a function from a small plane to a large one. Engines are
interchangeable: whatever the engine, the result is the same up to the rounding of its precision.
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
"""Side of a square tile in LR pixels. At 512 a halo costs little (ESPCN's 4 pixels: 3% more work) and the
values between ESPCN's layers fit in about 100 MB."""


@dataclass(frozen=True)
class Tile:
    """A piece of an image: what must be read, and which part of the result is kept.

    ``read`` counts LR pixels of the whole image, ``keep`` those inside its margin, ``crop`` those of the
    piece read.
    """

    read: tuple[slice, slice]
    keep: tuple[slice, slice]
    crop: tuple[slice, slice]


def tiles(
    height: int, width: int, halo_px: int, side_px: int = TILE_SIDE_PX, context_px: int = 0
) -> Iterator[Tile]:
    """Cut a ``height`` x ``width`` image into nearly equal tiles of at most ``side_px**2`` pixels.

    It is the area that costs memory: an image with a side shorter than ``side_px`` gets longer tiles, and
    one whose area is small enough is not cut at all.

    Each tile also reads ``halo_px`` pixels of its neighbors. Where the halo is at least the network's,
    working tile by tile equals working on the whole: at the image's own border a tile reads nothing more,
    so the network's zero padding falls where it falls on the whole image, and elsewhere the wrong values
    that padding causes are cropped away.

    The outermost ``context_px`` pixels of the image are only read: what is kept counts from inside them.
    """
    area = side_px**2
    rows = _spans(height, max(side_px, area // width), halo_px, context_px)
    tallest = max(keep.stop - keep.start for _, keep, _ in rows)
    columns = _spans(width, area // tallest, halo_px, context_px)
    for row in rows:
        for column in columns:
            read, keep, crop = zip(row, column, strict=True)
            yield Tile(read, keep, crop)


def _spans(length: int, longest: int, halo_px: int, context_px: int) -> list[tuple[slice, slice, slice]]:
    """Cut one axis; for each piece, what to read, what to keep, and where in the read that is."""
    inside = length - 2 * context_px
    count = -(-inside // longest)
    edges = [context_px + inside * index // count for index in range(count + 1)]
    spans = []
    for start, stop in pairwise(edges):
        first, last = max(start - halo_px, 0), min(stop + halo_px, length)
        keep = slice(start - context_px, stop - context_px)
        spans.append((slice(first, last), keep, slice(start - first, stop - first)))
    return spans


def enlarged(span: slice, scale: int) -> slice:
    """The HR pixels that an LR span covers."""
    return slice(span.start * scale, span.stop * scale)


class Engine(ABC):
    """A model compiled for one device: call it on a small plane to get the large one.

    Calls keep nothing of their planes, so that several threads may share an engine.

    Attributes:
        name: what the command line calls it.
        precisions: the arithmetics it knows; the first is the default.
        fast_in_int8: whether int8 is what to use it for.
        precision: of the arithmetic, "fp32" or "int8".
        target: the processor it was compiled for, in words for people.
        model: the model it was compiled from.
        threads: how many CPU threads it may use.
        tile_side_px: larger images are cut into tiles of at most this squared, in LR pixels.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    fast_in_int8: ClassVar[bool] = False
    tile_side_px: int = TILE_SIDE_PX
    target: str = platform.machine()

    def __init__(
        self, model: Model, *, precision: str = "fp32", threads: int = 1, tile_side_px: int | None = None
    ) -> None:
        """Compile ``model``; ``tile_side_px`` is the engine's own choice unless given.

        Raises:
            EngineError: the engine does not know the precision, or the model has no 8-bit layers for int8.
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

    def __reduce__(self) -> tuple[Any, ...]:
        """What is compiled stays in its process: a pickle or a copy is made anew from model and options."""
        return partial(type(self), self.model, **self._options()), ()

    def _options(self) -> dict[str, Any]:
        """The arguments of this engine beside its model."""
        tile_side_px = self.__dict__.get("tile_side_px")  # only where it is not the class's
        return {"precision": self.precision, "threads": self.threads, "tile_side_px": tile_side_px}

    @abstractmethod
    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pass one C-contiguous ``(channels, H, W)`` tensor in [0, 1] through the network, whole.

        The result is ``(channels, scale*H, scale*W)`` and not clipped. Any H and W from 1 up.
        """

    def __call__(
        self, plane: NDArray[Any], *, context_px: int = 0, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Enlarge a plane, tile by tile, so that memory beyond input and output is bounded by the tile.

        Args:
            plane: ``(H, W)``, or ``(channels, H, W)`` for a network over several channels. uint8 and uint16
                span their whole range (0..255, 0..65535); floats are in [0, 1]. Floats may overshoot, as a
                resampled picture does, by at most 1 to each side.
            context_px: how many of the outermost pixels are there only to be looked at: the result is that of
                the pixels inside them. A network takes what lies beyond its input for black; who puts a
                margin of the network's halo around a picture decides what lies there instead.
            out: where the result goes, of its shape and dtype; rows may lie apart.

        Returns:
            ``(scale*H, scale*W)`` or ``(channels, scale*H, scale*W)``, H and W counted without the margin,
            with the input's dtype: integers rounded half up and clipped; floats (float32 stays, float64 is
            computed in float32 and returned as float64) neither rounded nor clipped. It is ``out`` where that
            is given.

        Raises:
            ValueError: the shape does not fit the network, the margin or ``out``, the dtype is none of these,
                or a float is NaN, infinite or far outside [0, 1]. (What a network makes of a NaN depends on
                the engine.)
            EngineError: the engine failed.
        """
        tensor = self._checked(plane)
        if not 0 <= 2 * context_px < min(tensor.shape[1:]):
            raise ValueError(f"a plane of shape {plane.shape} has nothing inside a margin of {context_px}")
        scale = self.model.scale
        sides = [(side - 2 * context_px) * scale for side in plane.shape[-2:]]
        if out is None:
            out = np.empty((*plane.shape[:-2], *sides), plane.dtype)
        elif out.shape != (*plane.shape[:-2], *sides) or out.dtype != plane.dtype:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, which does not fit {plane.dtype} {plane.shape}"
            )
        self._enlarge(tensor, out[None] if out.ndim == 2 else out, context_px)
        return out

    def _enlarge(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int) -> None:
        """Fill ``result`` from ``tensor``, both ``(channels, H, W)`` and as `__call__` has checked them."""
        scale = self.model.scale
        _, height, width = tensor.shape
        halo_px = self.model.spec.halo_px
        for tile in tiles(height, width, halo_px, self.tile_side_px, context_px):
            piece = self.run(to_float(tensor[:, *tile.read]))
            kept = piece[:, *(enlarged(span, scale) for span in tile.crop)]
            result[:, *(enlarged(span, scale) for span in tile.keep)] = from_float(kept, result.dtype)

    def _checked(self, plane: NDArray[Any]) -> NDArray[Any]:
        """The plane as ``(channels, H, W)``, or ValueError."""
        channels = self.model.spec.channels
        tensor = plane[None] if plane.ndim == 2 and channels == 1 else plane
        if tensor.ndim != 3 or tensor.shape[0] != channels or 0 in tensor.shape:
            expected = f"(H, W) or ({channels}, H, W)" if channels == 1 else f"({channels}, H, W)"
            raise ValueError(f"expected a plane of shape {expected}, H and W from 1 up, not {plane.shape}")
        if plane.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
            raise ValueError(f"expected uint8, uint16, float32 or float64 samples, not {plane.dtype}")
        if plane.dtype.kind == "f":
            low, high = float(plane.min()), float(plane.max())
            if not (low >= -1 and high <= 2):  # worded so that NaN, which compares with nothing, is refused
                raise ValueError(f"float samples must be finite and in [0, 1], not {low:g} to {high:g}")
        return tensor


def enlarged_first(tensor: NDArray[F], spec: ModelSpec) -> NDArray[F]:
    """What the first layer is given: the ``(channels, H, W)`` tensor, by bicubic where it says so."""
    if spec.upsampling == "shuffle":
        return tensor
    return np.stack([imresize(plane, spec.scale) for plane in tensor])


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32 in [0, 1], C-contiguous: integers over their largest value, floats as they are."""
    if samples.dtype.kind == "u":
        # Multiplied, not divided: compiled engines multiply, and every engine must be given the same.
        floats: NDArray[np.float32] = np.multiply(
            samples, np.float32(1 / np.iinfo(samples.dtype).max), dtype=np.float32, order="C"
        )
        return floats
    return np.ascontiguousarray(samples, np.float32)


def from_float(samples: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of `to_float`: integers are rounded half up and clipped, floats pass."""
    if dtype.kind != "u":
        return samples.astype(dtype, copy=False)
    largest = np.iinfo(dtype).max
    # In float64, where the product is exact: rounded once, as by the fused multiply-add of compiled engines.
    scaled: NDArray[np.float64] = np.multiply(samples, largest, dtype=np.float64)
    scaled += 0.5
    return np.clip(scaled, 0, largest, out=scaled).astype(dtype)
