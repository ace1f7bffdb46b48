"""What several benchmarks need."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from subpixel.networks import packaged
from subpixel.training.config import TrainingConfig

RAW_SIZE = (640, 360)
"""Of the frames in the one clip without a header among ``datasets/video``."""

TO_1080P = {3: (360, 640), 4: (270, 480)}
"""Rows and columns of what becomes 1920x1080, by scale."""


def digest(name: str) -> str:
    """Of a packaged model's file, by which a result tells of which weights it is; "" where there is none."""
    path = packaged.path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def with_changes(config: TrainingConfig, *changes: Mapping[str, Mapping[str, Any]]) -> TrainingConfig:
    """A recipe with values of its tables replaced, one set of changes after the other."""
    for tables in changes:
        for name, values in tables.items():
            config = replace(config, **{name: replace(getattr(config, name), **values)})
    return config


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def with_table(page: str, name: str, table: str) -> str:
    """A Markdown page with what stands between its marks of that name replaced."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    page, count = re.subn(pattern, lambda match: f"{marks[0]}\n{table}\n{marks[1]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"the page has {count} places for the table {name!r}")
    return page
