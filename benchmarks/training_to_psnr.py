"""Measures how long training takes to reach a given PSNR, by the form of the network.

    python benchmarks/training_to_psnr.py --datasets ../shared/datasets

All forms are ESPCN for x3 with `configs/espcn-t91-x3.toml`, in fp32, on the same batches and from the same
hidden layers, with a last layer that is fitted to these. The last layer is a sub-pixel convolution or the
equivalent transposed convolution, or all layers are in HR space, after a bicubic upsampling. The time is the
CPU time of training on one thread, without validation. PSNR is of the averaged weights, on images that are
not trained on. Each form stops at the highest of `TARGETS` or after `MAX_SECONDS`. Writes
``benchmarks/results/training-to-psnr.json``. Needs `pip install '.[train]'`.
"""

import argparse
import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
from shared import ROOT, store

from subpixel.training.config_file import load_config
from subpixel.training.loop import EpochReport, Run

Kind = Literal["espcn", "espcn-deconvolution", "espcn-pre-upsampling"]
FORMS: dict[str, Kind] = {
    "sub-pixel": "espcn",
    "transposed": "espcn-deconvolution",
    "behind bicubic": "espcn-pre-upsampling",
}
TARGETS = (28.7, 28.8, 28.9)
"""Mean PSNR in dB over the validation images."""
MAX_SECONDS, STEPS_BETWEEN = 420, 25


class StopTrainingError(Exception):
    """The last target is reached, or the time is up."""


class TimedRun(Run):
    """A run that adds up the CPU time of its epochs, without validation and checkpoints."""

    spent_s = 0.0

    def _epoch(self, epoch: int) -> float:
        started = time.process_time()
        cost = super()._epoch(epoch)
        self.spent_s += time.process_time() - started
        return cost


def time_to_targets(kind: Kind, datasets: Path) -> dict[str, Any]:
    config = load_config(ROOT / "configs" / "espcn-t91-x3.toml")
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, kind=kind),
        patches=dataclasses.replace(config.patches, batches_per_epoch=STEPS_BETWEEN, border="pad"),
        # So long a schedule that the rate hardly falls, so that no form gains from being nearer to its end.
        schedule=dataclasses.replace(config.schedule, max_epochs=44_000 // STEPS_BETWEEN, warmup_epochs=8),
        precision=dataclasses.replace(config.precision, passes="fp32"),
        validation=dataclasses.replace(config.validation, every_epochs=1),
    )
    reached: list[dict[str, Any]] = []
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = TimedRun(config, datasets, Path(folder), torch.device("cpu"))
        start = run.validate()

        def record(report: EpochReport) -> None:
            assert report.validation_psnr_db is not None
            steps = report.epoch * STEPS_BETWEEN
            while len(reached) < len(TARGETS) and report.validation_psnr_db >= TARGETS[len(reached)]:
                reached.append({"steps": steps, "seconds": round(run.spent_s, 1)})
            ends.append(report.validation_psnr_db)
            if len(reached) == len(TARGETS) or run.spent_s > MAX_SECONDS:
                raise StopTrainingError

        with contextlib.suppress(StopTrainingError):
            run.train(record)
    return {"start_db": round(start, 3), "end_db": round(ends[-1], 3), "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    torch.set_num_threads(1)
    stored: dict[str, Any] = {"threads": 1, "targets_db": TARGETS, "forms": {}}
    for name, kind in FORMS.items():
        stored["forms"][name] = time_to_targets(kind, datasets)
        print(name, stored["forms"][name], flush=True)
        store("training-to-psnr", stored)


if __name__ == "__main__":
    main()
