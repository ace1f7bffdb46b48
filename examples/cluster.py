"""Upscale a folder of images on a cluster that starts on this machine, as a script or in a notebook.

In a notebook, run `%run examples/cluster.py`, or copy the body of `main` into a cell.
"""

import sys
from pathlib import Path

import subpixel.cluster
from subpixel import Progress


def main(photos: str, large: str, address: str = "local") -> None:
    def show(progress: Progress) -> None:
        print(f"\r{progress.fraction:4.0%} after {progress.seconds:.0f} s", end="", flush=True)

    results = subpixel.cluster.upscale(
        photos, large, address=address, scale=2, existing="overwrite", progress=show, note=print
    )
    print()
    for result in results:
        if isinstance(result, Exception):
            print(f"failed: {result}")
        else:
            print(f"{result.output}: {result.width} x {result.height}, on {result.target}")


if __name__ == "__main__":
    here = Path(__file__).parent
    main(*sys.argv[1:] or (str(here / "astronaut-170x170.png"), "astronaut-large.png"))
