"""The tables of quality and cost on the pages, from what is stored: run it when models or times have changed.

    python benchmarks/tables.py

Writes the rows of the packaged models in `README.md`, their cards, `docs/models.md` and `docs/engine.md`,
from the models' facts, ``benchmarks/results/precision.json`` and ``models-amx.json``. The words around them
are not written by it: tests say where those are no longer true.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import markdown_table, with_table

from subpixel.networks import packaged

ROOT = Path(__file__).parents[1]
SETS = ("Set5", "Set14", "BSD100")


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    results = ROOT / "benchmarks" / "results"
    precision = json.loads((results / "precision.json").read_text())
    costs = json.loads((results / "models-amx.json").read_text())["640x360"]
    of_espcn = {row["model"]: f"{row['of_espcn']:.2f}" for row in costs}

    write("README.md", lambda page: with_rows(page, facts))
    write("src/subpixel/weights/README.md", lambda page: with_rows(page, lambda name: card(name, of_espcn)))
    write("docs/engine.md", lambda page: with_table(page, "precision", precisions(precision)))
    write("docs/models.md", lambda page: with_table(page, "models", models(precision, costs)))


def write(page: str, change: Callable[[str], str]) -> None:
    """Change one page."""
    path = ROOT / page
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_rows(page: str, cells: Callable[[str], list[str]]) -> str:
    """A page with the first cells of each model's row replaced; more of them are left as they are."""

    def row(found: re.Match[str]) -> str:
        new = cells(found[1])
        old = [cell.strip() for cell in found[2].split("|")]
        return f"| `{found[1]}` | {' | '.join(new + old[len(new) :])} |"

    return re.sub(r"^\| `([\w-]+-x\d)` \|(.*)\|$", row, page, flags=re.MULTILINE)


def facts(name: str) -> list[str]:
    """PSNR as the model's file says it."""
    return [f"{packaged.find(name).facts.psnr_db[dataset]:.2f}" for dataset in SETS]


def card(name: str, of_espcn: dict[str, str]) -> list[str]:
    """The same, and the cost where it is not the paper's own network."""
    return facts(name) + ([] if name.startswith("espcn") else [of_espcn[name]])


def precisions(stored: dict[str, Any]) -> str:
    """What 8 bits cost."""
    rows = [
        [f"`{name}`", *(f"{of['fp32'][dataset]:.2f} / {of['int8'][dataset]:.2f}" for dataset in SETS)]
        for name, of in stored.items()
    ]
    return markdown_table(["model", *SETS], rows)


def models(precision: dict[str, Any], costs: list[dict[str, Any]]) -> str:
    """Quality in 8 bits beside cost."""
    rows = []
    for row in costs:
        int8, fp32 = (precision[row["model"]][kind] for kind in ("int8", "fp32"))
        quality = [f"{int8[dataset]:.2f} ({fp32[dataset]:.2f})" for dataset in SETS]
        rows.append([f"`{row['model']}`", *quality, f"{row['ms']:.2f}", f"{row['of_espcn']:.2f}"])
    return markdown_table(["model", *SETS, "ms", "of ESPCN's time"], rows)


if __name__ == "__main__":
    main()
