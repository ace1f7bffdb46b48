"""Training configs: the shipped ones load, wrong ones are refused, and old names work."""

import json
import re
from pathlib import Path

import pytest

from subpixel import ConfigError
from training_configs import CONFIGS, changed_config

torch = pytest.importorskip("torch")

from subpixel.training.config_file import is_stored_config, load_config, stored_config  # noqa: E402


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_load(path: Path) -> None:
    config = load_config(path)
    assert config.name.endswith(f"-x{config.network.scale}")
    if path.stem != "own-images-x2":  # an example for users: its model has no license to state
        assert config.license and config.citation and config.training_data


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "soap"', 'name = "lion"', "optimizer.name must be one of 'sgd', 'adam', 'soap', not 'lion'"),
        ("augment = true", "augmnt = true", "unknown field data.augmnt; known here: folders"),
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
        (
            'kind = "espcn"',
            'kind = "espcn-deconvolution"\nexpansion = 2',
            "espcn-deconvolution\" can't have network.expansion",
        ),
        ("seed = 1", "seed = ", "not readable as TOML"),
        ("[network]", "[nework]", "unknown field nework"),
    ],
)
def test_wrong_configs_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed_config("espcn-t91-x3", {old: new}, tmp_path / "c.toml")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("current", "old", "message"),
    [
        ("augment = true", "turn = true", "data.turn is now data.augment"),
        (
            'kind = "espcn-pre-upsampling"',
            'kind = "espcn-enlarged-first"',
            'network.kind = "espcn-enlarged-first" is now "espcn-pre-upsampling"',
        ),
        (
            'drawn_by = "image"',
            'drawn_by = "picture"',
            'patches.drawn_by = "picture" is now "image"',
        ),
        ('"centered"', '"centred"', 'network.initialization = "centred" is now "centered"'),
        ("initialization =", "initialisation =", "network.initialisation is now network.initialization"),
        ("[optimizer]", "[optimiser]", "optimiser is now optimizer"),
    ],
)
def test_old_names_work_with_a_warning(tmp_path: Path, current: str, old: str, message: str) -> None:
    changes = {
        'kind = "espcn"': 'kind = "espcn-pre-upsampling"',
        'initialization = "fitted"': 'initialization = "centered"',
        "[patches]": '[patches]\ndrawn_by = "image"',
    }
    expected = changed_config("espcn-t91-x3", changes, tmp_path / "current.toml")
    path = tmp_path / "old.toml"
    path.write_text(expected.read_text().replace(current, old))
    with pytest.warns(DeprecationWarning, match=re.escape(message)) as caught:
        config = load_config(path)
    assert [str(warning.message) for warning in caught] == [f"{path}: {message}"]
    assert caught[0].filename == __file__
    assert config == load_config(expected)


@pytest.mark.parametrize("name", ["video-x2", "default-x3", "frames-x4"])
def test_checkpoints_from_before_a_field_belong_to_their_config(name: str) -> None:
    """A newer field has its default; other values, and what is no config, do not belong to it."""
    config = load_config(CONFIGS / f"{name}.toml")
    stored = json.loads(stored_config(config))
    assert is_stored_config(json.dumps(stored), config)
    del stored["network"]["interpolated_with"]  # the default
    assert is_stored_config(json.dumps(stored), config)
    too_large = stored["schedule"] | {"rate": 10**400}
    for table, value in (("seed", 99), ("network", []), ("unknown", 1), ("schedule", too_large)):
        assert not is_stored_config(json.dumps(stored | {table: value}), config)
    del stored["seed"], stored["name"]
    assert not is_stored_config(json.dumps(stored), config)
