"""Measure what the rule that keeps flat areas flat costs: mean luma PSNR with and without it.

    python benchmarks/flat.py --datasets ../shared/datasets

Measures all packaged models with a residual, in int8. Writes ``benchmarks/results/flat.json``: the PSNR in dB
without the rule of `subpixel.engines.flat`, and what the rule adds.
"""

import argparse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from shared import store

from subpixel.engines import numpy_engine
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.evaluation.protocol import evaluate_image, find_images, mean, read_image
from subpixel.evaluation.published import known_name
from subpixel.models import catalog as packaged

SETS = ("Set5", "Set14", "BSDS500/val")


class WithoutRule(NumpyEngine):
    """The reference without the rule for flat areas."""

    def run_samples(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """See `Engine.run_samples`."""
        with patch.object(numpy_engine, "copy_flat_areas"):
            return super().run_samples(tensor)


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
        engines = [WithoutRule(model, precision="int8"), NativeEngine(model, threads=2)]
        for folder in SETS:
            images = [read_image(file) for file in find_images(datasets / folder)]
            without, with_rule = (
                mean([evaluate_image(image, engine, model.scale) for image in images]).psnr_db
                for engine in engines
            )
            stored[name][known_name(datasets / folder) or folder] = {
                "without": round(without, 3),
                "added": round(with_rule - without, 5),
            }
        print(name, stored[name], flush=True)
    added = [of["added"] for sets in stored.values() for of in sets.values()]
    print(f"from {np.min(added):+.5f} to {np.max(added):+.5f} dB")
    store("flat", stored)


if __name__ == "__main__":
    main()
