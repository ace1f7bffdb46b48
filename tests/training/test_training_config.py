"""Training configurations: the shipped ones load, and wrong ones are refused."""

from pathlib import Path

import pytest

from recipes import CONFIGS, changed_recipe
from subpixel import ConfigError

torch = pytest.importorskip("torch")

from subpixel.training.config import load_config  # noqa: E402


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    config = load_config(path)
    assert config.name.endswith(f"-x{config.network.scale}")
    assert config.license and config.citation and config.training_data


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "soap"', 'name = "lion"', "optimizer.name must be one of 'sgd', 'adam', 'soap', not 'lion'"),
        ("turn = true", "trun = true", "unknown field data.trun; known here: folders"),
        ("side_px = 40", 'side_px = "32"', "patches.side_px must be int, not '32'"),
        ("side_px = 40\n", "", "missing in patches: 'side_px'"),
        ("side_px = 40", "side_px = 0", "patches.side_px must be positive"),
        ("ema = 0.999", "ema = 0.999\nbasis_every = 0", "optimizer.basis_every must be positive"),
        ('folders = ["T91"]', "folders = []", "data.folders is empty"),
        ('folders = ["T91"]', 'folders = "T91"', "data.folders must be a list"),
        (
            'folders = ["T91"]',
            'folders = ["T91"]\nhalved = ["B"]',
            "data.halved: B is not among data.folders",
        ),
        ("seed = 1", "seed = ", "not readable as TOML"),
        ("[network]", "[nework]", "unknown field nework"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed_recipe("espcn-t91-x3", {old: new}, tmp_path / "c.toml")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
