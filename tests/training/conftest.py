"""Small real images, and a config that trains on them in seconds."""

from dataclasses import replace
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from subpixel.ops.resize import imresize
from subpixel.training.config import TrainingConfig
from subpixel.training.config_file import load_config
from training_configs import CONFIGS


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums of several threads differ in their last bits, and training makes that larger."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # commands that ran in this process may have set another number


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that contains two folders with the same small real images."""
    root = tmp_path_factory.mktemp("datasets")
    for folder in ("photos", "the same"):
        (root / folder).mkdir()
        for name in ("astronaut", "coffee", "camera"):
            image = getattr(skimage.data, name)()
            Image.fromarray(imresize(image, 1 / 4)).save(root / folder / f"{name}.png")
    return root


@pytest.fixture
def small_config(datasets: Path) -> TrainingConfig:
    """The config of `espcn-t91-x3`, shortened to a few seconds."""
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
