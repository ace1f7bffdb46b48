"""What several benchmarks need: results with a stamp, and tables of Markdown."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.benchmark.measure import machine_name
from subpixel.models import catalog as packaged

if TYPE_CHECKING:
    from subpixel.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

STAMP = "measured"
"""The key of a result's stamp."""

PACKAGES = (
    "subpixel",
    "numpy",
    "halide",
    "llvmlite",
    "onnxruntime",
    "openvino",
    "opencv-python-headless",
    "torch",
    "av",
    "pillow",
)
"""Packages whose versions a stamp holds, where they are installed."""

RAW_SIZE = (640, 360)
"""Size of the frames in the one clip without a header among ``datasets/video``."""

TO_1080P = {3: (360, 640), 4: (270, 480)}
"""Rows and columns of what becomes 1920x1080, by scale."""


def stamp() -> dict[str, Any]:
    """Where, when and with what a result is measured: machine, commit, versions and date (UTC).

    The commit ends in "-dirty" where the working tree differs from it.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "machine": machine_name(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "versions": versions,
    }


def store(name: str, result: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json`` with a stamp at its head, and say how it gets onto the pages."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({STAMP: stamp(), **result}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}; `make tables` writes the pages' tables from it")
    return path


def load(name: str) -> dict[str, Any]:
    """A stored result without its stamp; empty where there is none yet."""
    path = RESULTS / f"{name}.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stored.pop(STAMP, None)
    return stored


def provenance(name: str) -> str:
    """The caption above a table of times: the machine, and what else is stored of threads, date and commit.

    Results from before there were stamps have the machine alone.
    """
    stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    of = {**stored.get(STAMP, {}), **stored.get("beside", [stored])[0]}
    parts = [of["machine"]]
    if threads := stored.get("threads"):
        count = threads if isinstance(threads, int) else stored["beside"][0]["threads"]
        parts.append(f"{count} thread{'s' if count > 1 else ''}")
    if "date" in of:
        parts.append(f"{of['date']}, commit {of['commit']}")
    return ", ".join(parts)


def digest(name: str) -> str:
    """The digest of a packaged model's file: results say with it which weights they are of."""
    path = packaged.path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def with_changes(config: "TrainingConfig", *changes: Mapping[str, Mapping[str, Any]]) -> "TrainingConfig":
    """A config with values of its tables replaced, one set of changes after the other."""
    for tables in changes:
        for name, values in tables.items():
            config = replace(config, **{name: replace(getattr(config, name), **values)})
    return config


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; columns other than the first are aligned to the right."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *rows))


def with_table(page: str, name: str, table: str) -> str:
    """A Markdown page with what stands between its marks of that name replaced."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    page, count = re.subn(
        pattern, lambda match: f"{marks[0]}\n\n{table}\n\n{marks[1]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"the page has {count} places for the table {name!r}")
    return page
