"""A network as data: what it computes (`ModelSpec`), its weights and its facts, in one file.

Weights are float32; a model may also carry a `QuantizedLayer` for each of its layers, for engines that
compute in 8-bit integers (`subpixel.models.quantization` says how).

A network here is a list of convolutions, each followed by an activation, then one pixel shuffle, and
optionally an image added at the end. That covers ESPCN and every small network that grew from it, so an
engine needs to understand only this module, and a new network needs no new code at all.

The file is ``.safetensors``: named arrays behind a JSON header. It holds no code, so opening a file from
a stranger is safe. Description and facts travel in the header as JSON.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import ModelError
from subpixel.models.file import listed, open_tensors, short
from subpixel.models.limits import check_cost, check_sizes

Activation = Literal["none", "relu", "prelu", "tanh"]
Residual = Literal["none", "nearest"]
Upsampling = Literal["shuffle", "bicubic"]

BICUBIC_RADIUS_PX = 2
"""How many LR pixels bicubic sees to each side when it makes an image larger."""

FLAT_RADIUS_PX = 2
"""How many LR pixels to each side must have one value for a network with a residual to add nothing: bicubic's
reach, so flat areas end where they would by bicubic."""

FORMAT = "subpixel-model-1"
"""The version of the file's layout. A file that says anything else is refused."""

MAX_NAME = 200
"""Characters of a model's name."""


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

    With ``enlargement="bicubic"`` there is no shuffle: the image is first made larger by `resample.imresize`,
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
            raise ModelError(f"unknown enlargement {short(self.upsampling)}; known: {known}")
        if self.upsampling == "bicubic" and self.residual != "none":
            raise ModelError("a residual goes with the shuffle, not with bicubic before the layers")
        check_sizes(self)
        self._check_layers()
        check_cost(self)

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
        if self.upsampling == "shuffle":
            del data["enlargement"]
        return data

    @classmethod
    def from_json(cls, data: Any) -> "ModelSpec":
        """Build a description from what `to_json` gave.

        Raises `ModelError` for anything missing, unknown or of the wrong type: a field that this version
        does not know may change what the network computes, so it must not be passed over.
        """
        if isinstance(data, dict):
            data = {"enlargement": "shuffle"} | data
        types = {"scale": int, "layers": list, "channels": int, "residual": str, "enlargement": str}
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
            upsampling=cast(Upsampling, fields["enlargement"]),
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


@dataclass(frozen=True)
class ModelMetadata:
    """Where a model comes from and how good it is; shown to people, never needed to run it."""

    version: str = "1"
    """Raised whenever weights are retrained under the same name."""
    training_data: str = ""
    recipe: str = ""
    """Name of the configuration that trained it."""
    config_commit: str = ""
    """Commit of this repository at which that configuration was run."""
    psnr_db: Mapping[str, float] = field(default_factory=dict)
    """Mean luma PSNR by test set, under the bicubic protocol, in fp32."""
    calibration: str = ""
    """What the 8-bit layers were calibrated on; empty where there are none."""
    license: str = ""
    citation: str = ""

    @classmethod
    def from_json(cls, data: Any) -> "ModelMetadata":
        """Build facts from what a file says; `ModelError` for anything unknown or of the wrong type."""
        if not isinstance(data, dict):
            raise ModelError(f"its metadata is damaged: the facts are {type(data).__name__}, not an object")
        if unknown := data.keys() - {entry.name for entry in fields(cls)}:
            raise ModelError(f"its metadata is damaged: unknown facts {listed(unknown)}")
        for name, value in data.items():
            if name == "psnr_db":
                fits = isinstance(value, dict) and all(map(_is_decibel, value.values()))
                texts = list(value) if fits else []
            else:
                fits, texts = isinstance(value, str), [value]
            if not fits or not all(map(_is_text, texts)):
                raise ModelError(f"its metadata is damaged: {name} can't be {short(value)}")
        return cls(**data)


def _is_decibel(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1000


def _is_text(value: str) -> bool:
    """Whether a text from JSON can be written: JSON can spell half a character, which nothing can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class QuantizedLayer:
    """One convolution in 8 bits: real = scale * (integer - zero), for each channel its own scale and zero.

    Every layer's input is the previous one's output; the network's own input is 0..255 for 0..1, zero 0.
    """

    weight: NDArray[np.int8]
    """``(outputs, inputs, kernel, kernel)``, -127 to 127; acts on the input's levels less their zeros."""
    weight_scale: NDArray[np.float32]
    """``(outputs,)``: what one step of weight times input is worth, before the activation."""
    bias: NDArray[np.float32]
    """``(outputs,)``, real."""
    output_scale: NDArray[np.float32]
    """``(outputs,)``: what one step of the output is worth, after activation. Unused in the last layer."""
    output_zero: NDArray[np.uint8]
    """``(outputs,)``: which of the output's 256 levels means zero. Unused in the last layer."""


QUANTIZED_DTYPES = {
    "weight": np.int8,
    "weight_scale": np.float32,
    "bias": np.float32,
    "output_scale": np.float32,
    "output_zero": np.uint8,
}
"""The arrays of a `QuantizedLayer`; in a file they are called ``quantized.N.NAME``."""


@dataclass(frozen=True)
class Model:
    """A network ready to run: description, weights (float32, C-contiguous, read-only) and facts.

    ``quantized`` has the same network in 8 bits, one entry a layer, or is empty.

    Raises `ModelError` when an array is missing, unknown, misshapen, or holds NaN or infinity.
    """

    name: str
    spec: ModelSpec
    weights: Mapping[str, NDArray[np.float32]]
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    quantized: tuple[QuantizedLayer, ...] = ()

    def __post_init__(self) -> None:
        """Check every array against the description, and freeze it."""
        kinds = {"description": ModelSpec, "weights": Mapping, "facts": ModelMetadata, "quantized": tuple}
        for key, kind in kinds.items():
            if not isinstance(getattr(self, key), kind):
                raise TypeError(f"{key} must be {kind.__name__}, not {type(getattr(self, key)).__name__}")
        name = self.name
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise ModelError(f"a model's name is 1 to {MAX_NAME} printable characters, not {short(name)}")
        shapes = self.spec.shapes()
        missing = sorted(shapes.keys() - self.weights.keys())
        unknown = sorted(self.weights.keys() - shapes.keys())
        if missing:
            raise ModelError(f"model {self.name}: weights missing: {', '.join(missing)}")
        if unknown:
            raise ModelError(
                f"model {self.name}: weights that the description does not have: {', '.join(unknown)}"
            )
        frozen = {
            key: self._frozen(key, self.weights[key], shape, np.float32) for key, shape in shapes.items()
        }
        object.__setattr__(self, "weights", frozen)
        layers = self.spec.layers
        if self.quantized and self.spec.upsampling == "bicubic":
            raise ModelError(f"model {self.name}: 8-bit layers are for networks that work in LR space")
        if self.quantized and len(self.quantized) != len(layers):
            raise ModelError(
                f"model {self.name}: {len(self.quantized)} quantized layers for a network of {len(layers)}"
            )
        object.__setattr__(
            self, "quantized", tuple(map(self._frozen_layer, range(len(self.quantized)), self.quantized))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle is checked and frozen as any model: arrays would come back writeable."""
        return Model, (self.name, self.spec, dict(self.weights), self.metadata, self.quantized)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """The model itself, for nothing of it can change."""
        return self

    def _frozen_layer(self, index: int, layer: QuantizedLayer) -> QuantizedLayer:
        if not isinstance(layer, QuantizedLayer):
            raise TypeError(f"quantized layer {index} must be QuantizedLayer, not {type(layer).__name__}")
        weight_shape = self.spec.shapes()[f"layers.{index}.weight"]
        arrays: dict[str, Any] = {
            key: self._frozen(
                f"quantized.{index}.{key}",
                getattr(layer, key),
                weight_shape if key == "weight" else weight_shape[:1],
                dtype,
            )
            for key, dtype in QUANTIZED_DTYPES.items()
        }
        if (arrays["weight"] == -128).any():
            raise ModelError(f"model {self.name}: quantized.{index}.weight goes below -127")
        if not (arrays["weight_scale"] > 0).all() or not (arrays["output_scale"] > 0).all():
            raise ModelError(f"model {self.name}: quantized.{index} has a scale that is not positive")
        return QuantizedLayer(**arrays)

    def _frozen(self, key: str, given: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        array = np.asarray(given)
        if array.shape != shape:
            raise ModelError(f"model {self.name}: {key} has shape {array.shape}, expected {shape}")
        if array.dtype != dtype:
            raise ModelError(f"model {self.name}: {key} is {array.dtype}, expected {np.dtype(dtype)}")
        if not np.isfinite(array).all():
            raise ModelError(f"model {self.name}: {key} holds NaN or infinity (training diverged, or damage)")
        array = np.array(array, order="C")
        array.flags.writeable = False
        return array

    @property
    def scale(self) -> int:
        """How many times larger each side becomes."""
        return self.spec.scale

    def digest(self) -> str:
        """A fingerprint of what the model computes: of its description and all its arrays, in hexadecimal."""
        digest = hashlib.sha256(json.dumps(self.spec.to_json(), sort_keys=True).encode())
        for key, array in sorted(self._arrays().items()):
            digest.update(key.encode() + array.tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Every array, by the name that it has in a file."""
        arrays: dict[str, NDArray[Any]] = dict(self.weights)
        for index, layer in enumerate(self.quantized):
            arrays |= {f"quantized.{index}.{key}": getattr(layer, key) for key in QUANTIZED_DTYPES}
        return arrays

    def in_half_precision(self) -> "Model":
        """The same model, its weights rounded to what float16 holds, which makes its file smaller.

        They are float32 still, and 8-bit layers stay as they are. Raises `ModelError` where a weight is above
        65504.
        """
        return replace(self, weights={key: _widened(half) for key, half in _halves(self.weights).items()})

    def save(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write the model as one ``.safetensors`` file, whole or not at all.

        Weights that float16 holds exactly are stored as such, and read as float32 again.

        Raises `OutputExists` where ``path`` exists and ``overwrite`` is false, `OutputError` where it cannot
        be written.
        """
        from safetensors.numpy import save

        from subpixel.files import write_atomically

        metadata = {
            "format": FORMAT,
            "name": self.name,
            "description": json.dumps(self.spec.to_json()),
            "facts": json.dumps(asdict(self.metadata)),
        }
        halves = _halves(self.weights).items()
        exact = {key: half for key, half in halves if np.array_equal(half, self.weights[key])}
        data = save(self._arrays() | exact, metadata)
        with write_atomically(Path(path), overwrite=overwrite) as temporary:
            temporary.write_bytes(data)


def load_model(path: str | Path) -> Model:
    """Read a model file.

    Nothing large is read before the description is known to be within the limits of `subpixel.models.limits`
    and the arrays' shapes to fit it.

    Raises `ModelError` that names the file and says what is wrong with it.
    """
    with open_tensors(Path(path)) as file:
        if (given := file.metadata.get("format", "not stated")) != FORMAT:
            raise ModelError(
                f"not a Subpixel model: its format is {short(given)}, this version reads {FORMAT!r}"
            )
        spec = ModelSpec.from_json(_json_of(file.metadata, "description"))
        shapes, dtypes = _file_arrays(spec, file.keys)
        arrays = {key: _widened(array) for key, array in file.arrays(shapes, dtypes).items()}
        quantized = _take_quantized(arrays, len(spec.layers))
        metadata = ModelMetadata.from_json(_json_of(file.metadata, "facts"))
        return Model(file.metadata.get("name", ""), spec, arrays, metadata, quantized)


def _json_of(metadata: Mapping[str, str], key: str) -> Any:
    """What a file's metadata has as JSON under a key."""
    try:
        return json.loads(metadata[key])
    except KeyError:
        raise ModelError(f"its metadata is damaged: no {key}") from None
    except RecursionError:
        raise ModelError(f"its metadata is damaged: {key} is nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"its metadata is damaged: {key} is no JSON ({error})") from None


def _file_arrays(
    spec: ModelSpec, keys: frozenset[str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """The shapes and the dtypes of the arrays that a file must have, where it has arrays of these names."""
    shapes = spec.shapes()
    dtypes: dict[str, tuple[str, ...]] = dict.fromkeys(shapes, ("float32", "float16"))
    quantized = {
        f"quantized.{index}.{key}": (
            shapes[f"layers.{index}.weight"][: None if key == "weight" else 1],
            dtype,
        )
        for index in range(len(spec.layers))
        for key, dtype in QUANTIZED_DTYPES.items()
    }
    if found := quantized.keys() & keys:
        if missing := quantized.keys() - found:
            raise ModelError(f"quantized layers are incomplete: {listed(missing)} missing")
        shapes |= {key: shape for key, (shape, _) in quantized.items()}
        dtypes |= {key: (np.dtype(dtype).name,) for key, (_, dtype) in quantized.items()}
    return shapes, dtypes


def _halves(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """The arrays as float16, in which what is too large is infinite."""
    with np.errstate(over="ignore"):
        return {key: array.astype(np.float16) for key, array in weights.items()}


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _take_quantized(arrays: dict[str, NDArray[Any]], count: int) -> tuple[QuantizedLayer, ...]:
    """Take the quantized layers out of a file's arrays; all of them, or none."""
    if "quantized.0.weight" not in arrays:
        return ()
    return tuple(
        QuantizedLayer(**{key: arrays.pop(f"quantized.{index}.{key}") for key in QUANTIZED_DTYPES})
        for index in range(count)
    )
