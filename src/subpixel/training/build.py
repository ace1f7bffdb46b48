"""Builds the network, the data and the optimizer of a training run from its config."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from subpixel.engines.base import from_float
from subpixel.errors import ConfigError, ModelError
from subpixel.evaluation.protocol import Degradation, find_images
from subpixel.models import catalog as packaged
from subpixel.models.calibration import MAX_CROPS
from subpixel.models.model import Model
from subpixel.models.networks import espcn, srcnn, stack
from subpixel.models.spec import ModelSpec
from subpixel.training.clips import (
    ClipPatches,
    FrameSequence,
    check_halved,
    find_training_clips,
    load_clips,
    load_stills,
    refuse_held_out,
)
from subpixel.training.config import DataConfig, NetworkConfig, TrainingConfig
from subpixel.training.data import Pair, Patches, load_pairs
from subpixel.training.frames_config import ClipsConfig
from subpixel.training.frames_network import FramesNetwork
from subpixel.training.initialization import balance, center, fit_last_layer, initialize
from subpixel.training.network import DeconvolutionNetwork, Network, Trainable
from subpixel.training.recurrent_network import RecurrentNetwork, recurrent_spec
from subpixel.training.soap import SOAP
from subpixel.training.tnrd import TrainableTNRD

FIT_BATCHES = 12
"""Batches on which hidden layers are centered and the last layer is fitted."""


def network_spec(config: NetworkConfig) -> ModelSpec:
    """Return the spec of the network that a config describes; SRCNN always has relu.

    Raises:
        ConfigError: the network is not a stack of convolutions ("tnrd"), or is unknown.
    """
    scale, activation = config.scale, config.activation
    match config.kind:
        case "srcnn-915":
            return srcnn(scale, middle=1)
        case "srcnn-955":
            return srcnn(scale, middle=5)
        case "espcn" | "espcn-deconvolution":
            return espcn(scale, activation=activation)
        case "espcn-pre-upsampling":
            return espcn(scale, activation=activation, upsampling="bicubic")
        case "stack":
            return stack(
                scale,
                config.widths,
                kernels=config.kernels,
                activation=activation,
                residual=config.residual,
            )
    raise ConfigError(f'network.kind = "{config.kind}" has no spec of convolutions')


def make_network(
    config: TrainingConfig, datasets: Path, device: torch.device
) -> tuple[Trainable, Patches | ClipPatches]:
    """Build the network with its initial weights, and the patches to train it on.

    They are built together, because the size of the network's receptive field affects how patches are cut,
    and the last layer may be fitted to patches.
    """
    generator = torch.Generator().manual_seed(config.seed)
    if config.network.kind == "tnrd":
        tnrd = TrainableTNRD(config.network.scale, generator=generator).to(device)
        return tnrd, make_patches(config, datasets, device, (), 0)
    if config.clips is not None:
        several = make_frames_network(config, generator).to(device)
        return several, make_clip_patches(config, config.clips, datasets, several.halo_px, device)
    spec = network_spec(config.network)
    network = Network(spec, config.network.expansion)
    initialize(network, config.network.initialization, generator)
    complete = bool(config.network.start) and load_start(network, config.network.start)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernels = [layer.kernel for layer in spec.layers]
    patches = make_patches(config, datasets, device, kernels, spec.halo_px)
    if config.network.initialization in ("fitted", "centered") and not complete:
        batches = [batch for batch, _ in zip(patches.epoch(0), range(FIT_BATCHES), strict=False)]
        if config.network.initialization == "centered" and not config.network.start:
            center(network, torch.cat([batch.lr for batch in batches]))
        fit_last_layer(network, [(batch.lr, batch.target) for batch in batches])
    if config.network.kind == "espcn-deconvolution":
        return DeconvolutionNetwork.like(network), patches
    return network, patches


def load_start(network: Network, start: str) -> bool:
    """Copy the weights of the model ``start``, a name or path; return whether the last layer's are included.

    They are not if only the last layer differs, as in the same network for another scale, or if the network
    has only the first hidden layers of a deeper one.

    Raises:
        ConfigError: the hidden layers differ.
    """
    model, wanted = packaged.find(start), network.spec
    given = model.spec
    if given == wanted:
        network.load_model(model)
        return True
    hidden = wanted.layers[:-1]
    if given.layers[:-1][: len(hidden)] != hidden or given.layers[-1].kernel != wanted.layers[-1].kernel:
        raise ConfigError(f"network.start: {start} is another network than the config describes")
    network.load_model(model, last=False)
    balance(network)
    return False


def load_interpolated(config: NetworkConfig, device: torch.device) -> Network | None:
    """Load the network of ``interpolated_with``; None if the config names none.

    Raises:
        ConfigError: it is not the network that the config describes.
    """
    if not config.interpolated_with:
        return None
    model: Model = packaged.find(config.interpolated_with)
    if model.spec != network_spec(config):
        raise ConfigError(
            f"network.interpolated_with: {config.interpolated_with} is another network "
            "than the config describes"
        )
    network = Network(model.spec).to(device)
    network.load_model(model)
    return network


def make_patches(
    config: TrainingConfig, datasets: Path, device: torch.device, kernels: Sequence[int], halo_px: int
) -> Patches:
    """Load the training images and prepare to cut patches from them, for a network of these kernels."""
    return Patches(
        load_training_pairs(config, datasets),
        config.network.scale,
        config.patches,
        kernels=kernels,
        halo_px=halo_px,
        augment=config.data.augment,
        seed=config.seed,
        device=device,
    )


def make_frames_network(
    config: TrainingConfig, generator: torch.Generator
) -> FramesNetwork | RecurrentNetwork:
    """Build the network over several frames that a config describes, with its initial weights."""
    if config.recurrent is None:
        assert config.frames is not None
        return FramesNetwork(config.network, config.frames, generator)
    base: Model = packaged.find(config.recurrent.base)
    try:
        spec = recurrent_spec(config.network, config.recurrent, base.spec)
    except ModelError as error:
        raise ConfigError(f"[recurrent]: {error}") from None
    network = RecurrentNetwork(spec, generator=generator)
    network.load_base(base)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def make_clip_patches(
    config: TrainingConfig, clips: ClipsConfig, datasets: Path, halo_px: int, device: torch.device
) -> ClipPatches:
    """Read the clips to train on, make the moving stills, and prepare to cut patches from them.

    Raises:
        ConfigError: a clip is one of those for tests or validation.
    """
    paths = find_training_clips(datasets / clips.folder)
    check_halved(clips, [*paths, *validation_clips(config, datasets)])
    scale, degradation = config.network.scale, degradation_of(config.data)
    sequences = load_clips(paths, clips, clips.frames, scale, degradation)
    tests = [path for folder in clips.held_out for path in find_training_clips(datasets / folder)]
    refuse_held_out(sequences, [*validation_clips(config, datasets), *tests])
    stills = []
    if clips.stills:
        pictures = [path for folder in config.data.folders for path in find_images(datasets / folder)]
        stills = load_stills(clips, pictures, scale, degradation, config.seed)
    return ClipPatches(
        sequences,
        stills,
        scale,
        config.patches,
        clips,
        frames=config.recurrent.frames if config.recurrent else config.frames.count if config.frames else 1,
        all_frames=config.recurrent is not None,
        halo_px=halo_px,
        augment=config.data.augment,
        seed=config.seed,
        device=device,
    )


def validation_clips(config: TrainingConfig, datasets: Path) -> list[Path]:
    """List the clips for validation of a config with ``clips``."""
    validation = config.validation
    if not validation.folder:
        return []
    return find_training_clips(datasets / validation.folder)[: validation.limit]


def load_validation_clips(config: TrainingConfig, datasets: Path) -> list[FrameSequence]:
    """Read the clips for validation; empty for a config without ``clips``."""
    if config.clips is None:
        return []
    return load_clips(
        validation_clips(config, datasets),
        config.clips,
        config.clips.validation_frames,
        config.network.scale,
        degradation_of(config.data),
    )


def load_training_pairs(config: TrainingConfig, datasets: Path) -> list[Pair]:
    """Load the images to train on: all in ``data.folders`` except those for validation.

    Raises:
        ConfigError: no image is left.
    """
    data, held_out = config.data, validation_paths(config, datasets)
    pairs = [
        pair
        for name in data.folders
        for pair in load_pairs(
            [path for path in find_images(datasets / name) if path not in held_out],
            config.network.scale,
            degradation_of(data),
            data.shrink,
            halved_below_quality=data.halved_below_quality if name in data.halved else 0,
            compressed_copies=data.compressed_copies,
        )
    ]
    if not pairs:
        raise ConfigError(
            "no image is left to train on: validation.folder contains them all; set validation.limit"
        )
    return pairs


def calibration_planes(config: TrainingConfig, datasets: Path) -> list[NDArray[np.uint8]]:
    """Return low-resolution luma of images to train on, as many as `calibrate` takes, as 8-bit planes."""
    held_out, found = validation_paths(config, datasets), []
    for name in config.data.folders:
        found += [path for path in find_images(datasets / name) if path not in held_out]
    some = [found[number] for number in np.random.default_rng(config.seed).permutation(len(found))]
    pairs = load_pairs(some[:MAX_CROPS], config.network.scale, degradation_of(config.data))
    return [from_float(pair.lr, np.dtype(np.uint8)) for pair in pairs]


def load_validation_pairs(config: TrainingConfig, datasets: Path) -> list[Pair]:
    """Load the images for validation; each compressed copy counts as one more image."""
    if config.clips is not None:
        return []
    return load_pairs(
        validation_paths(config, datasets),
        config.network.scale,
        degradation_of(config.data),
        compressed_copies=config.data.compressed_copies,
    )


def validation_paths(config: TrainingConfig, datasets: Path) -> list[Path]:
    """List the files of the images for validation."""
    validation = config.validation
    if not validation.folder:
        return []
    return find_images(datasets / validation.folder)[: validation.limit]


def degradation_of(data: DataConfig) -> Degradation:
    """Return how low-resolution images are made."""
    return Degradation(data.degradation, data.sigma_px if data.degradation == "gaussian" else None)


def make_optimizer(
    config: TrainingConfig, network: Trainable, device: torch.device, *, compiled: bool
) -> torch.optim.Optimizer:
    """Build the optimizer for a network's parameters."""
    settings, rate = config.optimizer, config.schedule.rate
    groups = network.parameter_groups(settings.last_layer_rate)
    for group in groups:  # a tensor on the device, because a CUDA graph reads its current value
        group["lr"] = torch.tensor(rate, device=device)
    on_gpu = device.type == "cuda"
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, fused=on_gpu)
    if settings.name == "adam":
        return torch.optim.Adam(groups, lr=rate, capturable=on_gpu)
    return SOAP(groups, lr=rate, compiled=compiled)
