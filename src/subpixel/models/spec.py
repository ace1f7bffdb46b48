"""The spec of a network, without its weights: convolutions, a pixel shuffle, perhaps a residual or a history.

It covers ESPCN and the small networks that followed it. An engine implements this module, so a new network
needs no new code.

A model file can come from anywhere. The limits below exist because a file of a few kilobytes could otherwise
describe a network that takes hours to compile, or more memory than the machine has. They are at least ten
times what the packaged models need.
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
"""Radius of bicubic upsampling, in LR pixels."""

FLAT_RADIUS_PX = 2
"""Radius of the area that must be flat for a network with a residual to add nothing, in LR pixels.

It is bicubic's radius, so flat areas end where they end with bicubic.
"""

_UPSAMPLING_KEY = "enlargement"
"""The name of `ModelSpec.upsampling` in model files."""

MAX_LAYERS = 128
"""Most layers; `best` has 10."""

MAX_CHANNELS = 1024
"""Most input or output channels of a layer; ESPCN has 64."""

MAX_KERNEL_PX = 99
"""Largest side of a kernel; SRCNN has 9."""

MAX_MACS = 40_000_000
"""Most multiply-adds per LR pixel; SRCNN 9-5-5 has 914,944 at x4 and 3,659,776 at x8."""

MAX_HALO_PX = 128
"""Largest receptive field to each side, in LR pixels; `best` has 10."""


@dataclass(frozen=True)
class Convolution:
    """One convolution with zero padding, so that output and input have the same size, then an activation."""

    inputs: int
    outputs: int
    kernel: int
    """Side of the square kernel in pixels; odd, so that output and input have the same pixel grid."""
    activation: Activation = "none"


HISTORY_SCALES = (2, 3, 4)
"""Scales at which a network can use the previous frame."""

BLOCK_SIDES_PX = (4, 8, 16)
"""Sides of the blocks that can move together, in LR pixels."""

MOTION_PARTS = (1, 2)
"""Steps of motion that a pixel of the result can have."""

MAX_RANGE_PX = 32
"""Largest motion of a block from frame to frame, in LR pixels; more would search too long."""

MAX_FIT_LIMIT = 256
"""Largest `History.fit_limit`: 16 times the detail of a block."""


@dataclass(frozen=True)
class History:
    """How a network for video uses the previous frame; `subpixel.models.history` defines the arithmetic.

    The previous result and a hidden state are moved by the motion of blocks. Convolutions turn their
    difference from the new frame into a correction of its result, a new state, and a gate. Where motion does
    not explain a block, and in the first frame, the result is that of the network without history.
    """

    layers: tuple[Convolution, ...]
    """The convolutions of the correction, in LR space. The first one takes ``scale**2`` differences of the
    results, the detail of the frame, its difference from the previous one, and ``state`` channels. The last
    one gives ``scale**2`` corrections, ``state`` channels and the gate."""
    state: int
    """Channels of the hidden state."""
    block_px: int = 8
    """Side of the blocks whose motion is searched, in LR pixels; their quarters may move as a neighbor."""
    range_px: int = 7
    """Largest motion of a block from frame to frame along each axis, in LR pixels."""
    parts: int = 2
    """Steps of motion in a pixel of the result: with 1, results are moved by copying; with 2, also by halves
    of a pixel, which are interpolated."""
    fit_limit: int = 16
    """Most difference after motion, in sixteenths of a block's detail, with which history counts."""
    bounded: bool = False
    """Whether results lie between those without history and the moved previous ones. Without this bound,
    a correction can gain more, but may also make its own errors larger from frame to frame."""
    bounded_in_motion: bool = True
    """If results are bounded: everywhere, or only in quarters of blocks without motion."""


@dataclass(frozen=True, repr=False)
class ModelSpec:
    """The architecture of a network, without its weights.

    >>> from subpixel import Convolution, ModelSpec
    >>> ModelSpec(scale=2, layers=(Convolution(1, 16, 5, "relu"), Convolution(16, 4, 3)))
    <ModelSpec x2: 5x5 1-16 relu, 3x3 16-4, shuffle>

    The layers process a ``(channels, H, W)`` image in [0, 1]. The last layer has ``channels * scale**2``
    outputs, and the pixel shuffle (PyTorch's channel order: color slowest) arranges them as
    ``(channels, scale*H, scale*W)``.

    With ``residual="nearest"``, the input is added to the output, each pixel repeated ``scale`` x ``scale``
    times. Where the input is flat, i.e. all pixels within `FLAT_RADIUS_PX` have one value, the result is
    exactly this value (see `subpixel.engines.flat`).

    With ``upsampling="bicubic"``, `ops.resize.imresize` upsamples the image first, as in SRCNN. The layers
    work in HR space, the last one has ``channels`` outputs, and there is no shuffle.

    A network with a ``history`` is one for video: each result also depends on the frames before. Images are
    upscaled as if they were first frames, by the other fields alone.

    Raises:
        TypeError: a layer is not a `Convolution`, or a number not an int.
        ModelError: the layers do not fit each other, a name is unknown, or a limit of this module is
            exceeded.
    """

    scale: int
    layers: tuple[Convolution, ...]
    channels: int = 1
    residual: Residual = "none"
    upsampling: Upsampling = "shuffle"
    history: History | None = None

    def __post_init__(self) -> None:
        """Refuse specs that no engine can run."""
        integers = {"scale": self.scale, "channels": self.channels}
        if self.history is not None:
            if not isinstance(self.history, History):
                raise TypeError(f"history must be History, not {type(self.history).__name__}")
            names = ("state", "block_px", "range_px", "parts", "fit_limit")
            integers |= {f"history: {name}": getattr(self.history, name) for name in names}
            for name in ("bounded", "bounded_in_motion"):
                if not isinstance(value := getattr(self.history, name), bool):
                    raise TypeError(f"history: {name} must be bool, not {short(value)}")
        for index, layer in enumerate(self.convolutions):
            if not isinstance(layer, Convolution):
                raise TypeError(f"layer {index} must be Convolution, not {type(layer).__name__}")
            sizes = {"inputs": layer.inputs, "outputs": layer.outputs, "kernel": layer.kernel}
            integers |= {f"layer {index}: {name}": size for name, size in sizes.items()}
        for name, number in integers.items():
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
            raise ModelError("a residual needs upsampling by shuffle, not bicubic")
        _check_sizes(self)
        self._check_layers()
        _check_cost(self)

    def _check_layers(self) -> None:
        """Refuse layers that do not fit each other."""
        found = _chained(self.layers, self.channels)
        if found != self.channels * self.shuffle**2:
            raise ModelError(
                f"the last layer gives {found} channels; a shuffle by {self.shuffle} needs "
                f"{self.channels * self.shuffle**2}"
            )
        if self.history is not None:
            _check_history(self, self.history)

    def __repr__(self) -> str:
        steps = ["bicubic"] * (self.upsampling == "bicubic") + [
            f"{layer.kernel}x{layer.kernel} {layer.inputs}-{layer.outputs}"
            + (f" {layer.activation}" if layer.activation != "none" else "")
            for layer in self.layers
        ]
        steps += ["shuffle"] * (self.upsampling == "shuffle")
        steps += [f"residual {self.residual}"] * (self.residual != "none")
        steps += [f"history of {self.history.state} channels"] if self.history else []
        return f"<ModelSpec x{self.scale}: {', '.join(steps)}>"

    @property
    def shuffle(self) -> int:
        """The factor of the shuffle: the scale, or 1 if the layers work in HR space."""
        return self.scale if self.upsampling == "shuffle" else 1

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """All convolutions: ``layers``, then those of the history. Weights are numbered in this order."""
        return self.layers if self.history is None else (*self.layers, *self.history.layers)

    @property
    def radius_px(self) -> int:
        """Receptive field of ``layers`` to each side, in pixels of the space that they work in."""
        return sum(layer.kernel // 2 for layer in self.layers)

    @property
    def halo_px(self) -> int:
        """Receptive field of the network to each side in one frame, in LR pixels.

        It has that of flat and smooth areas, and not that of the history.
        """
        radius_px = max(self.radius_px, FLAT_RADIUS_PX)
        if self.upsampling == "shuffle":
            return radius_px
        return math.ceil(radius_px / self.scale) + BICUBIC_RADIUS_PX

    @property
    def parameters(self) -> int:
        """Number of trained parameters: weights, biases and PReLU slopes."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    @property
    def macs_per_lr_pixel(self) -> int:
        """Multiply-adds of all convolutions per LR pixel, without the few dozen of bicubic upsampling."""
        per_position = sum(layer.inputs * layer.outputs * layer.kernel**2 for layer in self.convolutions)
        return per_position * (self.scale // self.shuffle) ** 2

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the network's weights.

        ``layers.N.weight`` is ``(outputs, inputs, kernel, kernel)``, ``layers.N.bias`` ``(outputs,)``,
        and with PReLU ``layers.N.slope`` is ``(outputs,)``. N counts `convolutions`. With a history,
        ``history.share`` is ``(scale**2,)``.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for index, layer in enumerate(self.convolutions):
            shapes[f"layers.{index}.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
            shapes[f"layers.{index}.bias"] = (layer.outputs,)
            if layer.activation == "prelu":
                shapes[f"layers.{index}.slope"] = (layer.outputs,)
        if self.history is not None:
            shapes["history.share"] = (self.scale**2,)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, the inverse of `from_json`.

        ``upsampling`` is omitted if it is "shuffle", and ``history`` if there is none: versions that do not
        know these fields can read such files.
        """
        data = asdict(self)
        upsampling, history = data.pop("upsampling"), data.pop("history")
        if upsampling != "shuffle":
            data[_UPSAMPLING_KEY] = upsampling
        return data if history is None else data | {"history": history}

    @classmethod
    def from_json(cls, data: Any) -> "ModelSpec":
        """Build a spec from the result of `to_json`.

        Raises:
            ModelError: a field is missing, unknown or of the wrong type. Unknown fields are errors because
                they may change what the network computes.
        """
        types = {"scale": int, "layers": list, "channels": int, "residual": str, _UPSAMPLING_KEY: str}
        history = None
        if isinstance(data, dict):
            data = {_UPSAMPLING_KEY: "shuffle"} | data
            if "history" in data:
                history = _history_from_json(data.pop("history"))
        fields = _checked_fields(data, types)
        return cls(
            scale=fields["scale"],
            layers=_layers_from_json(fields["layers"]),
            channels=fields["channels"],
            residual=cast(Residual, fields["residual"]),
            upsampling=cast(Upsampling, fields[_UPSAMPLING_KEY]),
            history=history,
        )


def _layers_from_json(layers: list[Any], where: str = "") -> tuple[Convolution, ...]:
    types: dict[str, type] = {"inputs": int, "outputs": int, "kernel": int, "activation": str}
    return tuple(
        Convolution(**_checked_fields(layer, types, where=f"{where}layer {index}"))
        for index, layer in enumerate(layers)
    )


def _history_from_json(data: Any) -> History:
    types: dict[str, type] = dict.fromkeys(("state", "block_px", "range_px", "parts", "fit_limit"), int)
    types |= {"layers": list, "bounded": bool, "bounded_in_motion": bool}
    if isinstance(data, dict):  # the first files of networks for video do not have them
        data = {"bounded": False, "bounded_in_motion": True, **data}
    fields = dict(_checked_fields(data, types, where="history"))
    return History(layers=_layers_from_json(fields.pop("layers"), "history: "), **fields)


def _checked_fields(data: Any, types: Mapping[str, type], where: str = "the description") -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ModelError(f"{where} is {type(data).__name__}, not an object")
    missing = types.keys() - data.keys()
    unknown = data.keys() - types.keys()
    if missing or unknown:
        raise ModelError(
            f"{where}: missing {listed(missing) or 'nothing'}; unknown {listed(unknown) or 'nothing'}"
        )
    for name, expected in types.items():
        if not isinstance(data[name], expected) or isinstance(data[name], bool) != (expected is bool):
            raise ModelError(f"{where}: {name} must be {expected.__name__}, not {short(data[name])}")
    return data


def _chained(layers: tuple[Convolution, ...], channels: int, first: int = 0) -> int:
    """Return the channels after a chain of layers; `ModelError` if they do not fit each other."""
    for index, layer in enumerate(layers, first):
        if layer.activation not in get_args(Activation):
            known = ", ".join(get_args(Activation))
            raise ModelError(f"layer {index}: unknown activation {short(layer.activation)}; known: {known}")
        if layer.kernel < 1 or layer.kernel % 2 == 0:
            raise ModelError(f"layer {index}: the kernel's side must be odd, not {short(layer.kernel)}")
        if layer.inputs != channels:
            raise ModelError(f"layer {index} takes {short(layer.inputs)} channels but is given {channels}")
        if layer.outputs < 1:
            raise ModelError(f"layer {index} must give at least one channel, not {short(layer.outputs)}")
        channels = layer.outputs
    return channels


def _check_history(spec: ModelSpec, history: History) -> None:
    """Raise `ModelError` if a network cannot have this history."""
    if spec.scale not in HISTORY_SCALES or spec.channels != 1 or spec.upsampling != "shuffle":
        scales = ", ".join(map(str, HISTORY_SCALES))
        raise ModelError(f"a history needs one channel, upsampling by shuffle, and a scale of {scales}")
    ranges = {"state": MAX_CHANNELS, "range_px": MAX_RANGE_PX, "fit_limit": MAX_FIT_LIMIT}
    for name, most in ranges.items():
        if not 1 <= (value := getattr(history, name)) <= most:
            raise ModelError(f"history: {name} must be 1 to {most}, not {short(value)}")
    for name, known in (("block_px", BLOCK_SIDES_PX), ("parts", MOTION_PARTS)):
        if (value := getattr(history, name)) not in known:
            names = ", ".join(map(str, known))
            raise ModelError(f"history: {name} must be one of {names}, not {short(value)}")
    if not history.layers:
        raise ModelError("a history needs at least one convolution")
    squares = spec.scale**2
    found = _chained(history.layers, squares + 2 + history.state, first=len(spec.layers))
    if found != (needed := squares + history.state + 1):
        raise ModelError(f"the last layer of the history gives {found} channels, and must give {needed}")
    if (radius_px := sum(layer.kernel // 2 for layer in history.layers)) > MAX_HALO_PX:
        raise ModelError(
            f"history: a halo of {radius_px} LR pixels is larger than the limit of {MAX_HALO_PX}"
        )
    if history.layers[-1].activation != "none":
        raise ModelError("the last layer of a history has no activation")


def _check_sizes(spec: ModelSpec) -> None:
    """Raise `ModelError` if there are too many layers, or if a layer is too large."""
    layers = spec.convolutions
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
        if (channels := max(layer.inputs, layer.outputs)) > MAX_CHANNELS:
            raise ModelError(
                f"layer {index}: {short(channels)} channels are more than the limit of {MAX_CHANNELS}"
            )


def _check_cost(spec: ModelSpec) -> None:
    """Raise `ModelError` if the multiply-adds or the receptive field are too large."""
    if spec.macs_per_lr_pixel > MAX_MACS:
        raise ModelError(
            f"{spec.macs_per_lr_pixel:,} multiply-adds per LR pixel are more than the limit of {MAX_MACS:,}"
        )
    if spec.halo_px > MAX_HALO_PX:
        raise ModelError(f"a halo of {spec.halo_px} LR pixels is larger than the limit of {MAX_HALO_PX}")
