"""Write every table of measured numbers on the pages from the stored results: `make tables`.

    python benchmarks/tables.py

A table stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``. A benchmark writes only its result,
into ``benchmarks/results``; `TABLES` says which function makes which table of which page from it. A test
compares the pages with what is written here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import tables_paper as paper
import tables_quality as quality
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
    },
    "docs/engine.md": {
        "runtimes": speed.runtimes,
        "sizes": partial(speed.sizes, "engine-amx", "engine-vnni"),
        "starts": partial(speed.starts, "cold-start-amx", "cold-start-vnni"),
    },
    "docs/video.md": {"speed": partial(speed.video, "video-amx")},
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
    "docs/research/2026-11-26-training.md": {
        "paces": training.paces,
        "recipe": training.recipe,
        "step": training.step,
        "time to a PSNR": training.time_to_psnr,
    },
    "docs/research/2026-11-27-eight-bits.md": {"rounding": training.rounding},
    "docs/research/2026-11-27-engine.md": {"crew": speed.crew},
    "docs/research/2026-11-27-engine-speed.md": {
        "amx": partial(speed.beside, "engine-amx"),
        "amx threads": partial(speed.threads, "engine-amx"),
        "vnni": partial(speed.beside, "engine-vnni"),
        "vnni threads": partial(speed.threads, "engine-vnni"),
        "avx2": partial(speed.beside, "earlier/engine-avx2"),
        "avx2 starts": partial(speed.starts, "earlier/cold-start-avx2"),
    },
    "docs/research/2026-11-27-models.md": {
        "4K": quality.to_2160p,
        "models on vectors": speed.models_vnni,
        "by heart": quality.by_heart,
        "stack recipe": training.stack_recipe,
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
}
"""For each page its tables, by name."""


def pages() -> dict[Path, str]:
    """Every page with tables, as it should be."""
    written = {}
    for name, tables in TABLES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for table, write in tables.items():
            page = with_table(page, table, write())
        written[ROOT / name] = page
    return written


def main() -> None:
    """Write those that differ."""
    for path, page in pages().items():
        if path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
