"""The numbers that others have published, to print beside ours: data in ``tables``, looked up by test set."""

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
"""The test sets by the names that folders and papers give them, in lower case. BSD300's 100 test images are
BSD100, and are the validation part of BSDS500; what papers call BSD500 are its 200 test images."""

_SOURCES = {"published table": "later papers", "recalled": "later papers, unchecked"}
"""What people are told for the kinds of source in ``frontier_psnr.csv``."""


@dataclass(frozen=True)
class Published:
    """One cell of a published table: mean luma PSNR under the bicubic protocol."""

    method: str
    psnr_db: float
    source: str


def known_name(folder: Path) -> str | None:
    """Which well-known test set a folder holds, going by its name and its parent's; None if none.

    >>> known_name(Path("data/Set5")), known_name(Path("BSDS500/val")), known_name(Path("holiday"))
    ('Set5', 'BSD100', None)
    """
    folder = folder.resolve()
    if folder.name.lower() == "hr":
        folder = folder.parent
    name, parent = folder.name.lower(), folder.parent.name.lower()
    return _NAMES.get(f"{parent}/{name}") or _NAMES.get(name)


def published(name: str | None, scale: int) -> list[Published]:
    """What was published for a test set (named as `known_name` does) at a scale, worst first.

    Of equal results for a method, the ESPCN paper's alone is given.
    """
    rows: dict[tuple[str, float], Published] = {}
    for where, at, row in _rows():
        if where == name and at == scale:
            rows.setdefault((row.method, row.psnr_db), row)
    return sorted(rows.values(), key=lambda row: row.psnr_db)


@cache
def _rows() -> list[tuple[str, int, Published]]:
    """Every number with its test set and scale; the paper's videos and averages are left out."""
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
