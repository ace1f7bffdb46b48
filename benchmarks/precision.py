"""What 8 bits cost: mean luma PSNR of every packaged model in fp32 and int8.

    python benchmarks/precision.py --datasets ../shared/datasets

Writes ``benchmarks/results/precision.json``, which `docs/models.md` prints.
"""

import argparse
from pathlib import Path

from shared import store

from subpixel.engines.select import choose
from subpixel.evaluation.protocol import evaluate_image, mean, pictures, read_picture
from subpixel.evaluation.published import known_name
from subpixel.models import catalog as packaged

SETS = ("Set5", "Set14", "BSDS500/val")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    stored: dict[str, dict[str, dict[str, float]]] = {}
    for name in packaged.names():
        model = packaged.find(name)
        stored[name] = {}
        for precision in ("fp32", "int8"):
            engine = choose(model, precision=precision).engine
            stored[name][precision] = {}
            for folder in SETS:
                scores = [
                    evaluate_image(read_picture(file), engine, model.scale)
                    for file in pictures(datasets / folder)
                ]
                dataset = known_name(datasets / folder) or folder
                stored[name][precision][dataset] = round(mean(scores).psnr_db, 3)
        print(name, stored[name], flush=True)
    store("precision", stored)


if __name__ == "__main__":
    main()
