"""The model of a finished run, with its metadata."""

import dataclasses
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.select import choose
from subpixel.errors import EngineError
from subpixel.evaluation.protocol import UpscaleLuma, evaluate_image, find_images, mean, read_image
from subpixel.evaluation.published import known_name
from subpixel.files import is_folder
from subpixel.models.calibration import CROP_SIDE_PX, calibrate
from subpixel.models.catalog import find
from subpixel.models.history import without_history
from subpixel.models.model import Model, ModelMetadata
from subpixel.training.build import calibration_planes
from subpixel.training.clips import ClipPatches
from subpixel.training.config import TrainingConfig
from subpixel.training.frames_model import FramesModel
from subpixel.training.history_calibration import calibrate_history
from subpixel.training.loop import Run
from subpixel.training.network import TrainedModel

CALIBRATION_CLIPS, CALIBRATION_FRAMES = 30, 6
"""Sequences on which a history is calibrated."""

log = logging.getLogger(__name__)


def finished_model(run: Run, config_path: Path) -> TrainedModel:
    """Return the trained model with its metadata, and with int8 layers, see `with_int8_layers`.

    PSNR is measured on those ``test_sets`` that exist, in fp32.
    """
    config = run.config
    folders = (*([config.clips.folder] if config.clips else []), *config.data.folders)
    metadata = ModelMetadata(
        version=config.version,
        training_data=config.training_data or ", ".join(folders),
        config=config_path.name,
        config_commit=repository_commit(config_path),
        license=config.license,
        citation=config.citation,
    )
    clips = []
    if isinstance(run.patches, ClipPatches):
        clips = run.patches.crops(CALIBRATION_CLIPS, CALIBRATION_FRAMES, CROP_SIDE_PX)
    model = with_int8_layers(run.model(metadata), config, run.datasets, clips)
    metadata = model.metadata
    return dataclasses.replace(
        model, metadata=dataclasses.replace(metadata, psnr_db=measure(model, config, run.datasets))
    )


def with_int8_layers(
    model: TrainedModel, config: TrainingConfig, datasets: Path, clips: Sequence[NDArray[np.uint8]] = ()
) -> TrainedModel:
    """Calibrate a model on images that it was trained on; see `subpixel.models.calibration.calibrate`.

    The int8 layers of a network for video are those of its base, and its history is calibrated on ``clips``,
    sequences ``(T, H, W)`` of LR frames. A warning says why a model stays without int8 layers: there are too
    few images, or its sums are too large. A network over several frames, or one that works in HR space, has
    no int8 form.
    """
    if not isinstance(model, Model) or model.spec.upsampling == "bicubic":
        return model
    try:
        if config.recurrent is not None:
            source = f"{len(clips)} sequences that it was trained on, seed {config.seed}"
            base = dataclasses.replace(
                without_history(model), quantized=find(config.recurrent.base).quantized
            )
            return calibrate_history(model, base, clips, source=source, seed=config.seed)
        planes = calibration_planes(config, datasets)
        source = f"{', '.join(config.data.folders)}, {len(planes)} images, seed {config.seed}"
        return calibrate(model, planes, source=source, seed=config.seed)
    except (ValueError, EngineError) as error:
        log.warning("%s gets no int8 layers: %s", model.name, error)
        return model


def measure(model: TrainedModel, config: TrainingConfig, datasets: Path) -> dict[str, float]:
    """Return the mean luma PSNR in dB by test set, bicubic protocol, rounded to 0.001 dB.

    A network over several frames has no test sets.
    """
    if isinstance(model, FramesModel):
        return {}
    upscale: UpscaleLuma = choose(model, precision="fp32").engine if isinstance(model, Model) else model
    found = [name for name in config.test_sets if is_folder(datasets / name)]
    psnr_db = {}
    for name in found:
        files = find_images(datasets / name)
        scores = [evaluate_image(read_image(file), upscale, model.scale) for file in files]
        psnr_db[known_name(datasets / name) or name] = round(mean(scores).psnr_db, 3)
    return psnr_db


def repository_commit(path: Path) -> str:
    """Return the last commit that changed ``path``, or "uncommitted" if git does not have it as it is."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(path.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("status", "--porcelain", "--", path.name):
            return "uncommitted"
        return git("log", "-1", "--format=%H", "--", path.name) or "uncommitted"
    except (OSError, subprocess.CalledProcessError):
        return "uncommitted"
