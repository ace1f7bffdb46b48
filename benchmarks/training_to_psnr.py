"""How long training takes to reach a given PSNR, by the form of the network.

    python benchmarks/training_to_psnr.py --datasets ../shared/datasets

ESPCN for x3 by `configs/espcn-t91-x3.toml`, in fp32, on the same batches and from the same hidden layers,
with a last layer fitted to them: a sub-pixel convolution, the equal transposed convolution, and, behind
bicubic, one in HR space. Training alone is timed, by the processor's time of its one thread; PSNR is of the
averaged weights on pictures that are not trained on. Each form stops when it has reached the highest of
`TARGETS`, or has spent `MOST_SECONDS`. Writes ``benchmarks/results/training-to-psnr.json``.
Needs `pip install '.[train]'`.
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

from subpixel.training.config import load_config
from subpixel.training.loop import Progress, Run

Kind = Literal["espcn", "espcn-deconvolution", "espcn-enlarged-first"]
FORMS: dict[str, Kind] = {
    "sub-pixel": "espcn",
    "transposed": "espcn-deconvolution",
    "behind bicubic": "espcn-enlarged-first",
}
TARGETS = (28.7, 28.8, 28.9)
"""Mean PSNR in dB over the pictures that progress is measured on."""
MOST_SECONDS, STEPS_BETWEEN = 420, 25


class EnoughError(Exception):
    """The last target is reached, or too long has passed."""


class TimedRun(Run):
    """A run that knows how long its epochs took, without validation and checkpoints."""

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
        # The rate hardly falls in so short a time, so that none is ahead for being nearer to its end.
        schedule=dataclasses.replace(config.schedule, max_epochs=44_000 // STEPS_BETWEEN, warmup_epochs=8),
        precision=dataclasses.replace(config.precision, passes="fp32"),
        validation=dataclasses.replace(config.validation, every_epochs=1),
    )
    reached: list[dict[str, Any]] = []
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = TimedRun(config, datasets, Path(folder), torch.device("cpu"))
        start = run.validate()

        def follow(progress: Progress) -> None:
            assert progress.validation_psnr_db is not None
            steps = progress.epoch * STEPS_BETWEEN
            while len(reached) < len(TARGETS) and progress.validation_psnr_db >= TARGETS[len(reached)]:
                reached.append({"steps": steps, "seconds": round(run.spent_s, 1)})
            ends.append(progress.validation_psnr_db)
            if len(reached) == len(TARGETS) or run.spent_s > MOST_SECONDS:
                raise EnoughError

        with contextlib.suppress(EnoughError):
            run.train(follow)
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
