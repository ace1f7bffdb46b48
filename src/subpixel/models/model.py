"""A network as data: what it computes (`ModelSpec`), its weights and its metadata, in one file.

Weights are float32; a model may also carry a `QuantizedLayer` for each of its layers, for engines that
compute in 8-bit integers (`subpixel.models.quantization` says how).

The file is ``.safetensors``: named arrays behind a JSON header. It holds no code, so opening a file from
a stranger is safe. Spec and metadata are in the header as JSON.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import ModelError
from subpixel.models.file import listed, open_tensors, short
from subpixel.models.spec import ModelSpec

FORMAT = "subpixel-model-1"
"""The version of the file's layout. A file that says anything else is refused."""

MAX_NAME = 200
"""Characters of a model's name."""


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

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary, the inverse of `from_json`; model files spell the license "licence"."""
        data = asdict(self)
        return data | {"licence": data.pop("license")}

    @classmethod
    def from_json(cls, data: Any) -> "ModelMetadata":
        """Build metadata from what `to_json` gave; `ModelError` for anything unknown or of the wrong type."""
        if not isinstance(data, dict):
            raise ModelError(f"its metadata is damaged: the facts are {type(data).__name__}, not an object")
        data = {"license" if key == "licence" else key: value for key, value in data.items()}
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


QUANTIZED_KEY = "quantised"
"""What model files call the arrays of a `QuantizedLayer`: ``quantised.N.NAME``."""

QUANTIZED_DTYPES = {
    "weight": np.int8,
    "weight_scale": np.float32,
    "bias": np.float32,
    "output_scale": np.float32,
    "output_zero": np.uint8,
}
"""The arrays of a `QuantizedLayer`."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network ready to run: spec, weights (float32, C-contiguous, read-only) and metadata.

    ``quantized`` has the same network in 8 bits, one entry a layer, or is empty. Two models are equal when
    they compute the same, whatever their names and metadata.

    >>> import subpixel
    >>> model = subpixel.load_model("mine.safetensors")
    >>> model  # doctest: +ELLIPSIS
    <Model default-x2: x2, ... layers, ... parameters, fp32 and int8>
    >>> model == subpixel.load("default", scale=2).model
    True

    Raises `ModelError` when an array is missing, unknown, misshapen, or holds NaN or infinity.
    """

    name: str
    spec: ModelSpec
    weights: Mapping[str, NDArray[np.float32]]
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    quantized: tuple[QuantizedLayer, ...] = ()

    def __post_init__(self) -> None:
        """Check every array against the spec, and freeze it."""
        kinds = {"spec": ModelSpec, "weights": Mapping, "metadata": ModelMetadata, "quantized": tuple}
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
            raise ModelError(f"model {self.name}: weights that the spec does not have: {', '.join(unknown)}")
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

    def __repr__(self) -> str:
        layers = f"{len(self.spec.layers)} layer{'s' * (len(self.spec.layers) > 1)}"
        precisions = "fp32 and int8" if self.quantized else "fp32"
        return (
            f"<Model {self.name}: x{self.scale}, {layers}, {self.spec.parameters:,} parameters, {precisions}>"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return self is other or self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

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
                f"{QUANTIZED_KEY}.{index}.{key}",
                getattr(layer, key),
                weight_shape if key == "weight" else weight_shape[:1],
                dtype,
            )
            for key, dtype in QUANTIZED_DTYPES.items()
        }
        if (arrays["weight"] == -128).any():
            raise ModelError(f"model {self.name}: {QUANTIZED_KEY}.{index}.weight goes below -127")
        if not (arrays["weight_scale"] > 0).all() or not (arrays["output_scale"] > 0).all():
            raise ModelError(f"model {self.name}: {QUANTIZED_KEY}.{index} has a scale that is not positive")
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

    def layer_weights(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A layer's weight and bias."""
        return self.weights[f"layers.{index}.weight"], self.weights[f"layers.{index}.bias"]

    def digest(self) -> str:
        """A fingerprint of what the model computes: of its description and all its arrays, in hexadecimal."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """See `digest`; kept, for nothing of a model can change."""
        digest = hashlib.sha256(json.dumps(self.spec.to_json(), sort_keys=True).encode())
        for key, array in sorted(self._arrays().items()):
            digest.update(key.encode() + array.tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Every array, by the name that it has in a file."""
        arrays: dict[str, NDArray[Any]] = dict(self.weights)
        for index, layer in enumerate(self.quantized):
            arrays |= {f"{QUANTIZED_KEY}.{index}.{key}": getattr(layer, key) for key in QUANTIZED_DTYPES}
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
            "facts": json.dumps(self.metadata.to_json()),
        }
        halves = _halves(self.weights).items()
        exact = {key: half for key, half in halves if np.array_equal(half, self.weights[key])}
        data = save(self._arrays() | exact, metadata)
        with write_atomically(Path(path), overwrite=overwrite) as temporary:
            temporary.write_bytes(data)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model file.

    >>> import subpixel
    >>> subpixel.load_model("mine.safetensors").scale
    2

    Nothing large is read before the description is known to be within the limits of `subpixel.models.spec`
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
        f"{QUANTIZED_KEY}.{index}.{key}": (
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
    if f"{QUANTIZED_KEY}.0.weight" not in arrays:
        return ()
    return tuple(
        QuantizedLayer(**{key: arrays.pop(f"{QUANTIZED_KEY}.{index}.{key}") for key in QUANTIZED_DTYPES})
        for index in range(count)
    )
