"""What a finished run leaves behind: the model file, with its facts measured and stated."""

import dataclasses
import subprocess
from pathlib import Path

from subpixel.engines.select import choose
from subpixel.engines.tnrd import TnrdModel
from subpixel.evaluation.protocol import UpscaleLuma, evaluate_image, mean, pictures, read_picture
from subpixel.evaluation.published import known_name
from subpixel.files import is_folder
from subpixel.models.model import Model, ModelMetadata
from subpixel.training.config import TrainingConfig
from subpixel.training.loop import Run


def finished_model(run: Run, config_path: Path) -> Model | TnrdModel:
    """The trained model with its facts; PSNR is measured on those ``test_sets`` that are at hand."""
    config = run.config
    metadata = ModelMetadata(
        version=config.version,
        training_data=config.training_data or ", ".join(config.data.folders),
        recipe=config_path.name,
        config_commit=repository_commit(config_path),
        license=config.license,
        citation=config.citation,
    )
    model = run.model(metadata)
    return dataclasses.replace(
        model, metadata=dataclasses.replace(metadata, psnr_db=measure(model, config, run.datasets))
    )


def measure(model: Model | TnrdModel, config: TrainingConfig, datasets: Path) -> dict[str, float]:
    """Mean luma PSNR in dB by test set, bicubic protocol, rounded to 0.001 dB."""
    upscale: UpscaleLuma = choose(model, precision="fp32").engine if isinstance(model, Model) else model
    found = [name for name in config.test_sets if is_folder(datasets / name)]
    psnr_db = {}
    for name in found:
        files = pictures(datasets / name)
        scores = [evaluate_image(read_picture(file), upscale, model.scale) for file in files]
        psnr_db[known_name(datasets / name) or name] = round(mean(scores).psnr_db, 3)
    return psnr_db


def repository_commit(path: Path) -> str:
    """The commit that holds ``path`` as it is, or "uncommitted" where git cannot say so."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(path.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("status", "--porcelain", "--", path.name):
            return "uncommitted"
        return git("log", "-1", "--format=%H", "--", path.name) or "uncommitted"
    except (OSError, subprocess.CalledProcessError):
        return "uncommitted"
