"""Small real pictures, and a configuration that trains on them in seconds."""

from dataclasses import replace
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from recipes import CONFIGS
from subpixel.ops.resize import imresize
from subpixel.training.config import (
    TrainingConfig,
    load_config,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder above two folders of the same small real pictures."""
    root = tmp_path_factory.mktemp("datasets")
    for folder in ("photos", "the same"):
        (root / folder).mkdir()
        for name in ("astronaut", "coffee", "camera"):
            picture = getattr(skimage.data, name)()
            Image.fromarray(imresize(picture, 1 / 4)).save(root / folder / f"{name}.png")
    return root


@pytest.fixture
def small(pictures: Path) -> TrainingConfig:
    """The shipped recipe in a few seconds."""
    config = load_config(CONFIGS / "espcn-t91-x3.toml")
    return replace(
        config,
        test_sets=(),
        data=replace(config.data, folders=("photos",), shrink=(1.0, 0.8)),
        patches=replace(config.patches, side_px=20, batch=4, batches_per_epoch=3),
        schedule=replace(config.schedule, max_epochs=4),
        precision=replace(config.precision, fp32_epochs=1),
        validation=replace(config.validation, folder="the same", every_epochs=1),
    )
