"""A finished run, an image and a pair for tests of training."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data

torch = pytest.importorskip("torch")

from subpixel.training.config import TrainingConfig  # noqa: E402
from subpixel.training.data import Pair  # noqa: E402
from subpixel.training.loop import Run  # noqa: E402

CPU = torch.device("cpu")


def trained(config: TrainingConfig, datasets: Path, folder: Path, *, resume: bool = False) -> Run:
    run = Run(config, datasets, folder, CPU)
    assert run.resume() is resume
    run.train()
    return run


def photo(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[100 : 100 + height, 150 : 150 + width])


def numbered_pair(height: int, width: int, scale: int) -> Pair:
    """Return a pair in which every value is the index of its pixel."""
    numbers = np.arange(height * width * scale**2, dtype=np.float32)
    lr = np.arange(height * width, dtype=np.float32).reshape(height, width)
    return Pair(lr, numbers.reshape(scale**2, height, width))
