"""The training loop: trains a network as a config describes it, and can resume after every epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from subpixel.arguments import check_callables
from subpixel.errors import ConfigError
from subpixel.files import is_file
from subpixel.models.calibration import CONTRASTS, random_blocks
from subpixel.models.model import Model, ModelMetadata
from subpixel.ops.pixel_shuffle import pixel_unshuffle
from subpixel.training.build import (
    load_interpolated,
    load_validation_clips,
    load_validation_pairs,
    make_network,
    make_optimizer,
)
from subpixel.training.checkpoint import (
    CHECKPOINT,
    SMALL_CHECKPOINT,
    load_checkpoint,
    load_small_checkpoint,
    save_checkpoint,
    save_small_checkpoint,
)
from subpixel.training.config import TrainingConfig
from subpixel.training.config_file import is_stored_config, stored_config
from subpixel.training.cuda_graph import CudaGraph
from subpixel.training.loss import Loss, mean_loss
from subpixel.training.network import Network, Trainable, TrainedModel
from subpixel.training.recurrent_network import RecurrentNetwork
from subpixel.training.schedule import make_schedule
from subpixel.training.soap import SOAP

WARM_UP_STEPS = 200
"""Steps over which the rate rises after a run has resumed without the optimizer's state."""


@dataclass(frozen=True)
class EpochReport:
    """The state of a run after an epoch."""

    epoch: int
    """Epochs that are complete, from 1."""
    epochs: int
    """The most epochs that the run can take."""
    loss: float
    """Mean of the minimized loss over the epoch, for samples in [0, 1]."""
    rate: float
    """Learning rate at the end of the epoch."""
    validation_psnr_db: float | None
    """None if this epoch is not validated."""
    seconds: float
    """Time spent in this process so far."""
    eta_seconds: float


class Run:
    """A training run in a folder: a checkpoint, TensorBoard logs, and the model that results.

    The weights depend only on ``config`` and the images. Batches are drawn from ``(seed, epoch)``, so an
    interrupted and resumed run gives the same weights as an uninterrupted one on the same machine.
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
        """Load the images, and build the network, optimizer and schedule.

        Args:
            config: what to train.
            datasets: the folder that contains the folders named in the config.
            folder: where the checkpoint and logs are written.
            device: a CPU or CUDA device.
            compiled: fuse kernels with `torch.compile`: those of the bf16 passes, of SOAP and of the average.
                The final fp32 epochs are too few to be worth a second compilation.

        Raises:
            ConfigError: the config does not fit the models that it names, or leaves nothing to train on.
            DatasetError: a folder or image cannot be read, or no image is as large as a patch.
        """
        self.config, self.datasets, self.folder, self.device = config, datasets, folder, device
        # SOAP's moments of a unit that relu has silenced decay to denormals, which are slow on a CPU.
        torch.set_flush_denormal(True)
        self._interpolated_with = load_interpolated(config.network, device)
        self.network, self.patches = make_network(config, datasets, device)
        self.validation = load_validation_pairs(config, datasets)
        self.validation_clips = load_validation_clips(config, datasets)
        self.average = self.network.fused()
        if compiled and config.precision.passes != "bf16":
            raise ConfigError('--compile fuses passes in bf16: it needs precision.passes = "bf16"')
        self.compiled = compiled
        self.optimizer = make_optimizer(config, self.network, device, compiled=compiled)
        self._graph = CudaGraph(device)
        self._forward: Callable[[Tensor], Tensor] = self.network.compiled() if compiled else self.network
        self._update_average = torch.compile(update_average) if compiled else update_average
        self._decay, self._loss_sum = torch.zeros(2, device=device)
        self.schedule = make_schedule(config.schedule)
        self.next_epoch = 0
        self.finished = False
        self._warm_up_left = 0
        """Steps for which the rate is still lower, because the optimizer has no state yet."""

    def resume(self) -> bool:
        """Load the checkpoint in the folder; return False if there is none.

        Raises:
            ConfigError: the checkpoint is damaged, or belongs to another config or setting of ``compiled``.
        """
        path = self.folder / CHECKPOINT
        if not is_file(path):
            return False
        groups, numbers = load_checkpoint(path, self.optimizer, self.device)
        self._check_config(path, numbers)
        if numbers.get("compiled", False) != self.compiled:
            with_or_without = "without" if self.compiled else "with"
            raise ConfigError(f"{path}: was started {with_or_without} --compile; resume it that way")
        self.network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        self._take_numbers(numbers)
        return True

    def resume_from(self, path: Path) -> None:
        """Continue from a small checkpoint: from its averaged weights, with a new optimizer.

        Raises:
            ConfigError: it is missing or damaged, belongs to another config, or the network is of a kind that
                has none.
        """
        model, numbers = load_small_checkpoint(path)
        self._check_config(path, numbers)
        if not isinstance(self.network, Network | RecurrentNetwork) or self.config.network.kind.endswith(
            "deconvolution"
        ):
            raise ConfigError(f'network.kind = "{self.config.network.kind}" has no small checkpoints')
        self.network.load_model(model)
        self.average = self.network.fused()
        self._take_numbers(numbers)
        self._warm_up_left = WARM_UP_STEPS

    def _check_config(self, path: Path, numbers: dict[str, Any]) -> None:
        if not is_stored_config(numbers["config"], self.config):
            raise ConfigError(
                f"{path}: belongs to another config; remove it, or train elsewhere with --output"
            )

    def _take_numbers(self, numbers: dict[str, Any]) -> None:
        self.schedule.state = numbers["schedule"]
        self.next_epoch = numbers["next_epoch"]
        self.finished = numbers["finished"]

    def _save(self) -> None:
        numbers = {
            "config": stored_config(self.config),
            "compiled": self.compiled,
            "schedule": self.schedule.state,
            "next_epoch": self.next_epoch,
            "finished": self.finished,
        }
        tensors = {"network": self.network.state_dict(), "average": self.average.state_dict()}
        save_checkpoint(self.folder / CHECKPOINT, tensors, self.optimizer, numbers)
        model = self.average.to_model(self.config.name, ModelMetadata(self.config.version))
        if isinstance(model, Model):
            save_small_checkpoint(self.folder / SMALL_CHECKPOINT, model, numbers)

    def train(self, report: Callable[[EpochReport], None] = lambda report: None) -> None:
        """Train to the end. After each epoch, write a checkpoint and then call ``report``.

        Raises:
            ConfigError: the loss is not finite.
            TypeError: ``report`` cannot be called.
        """
        check_callables(report=report)
        self.folder.mkdir(parents=True, exist_ok=True)
        started, first = time.monotonic(), self.next_epoch
        epochs = self.config.schedule.max_epochs
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.next_epoch) as writer:
            while not self.finished:
                epoch = self.next_epoch
                loss = self._epoch(epoch)
                if not math.isfinite(loss):
                    raise ConfigError(
                        f"training diverged in epoch {epoch}; lower schedule.rate and start again"
                    )
                rate = self.schedule.rate(epoch + 1)
                self.finished = self.schedule.finish_epoch(epoch, loss)
                self.next_epoch += 1
                due = self.finished or self.next_epoch % self.config.validation.every_epochs == 0
                psnr_db = self.validate() if due and (self.validation or self.validation_clips) else None
                writer.add_scalar("cost", loss, epoch)
                writer.add_scalar("learning rate", rate, epoch)
                if psnr_db is not None:
                    writer.add_scalar("validation PSNR (dB)", psnr_db, epoch)
                self._save()
                seconds = time.monotonic() - started
                eta = seconds / (self.next_epoch - first) * (epochs - self.next_epoch)
                report(EpochReport(self.next_epoch, epochs, loss, rate, psnr_db, seconds, eta))

    def _epoch(self, epoch: int) -> float:
        """Train on the batches of one epoch; return the mean loss."""
        config = self.config
        bf16 = config.precision.passes == "bf16"
        bf16 = bf16 and epoch < config.schedule.max_epochs - config.precision.fp32_epochs
        quantization = config.quantization
        self.network.quantization_levels = quantization.levels if epoch >= quantization.from_epoch else 0
        loss: Loss = "l1" if epoch < config.optimizer.l1_epochs else config.optimizer.loss
        variant = bf16, loss, self.network.quantization_levels
        rng = np.random.default_rng([config.seed, epoch, 1])
        count = self.patches.batches_per_epoch
        self._loss_sum.zero_()

        def step(lr: Tensor, target: Tensor, weight: Tensor | None) -> None:
            self._step(lr, target, weight, bf16=bf16, loss=loss)

        for index, batch in enumerate(self.patches.epoch(epoch)):
            steps = epoch * count + index
            rate = self.schedule.rate(epoch + index / count) * (1 - self._warm_up_left / WARM_UP_STEPS)
            self._warm_up_left = max(0, self._warm_up_left - 1)
            for group in self.optimizer.param_groups:
                group["lr"].fill_(group["rate"] * rate)
            # The decay is lower in the first steps, so that the initial weights fade from the average.
            self._decay.fill_(min(config.optimizer.ema, steps / (steps + 1)))
            lr = batch.lr
            if quantization.contrast:  # affects the channels' ranges, and is not part of the loss
                lr = torch.cat([lr, self._black_and_white(rng)])
            self._graph(variant, step, lr, batch.target, batch.weight)
            if isinstance(self.optimizer, SOAP) and (steps + 1) % config.optimizer.basis_every == 0:
                self.optimizer.update_bases()
        return float(self._loss_sum) / count

    def _step(self, lr: Tensor, target: Tensor, weight: Tensor | None, *, bf16: bool, loss: Loss) -> None:
        """Update the weights and their average from one batch, and add its loss to the epoch's."""
        # Each weight is cast once a step, so autocast's cache of casts has no use.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            forward = self._forward if bf16 else self.network
            phases = forward(lr.contiguous(memory_format=torch.channels_last))[: len(target)]
        batch_loss = mean_loss(phases.float(), target, weight, loss)
        if self.network.regularization is not None:
            batch_loss = batch_loss + self.network.regularization
        self.optimizer.zero_grad(set_to_none=True)
        (batch_loss * self.config.optimizer.loss_scale).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            self._update_average(self.network, self.average, self._decay)
        self._loss_sum += batch_loss.detach()

    def _black_and_white(self, rng: np.random.Generator) -> Tensor:
        """Return one patch of random blocks, ``(1, 1, P, P)``."""
        black, white = CONTRASTS[int(rng.integers(len(CONTRASTS)))]
        blocks = random_blocks(self.config.patches.side_px, int(rng.integers(1, 6)), rng)
        values = np.where(blocks, white, black).astype(np.float32) / 255
        return torch.from_numpy(values)[None, None].to(self.device)

    @torch.no_grad()
    def validate(self) -> float:
        """Return the mean luma PSNR in dB over the validation images or clips, with ``scale`` pixels shaved.

        That of a clip is the mean of its frames.
        """
        values = []
        for pair in self.validation:
            lr = torch.from_numpy(pair.lr)[None, None].to(self.device)
            values.append(_psnr_db(self.average(lr), torch.from_numpy(pair.phases)))
        for clip in self.validation_clips:
            frames = (torch.from_numpy(lr / np.float32(255))[None, None].to(self.device) for lr in clip.lr[0])
            results = self.average.upscale_frames(frames)
            of_frames = [
                _psnr_db(phases, torch.from_numpy(pixel_unshuffle(hr[None], self.config.network.scale)))
                for phases, hr in zip(results, clip.hr, strict=True)
            ]
            values.append(sum(of_frames) / len(of_frames))
        return sum(values) / len(values)

    def model(self, metadata: ModelMetadata) -> TrainedModel:
        """Return a model of the averaged weights, interpolated with another model's if the config says so."""
        if self._interpolated_with is None:
            return self.average.to_model(self.config.name, metadata)
        result = self.average.fused()
        own_share = torch.tensor(1 - self.config.network.interpolation_share, device=self.device)
        with torch.no_grad():
            update_average(self._interpolated_with, result, own_share)
        return result.to_model(self.config.name, metadata)


def _psnr_db(phases: Tensor, target: Tensor) -> float:
    """PSNR of a result ``(1, scale**2, H, W)`` in [0, 1]; a pixel of each phase is ``scale`` pixels."""
    error = phases[0].clamp(0, 1).cpu() - target / 255
    return -10 * math.log10(max(float(error[:, 1:-1, 1:-1].square().mean()), 1e-10))


def choose_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" is asked for, and there is no CUDA GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU here; use --device cpu")
    return torch.device(name)


def update_average(network: Trainable, average: Trainable, decay: Tensor) -> None:
    """Move the parameters of ``average`` by ``1 - decay`` of the distance to the network's fused parameters.

    The average is of fused weights: the product of the averages of two factors is not the average of their
    products.
    """
    fused = network.fused_parameters()
    for name, mean in average.named_parameters():
        mean.lerp_(fused[name], 1 - decay)
