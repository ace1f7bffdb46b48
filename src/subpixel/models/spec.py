"""What a network computes, without its weights: convolutions, a pixel shuffle, perhaps a residual.

That covers ESPCN and every small network that grew from it. An engine needs to understand only this module,
and a new network needs no new code at all.

A model file is data from anywhere. Without limits, a file of a few kilobytes could describe a network that
takes hours to compile, or more memory than there is. The limits are at least ten times what ships.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from subpixel.errors import ModelError
from subpixel.models.file import listed, short

Activation = Literal["none", "relu", "prelu", "tanh"]
Residual = Literal["none", "nearest"]
Upsampling = Literal["shuffle", "bicubic"]

BICUBIC_RADIUS_PX = 2
"""How many LR pixels bicubic sees to each side when it makes an image larger."""

FLAT_RADIUS_PX = 2
"""How many LR pixels to each side must have one value for a network with a residual to add nothing: bicubic's
reach, so flat areas end where they would by bicubic."""

_UPSAMPLING_KEY = "enlargement"
"""What model files call `ModelSpec.upsampling`."""

MAX_LAYERS = 128
"""`best` has 10."""

MAX_CHANNELS = 1024
"""That a layer takes or gives; ESPCN has 64."""

MAX_KERNEL_PX = 99
"""Side of a kernel; SRCNN has 9."""

MAX_MACS = 40_000_000
"""Multiply-adds for one LR pixel; SRCNN 9-5-5 has 914,944 at x4 and 3,659,776 at x8."""

MAX_HALO_PX = 128
"""LR pixels that a result sees to each side; `best` has 10."""


@dataclass(frozen=True)
class Convolution:
    """One convolution with zero padding (output as large as input), then an activation."""

    inputs: int
    outputs: int
    kernel: int
    """Side of the square kernel in pixels; odd, so that the output lies on the input's grid."""
    activation: Activation = "none"


@dataclass(frozen=True)
class ModelSpec:
    """What a network computes, without its weights.

    A ``(channels, H, W)`` image in [0, 1] passes the layers in turn; the last one yields
    ``channels * scale**2`` values a pixel, which the pixel shuffle (PyTorch's channel order: color slowest)
    arranges as ``(channels, scale*H, scale*W)``. With ``residual="nearest"`` the input, each pixel repeated
    ``scale`` x ``scale`` times, is added; and where the input is flat, which is where its pixels within
    `FLAT_RADIUS_PX` all have one value, the result is that value alone (see `subpixel.engines.flat`).

    With ``upsampling="bicubic"`` there is no shuffle: the image is first made larger by `resample.imresize`,
    as SRCNN has it, and the layers work in HR space; the last one yields ``channels`` values a pixel.
    """

    scale: int
    layers: tuple[Convolution, ...]
    channels: int = 1
    residual: Residual = "none"
    upsampling: Upsampling = "shuffle"

    def __post_init__(self) -> None:
        """Refuse what no engine could run, whether it comes from code or from a file."""
        whole = {"scale": self.scale, "channels": self.channels}
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Convolution):
                raise TypeError(f"layer {index} must be Convolution, not {type(layer).__name__}")
            sizes = {"inputs": layer.inputs, "outputs": layer.outputs, "kernel": layer.kernel}
            whole |= {f"layer {index}: {name}": size for name, size in sizes.items()}
        for name, number in whole.items():
            if not isinstance(number, int):
                raise TypeError(f"{name} must be int, not {short(number)}")
        if not 1 <= self.scale <= 8:
            raise ModelError(f"scale must be 1 to 8, not {short(self.scale)}")
        if self.channels < 1:
            raise ModelError(f"channels must be at least 1, not {short(self.channels)}")
        if not self.layers:
            raise ModelError("a network needs at least one convolution")
        if self.residual not in get_args(Residual):
            known = ", ".join(get_args(Residual))
            raise ModelError(f"unknown residual {short(self.residual)}; known: {known}")
        if self.upsampling not in get_args(Upsampling):
            known = ", ".join(get_args(Upsampling))
            raise ModelError(f"unknown upsampling {short(self.upsampling)}; known: {known}")
        if self.upsampling == "bicubic" and self.residual != "none":
            raise ModelError("a residual goes with the shuffle, not with bicubic before the layers")
        _check_sizes(self)
        self._check_layers()
        _check_cost(self)

    def _check_layers(self) -> None:
        """Refuse layers that do not fit each other."""
        expected = self.channels
        for index, layer in enumerate(self.layers):
            if layer.activation not in get_args(Activation):
                known = ", ".join(get_args(Activation))
                raise ModelError(
                    f"layer {index}: unknown activation {short(layer.activation)}; known: {known}"
                )
            if layer.kernel < 1 or layer.kernel % 2 == 0:
                raise ModelError(f"layer {index}: the kernel's side must be odd, not {short(layer.kernel)}")
            if layer.inputs != expected:
                raise ModelError(
                    f"layer {index} takes {short(layer.inputs)} channels but is given {expected}"
                )
            if layer.outputs < 1:
                raise ModelError(f"layer {index} must give at least one channel, not {short(layer.outputs)}")
            expected = layer.outputs
        if expected != self.channels * self.shuffle**2:
            raise ModelError(
                f"the last layer gives {expected} channels; a shuffle by {self.shuffle} needs "
                f"{self.channels * self.shuffle**2}"
            )

    @property
    def shuffle(self) -> int:
        """The factor of the shuffle: the scale, or 1 where the layers work on what is large already."""
        return self.scale if self.upsampling == "shuffle" else 1

    @property
    def radius_px(self) -> int:
        """How many pixels of its own space a layer stack sees to each side: the sum of ``kernel // 2``."""
        return sum(layer.kernel // 2 for layer in self.layers)

    @property
    def halo_px(self) -> int:
        """How many LR pixels a result sees to each side."""
        if self.residual == "nearest":
            return max(self.radius_px, FLAT_RADIUS_PX)
        if self.upsampling == "shuffle":
            return self.radius_px
        return math.ceil(self.radius_px / self.scale) + BICUBIC_RADIUS_PX

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases and PReLU slopes."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    @property
    def macs_per_lr_pixel(self) -> int:
        """Multiply-adds for one LR pixel; those of bicubic, some dozens, are left out."""
        each = sum(layer.inputs * layer.outputs * layer.kernel**2 for layer in self.layers)
        return each * (self.scale // self.shuffle) ** 2

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The arrays that the network's weights consist of, by name, with their shapes.

        ``layers.N.weight`` is ``(outputs, inputs, kernel, kernel)``, ``layers.N.bias`` ``(outputs,)``,
        and after a PReLU ``layers.N.slope`` ``(outputs,)``.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for index, layer in enumerate(self.layers):
            shapes[f"layers.{index}.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
            shapes[f"layers.{index}.bias"] = (layer.outputs,)
            if layer.activation == "prelu":
                shapes[f"layers.{index}.slope"] = (layer.outputs,)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary, the inverse of `from_json`.

        What is usual is left out where earlier versions did not know that it could be otherwise.
        """
        data = asdict(self)
        upsampling = data.pop("upsampling")
        return data if upsampling == "shuffle" else data | {_UPSAMPLING_KEY: upsampling}

    @classmethod
    def from_json(cls, data: Any) -> "ModelSpec":
        """Build a description from what `to_json` gave.

        Raises `ModelError` for anything missing, unknown or of the wrong type: a field that this version
        does not know may change what the network computes, so it must not be passed over.
        """
        if isinstance(data, dict):
            data = {_UPSAMPLING_KEY: "shuffle"} | data
        types = {"scale": int, "layers": list, "channels": int, "residual": str, _UPSAMPLING_KEY: str}
        fields = _checked_fields(data, types)
        layer_types: dict[str, type] = {"inputs": int, "outputs": int, "kernel": int, "activation": str}
        layers = tuple(
            Convolution(**_checked_fields(layer, layer_types, where=f"layer {index}"))
            for index, layer in enumerate(fields["layers"])
        )
        return cls(
            scale=fields["scale"],
            layers=layers,
            channels=fields["channels"],
            residual=cast(Residual, fields["residual"]),
            upsampling=cast(Upsampling, fields[_UPSAMPLING_KEY]),
        )


def _checked_fields(data: Any, types: Mapping[str, type], where: str = "the description") -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ModelError(f"{where} is {type(data).__name__}, not an object")
    missing = types.keys() - data.keys()
    unknown = data.keys() - types.keys()
    if missing or unknown:
        raise ModelError(
            f"{where}: missing {listed(missing) or 'nothing'}; unknown {listed(unknown) or 'nothing'}"
        )
    for name, kind in types.items():
        if not isinstance(data[name], kind) or isinstance(data[name], bool):
            raise ModelError(f"{where}: {name} must be {kind.__name__}, not {short(data[name])}")
    return data


def _check_sizes(spec: ModelSpec) -> None:
    """Raise `ModelError`, with the limit and the value, where layers are too many or too large."""
    layers = spec.layers
    if len(layers) > MAX_LAYERS:
        raise ModelError(f"{len(layers)} layers are more than the limit of {MAX_LAYERS}")
    if spec.channels > MAX_CHANNELS:
        raise ModelError(f"{short(spec.channels)} channels are more than the limit of {MAX_CHANNELS}")
    for index, layer in enumerate(layers):
        if layer.kernel > MAX_KERNEL_PX:
            px = short(layer.kernel)
            raise ModelError(
                f"layer {index}: a kernel of {px} px is larger than the limit of {MAX_KERNEL_PX}"
            )
        if (most := max(layer.inputs, layer.outputs)) > MAX_CHANNELS:
            raise ModelError(
                f"layer {index}: {short(most)} channels are more than the limit of {MAX_CHANNELS}"
            )


def _check_cost(spec: ModelSpec) -> None:
    """Likewise for what a pixel costs, and for how far it sees, of layers that fit each other."""
    if spec.macs_per_lr_pixel > MAX_MACS:
        raise ModelError(
            f"{spec.macs_per_lr_pixel:,} multiply-adds per LR pixel are more than the limit of {MAX_MACS:,}"
        )
    if spec.halo_px > MAX_HALO_PX:
        raise ModelError(f"a halo of {spec.halo_px} LR pixels is larger than the limit of {MAX_HALO_PX}")
