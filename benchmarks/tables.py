"""Write all tables of measured numbers on the pages, from the stored results: `make tables`.

    python benchmarks/tables.py

A benchmark writes its result to ``benchmarks/results``. `TABLES` lists the pages, their tables, and the
function that makes each table from results. On a page, a table is between ``<!-- NAME -->`` and ``<!-- end
of NAME -->``. A test compares the pages with the results.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import tables_cluster as cluster
import tables_paper as paper
import tables_quality as quality
import tables_sharpness as look
import tables_speed as speed
import tables_training as training
from shared import ROOT, with_table

TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"quality": quality.front, "speed": speed.runtimes},
    "src/subpixel/models/weights/README.md": {"cards": quality.cards},
    "docs/models.md": {
        "models": quality.models,
        "compressed": quality.compressed,
        "by quality": quality.by_quality,
        "several frames": quality.several_frames,
        "compressed clips": quality.compressed_clips,
    },
    "docs/images.md": {"sizes": quality.sizes, "stages": speed.stills},
    "docs/engine.md": {
        "targets": partial(speed.targets, "targets-amx"),
        "starts": partial(speed.starts, "cold-start-amx", "cold-start-vnni"),
    },
    "docs/cluster.md": {"overhead": cluster.overhead, "simulation": cluster.simulation},
    "docs/video.md": {
        "speed": partial(speed.video, "video-amx"),
        "speed with vnni": partial(speed.video, "video-vnni"),
        "unchanged": speed.unchanged,
    },
    "docs/sharpness.md": {"sharpness": look.sharpness, "grain": look.grain, "cost": look.cost},
    "docs/web.md": {"page": speed.web_page, "server": speed.web},
    "docs/training.md": {"own images": training.own_images},
    "docs/paper.md": {
        "quality x3": partial(paper.quality_table, 3),
        "quality x4": partial(paper.quality_table, 4),
        "times": paper.time_table,
    },
    "docs/protocol.md": {
        "baseline": partial(quality.baseline, ssim=False),
        "pitfalls": partial(quality.pitfalls, only=quality.PITFALLS),
    },
    "docs/research/2026-11-22-protocol.md": {
        "baseline": quality.baseline,
        "pitfalls x2": partial(quality.pitfalls, "x2"),
        "pitfalls x3": partial(quality.pitfalls, "x3"),
        "pitfalls x4": partial(quality.pitfalls, "x4"),
        "clips": paper.evaluated_clips,
    },
    "docs/research/2026-11-30-native-engine.md": {
        "speed": speed.native,
        "deep samples": quality.deep_samples,
        "workers": speed.workers,
        "film parts": speed.film_parts,
    },
    "docs/research/2026-11-30-several-frames.md": {
        "motion": training.block_motion,
        "networks": training.several_frames,
        "warm-up": quality.warm_up,
        "breaks": quality.breaks,
        "quarters": quality.quarters,
        "bounds": quality.bounds,
    },
    "docs/research/2026-11-26-training.md": {
        "paces": training.gpu_step,
        "recipe": training.espcn_choices,
        "step": training.step,
        "time to a PSNR": training.time_to_psnr,
    },
    "docs/research/2026-11-27-eight-bits.md": {"rounding": training.fake_quantization},
    "docs/research/2026-11-27-engine.md": {"crew": speed.thread_pool},
    "docs/research/2026-11-27-engine-speed.md": {
        "amx": partial(speed.beside, "earlier/engine-amx"),
        "amx threads": partial(speed.threads, "earlier/engine-amx"),
        "vnni": partial(speed.beside, "earlier/engine-vnni"),
        "vnni threads": partial(speed.threads, "earlier/engine-vnni"),
        "avx2": partial(speed.beside, "earlier/engine-avx2"),
        "sizes": partial(speed.sizes, "earlier/engine-amx", "earlier/engine-vnni"),
        "starts": partial(speed.starts, "earlier/cold-start-amx", "earlier/cold-start-vnni"),
        "avx2 starts": partial(speed.starts, "earlier/cold-start-avx2"),
    },
    "docs/research/2026-11-27-models.md": {
        "4K": quality.to_2160p,
        "models on vectors": speed.models_vnni,
        "by heart": quality.memorization,
        "stack recipe": training.stack_choices,
        "losses": training.losses,
        "sweep": training.sweep,
    },
    "docs/research/2026-11-27-paper.md": {
        "video x3": partial(paper.video_table, 3),
        "video x4": partial(paper.video_table, 4),
        "PyTorch CPU times": partial(paper.torch_table, "cpu"),
        "PyTorch CUDA times": partial(paper.torch_table, "cuda"),
    },
    "docs/research/2026-11-27-video-speed.md": {
        "vnni": partial(speed.video, "earlier/video-vnni"),
        "avx2": partial(speed.video, "earlier/video-avx2"),
    },
    "docs/research/2026-11-29-sharpness.md": {"rules": look.rules, "weights": look.weights},
}
"""The tables of each page, by name."""


def pages() -> dict[Path, str]:
    """The pages that have tables, with all tables up to date."""
    written = {}
    for name, tables in TABLES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for table, write in tables.items():
            page = with_table(page, table, write())
        written[ROOT / name] = page
    return written


def main() -> None:
    """Write the pages that differ."""
    for path, page in pages().items():
        if path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
