"""Time every packaged model, beside the ESPCN of the paper at the same scale.

    python benchmarks/models.py [--rounds 15]

Each model upscales a 640x360 plane in int8 on the engine `native`, in turn with all others of its scale;
some also upscale a plane to 3840x2160. Writes ``benchmarks/results/models-KIND.json`` for this kind of
processor, for `docs/models.md`. Draws time against quality, as stored by `benchmarks/precision.py`:
``docs/figures/models-KIND.png``.
"""

import argparse
from pathlib import Path
from typing import Any

from shared import ROOT, host_kind, load, store

from subpixel.benchmark.measure import median_times_ms
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.select import available_cpus
from subpixel.evaluation.drawing import OKABE_ITO, new_figure, save_figure
from subpixel.models import catalog as packaged

TO_2160P = (("fast-x2", (1080, 1920)), ("default-x2", (1080, 1920)), ("default-x4", (540, 960)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    threads = available_cpus()
    engines = {name: NativeEngine(packaged.find(name), threads=threads) for name in packaged.names()}
    rows: list[dict[str, Any]] = []
    for scale in (2, 3, 4):
        of_scale = {name: engine for name, engine in engines.items() if engine.model.scale == scale}
        medians = median_times_ms(of_scale, (360, 640), rounds)
        espcn = medians[f"espcn-t91-x{scale}"]
        for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
            spec = engines[name].model.spec
            rows.append(
                {
                    "model": name,
                    "scale": scale,
                    "parameters": spec.parameters,
                    "macs_per_lr_pixel": spec.macs_per_lr_pixel,
                    "ms": round(median, 2),
                    "of_espcn": round(median / espcn, 2),
                }
            )
            print(rows[-1], flush=True)
    to_2160p = {
        name: round(1000 / median_times_ms({name: engines[name]}, shape, rounds)[name], 1)
        for name, shape in TO_2160P
        if name in engines
    }
    stored = {
        "kind": host_kind(),
        "threads": threads,
        "640x360": rows,
        "frames_per_second_to_3840x2160": to_2160p,
    }
    store(f"models-{host_kind()}", stored)
    print(to_2160p)
    draw(rows, ROOT / "docs" / "figures" / f"models-{host_kind()}.png")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw PSNR on Set14 in int8 against time, a panel per scale, without the models for compressed input."""
    stored = load("precision")
    figure = new_figure((9, 3.2))
    for panel, scale in enumerate((2, 3, 4)):
        axes = figure.add_subplot(1, 3, panel + 1)
        for row in rows:
            if row["scale"] != scale or "compressed" in row["model"]:
                continue
            name, psnr_db = row["model"], stored[row["model"]]["int8"]["Set14"]
            family = name.rsplit("-", 1)[0]
            color = OKABE_ITO[1] if family.startswith("espcn") else OKABE_ITO[0]
            axes.plot(row["ms"], psnr_db, "o", color=color)
            left = row["of_espcn"] > 1.5  # so that the label stays inside the panel
            axes.annotate(
                family,
                (row["ms"], psnr_db),
                textcoords="offset points",
                xytext=(-6 if left else 6, 0 if "relu" in family else -6),
                ha="right" if left else "left",
                fontsize=8,
            )
        axes.margins(0.35, 0.25)
        axes.set_xlim(left=0)
        axes.set_title(f"x{scale}", fontsize=10)
        axes.set_xlabel("ms for 640x360")
        axes.grid(alpha=0.3)
        if panel == 0:
            axes.set_ylabel("Set14, int8, PSNR in dB")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
