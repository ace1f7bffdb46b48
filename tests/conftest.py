"""What several test files need."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with Set5, Set14 and so on, which are not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("SUBPIXEL_DATASETS", beside))
    if not (folder / "Set5" / "HR").is_dir():
        pytest.skip(f"no test sets at {folder}; set SUBPIXEL_DATASETS to the folder that holds Set5")
    return folder
