"""Measures the choices in the config of `espcn-t91-x3`: a short run, with one choice changed at a time.

    python benchmarks/training_choices.py --datasets ../shared/datasets

Each run is `configs/espcn-t91-x3.toml` shortened to 2000 steps. PSNR is measured on images that are neither
trained nor tested on. All runs have the same number of steps, not the same time, because the convolutions
take most of the time of a step. Writes ``benchmarks/results/training-choices.json``, from which a table of
``docs/research`` is made.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from shared import ROOT, store, with_changes

from subpixel.training.config_file import load_config
from subpixel.training.loop import Run

EPOCHS = 10
SHORT = {"schedule": {"max_epochs": EPOCHS}, "precision": {"fp32_epochs": 2}}

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "as shipped": {},
    "Adam at 0.001": {"optimizer": {"name": "adam"}, "schedule": {"rate": 0.001}},
    "Adam at 0.003": {"optimizer": {"name": "adam"}},
    "random last layer": {"network": {"initialization": "lecun"}},
    "random last layer, Adam at 0.001": {
        "network": {"initialization": "lecun"},
        "optimizer": {"name": "adam"},
        "schedule": {"rate": 0.001},
    },
    "padding at patch borders in the loss": {"patches": {"border": "pad"}},
    "centered start, padding at patch borders in the loss": {
        "network": {"initialization": "centered"},
        "patches": {"border": "pad"},
    },
    "no smaller copies": {"data": {"shrink": (1.0,)}},
    "no flips and turns": {"data": {"augment": False}},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    torch.set_num_threads(1)
    config = load_config(ROOT / "configs" / "espcn-t91-x3.toml")
    results = {}
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            run = Run(with_changes(config, SHORT, change), datasets, Path(folder), torch.device("cpu"))
            start = run.validate()
            run.train()
            results[name] = {"start_psnr_db": round(start, 2), "psnr_db": round(run.validate(), 3)}
        print(
            f"| {name} | {results[name]['start_psnr_db']:.2f} | {results[name]['psnr_db']:.2f} |", flush=True
        )
    steps = EPOCHS * config.patches.batches_per_epoch
    validation = f"{config.validation.folder}, first {config.validation.limit}"
    store(
        "training-choices",
        {"config": "espcn-t91-x3.toml", "steps": steps, "pictures": validation, "results": results},
    )


if __name__ == "__main__":
    main()
