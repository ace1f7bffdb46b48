"""Published PSNR of other methods, from the CSV files in ``tables``, looked up by test set and scale."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

_NAMES = {
    "set5": "Set5",
    "set14": "Set14",
    "bsd100": "BSD100",
    "b100": "BSD100",
    "bsd300": "BSD100",
    "bsds100": "BSD100",
    "bsds300": "BSD100",
    "bsds500/val": "BSD100",
    "bsd500": "BSD500",
    "bsds500": "BSD500",
    "bsds500/test": "BSD500",
    "urban100": "Urban100",
    "supertexture": "SuperTexture",
}
"""Usual names of test sets, by the names of folders and papers in lower case. The 100 test images of BSD300
are BSD100, and are also the validation part of BSDS500. Papers call the 200 test images of BSDS500 BSD500."""

_SOURCES = {"published table": "later papers", "recalled": "later papers, unchecked"}
"""How the values of the column ``source`` in ``frontier_psnr.csv`` are printed."""


@dataclass(frozen=True)
class Published:
    """One number of a published table: mean luma PSNR under the bicubic protocol."""

    method: str
    psnr_db: float
    source: str


def known_name(folder: Path) -> str | None:
    """The usual name of the test set in a folder, judged by the names of the folder and its parent, or None.

    >>> known_name(Path("data/Set5")), known_name(Path("BSDS500/val")), known_name(Path("holiday"))
    ('Set5', 'BSD100', None)
    """
    folder = folder.resolve()
    if folder.name.lower() == "hr":
        folder = folder.parent
    name, parent = folder.name.lower(), folder.parent.name.lower()
    return _NAMES.get(f"{parent}/{name}") or _NAMES.get(name)


def published(name: str | None, scale: int) -> list[Published]:
    """The published numbers for a test set at a scale, lowest PSNR first.

    ``name`` is a result of `known_name`. If several sources give the same number for a method, only the first
    is returned; the ESPCN paper comes before all others.
    """
    rows: dict[tuple[str, float], Published] = {}
    for test_set, row_scale, row in _rows():
        if test_set == name and row_scale == scale:
            rows.setdefault((row.method, row.psnr_db), row)
    return sorted(rows.values(), key=lambda row: row.psnr_db)


@cache
def _rows() -> list[tuple[str, int, Published]]:
    """All numbers with test set and scale, except the videos and averages of the ESPCN paper."""
    rows = []
    for cells in _table("espcn_paper_psnr.csv"):
        if name := _NAMES.get(cells["dataset"].lower()):
            source = f"ESPCN paper, table {cells['table']}"
            result = Published(cells["method"], float(cells["psnr_y_db"]), source)
            rows.append((name, int(cells["scale"]), result))
    for cells in _table("frontier_psnr.csv"):
        for column in ("set5", "set14", "bsd100", "urban100"):
            result = Published(cells["model"], float(cells[column]), _SOURCES[cells["source"]])
            rows.append((_NAMES[column], int(cells["scale"]), result))
    return rows


def _table(name: str) -> list[dict[str, str]]:
    text = (files("subpixel.evaluation") / "tables" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
