"""Functions that several benchmarks share: stored results with a stamp, and Markdown tables."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.benchmark.measure import machine_name
from subpixel.engines.native.targets import find
from subpixel.models import catalog as packaged

if TYPE_CHECKING:
    from subpixel.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

STAMP = "measured"
"""The key of the stamp in a stored result."""

PACKAGES = (
    "subpixel",
    "numpy",
    "llvmlite",
    "onnxruntime",
    "openvino",
    "opencv-python-headless",
    "torch",
    "av",
    "pillow",
)
"""Packages whose versions are part of a stamp, if they are installed."""

RAW_SIZE = (640, 360)
"""Width and height of the frames in the one raw clip of ``datasets/video``."""

TO_1080P = {3: (360, 640), 4: (270, 480)}
"""Height and width of the input whose result is 1920x1080, by scale."""


KINDS = {"avx512_vnni": "vnni"}
"""Names of processors in names of results, where they are not those of instruction sets."""


def host_kind() -> str:
    """Return the kind of this processor: amx, vnni, avx512, avx2 and so on."""
    name = find().name
    return KINDS.get(name, name)


def children_cpu_seconds() -> float:
    """CPU time of all child processes that have ended, with their threads and their own children."""
    times = os.times()
    return times.children_user + times.children_system


def machine_cpu_seconds() -> float:
    """CPU time of everything on this machine since its start; Linux only."""
    user, nice, system, _, _, interrupts, soft_interrupts, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split(maxsplit=10)[1:10]
    )
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def stamp() -> dict[str, Any]:
    """The origin of a result: machine, date (UTC), commit, and versions of packages.

    The commit ends in "-dirty" if code in the working tree differs from it.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    # Results and pages change with every benchmark of a series.
    code = ["--", ".", ":!benchmarks/results", ":!docs", ":!*.md"]
    dirty = "-dirty" if git(["git", "status", "--porcelain", *code]).stdout else ""
    return {
        "machine": machine_name(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit + dirty,
        "versions": versions,
    }


def store(name: str, result: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json`` with a stamp, and print the next step."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({STAMP: stamp(), **result}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}; `make tables` updates the tables on the pages from it")
    return path


def load(name: str) -> dict[str, Any]:
    """A stored result without its stamp; empty if there is none yet."""
    path = RESULTS / f"{name}.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stored.pop(STAMP, None)
    return stored


def provenance(name: str) -> str:
    """The caption of a table of times: machine, and threads, date and commit as far as they are stored.

    Results that are older than the stamps contain only the machine.
    """
    stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    facts = {**stored.get(STAMP, {}), **stored.get("beside", [stored])[0]}
    parts = [facts["machine"]]
    if threads := stored.get("threads"):
        count = threads if isinstance(threads, int) else stored["beside"][0]["threads"]
        parts.append(f"{count} thread{'s' if count > 1 else ''}")
    if "date" in facts:
        parts.append(f"{facts['date']}, commit {facts['commit']}")
    return ", ".join(parts)


def digest(name: str) -> str:
    """The digest of the file of a packaged model, by which a result names the weights that it is for."""
    path = packaged.path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def with_changes(config: "TrainingConfig", *changes: Mapping[str, Mapping[str, Any]]) -> "TrainingConfig":
    """A config with some values of its tables replaced; later changes take precedence."""
    for tables in changes:
        for name, values in tables.items():
            config = replace(config, **{name: replace(getattr(config, name), **values)})
    return config


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, in which all columns but the first are aligned to the right."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *rows))


def with_table(page: str, name: str, table: str) -> str:
    """A Markdown page with the table between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` replaced."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    page, count = re.subn(
        pattern, lambda match: f"{marks[0]}\n\n{table}\n\n{marks[1]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"the page has {count} pairs of marks for the table {name!r}, not 1")
    return page
