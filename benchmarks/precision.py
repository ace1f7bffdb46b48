"""Measure what int8 costs: mean luma PSNR of every packaged model in fp32 and int8.

    python benchmarks/precision.py --datasets ../shared/datasets

Writes ``benchmarks/results/precision.json``, for `docs/models.md`.
"""

import argparse
from pathlib import Path
from typing import Any

from shared import load, store

from subpixel.engines.select import choose
from subpixel.evaluation.protocol import evaluate_image, find_images, mean, read_image
from subpixel.evaluation.published import known_name
from subpixel.models import catalog as packaged

SETS = ("Set5", "Set14", "BSDS500/val")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="MODEL",
        help="measure only these, and keep the stored results of the others",
    )
    options = parser.parse_args()
    datasets = options.datasets
    stored: dict[str, Any] = load("precision") if options.only else {}
    for name in options.only or packaged.names():
        model = packaged.find(name)
        stored[name] = {}
        for precision in ("fp32", "int8"):
            engine = choose(model, precision=precision).engine
            stored[name][precision] = {}
            for folder in SETS:
                scores = [
                    evaluate_image(read_image(file), engine, model.scale)
                    for file in find_images(datasets / folder)
                ]
                dataset = known_name(datasets / folder) or folder
                stored[name][precision][dataset] = round(mean(scores).psnr_db, 3)
        print(name, stored[name], flush=True)
    store("precision", dict(sorted(stored.items())))


if __name__ == "__main__":
    main()
