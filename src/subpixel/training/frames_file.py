"""Reads the files of networks over several frames, which `FramesModel.save` writes."""

import json
from pathlib import Path
from typing import Any

from subpixel.errors import ConfigError, ModelError
from subpixel.models.catalog import FRAMES_FORMAT
from subpixel.models.model import ModelMetadata
from subpixel.training.config import NetworkConfig
from subpixel.training.config_file import from_table
from subpixel.training.frames_config import FramesConfig
from subpixel.training.frames_model import FramesModel
from subpixel.training.frames_network import FramesNetwork


def load_frames_model(path: Path) -> FramesModel:
    """Read a trained network over several frames; `ModelError` names the file if it is not valid."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stored = file.metadata() or {}
            if stored.get("format") != FRAMES_FORMAT:
                raise ModelError(f"{path}: not a network over several frames; train one with [clips]")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        network = _built(json.loads(stored["config"]))
        network.load_state_dict(tensors)
        metadata = ModelMetadata.from_json(json.loads(stored["facts"]))
        return FramesModel(stored["name"], network.eval(), metadata)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise ModelError(f"{path}: not a readable network over several frames ({error})") from error


def _built(tables: dict[str, Any]) -> FramesNetwork:
    network = from_table(NetworkConfig, tables["network"])
    return FramesNetwork(network, from_table(FramesConfig, tables["frames"]))
