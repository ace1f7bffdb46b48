"""A network as data: its spec, weights and metadata, in one file.

Weights are float32. A model can also have a `QuantizedLayer` for each layer, for engines that compute in
8-bit integers (`subpixel.models.quantization` defines the arithmetic).

The file is ``.safetensors``: a JSON header, then named arrays. Spec and metadata are JSON in the header. The
file contains no code, so it is safe to open a file of unknown origin.
"""

import hashlib
import json
import os
import warnings
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
"""The version of the file format. `load_model` refuses all others."""

MAX_NAME = 200
"""Longest name of a model, in characters."""

_STORED_NAMES = {"license": "licence", "config": "recipe"}
"""Fields of `ModelMetadata` that model files spell differently."""


@dataclass(frozen=True)
class ModelMetadata:
    """Where a model comes from and how good it is. Engines do not need it."""

    version: str = "1"
    """Increased when weights are retrained under the same name."""
    training_data: str = ""
    config: str = ""
    """File name of the training config."""
    config_commit: str = ""
    """Commit of this repository at which the training ran."""
    psnr_db: Mapping[str, float] = field(default_factory=dict)
    """Mean luma PSNR for each test set, by the bicubic protocol, in fp32."""
    calibration: str = ""
    """The images that calibrated the int8 layers; empty if there are no int8 layers."""
    license: str = ""
    citation: str = ""

    @property
    def recipe(self) -> str:
        """The old name of ``config``."""
        warnings.warn(
            "ModelMetadata.recipe is now ModelMetadata.config; the old name goes in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.config

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary with the names that model files use; the inverse of `from_json`."""
        return {_STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> "ModelMetadata":
        """Build metadata from the result of `to_json`; `ModelError` for an unknown name or a wrong type."""
        if not isinstance(data, dict):
            raise ModelError(f"its metadata is damaged: the facts are {type(data).__name__}, not an object")
        names = {stored: name for name, stored in _STORED_NAMES.items()}
        data = {names.get(key, key): value for key, value in data.items()}
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
    """Whether a string from JSON is valid Unicode: JSON can contain lone surrogates, UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class QuantizedLayer:
    """One convolution in 8 bits: real = scale * (integer - zero_point), both per channel.

    A layer's input is the previous layer's output. The network's input is 0..255 for 0..1, with zero point 0.
    """

    weight: NDArray[np.int8]
    """``(outputs, inputs, kernel, kernel)``, -127 to 127; multiplies the input minus its zero point."""
    weight_scale: NDArray[np.float32]
    """``(outputs,)``: the real value of one step of the accumulator, before the activation."""
    bias: NDArray[np.float32]
    """``(outputs,)``, as a real value."""
    output_scale: NDArray[np.float32]
    """``(outputs,)``: the real value of one step after the activation. Unused in the last layer."""
    output_zero_point: NDArray[np.uint8]
    """``(outputs,)``: the integer that represents 0 in the output. Unused in the last layer."""


QUANTIZED_KEY = "quantised"
"""Arrays of a `QuantizedLayer` are stored as ``quantised.N.NAME``."""

QUANTIZED_DTYPES = {
    "weight": np.int8,
    "weight_scale": np.float32,
    "bias": np.float32,
    "output_scale": np.float32,
    "output_zero_point": np.uint8,
}
"""The dtype of each array of a `QuantizedLayer`."""


def _quantized_key(index: int, name: str) -> str:
    """The name under which a file stores an array of a `QuantizedLayer`."""
    return f"{QUANTIZED_KEY}.{index}.{'output_zero' if name == 'output_zero_point' else name}"


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network ready to run: spec, weights (float32, C-contiguous, read-only) and metadata.

    ``quantized`` contains the same network in 8 bits, one entry per layer, or is empty. Two models are equal
    if they compute the same, whatever their names and metadata.

    >>> import subpixel
    >>> model = subpixel.load_model("mine.safetensors")
    >>> model  # doctest: +ELLIPSIS
    <Model default-x2: x2, ... layers, ... parameters, fp32 and int8>
    >>> model == subpixel.load("default", scale=2).model
    True

    Raises:
        TypeError: an argument has the wrong type.
        ModelError: an array is missing, unknown or has the wrong shape or dtype, or contains NaN or infinity;
            or the name is not 1 to 200 printable characters.
    """

    name: str
    spec: ModelSpec
    weights: Mapping[str, NDArray[np.float32]]
    metadata: ModelMetadata = field(default_factory=ModelMetadata)
    quantized: tuple[QuantizedLayer, ...] = ()

    def __post_init__(self) -> None:
        """Check every array against the spec, and make it read-only."""
        types = {"spec": ModelSpec, "weights": Mapping, "metadata": ModelMetadata, "quantized": tuple}
        for key, expected in types.items():
            if not isinstance(getattr(self, key), expected):
                raise TypeError(f"{key} must be {expected.__name__}, not {type(getattr(self, key)).__name__}")
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
        layers = self.spec.convolutions
        if self.quantized and self.spec.upsampling == "bicubic":
            raise ModelError(f"model {self.name}: only networks that work in LR space can have 8-bit layers")
        if self.quantized and len(self.quantized) != len(layers):
            raise ModelError(
                f"model {self.name}: {len(self.quantized)} quantized layers for a network of {len(layers)}"
            )
        object.__setattr__(
            self, "quantized", tuple(map(self._frozen_layer, range(len(self.quantized)), self.quantized))
        )

    def __repr__(self) -> str:
        layers = f"{len(self.spec.convolutions)} layer{'s' * (len(self.spec.convolutions) > 1)}"
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
        """Unpickle through the constructor: NumPy would restore the arrays writeable."""
        return Model, (self.name, self.spec, dict(self.weights), self.metadata, self.quantized)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """Return the model itself: it is immutable."""
        return self

    def _frozen_layer(self, index: int, layer: QuantizedLayer) -> QuantizedLayer:
        if not isinstance(layer, QuantizedLayer):
            raise TypeError(f"quantized layer {index} must be QuantizedLayer, not {type(layer).__name__}")
        weight_shape = self.spec.shapes()[f"layers.{index}.weight"]
        arrays: dict[str, Any] = {
            key: self._frozen(
                _quantized_key(index, key),
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
            raise ModelError(
                f"model {self.name}: {key} contains NaN or infinity (training diverged, or damaged file)"
            )
        array = np.array(array, order="C")
        array.flags.writeable = False
        return array

    @property
    def scale(self) -> int:
        """The factor by which width and height grow."""
        return self.spec.scale

    def layer_weights(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a layer's weight and bias."""
        return self.weights[f"layers.{index}.weight"], self.weights[f"layers.{index}.bias"]

    def digest(self) -> str:
        """Return the SHA-256 of spec and arrays, in hexadecimal: equal for models that compute the same."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """See `digest`; cached, because a model is immutable."""
        digest = hashlib.sha256(json.dumps(self.spec.to_json(), sort_keys=True).encode())
        for key, array in sorted(self._arrays().items()):
            digest.update(key.encode() + array.tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays, by the names that files use."""
        arrays: dict[str, NDArray[Any]] = dict(self.weights)
        for index, layer in enumerate(self.quantized):
            arrays |= {_quantized_key(index, key): getattr(layer, key) for key in QUANTIZED_DTYPES}
        return arrays

    def in_half_precision(self) -> "Model":
        """Return the model with its weights rounded to float16, which makes its file smaller.

        The arrays are still float32, and the int8 layers do not change. Raises `ModelError` if a weight is
        above 65504, the largest float16.
        """
        return replace(self, weights={key: _widened(half) for key, half in _halves(self.weights).items()})

    def save(
        self, path: str | Path, *, overwrite: bool = True, notes: Mapping[str, str] | None = None
    ) -> None:
        """Write the model as one ``.safetensors`` file. After a failure there is no partial file.

        Arrays that float16 represents exactly are stored as float16; `load_model` returns them as float32.
        ``notes`` are more entries of the file's header, which `load_model` ignores.

        Raises:
            OutputExists: ``path`` exists and ``overwrite`` is false.
            OutputError: the file cannot be written.
        """
        from safetensors.numpy import save

        from subpixel.files import write_atomically

        metadata = {
            **(notes or {}),
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

    Spec and shapes are checked before any array is read, so a file cannot use more memory or time than the
    limits in `subpixel.models.spec` allow.

    Raises:
        ModelError: the file is missing or is not a valid model; the message names the file and the fault.
    """
    with open_tensors(Path(path)) as file:
        if (given := file.metadata.get("format", "not stated")) != FORMAT:
            raise ModelError(
                f"not a Subpixel model: its format is {short(given)}, this version reads {FORMAT!r}"
            )
        spec = ModelSpec.from_json(_json_of(file.metadata, "description"))
        shapes, dtypes = _file_arrays(spec, file.keys)
        arrays = {key: _widened(array) for key, array in file.arrays(shapes, dtypes).items()}
        quantized = _take_quantized(arrays, len(spec.convolutions))
        metadata = ModelMetadata.from_json(_json_of(file.metadata, "facts"))
        return Model(file.metadata.get("name", ""), spec, arrays, metadata, quantized)


def _json_of(metadata: Mapping[str, str], key: str) -> Any:
    """Decode the JSON that a file's metadata contains under a key."""
    try:
        return json.loads(metadata[key])
    except KeyError:
        raise ModelError(f"its metadata is damaged: no {key}") from None
    except RecursionError:
        raise ModelError(f"its metadata is damaged: {key} is nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"its metadata is damaged: {key} is not JSON ({error})") from None


def _file_arrays(
    spec: ModelSpec, keys: frozenset[str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """Return the shape and the allowed dtypes of each array that a file with these names must contain."""
    shapes = spec.shapes()
    dtypes: dict[str, tuple[str, ...]] = dict.fromkeys(shapes, ("float32", "float16"))
    quantized = {
        _quantized_key(index, key): (
            shapes[f"layers.{index}.weight"][: None if key == "weight" else 1],
            dtype,
        )
        for index in range(len(spec.convolutions))
        for key, dtype in QUANTIZED_DTYPES.items()
    }
    if found := quantized.keys() & keys:
        if missing := quantized.keys() - found:
            raise ModelError(f"quantized layers are incomplete: {listed(missing)} missing")
        shapes |= {key: shape for key, (shape, _) in quantized.items()}
        dtypes |= {key: (np.dtype(dtype).name,) for key, (_, dtype) in quantized.items()}
    return shapes, dtypes


def _halves(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """Convert to float16; values that are too large become infinite."""
    with np.errstate(over="ignore"):
        return {key: array.astype(np.float16) for key, array in weights.items()}


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _take_quantized(arrays: dict[str, NDArray[Any]], count: int) -> tuple[QuantizedLayer, ...]:
    """Remove the int8 layers from a file's arrays, and return them; empty if the file has none."""
    if _quantized_key(0, "weight") not in arrays:
        return ()
    return tuple(
        QuantizedLayer(**{key: arrays.pop(_quantized_key(index, key)) for key in QUANTIZED_DTYPES})
        for index in range(count)
    )
