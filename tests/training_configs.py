"""The training configs of the project, and variants of them for tests."""

from collections.abc import Mapping
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"


def changed_config(name: str, changes: Mapping[str, str], path: Path) -> Path:
    """Write a config to ``path``; replace each key of ``changes``, which it must contain, by its value."""
    text = (CONFIGS / f"{name}.toml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path
