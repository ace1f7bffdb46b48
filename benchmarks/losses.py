"""Compare training targets: mean squared error, PSNR, and the results of a teacher network.

    python benchmarks/losses.py --datasets ../shared/datasets [--threads 1]

Each run is the config of version 1 of `fast-x3`, cut to 3000 steps of 16 patches, without fake quantization,
and with one change. The teacher is the packaged `best-x3`; a share of each target is its result for the patch
(distillation). The runs are compared in fp32, on images that are not used for training or testing: the 40 of
BSDS500 that the config holds out, and photographs of scikit-image at half size. Writes
``benchmarks/results/losses.json`` after each run, and continues from it.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import skimage.data
import torch
from shared import ROOT, load, store, with_changes

from subpixel.evaluation.protocol import Degradation
from subpixel.models import catalog as packaged
from subpixel.ops.resize import imresize
from subpixel.training.config import TrainingConfig
from subpixel.training.config_file import load_config
from subpixel.training.data import Batch, Pair, Patches, make_pair
from subpixel.training.loop import Run
from subpixel.training.network import Network

EPOCHS, BATCH, SCALE = 6, 16, 3
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")


SHORT: dict[str, dict[str, Any]] = {
    "network": {"widths": (8, 16, 16, 16), "initialization": "fitted"},
    "data": {"shrink": (1.0,)},
    "optimizer": {"loss": "mse"},
    "patches": {"side_px": 40, "batch": BATCH},
    "schedule": {"max_epochs": EPOCHS},
    "precision": {"fp32_epochs": 1},
    "quantization": {"levels": 0},
    "validation": {"every_epochs": EPOCHS},
}
PSNR: dict[str, dict[str, Any]] = {"optimizer": {"loss": "psnr"}}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "mean squared error": {},
    "a teacher's pictures for half of the target": {},
    "a teacher's pictures for the target": {},
    "twice the steps": {"schedule": {"max_epochs": 2 * EPOCHS}},
    "mean squared error, centered start": {"network": {"initialization": "centered"}},
    "PSNR": PSNR,
    "PSNR, copies at 0.8 and 0.6 of the size too": PSNR | {"data": {"shrink": (1.0, 0.8, 0.6)}},
}
TEACHERS_SHARE = {
    "a teacher's pictures for half of the target": 0.5,
    "a teacher's pictures for the target": 1.0,
}


class DistillationPatches:
    """The patches of a run, with the result of a teacher network as a share of each target."""

    def __init__(self, patches: Patches, teacher: Network, share: float) -> None:
        self.patches, self.teacher, self.share = patches, teacher, share
        self.batches_per_epoch = patches.batches_per_epoch

    def epoch(self, number: int) -> Iterator[Batch]:
        """See `Patches.epoch`."""
        for batch in self.patches.epoch(number):
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                taught = self.teacher(batch.lr).float()
            yield dataclasses.replace(batch, target=torch.lerp(batch.target, taught, self.share))


def train(name: str, base: TrainingConfig, datasets: Path, photographs: list[Pair]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(with_changes(base, SHORT, CHANGES[name]), datasets, Path(folder), torch.device("cpu"))
        if share := TEACHERS_SHARE.get(name):
            model = packaged.find("best", scale=SCALE)
            teacher = Network(model.spec)
            teacher.load_model(model)
            teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            run.patches = DistillationPatches(run.patches, teacher, share)  # type: ignore[assignment, arg-type]
        run.train()
        held_out_db = run.validate()
        run.validation = photographs
        photographs_db = run.validate()
    return {"held_out_db": round(held_out_db, 3), "photographs_db": round(photographs_db, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    base = load_config(ROOT / "configs" / "fast-x3.toml")
    photographs = [
        make_pair(imresize(getattr(skimage.data, name)(), 0.5), SCALE, Degradation("bicubic"))
        for name in PHOTOGRAPHS
    ]
    runs: dict[str, Any] = load("losses").get("runs", {})
    for name in CHANGES:
        if name not in runs:
            runs[name] = train(name, base, options.datasets, photographs)
            print(name, runs[name], flush=True)
            store("losses", {"runs": runs})


if __name__ == "__main__":
    main()
