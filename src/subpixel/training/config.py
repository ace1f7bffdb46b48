"""The training configuration: one TOML file says everything that decides the weights.

Every choice that the paper leaves open has a name here, so that a run can be repeated exactly. The files
under ``configs/`` show each field with a comment.
"""

import tomllib
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from subpixel.errors import ConfigError
from subpixel.models.spec import Activation, Residual

Initialization: TypeAlias = Literal["lecun", "fitted", "centered", "gaussian-0.001"]


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, and how its weights start."""

    kind: Literal[
        "espcn", "espcn-enlarged-first", "espcn-deconvolution", "srcnn-915", "srcnn-955", "stack", "tnrd"
    ]
    """"espcn-enlarged-first" has ESPCN's layers in HR space, behind bicubic; "espcn-deconvolution" is trained
    with a transposed convolution in the last layer's place, and becomes the equal ESPCN. "tnrd" has no
    layers: it begins as bicubic, and what is said below of layers does not matter to it."""
    scale: int
    activation: Activation = "tanh"
    widths: tuple[int, ...] = ()
    """For "stack": the hidden layers' outputs."""
    kernels: tuple[int, ...] = ()
    """For "stack": the sides of all layers' kernels; 3 where left out."""
    residual: Residual = "none"
    """For "stack": the image that is added at the end."""
    expansion: int = 0
    """So many times as wide as its input a layer is on its way to the output while it is trained, without an
    activation in between, beside its own weights; both are merged into the one convolution that it equals.
    0 trains that convolution itself."""
    initialization: Initialization = "fitted"
    """Open in the paper. "lecun": normal, variance 1/fan-in (2/fan-in before a relu), no bias.
    "fitted": the same, then the last layer solved by least squares on training patches, so that training
    starts from a network that already interpolates. "centered": the same, but before that hidden layers are
    scaled and shifted, so that on training patches each unit's sums have mean 0 and deviation 0.5.
    "gaussian-0.001": SRCNN's (arXiv 1501.00092)."""
    start: str = ""
    """A model to start from instead, by the path of its file or by the name of a packaged one: of the same
    network, for a second stage, or of the same network at another scale, whose last layer is then solved by
    least squares."""
    interpolated_with: str = ""
    """A model, named likewise, of the same network that this one descends from. What comes out is, weight by
    weight, so much of it and for the rest what was trained: it keeps more of what the other is good at
    (Wortsman et al., arXiv 2109.01903)."""
    interpolation_share: float = 0.0
    """Of the model in ``interpolated_with``."""


@dataclass(frozen=True)
class DataConfig:
    """Which pictures, and how a low-resolution one is made."""

    folders: tuple[str, ...]
    """Below the folder given by --datasets."""
    halved: tuple[str, ...] = ()
    """Those of ``folders`` whose pictures are first made half as large: JPEGs, to shed their artifacts."""
    halved_below_quality: float = 101.0
    """Of ``halved``, only JPEGs of a lower quality are: see
    `subpixel.images.compression.jpeg_quality`."""
    degradation: Literal["bicubic", "gaussian"] = "bicubic"
    """See `subpixel.evaluation.protocol.Degradation`."""
    sigma_px: float = 1.0
    """Of the Gaussian in HR pixels; open in the paper. Used with "gaussian" alone."""
    shrink: tuple[float, ...] = (1.0,)
    """Each picture is used at these sizes: smaller copies show more detail a pixel (as in FSRCNN)."""
    compressed_copies: float = 0.0
    """So many copies of each picture are used beside it whose small picture went through JPEG or H.264, see
    `subpixel.training.compression`. A fraction of one is that share of the pictures."""
    turn: bool = False
    """Flip and rotate batches at random: eight views of each patch."""


@dataclass(frozen=True)
class PatchConfig:
    """How pictures are cut. Sides count LR pixels; an HR patch is ``scale`` times as large."""

    sampling: Literal["grid", "random"]
    """"grid" is the paper's: an epoch visits every patch of a fixed grid once. "random" draws origins."""
    side_px: int
    batch: int
    batches_per_epoch: int = 0
    """For "random", whose epochs have no natural length."""
    drawn_by: Literal["area", "picture"] = "area"
    """For "random": by "area" every pixel is seen as often as any other; by "picture" every picture is, at
    each of its sizes, so that small ones, which show more detail a pixel, have as much say as large ones."""
    border: Literal["pad", "exclude"] = "pad"
    """Pixels within the network's reach of a patch's border see padding instead of their neighbors.
    "pad" trains on them all the same (the paper's way, as far as it says); "exclude" leaves them out of the
    loss, except at the picture's own border, where the network meets padding in use too."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move; open in the paper, except for the rates."""

    name: Literal["sgd", "adam", "soap"]
    momentum: float = 0.9
    """For "sgd"."""
    last_layer_rate: float = 1.0
    """The last layer's learning rate over the others'; 0.1 in the paper."""
    basis_every: int = 10
    """For "soap": steps between updates of its bases."""
    loss: Literal["mse", "psnr"] = "mse"
    """"mse" is the paper's (equation 5): the mean over all pixels, in which patches full of detail have most
    of the say. "psnr" is minus the mean of patches' PSNR, in dB: test sets are judged by the mean over
    pictures, in which an easy one has as much say as a hard one."""
    l1_epochs: int = 0
    """So many epochs at the start minimize the mean absolute error instead of ``loss``."""
    loss_scale: float = 1.0
    """The loss is this times the mean squared error of samples in [0, 1]. Matters to "sgd" alone."""
    ema: float = 0.0
    """Decay a step of the running average of the weights that becomes the model; 0 takes the last weights."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate falls, and when training ends."""

    kind: Literal["plateau", "cosine"]
    rate: float
    final_rate: float
    max_epochs: int
    warmup_epochs: float = 0.0
    """For "cosine": the rate rises linearly over these first."""
    mu: float = 0.0
    """For "plateau", open in the paper: the rate is lowered when an epoch improves the cost by less than
    this fraction of it."""
    factor: float = 0.5
    """For "plateau", open in the paper: what the rate is multiplied by when it is lowered."""
    stop_after: int = 100
    """For "plateau": epochs without any improvement after which training stops (the paper's 100)."""


@dataclass(frozen=True)
class PrecisionConfig:
    """Arithmetic of the forward and backward passes; weights are always fp32."""

    passes: Literal["fp32", "bf16"] = "fp32"
    fp32_epochs: int = 0
    """With "bf16": so many epochs at the end run in fp32, which removes the rounding that remains."""


@dataclass(frozen=True)
class QuantizationConfig:
    """Rounding between layers while training, so that the network learns not to lean on fine differences.

    A network trained without can lose more than 0.05 dB when its layers pass on 8 bits; see
    docs/research/2026-11-27-eight-bits.md.
    """

    levels: int = 0
    """How many levels each hidden channel's range has in the forward pass; 0 for no rounding. Fewer than the
    256 of int8 teach more."""
    from_epoch: int = 0
    """The first epoch with rounding."""
    contrast: bool = False
    """Whether those ranges are also the ones of a patch of black and white blocks, another in each batch, as
    calibration makes room for: the network then learns not to let text and drawings widen them."""


@dataclass(frozen=True)
class ValidationConfig:
    """What progress is measured on. Never a test set: nothing is chosen by looking at one."""

    folder: str = ""
    """Below --datasets; empty for none. Its pictures are left out of training, whatever folders that has."""
    limit: int | None = None
    """Only the first so many pictures."""
    every_epochs: int = 1


@dataclass(frozen=True)
class TrainingConfig:
    """A whole training run."""

    name: str
    """Of the model that comes out, such as "espcn-t91-x3"."""
    version: str
    network: NetworkConfig
    data: DataConfig
    patches: PatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    seed: int = 0
    training_data: str = ""
    """For people: what the model was trained on."""
    license: str = ""
    citation: str = ""
    test_sets: tuple[str, ...] = ()
    """Folders below --datasets on which the finished model is measured, for its facts."""

    def __post_init__(self) -> None:
        """Refuse values that fit their type but make no sense together."""
        positive = {
            "network.scale": self.network.scale,
            "patches.side_px": self.patches.side_px,
            "patches.batch": self.patches.batch,
            "optimizer.basis_every": self.optimizer.basis_every,
            "schedule.rate": self.schedule.rate,
            "schedule.final_rate": self.schedule.final_rate,
            "schedule.max_epochs": self.schedule.max_epochs,
            "validation.every_epochs": self.validation.every_epochs,
            "data.sigma_px": self.data.sigma_px,
        }
        for key, value in positive.items():
            if value <= 0:
                raise ConfigError(f"{key} must be positive, not {value}")
        if not self.data.folders:
            raise ConfigError("data.folders is empty: name at least one folder of pictures")
        if unknown := sorted(set(self.data.halved) - set(self.data.folders)):
            raise ConfigError(f"data.halved: {', '.join(unknown)} is not among data.folders")
        if any(not 0 < size <= 1 for size in self.data.shrink):
            raise ConfigError(
                f"data.shrink: each size must be above 0 and at most 1, not {list(self.data.shrink)}"
            )
        if self.data.compressed_copies < 0:
            raise ConfigError(
                f"data.compressed_copies must not be negative, not {self.data.compressed_copies}"
            )
        if self.patches.sampling == "random" and self.patches.batches_per_epoch < 1:
            raise ConfigError('patches.sampling = "random" needs patches.batches_per_epoch')
        if self.schedule.final_rate > self.schedule.rate:
            raise ConfigError("schedule.final_rate is above schedule.rate")
        if self.schedule.kind == "plateau" and self.optimizer.loss == "psnr":
            raise ConfigError(
                'schedule.kind = "plateau" compares costs by their ratio: not with loss = "psnr"'
            )
        if not 0 < self.schedule.factor < 1:
            raise ConfigError(f"schedule.factor must lie between 0 and 1, not {self.schedule.factor}")
        if self.quantization.levels < 0 or self.quantization.levels == 1:
            raise ConfigError(f"quantization.levels must be 0 or at least 2, not {self.quantization.levels}")
        if (self.network.kind == "stack") != bool(self.network.widths):
            raise ConfigError('network.widths goes with network.kind = "stack", which needs it')
        if self.network.kernels and len(self.network.kernels) != len(self.network.widths) + 1:
            raise ConfigError("network.kernels needs one side more than network.widths: the last layer's")
        if not 0 <= self.network.interpolation_share < 1:
            raise ConfigError(
                "network.interpolation_share must be at least 0 and below 1, "
                f"not {self.network.interpolation_share}"
            )
        if bool(self.network.interpolated_with) != (self.network.interpolation_share > 0):
            raise ConfigError("network.interpolated_with and network.interpolation_share go together")
        if self.network.interpolated_with and self.network.kind in ("tnrd", "espcn-deconvolution"):
            raise ConfigError(
                f'network.kind = "{self.network.kind}" can\'t be interpolated with another model'
            )
        random_and_padded = self.patches.sampling == "random" and self.patches.border == "pad"
        if self.network.kind == "tnrd" and not (random_and_padded and not self.network.start):
            raise ConfigError('network.kind = "tnrd" goes with random, padded patches, and starts anew')
        if not 0 <= self.optimizer.ema < 1:
            raise ConfigError(f"optimizer.ema must be at least 0 and below 1, not {self.optimizer.ema}")


def load_config(path: Path) -> TrainingConfig:
    """Read a configuration.

    Raises:
        ConfigError: names the file, the field and what it may be; unknown fields are refused, since a
            misspelt one would silently train something else.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return _build(TrainingConfig, _renamed(data, path), "")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


_RENAMED = {
    "licence": "license",
    "optimiser": "optimizer",
    "quantisation": "quantization",
    "network.initialisation": "network.initialization",
    "network.mixed_with": "network.interpolated_with",
    "network.mixed_share": "network.interpolation_share",
}
"""Fields of version 0.1, whose names go in 0.3."""


def _renamed(data: Mapping[str, Any], path: Path, prefix: str = "") -> dict[str, Any]:
    """A table with the old names of fields replaced, each with a DeprecationWarning."""
    result: dict[str, Any] = {}
    for name, value in data.items():
        now = _RENAMED.get(prefix + name, prefix + name)
        if now != prefix + name:
            warnings.warn(f"{path}: {prefix}{name} is now {now}", DeprecationWarning, stacklevel=3)
        table = isinstance(value, dict) and not prefix
        result[now.removeprefix(prefix)] = _renamed(value, path, f"{name}.") if table else value
    return result


T = TypeVar("T")


def _build(kind: type[T], data: Mapping[str, Any], prefix: str) -> T:
    """Make a dataclass of ``kind`` from a TOML table, checking each field's name and type."""
    hints = get_type_hints(kind)
    unknown = sorted(data.keys() - hints.keys())
    if unknown:
        raise ConfigError(f"unknown field {prefix}{unknown[0]}; known here: {', '.join(hints)}")
    values: dict[str, Any] = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        if entry.name in data:
            values[entry.name] = _convert(hints[entry.name], data[entry.name], prefix + entry.name)
    try:
        return kind(**values)
    except TypeError as error:  # a field without a default is missing
        missing = str(error).partition("argument")[2].lstrip("s: ") or str(error)
        raise ConfigError(f"missing {'in ' + prefix.rstrip('.') if prefix else 'field'}: {missing}") from None


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table, not {value!r}")
        return _build(hint, value, f"{name}.")
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name} must be one of {', '.join(map(repr, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{name} must be a list, not {value!r}")
        return tuple(_convert(arguments[0], item, name) for item in value)
    if origin in (Union, types.UnionType):
        return _convert(next(kind for kind in arguments if kind is not type(None)), value, name)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{name} must be {hint.__name__}, not {value!r}")
    return value
