"""The training loop: from a configuration to a `Model`, resumable at every epoch."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from subpixel.engines.tnrd import TnrdModel
from subpixel.errors import ConfigError
from subpixel.evaluation.protocol import Degradation, pictures
from subpixel.files import is_file
from subpixel.models import catalog as packaged
from subpixel.models.calibration import CONTRASTS, random_blocks
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.networks import espcn, srcnn, stack
from subpixel.models.spec import ModelSpec
from subpixel.training.checkpoint import load_checkpoint, save_checkpoint
from subpixel.training.config import NetworkConfig, TrainingConfig
from subpixel.training.cuda_graph import CudaGraph
from subpixel.training.data import Pair, Patches, load_pairs
from subpixel.training.network import (
    DeconvolutionNetwork,
    Network,
    Trainable,
    center,
    fit_last_layer,
    initialize,
)
from subpixel.training.schedule import make_schedule
from subpixel.training.soap import SOAP
from subpixel.training.tnrd import TrainableTNRD

CHECKPOINT = "checkpoint.safetensors"

Loss: TypeAlias = Literal["l1", "mse", "psnr"]
PSNR_FLOOR = 1e-4
"""Added to a patch's mean squared error before its logarithm is taken: 40 dB. A flat patch, which any network
renders to within rounding, would otherwise have more say than all that there is to learn from."""


@dataclass(frozen=True)
class Progress:
    """What a run tells after each epoch."""

    epoch: int
    epochs: int
    cost: float
    """Mean loss over the epoch, the one that was minimized, of samples in [0, 1]."""
    rate: float
    validation_psnr_db: float | None
    seconds: float
    """Spent in this process so far."""
    eta_seconds: float


def describe(config: NetworkConfig) -> ModelSpec:
    """The stack of layers that a configuration asks for; SRCNN's activation is its own, relu."""
    scale, activation = config.scale, config.activation
    match config.kind:
        case "srcnn-915":
            return srcnn(scale, middle=1)
        case "srcnn-955":
            return srcnn(scale, middle=5)
        case "espcn-enlarged-first":
            return espcn(scale, activation=activation, upsampling="bicubic")
        case "stack":
            return stack(
                scale,
                config.widths,
                kernels=config.kernels,
                activation=activation,
                residual=config.residual,
            )
    return espcn(scale, activation=activation)


class Run:
    """A run in a folder: checkpoint, TensorBoard logs and, at the end, the model.

    Everything that decides the weights is in ``config``; batches are drawn from ``(seed, epoch)``, so that a
    run that was killed and resumed gives the same weights as one that was not (on the same machine).
    """

    def __init__(
        self,
        config: TrainingConfig,
        datasets: Path,
        folder: Path,
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        """Read the pictures below ``datasets``, and build network, optimizer and schedule.

        ``compiled`` fuses kernels by `torch.compile`: the network's for the passes in bf16 (those in fp32 are
        too few for a second compilation to pay), SOAP's and the average's.
        """
        self.config, self.datasets, self.folder, self.device = config, datasets, folder, device
        # What SOAP remembers of a unit that relu has silenced decays into numbers that a CPU is slow at.
        torch.set_flush_denormal(True)
        self._interpolated_with = self._other_network()
        generator = torch.Generator().manual_seed(config.seed)
        self.network: Trainable
        if config.network.kind == "tnrd":
            self.network = TrainableTNRD(config.network.scale, generator=generator).to(device)
            self.patches = self._make_patches((), 0)
        else:
            self.network = self._make_network(describe(config.network), generator)
        self.validation = self._load_validation()
        self.average = self.network.without_expansion()
        if compiled and config.precision.passes != "bf16":
            raise ConfigError('--compile fuses passes in bf16: it needs precision.passes = "bf16"')
        self.compiled = compiled
        self.optimizer = self._make_optimizer()
        self._replay = CudaGraph(device)
        self._fused: Callable[[Tensor], Tensor] = torch.compile(self.network) if compiled else self.network
        self._averaged = torch.compile(follow) if compiled else follow
        self._decay, self._cost = torch.zeros(2, device=device)
        self.schedule = make_schedule(config.schedule)
        self.next_epoch = 0
        self.finished = False

    def _make_network(self, spec: ModelSpec, generator: torch.Generator) -> Network:
        """A stack of convolutions with its starting weights; the last layer's may be fitted to patches."""
        config = self.config.network
        network = Network(spec, config.expansion)
        initialize(network, config.initialization, generator)
        whole = bool(config.start) and self._start_from(packaged.find(config.start), network)
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.patches = self._make_patches([layer.kernel for layer in spec.layers], spec.halo_px)
        if config.initialization in ("fitted", "centered") and not whole:
            batches = [batch for batch, _ in zip(self.patches.epoch(0), range(12), strict=False)]
            if config.initialization == "centered" and not config.start:
                center(network, torch.cat([batch.lr for batch in batches]))
            fit_last_layer(network, [(batch.lr, batch.target) for batch in batches])
        return DeconvolutionNetwork.like(network) if config.kind == "espcn-deconvolution" else network

    def _make_patches(self, kernels: Sequence[int], halo_px: int) -> Patches:
        return Patches(
            self._load_pairs(),
            self.config.network.scale,
            self.config.patches,
            kernels=kernels,
            halo_px=halo_px,
            turn=self.config.data.turn,
            seed=self.config.seed,
            device=self.device,
        )

    def _start_from(self, model: Model, network: Network) -> bool:
        """Take over a model's weights; whether the last layer's are among them."""
        wanted = network.spec
        given = model.spec
        if given == wanted:
            network.load_model(model)
            return True
        if given.layers[:-1] != wanted.layers[:-1] or given.layers[-1].kernel != wanted.layers[-1].kernel:
            start = self.config.network.start
            raise ConfigError(f"network.start: {start} is another network than the configuration describes")
        network.load_model(model, last=False)
        network.balance()
        return False

    def _load_pairs(self) -> list[Pair]:
        """The pictures to train on: all but those for validation."""
        data, held_out = self.config.data, self._validation_paths()
        pairs = [
            pair
            for name in data.folders
            for pair in load_pairs(
                [path for path in pictures(self.datasets / name) if path not in held_out],
                self.config.network.scale,
                self._degradation(),
                data.shrink,
                halved_below_quality=data.halved_below_quality if name in data.halved else 0,
                compressed_copies=data.compressed_copies,
            )
        ]
        if not pairs:
            raise ConfigError(
                "no picture is left to train on: validation.folder holds them all; set its limit"
            )
        return pairs

    def _load_validation(self) -> list[Pair]:
        """Compressed copies count like pictures of their own."""
        return load_pairs(
            self._validation_paths(),
            self.config.network.scale,
            self._degradation(),
            compressed_copies=self.config.data.compressed_copies,
        )

    def _validation_paths(self) -> list[Path]:
        validation = self.config.validation
        if not validation.folder:
            return []
        return pictures(self.datasets / validation.folder)[: validation.limit]

    def _degradation(self) -> Degradation:
        data = self.config.data
        return Degradation(data.degradation, data.sigma_px if data.degradation == "gaussian" else None)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config.optimizer
        rate = self.config.schedule.rate
        groups = self.network.parameter_groups(config.last_layer_rate)
        for group in groups:  # each its own, on the device: a recorded step reads what it is by then
            group["lr"] = torch.tensor(rate, device=self.device)
        on_gpu = self.device.type == "cuda"
        if config.name == "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=on_gpu)
        if config.name == "adam":
            return torch.optim.Adam(groups, lr=rate, capturable=on_gpu)
        return SOAP(groups, lr=rate, compiled=self.compiled)

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False when there is none."""
        path = self.folder / CHECKPOINT
        if not is_file(path):
            return False
        groups, numbers = load_checkpoint(path, self.optimizer, self.device)
        if numbers["config"] != self._fingerprint():
            raise ConfigError(
                f"{path}: belongs to another configuration; remove it, or train elsewhere with --output"
            )
        if numbers.get("compiled", False) != self.compiled:
            with_or_without = "without" if self.compiled else "with"
            raise ConfigError(f"{path}: was begun {with_or_without} --compile: go on so")
        self.network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        self.schedule.state = numbers["schedule"]
        self.next_epoch = numbers["next_epoch"]
        self.finished = numbers["finished"]
        return True

    def _fingerprint(self) -> str:
        return json.dumps(dataclasses.asdict(self.config), sort_keys=True)

    def _save(self) -> None:
        numbers = {
            "config": self._fingerprint(),
            "compiled": self.compiled,
            "schedule": self.schedule.state,
            "next_epoch": self.next_epoch,
            "finished": self.finished,
        }
        tensors = {"network": self.network.state_dict(), "average": self.average.state_dict()}
        save_checkpoint(self.folder / CHECKPOINT, tensors, self.optimizer, numbers)

    def train(self, report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train to the end; each epoch is followed by a checkpoint, then by a call of ``report``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started, first = time.monotonic(), self.next_epoch
        epochs = self.config.schedule.max_epochs
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.next_epoch) as writer:
            while not self.finished:
                epoch = self.next_epoch
                cost = self._epoch(epoch)
                if not math.isfinite(cost):
                    raise ConfigError(
                        f"training diverged in epoch {epoch}; lower schedule.rate and start anew"
                    )
                rate = self.schedule.rate(epoch + 1)
                self.finished = self.schedule.finish_epoch(epoch, cost)
                self.next_epoch += 1
                due = self.finished or self.next_epoch % self.config.validation.every_epochs == 0
                psnr_db = self.validate() if due and self.validation else None
                writer.add_scalar("cost", cost, epoch)
                writer.add_scalar("learning rate", rate, epoch)
                if psnr_db is not None:
                    writer.add_scalar("validation PSNR (dB)", psnr_db, epoch)
                self._save()
                seconds = time.monotonic() - started
                eta = seconds / (self.next_epoch - first) * (epochs - self.next_epoch)
                report(Progress(self.next_epoch, epochs, cost, rate, psnr_db, seconds, eta))

    def _epoch(self, epoch: int) -> float:
        """One pass over the epoch's batches; its mean cost."""
        config = self.config
        bf16 = config.precision.passes == "bf16"
        bf16 = bf16 and epoch < config.schedule.max_epochs - config.precision.fp32_epochs
        quantization = config.quantization
        self.network.levels = quantization.levels if epoch >= quantization.from_epoch else 0
        loss: Loss = "l1" if epoch < config.optimizer.l1_epochs else config.optimizer.loss
        kind = bf16, loss, self.network.levels
        rng = np.random.default_rng([config.seed, epoch, 1])
        count = self.patches.batches_per_epoch
        self._cost.zero_()

        def step(lr: Tensor, target: Tensor, weight: Tensor | None) -> None:
            self._step(lr, target, weight, bf16=bf16, loss=loss)

        for index, batch in enumerate(self.patches.epoch(epoch)):
            done = epoch * count + index
            for group in self.optimizer.param_groups:
                group["lr"].fill_(group["rate"] * self.schedule.rate(epoch + index / count))
            # The average forgets faster early on, so that the start fades.
            self._decay.fill_(min(config.optimizer.ema, done / (done + 1)))
            lr = batch.lr
            if quantization.contrast:  # widens the channels' ranges, and is not part of the cost
                lr = torch.cat([lr, self._black_and_white(rng)])
            self._replay(kind, step, lr, batch.target, batch.weight)
            if isinstance(self.optimizer, SOAP) and (done + 1) % config.optimizer.basis_every == 0:
                self.optimizer.turn()
        return float(self._cost) / count

    def _step(self, lr: Tensor, target: Tensor, weight: Tensor | None, *, bf16: bool, loss: Loss) -> None:
        """Move the weights and their average by what one batch says; add its cost to the epoch's."""
        # Weights are used once, so nothing is gained by keeping what they were cast to.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            network = self._fused if bf16 else self.network
            phases = network(lr.contiguous(memory_format=torch.channels_last))[: len(target)]
        cost = mean_loss(phases.float(), target, weight, loss)
        self.optimizer.zero_grad(set_to_none=True)
        (cost * self.config.optimizer.loss_scale).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self._follow()
        self._cost += cost.detach()

    def _black_and_white(self, rng: np.random.Generator) -> Tensor:
        """One patch of random blocks, ``(1, 1, P, P)``."""
        black, white = CONTRASTS[int(rng.integers(len(CONTRASTS)))]
        blocks = random_blocks(self.config.patches.side_px, int(rng.integers(1, 6)), rng)
        values = np.where(blocks, white, black).astype(np.float32) / 255
        return torch.from_numpy(values)[None, None].to(self.device)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average of the merged weights.

        Averages of the factors that they are products of would not be factors of their averages.
        """
        self._averaged(self.network, self.average, self._decay)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean luma PSNR in dB over the validation pictures, ``scale`` pixels shaved."""
        values = []
        for pair in self.validation:
            lr = torch.from_numpy(pair.lr)[None, None].to(self.device)
            error = self.average(lr)[0].clamp(0, 1).cpu() - torch.from_numpy(pair.phases) / 255
            # Shaving `scale` HR pixels is shaving one LR pixel from every phase.
            values.append(-10 * math.log10(float(error[:, 1:-1, 1:-1].square().mean())))
        return sum(values) / len(values)

    def model(self, metadata: ModelMetadata) -> Model | TnrdModel:
        """The model as it stands: the averaged weights, mixed with another model's if it should be."""
        if self._interpolated_with is None:
            return self.average.to_model(self.config.name, metadata)
        mixed = self.average.without_expansion()
        own_share = torch.tensor(1 - self.config.network.interpolation_share, device=self.device)
        with torch.no_grad():
            follow(self._interpolated_with, mixed, own_share)
        return mixed.to_model(self.config.name, metadata)

    def _other_network(self) -> Network | None:
        """The network that the result is to be mixed with."""
        if not self.config.network.interpolated_with:
            return None
        model = packaged.find(self.config.network.interpolated_with)
        if model.spec != describe(self.config.network):
            raise ConfigError(
                f"network.interpolated_with: {self.config.network.interpolated_with} is another network "
                "than the configuration describes"
            )
        other = Network(model.spec).to(self.device)
        other.load_model(model)
        return other


def follow(network: Trainable, average: Trainable, decay: Tensor) -> None:
    """Move an average's parameters by ``1 - decay`` of the way to those of the network, merged."""
    merged = network.merged()
    for name, mean in average.named_parameters():
        mean.lerp_(merged[name], 1 - decay)


def mean_loss(phases: Tensor, target: Tensor, weight: Tensor | None, loss: Loss = "mse") -> Tensor:
    """One number for a batch's errors, over the pixels that count.

    Absolute or squared it is their mean; squared it is the paper's loss (equation 5), and before the shuffle
    the same number as after it. "psnr" is the mean of the patches' ``10 log10(mse + PSNR_FLOOR)``.
    """
    errors = phases - target
    errors = errors.abs() if loss == "l1" else errors.square()
    axes = tuple(range(1 if loss == "psnr" else 0, errors.ndim))
    if weight is None:
        means = errors.mean(axes)
    else:
        means = (errors * weight).sum(axes) / weight.expand_as(errors).sum(axes)
    return 10 * (means + PSNR_FLOOR).log10().mean() if loss == "psnr" else means


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means here; `ConfigError` where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU here; use --device cpu")
    return torch.device(name)
