"""What it costs that flat areas stay flat: mean luma PSNR of packaged models with the rule and without.

    python benchmarks/flat.py --datasets ../shared/datasets

Writes ``benchmarks/results/flat.json``: dB in int8 without the rule of `subpixel.engines.flat`, and what the
rule adds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import store

from subpixel.engines.halide import HalideEngine
from subpixel.evaluation.protocol import evaluate_image, mean, pictures, read_picture
from subpixel.evaluation.published import known_name
from subpixel.models import catalog as packaged

SETS = ("Set5", "Set14", "BSDS500/val")


class WithoutRule(HalideEngine):
    """The network alone."""

    def _keep_flat(self, tensor: NDArray[Any], result: NDArray[Any], context_px: int = 0) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    stored: dict[str, dict[str, dict[str, float]]] = {}
    for name in packaged.names():
        model = packaged.find(name)
        if model.spec.residual == "none":
            continue
        stored[name] = {}
        engines = [kind(model, precision="int8", threads=2) for kind in (WithoutRule, HalideEngine)]
        for folder in SETS:
            images = [read_picture(file) for file in pictures(datasets / folder)]
            without, by_rule = (
                mean([evaluate_image(image, engine, model.scale) for image in images]).psnr_db
                for engine in engines
            )
            stored[name][known_name(datasets / folder) or folder] = {
                "without": round(without, 3),
                "added": round(by_rule - without, 5),
            }
        print(name, stored[name], flush=True)
    added = [of["added"] for sets in stored.values() for of in sets.values()]
    print(f"from {np.min(added):+.5f} to {np.max(added):+.5f} dB")
    store("flat", stored)


if __name__ == "__main__":
    main()
