"""Checkpoints: everything that a run needs to resume exactly, and small ones to resume elsewhere.

A checkpoint is one ``.safetensors`` file, replaced atomically: tensors by name, numbers as JSON in the
header. (PyTorch's own checkpoints are pickles, which can run code when they are loaded.)

A small checkpoint is the file of the model so far, in float16, with the numbers in its header: 126 kB for
a network of 60,000 weights, whose checkpoint has 5.7 MB with SOAP. The optimizer's state is missing, so a run
that resumes from it is not the same as an uninterrupted one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from subpixel.errors import ConfigError, ModelError
from subpixel.files import write_atomically
from subpixel.models.file import open_tensors
from subpixel.models.model import Model, load_model

CHECKPOINT, SMALL_CHECKPOINT = "checkpoint.safetensors", "unfinished.safetensors"
"""Names of the files in the folder of a run."""


def save_checkpoint(
    path: Path,
    tensors: dict[str, dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    numbers: dict[str, Any],
) -> None:
    """Write groups of named tensors, the state of an optimizer, and ``numbers``, any JSON."""
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


def save_small_checkpoint(path: Path, model: Model, numbers: dict[str, Any]) -> None:
    """Write the model so far and ``numbers``, any JSON."""
    model.in_half_precision().save(path, notes={"training": json.dumps(numbers)})


def load_small_checkpoint(path: Path) -> tuple[Model, dict[str, Any]]:
    """Read what `save_small_checkpoint` wrote.

    Raises:
        ConfigError: the file is missing, damaged, or a model without numbers.
    """
    try:
        model = load_model(path)
        with open_tensors(path) as file:
            numbers: dict[str, Any] = json.loads(file.metadata["training"])
        return model, {key: numbers[key] for key in ("config", "schedule", "next_epoch", "finished")}
    except ModelError as error:
        raise ConfigError(str(error)) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: not a small checkpoint ({error!r}); a run writes one as {SMALL_CHECKPOINT}"
        ) from error


def load_checkpoint(
    path: Path, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint: restore the optimizer's state, and return the groups of tensors and the numbers.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata()
            # Clones are aligned, unlike tensors of the file; the rounding of some kernels depends on that.
            flat = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a mapping
        numbers: dict[str, Any] = json.loads(metadata["numbers"])
        scalars = json.loads(metadata["optimizer"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged checkpoint ({error}); remove it to start again") from error
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
