"""Checkpoints: everything that a run needs to go on as if it had never stopped.

One ``.safetensors`` file, replaced whole: tensors by name, numbers as JSON in the header. (PyTorch's own
checkpoints are pickles, which run code when they are opened.)
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from subpixel.errors import ConfigError
from subpixel.files import write_atomically


def save_checkpoint(
    path: Path,
    tensors: dict[str, dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    numbers: dict[str, Any],
) -> None:
    """Write groups of named tensors, an optimizer's state, and anything that JSON can hold."""
    flat = {f"{group}/{key}": tensor for group, named in tensors.items() for key, tensor in named.items()}
    scalars: dict[str, dict[str, float]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                flat[f"optimizer/{index}.{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    metadata = {"numbers": json.dumps(numbers), "optimizer": json.dumps(scalars)}
    data = save({key: value.detach().cpu().clone().contiguous() for key, value in flat.items()}, metadata)
    with write_atomically(path, overwrite=True) as temporary:
        temporary.write_bytes(data)


def load_checkpoint(
    path: Path, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote: put the optimizer's state back, return the tensors and numbers.

    Raises:
        ConfigError: the file is damaged; it says to remove it.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata()
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        numbers: dict[str, Any] = json.loads(metadata["numbers"])
        scalars = json.loads(metadata["optimizer"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged checkpoint ({error}); remove it to start anew") from error
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in scalars.items()}
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, key = name.partition("/")
        if group == "optimizer":
            index, _, entry = key.partition(".")
            state.setdefault(int(index), {})[entry] = tensor
        else:
            groups.setdefault(group, {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return groups, numbers
