"""The config of a training run: everything that decides the weights.

Every choice that the paper leaves open is a field, so that a run can be repeated exactly. The files in
``configs/`` have comments on their choices.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from subpixel.errors import ConfigError
from subpixel.models.spec import Activation, Residual
from subpixel.training.frames_config import ClipsConfig, FramesConfig, RecurrentConfig, check_widths

Initialization: TypeAlias = Literal["lecun", "fitted", "centered", "gaussian-0.001"]


@dataclass(frozen=True)
class NetworkConfig:
    """The network, and its initial weights."""

    kind: Literal[
        "espcn",
        "espcn-pre-upsampling",
        "espcn-deconvolution",
        "srcnn-915",
        "srcnn-955",
        "stack",
        "tnrd",
        "frames",
        "recurrent",
    ]
    """"stack" is any list of convolutions. "frames" is a stack that sees several frames, see `FramesConfig`;
    "recurrent" corrects a network by its last result, see `RecurrentConfig`.
    "espcn-pre-upsampling" is ESPCN's layers in HR space, after a bicubic upsampling. "espcn-deconvolution" is
    trained with a transposed convolution as the last layer, and becomes the equivalent ESPCN. "tnrd" starts
    as bicubic; the fields about layers do not affect it."""
    scale: int
    activation: Activation = "tanh"
    widths: tuple[int, ...] = ()
    """For "stack": the output channels of the hidden layers."""
    kernels: tuple[int, ...] = ()
    """For "stack": the kernel sides of all layers. Empty for 3 everywhere."""
    residual: Residual = "none"
    """For "stack": "nearest" adds the LR image, upsampled by nearest neighbor, to the output."""
    expansion: int = 0
    """Over-parameterization (SESR): a layer is trained as the sum of itself and of a pair of convolutions
    without an activation between them, whose middle is this many times as wide as the layer's input. At every
    step all are fused into one convolution. 0 trains that convolution itself."""
    initialization: Initialization = "fitted"
    """Open in the paper. "lecun": normal, variance 1/fan-in (2/fan-in before relu or PReLU), zero bias.
    "fitted": the same, then the last layer is solved by least squares on training patches, so that training
    starts from a network that already interpolates. "centered": the same, but before the fit the hidden
    layers are scaled and shifted, so that on training patches every unit has mean 0 and standard deviation
    0.5 before its activation. "gaussian-0.001": normal, standard deviation 0.001, as in SRCNN (arXiv
    1501.00092)."""
    start: str = ""
    """A model to start from instead, by name or path. Either the same network, for a second stage or for
    fine-tuning; or the same hidden layers, or more of them, for any scale: the last layer is then solved by
    least squares."""
    interpolated_with: str = ""
    """Weight interpolation: a model of the same network, by name or path, from which this one was fine-tuned.
    The result is the weighted mean of both models' weights, which keeps more of the other model's quality on
    its own kind of input (Wortsman et al., arXiv 2109.01903)."""
    interpolation_share: float = 0.0
    """The share of ``interpolated_with`` in that mean, from 0 to below 1."""


@dataclass(frozen=True)
class DataConfig:
    """The training images, and how low-resolution images are made from them."""

    folders: tuple[str, ...]
    """Folders of images, below the one given by --datasets."""
    halved: tuple[str, ...] = ()
    """Those of ``folders`` whose images are reduced to half their size first. Meant for JPEGs: it removes
    most of their artifacts."""
    halved_below_quality: float = 101.0
    """In ``halved``, only JPEGs below this quality are halved, see
    `subpixel.images.compression.jpeg_quality`."""
    degradation: Literal["bicubic", "gaussian", "bd"] = "bicubic"
    """See `subpixel.evaluation.protocol.Degradation`."""
    sigma_px: float = 1.0
    """For "gaussian": standard deviation of the blur in HR pixels. Open in the paper."""
    shrink: tuple[float, ...] = (1.0,)
    """Sizes at which each image is used, as fractions of its own. Reduced copies have more detail per pixel
    (as in FSRCNN)."""
    compressed_copies: float = 0.0
    """Additional copies of each image whose low-resolution image is compressed by JPEG or H.264, see
    `subpixel.training.compression`. With a fraction, that share of the images gets one copy more."""
    augment: bool = False
    """Rotate and flip batches at random: eight variants of each patch."""


@dataclass(frozen=True)
class PatchConfig:
    """How patches are cut from images. Sides are in LR pixels; an HR patch is ``scale`` times as large."""

    sampling: Literal["grid", "random"]
    """"grid" is the paper's: an epoch visits every patch of a fixed grid once. "random" draws positions."""
    side_px: int
    batch: int
    """Patches per step."""
    batches_per_epoch: int = 0
    """For "random", whose epochs have no natural length."""
    drawn_by: Literal["area", "image"] = "area"
    """For "random": with "area" every pixel is equally likely. With "image" every image is, at each of its
    sizes, so that small images, which have more detail per pixel, count as much as large ones."""
    border: Literal["pad", "exclude"] = "pad"
    """What to do with pixels whose receptive field crosses the border of the patch, so that the network sees
    padding instead of their neighbors. "pad" trains on them too (which is how we read the paper). "exclude"
    leaves them out of the loss, except at the border of the image, where there is padding in use too."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated. Open in the paper, except for the learning rates."""

    name: Literal["sgd", "adam", "soap"]
    momentum: float = 0.9
    """For "sgd"."""
    last_layer_rate: float = 1.0
    """The learning rate of the last layer divided by that of the others; 0.1 in the paper."""
    basis_every: int = 10
    """For "soap": steps between updates of its eigenbases."""
    loss: Literal["mse", "psnr"] = "mse"
    """"mse" is the paper's loss (equation 5): the mean over all pixels, which patches full of detail
    dominate. "psnr" is minus the mean PSNR of the patches, in dB. Test sets are judged by the mean PSNR of
    images, in which an easy image counts as much as a hard one."""
    l1_epochs: int = 0
    """Epochs at the start that minimize the mean absolute error instead of ``loss``."""
    loss_scale: float = 1.0
    """Factor of the loss before its gradient is taken. Matters only to "sgd"."""
    ema: float = 0.0
    """Decay per step of the running average of the weights. The average becomes the model; with 0, the last
    weights do."""


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time, and when training ends."""

    kind: Literal["plateau", "cosine"]
    rate: float
    """The highest learning rate."""
    final_rate: float
    """The lowest learning rate."""
    max_epochs: int
    warmup_epochs: float = 0.0
    """For "cosine": epochs at the start over which the rate rises linearly."""
    mu: float = 0.0
    """For "plateau", open in the paper: the rate is lowered when an epoch improves the loss by less than
    this fraction."""
    factor: float = 0.5
    """For "plateau", open in the paper: the factor by which the rate is lowered."""
    stop_after: int = 100
    """For "plateau": epochs without any improvement after which training stops (the paper's 100)."""


@dataclass(frozen=True)
class PrecisionConfig:
    """Arithmetic of the forward and backward passes. Weights are always fp32."""

    passes: Literal["fp32", "bf16"] = "fp32"
    fp32_epochs: int = 0
    """With "bf16": epochs at the end that run in fp32, to correct the errors of bf16's rounding."""


@dataclass(frozen=True)
class QuantizationConfig:
    """Fake quantization: activations are rounded during training, so that the network becomes robust to int8.

    A network trained without it can lose more than 0.05 dB in int8; see
    docs/research/2026-11-27-eight-bits.md.
    """

    levels: int = 0
    """Number of values to which each hidden channel is quantized in the forward pass; 0 for no quantization.
    Fewer than the 256 of int8 make the network more robust."""
    from_epoch: int = 0
    """The first epoch with fake quantization."""
    contrast: bool = False
    """Compute the channels' ranges over one more patch per batch, of black and white blocks, because
    calibration also makes room for these. The network then learns to keep its ranges narrow on text and
    drawings. The patch is not part of the loss."""


@dataclass(frozen=True)
class ValidationConfig:
    """Images on which progress is measured. Never a test set: no choice may depend on one."""

    folder: str = ""
    """Below --datasets; empty for none. Its images are left out of training, even if ``data.folders`` names
    it."""
    limit: int | None = None
    """Use only this many images, the first by name."""
    every_epochs: int = 1
    """Epochs between two measurements."""


@dataclass(frozen=True)
class TrainingConfig:
    """A complete training run."""

    name: str
    """Name of the model that results, such as "espcn-t91-x3"."""
    version: str
    """Version of the model that results."""
    network: NetworkConfig
    data: DataConfig
    patches: PatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    frames: FramesConfig | None = None
    """Only for a network of the kind "frames", which needs it and ``clips``."""
    recurrent: RecurrentConfig | None = None
    """Only for a network of the kind "recurrent", which needs it and ``clips``."""
    clips: ClipsConfig | None = None
    seed: int = 0
    training_data: str = ""
    """Description of the training data for the model's metadata; empty for the names of the folders."""
    license: str = ""
    citation: str = ""
    test_sets: tuple[str, ...] = ()
    """Folders below --datasets on which the finished model is measured, for its metadata."""

    def __post_init__(self) -> None:
        """Check the values of fields, and their combinations."""
        _check_values(self)
        _check_combinations(self)
        _check_clips(self)


def _check_values(config: TrainingConfig) -> None:
    """Raise `ConfigError` for a value that is not allowed in its field."""
    positive = {
        "network.scale": config.network.scale,
        "patches.side_px": config.patches.side_px,
        "patches.batch": config.patches.batch,
        "optimizer.basis_every": config.optimizer.basis_every,
        "schedule.rate": config.schedule.rate,
        "schedule.final_rate": config.schedule.final_rate,
        "schedule.max_epochs": config.schedule.max_epochs,
        "validation.every_epochs": config.validation.every_epochs,
        "data.sigma_px": config.data.sigma_px,
    }
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key} must be positive, not {value}")
    if not config.data.folders and (config.clips is None or config.clips.stills):
        raise ConfigError("data.folders is empty: name at least one folder of images")
    if any(not 0 < size <= 1 for size in config.data.shrink):
        raise ConfigError(
            f"data.shrink: each size must be above 0 and at most 1, not {list(config.data.shrink)}"
        )
    if config.data.compressed_copies < 0:
        raise ConfigError(f"data.compressed_copies must not be negative, not {config.data.compressed_copies}")
    if not 0 < config.schedule.factor < 1:
        raise ConfigError(f"schedule.factor must be between 0 and 1, not {config.schedule.factor}")
    if config.quantization.levels < 0 or config.quantization.levels == 1:
        raise ConfigError(f"quantization.levels must be 0 or at least 2, not {config.quantization.levels}")
    if not 0 <= config.network.interpolation_share < 1:
        raise ConfigError(
            "network.interpolation_share must be at least 0 and below 1, "
            f"not {config.network.interpolation_share}"
        )
    if not 0 <= config.optimizer.ema < 1:
        raise ConfigError(f"optimizer.ema must be at least 0 and below 1, not {config.optimizer.ema}")


def _check_combinations(config: TrainingConfig) -> None:
    """Raise `ConfigError` for values that do not go together."""
    if unknown := sorted(set(config.data.halved) - set(config.data.folders)):
        raise ConfigError(f"data.halved: {', '.join(unknown)} is not among data.folders")
    if config.patches.sampling == "random" and config.patches.batches_per_epoch < 1:
        raise ConfigError('patches.sampling = "random" needs patches.batches_per_epoch')
    if config.schedule.final_rate > config.schedule.rate:
        raise ConfigError("schedule.final_rate is above schedule.rate")
    if config.schedule.kind == "plateau" and config.optimizer.loss == "psnr":
        raise ConfigError('schedule.kind = "plateau" compares losses by their ratio: not with loss = "psnr"')
    if (config.network.kind in ("stack", "frames", "recurrent")) != bool(config.network.widths):
        raise ConfigError(
            'network.kind = "stack", "frames" or "recurrent" needs network.widths, and no other kind has them'
        )
    if config.network.kernels and len(config.network.kernels) != len(config.network.widths) + 1:
        raise ConfigError("network.kernels needs one more entry than network.widths, for the last layer")
    if bool(config.network.interpolated_with) != (config.network.interpolation_share > 0):
        raise ConfigError("network.interpolated_with and network.interpolation_share need each other")
    if config.network.interpolated_with and config.network.kind in ("tnrd", "espcn-deconvolution"):
        raise ConfigError(f'network.kind = "{config.network.kind}" can\'t be interpolated with another model')
    if config.network.kind == "espcn-deconvolution" and config.network.expansion:
        raise ConfigError('network.kind = "espcn-deconvolution" can\'t have network.expansion')
    random_and_padded = config.patches.sampling == "random" and config.patches.border == "pad"
    if config.network.kind == "tnrd" and not (random_and_padded and not config.network.start):
        raise ConfigError(
            'network.kind = "tnrd" needs random patches with border = "pad", and no network.start'
        )


def _check_clips(config: TrainingConfig) -> None:
    """Raise `ConfigError` for tables about several frames, and for what does not go with them."""
    kind, frames, clips = config.network.kind, config.frames, config.clips
    needed = {"frames": ("frames", "clips"), "recurrent": ("recurrent", "clips")}.get(kind, ())
    for table in ("frames", "recurrent", "clips"):
        if (getattr(config, table) is not None) != (table in needed):
            raise ConfigError(f'network.kind = "{kind}" {"needs" if table in needed else "has no"} [{table}]')
    if clips is None:
        return
    if frames is not None and frames.fusion != "early":
        check_widths(config.network.widths, frames)
    count = frames.count if frames is not None else config.recurrent.frames if config.recurrent else 1
    if min(clips.frames, clips.still_frames) < count:
        raise ConfigError(f"clips.frames and clips.still_frames must be at least {count}")
    unsupported = {
        "network.start": config.network.start,
        "network.expansion": config.network.expansion,
        "quantization.levels": config.quantization.levels if kind == "frames" else 0,
        "quantization.contrast": config.quantization.contrast,
        "test_sets": config.test_sets,
    }
    if given := [name for name, value in unsupported.items() if value]:
        raise ConfigError(f'network.kind = "{kind}" does not support {given[0]}')
    if config.network.initialization != "lecun":
        raise ConfigError(f'network.kind = "{kind}" needs network.initialization = "lecun"')
    if config.patches.sampling != "random" or config.patches.drawn_by != "image":
        raise ConfigError(f'network.kind = "{kind}" needs patches.sampling = "random", drawn_by = "image"')
