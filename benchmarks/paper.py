"""The paper's tables and figures with our own networks: what `docs/paper.md` shows.

    python benchmarks/paper.py measure    # PSNR: results/paper.json
    python benchmarks/paper.py video      # PSNR on clips: results/paper-video.json
    python benchmarks/paper.py time       # times and Figure 2: results/paper-times.json
    python benchmarks/paper.py figures    # Figures 3 to 6, and the companion note's
    python benchmarks/paper.py write      # puts the stored results into the page

``--datasets`` says where pictures and clips lie. ``measure`` and ``video`` go on from what is stored: a
network is measured again only when its file has changed. ``time`` should have the machine to itself. Needs
`pip install '.[train,bench]'`: TNRD runs by torch.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from shared import RAW_SIZE, TO_1080P, digest, markdown_table, with_table

from subpixel.benchmark.measure import machine_name
from subpixel.calibration import calibrate
from subpixel.drawing import save_figure
from subpixel.engines.select import available_cpus, choose
from subpixel.evaluation import figures
from subpixel.evaluation.enlargers import Enlarger, find_enlarger
from subpixel.evaluation.protocol import Degradation, evaluate_image, mean, pictures, read_picture
from subpixel.evaluation.published import published
from subpixel.evaluation.video import evaluate_clip, find_clips
from subpixel.model import Facts, Model
from subpixel.networks import packaged

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE, DRAWINGS = ROOT / "docs" / "paper.md", ROOT / "docs" / "figures"

SETS = {"Set5": "Set5", "Set14": "Set14", "BSDS500/val": "BSD300", "BSDS500/test": "BSD500"}
"""Folders, and what the paper calls them."""

KNOWN = {"Set5": "Set5", "Set14": "Set14", "BSD300": "BSD100", "BSD500": "BSD500"}
"""The paper's names as `subpixel.evaluation.published` has them."""

METHODS = {
    3: {
        "bicubic": "Bicubic",
        "srcnn-915-t91-x3": "SRCNN 9-1-5 (91)",
        "espcn-relu-t91-x3": "ESPCN relu (91)",
        "espcn-t91-x3": "ESPCN tanh (91)",
        "srcnn-915-large-x3": "SRCNN 9-1-5 (ImageNet)",
        "espcn-relu-large-x3": "ESPCN relu (ImageNet)",
        "srcnn-955-large-x3": "SRCNN 9-5-5 (ImageNet)",
        "tnrd-large-x3": "TNRD 7x7 5-stage",
        "espcn-large-x3": "ESPCN tanh (ImageNet)",
        "fast-x3": None,
        "default-x3": None,
        "best-x3": None,
    },
    4: {
        "bicubic": "Bicubic",
        "espcn-t91-x4": None,
        "srcnn-955-large-x4": "SRCNN 9-5-5 (ImageNet)",
        "tnrd-large-x4": "TNRD 7x7 5-stage",
        "espcn-large-x4": "ESPCN tanh (ImageNet)",
        "fast-x4": None,
        "default-x4": None,
        "best-x4": None,
    },
}
"""Our networks, and the rows of the paper's Tables 1 and 2 that they stand beside."""


VIDEO_METHODS = (
    ("srcnn-955-large", "srcnn-915-t91"),
    ("espcn-large", "espcn-t91"),
    ("best", "default", "fast"),
)
"""Of each the first that ships stands in the tables of video."""

FRAMES = 10
"""Of each clip."""


OTHER_CLIPS = ("openh264_foreman_cif_intra",)
"""The same as another of the clips."""


def at_hand(scale: int) -> list[str]:
    """Those of `METHODS` that ship."""
    known = {"bicubic", *packaged.names(), *packaged.paper_names()}
    return [name for name in METHODS[scale] if name in known]


def enlarger(name: str, scale: int, precision: str = "auto") -> Enlarger:
    """A method ready to run; TNRD and networks without an 8-bit form run in fp32 whatever is asked."""
    if name == "bicubic" or name.startswith("tnrd"):
        precision = "auto"
    return find_enlarger(name, scale=scale, precision=precision)


def measure(datasets: Path) -> None:
    path = RESULTS / "paper.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for scale in METHODS:
        for name in at_hand(scale):
            key = name if name != "bicubic" else f"bicubic-x{scale}"
            if stored.get(key, {}).get("digest") == digest(name):
                continue
            upscale = enlarger(name, scale, "fp32").upscale
            psnr_db = {}
            for folder, called in SETS.items():
                files = pictures(datasets / folder)
                scores = [evaluate_image(read_picture(file), upscale, scale) for file in files]
                psnr_db[called] = round(mean(scores).psnr_db, 3)
            stored[key] = {"digest": digest(name), "psnr_db": psnr_db}
            print(key, psnr_db, flush=True)
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def measure_video(datasets: Path) -> None:
    path = RESULTS / "paper-video.json"
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    clips = [clip for clip in find_clips([datasets / "video"], RAW_SIZE) if clip.stem not in OTHER_CLIPS]
    shown = {name for scale in METHODS for name in (f"bicubic-x{scale}", *video_methods(scale))}
    stored = {name: measured for name, measured in stored.items() if name in shown}
    path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    for scale in METHODS:
        for name in video_methods(scale):
            if stored.get(name, {}).get("digest") == digest(name):
                continue
            upscale = enlarger(name, scale, "fp32").upscale
            scores = [
                evaluate_clip(clip, upscale, scale, Degradation("bicubic"), size=RAW_SIZE, frames=FRAMES)
                for clip in clips
            ]
            stored[f"bicubic-x{scale}"] = {one.name: round(one.bicubic_psnr_db, 3) for one in scores}
            psnr_db = {one.name: round(one.psnr_db, 3) for one in scores}
            stored[name] = {"digest": digest(name), "psnr_db": psnr_db}
            print(name, psnr_db, flush=True)
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def video_methods(scale: int) -> list[str]:
    """As in Tables 3 and 4 one SRCNN and one ESPCN, the best that ship, and ours."""
    chosen = []
    for candidates in VIDEO_METHODS:
        names = [name for name in at_hand(scale) if name.rpartition("-")[0] in candidates]
        chosen += sorted(names, key=lambda name: candidates.index(name.rpartition("-")[0]))[:1]
    return chosen


def untrained(name: str, scale: int) -> Enlarger:
    """The network ``name`` at a scale for which it has no weights: they do not change how long it takes."""
    like = packaged.find(name)
    *hidden, last = like.description.layers
    outputs = like.description.channels * (scale**2 if like.description.enlargement == "shuffle" else 1)
    layers = (*hidden, dataclasses.replace(last, outputs=outputs))
    description = dataclasses.replace(like.description, scale=scale, layers=layers)
    rng = np.random.default_rng(0)
    weights = {
        key: rng.normal(0, 0.05, shape).astype(np.float32) for key, shape in description.shapes().items()
    }
    model = Model(at_scale(name, scale), description, weights, Facts())
    if like.quantised:
        model = calibrate(model, [rng.integers(0, 256, (96, 96)).astype(np.uint8)])
    return Enlarger(model.name, scale, choose(model).engine)


def at_scale(name: str, scale: int) -> str:
    """What a method for x3 is called at another scale."""
    return name.replace("-x3", f"-x{scale}")


def time_all(datasets: Path, rounds: int) -> None:
    methods = [enlarger(name, 3) for name in at_hand(3)]
    figure, shown = figures.quality_against_time(datasets / "Set14", methods)
    save_figure(figure, DRAWINGS / "paper-quality.png")
    frames = {}
    for scale, (height, width) in TO_1080P.items():
        plane = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
        of_scale = [enlarger(name, scale) for name in at_hand(scale)]
        trained = at_hand(scale)
        of_scale += [untrained(name, scale) for name in at_hand(3) if at_scale(name, scale) not in trained]
        times: dict[str, list[float]] = {one.name: [] for one in of_scale}
        for turn in range(rounds):
            for one in of_scale:
                if turn < 3 or times[one.name][0] < 1000:  # those that take seconds have three turns
                    started = time.perf_counter()
                    one.upscale(plane)
                    times[one.name].append((time.perf_counter() - started) * 1000)
        frames[f"x{scale}"] = {name: round(median(spent[1:]), 1) for name, spent in times.items()}
        print(scale, frames[f"x{scale}"], flush=True)
    stored = {"machine": machine_name(), "threads": available_cpus(), "Set14 x3": shown, "1920x1080": frames}
    (RESULTS / "paper-times.json").write_text(json.dumps(stored, indent=2) + "\n")


def draw(datasets: Path) -> None:
    espcn, srcnn = (
        packaged.find(next(name for name in names if name in at_hand(3)))
        for names in (("espcn-large-x3", "espcn-t91-x3"), ("srcnn-955-large-x3", "srcnn-915-t91-x3"))
    )
    for called, network in (("espcn", espcn), ("srcnn", srcnn)):
        save_figure(figures.first_layer(network), DRAWINGS / f"paper-{called}-first.png")
        save_figure(figures.last_layer(network), DRAWINGS / f"paper-{called}-last.png")
    shown = ("bicubic", srcnn.name, "tnrd-large-x3", espcn.name, "default-x3")
    for folder in ("Set14", "BSDS500/val"):
        methods = [enlarger(name, 3) for name in shown if name in at_hand(3)]
        figure = figures.crops(datasets / folder, methods)
        save_figure(figure, DRAWINGS / f"paper-crops-{SETS[folder]}.png")


def quality_table(scale: int) -> str:
    """Our PSNR and, in brackets, the paper's."""
    stored = json.loads((RESULTS / "paper.json").read_text())
    names = list(SETS.values())
    rows = []
    for name, row in METHODS[scale].items():
        key = name if name != "bicubic" else f"bicubic-x{scale}"
        if key not in stored:
            continue
        cells = []
        for called in names:
            theirs = [one.psnr_db for one in published(KNOWN[called], scale) if one.method == row]
            ours = f"{stored[key]['psnr_db'][called]:.2f}"
            cells.append(f"{ours} ({theirs[0]:.2f})" if theirs else ours)
        rows.append((f"{row or 'ours alone'}: `{name}`", *cells))
    return markdown_table((f"x{scale}", *names), rows)


def video_table(scale: int) -> str:
    stored = json.loads((RESULTS / "paper-video.json").read_text())
    of_bicubic, names = stored[f"bicubic-x{scale}"], video_methods(scale)
    if missing := [name for name in names if name not in stored]:
        raise SystemExit(f"not measured on video: {', '.join(missing)}; run paper.py video first")
    columns = [of_bicubic, *(stored[name]["psnr_db"] for name in names)]
    lines = [
        f"| x{scale} | Bicubic | {' | '.join(f'`{name}`' for name in names)} |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for clip in of_bicubic:
        lines.append(f"| {clip} | " + " | ".join(f"{column[clip]:.2f}" for column in columns) + " |")
    means = [sum(column.values()) / len(column) for column in columns]
    lines.append("| **mean** | " + " | ".join(f"{value:.2f}" for value in means) + " |")
    return "\n".join(lines)


def time_table() -> str:
    stored = json.loads((RESULTS / "paper-times.json").read_text())
    head = ("method", "runs by", "Set14 x3, a picture (ms)", "1920x1080 x3 (ms)", "1920x1080 x4 (ms)")
    rows, frames = [], stored["1920x1080"]
    for row in stored["Set14 x3"]:
        name = row["method"]
        at_3, at_4 = frames["x3"][name], frames["x4"][at_scale(name, 4)]
        rows.append(
            (f"`{name}`", row["engine"] or "NumPy", f"{row['milliseconds']:.1f}", str(at_3), str(at_4))
        )
    return f"{stored['machine']}, {stored['threads']} threads:\n\n{markdown_table(head, rows)}"


def torch_table(device: str) -> str:
    """Times by PyTorch, as `torch_times.py` stored them, in fp32 and, where measured, in brackets in fp16."""
    stored = json.loads((RESULTS / f"torch-{device}.json").read_text())
    fp32, fp16 = stored["milliseconds"]["fp32"], stored["milliseconds"].get("fp16", {})
    digits, columns, rows = 2 if fp16 else 1, list(fp32), []
    for name in fp32[columns[0]]:
        cells = []
        for column in columns:
            cells.append(f"{fp32[column][name]:.{digits}f}")
            if name in fp16.get(column, {}):
                cells[-1] += f" ({fp16[column][name]:.{digits}f})"
        rows.append((name, *cells))
    head = ("network", *(f"{column} (ms)" for column in columns))
    threads = f", {stored['threads']} threads" if "threads" in stored else ""
    by = f"{stored['machine']}{threads}, by PyTorch {stored['torch'].partition('+')[0]}"
    return f"{by}:\n\n{markdown_table(head, rows)}"


TABLES: dict[str, Callable[[], str]] = {
    "quality x3": lambda: quality_table(3),
    "quality x4": lambda: quality_table(4),
    "video x3": lambda: video_table(3),
    "video x4": lambda: video_table(4),
    "times": time_table,
    "PyTorch CPU times": lambda: torch_table("cpu"),
    "PyTorch CUDA times": lambda: torch_table("cuda"),
}


def written(page: str) -> str:
    """The page with its tables as the stored results have them."""
    for name, table in TABLES.items():
        page = with_table(page, name, table())
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("measure", "video", "time", "figures", "write"))
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    if options.what == "measure":
        measure(options.datasets)
    elif options.what == "video":
        measure_video(options.datasets)
    elif options.what == "time":
        time_all(options.datasets, options.rounds)
    elif options.what == "figures":
        draw(options.datasets)
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
