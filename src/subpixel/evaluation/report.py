"""What an evaluation came to: as tables for people and as JSON for programs."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.evaluation.protocol import Degradation, ImageScores, Scores, mean
from subpixel.evaluation.published import Published, known_name, published

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Report:
    """The scores of one model on one test set, and how they were made."""

    folder: Path
    scale: int
    model: str
    engine: str | None
    """None for bicubic, which needs none; the precision likewise."""
    precision: str | None
    degradation: Degradation
    images: tuple[ImageScores, ...]

    @property
    def dataset(self) -> str:
        """The test set's usual name, or else the folder's."""
        return known_name(self.folder) or self.folder.resolve().name

    @property
    def mean(self) -> ImageScores:
        """The mean over the pictures."""
        return ImageScores(
            "mean",
            mean([image.model for image in self.images]),
            mean([image.bicubic for image in self.images]),
        )

    @property
    def published(self) -> list[Published]:
        """What others have published for the same test set, scale and degradation, worst first."""
        return [] if self.degradation.kind == "gaussian" else published(known_name(self.folder), self.scale)

    def to_json(self) -> dict[str, Any]:
        """One JSON-ready object; a PSNR without bound (identical pictures) is null."""
        sigma = {} if self.degradation.sigma_px is None else {"sigma_px": self.degradation.sigma_px}
        return {
            "dataset": self.dataset,
            "scale": self.scale,
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "degradation": self.degradation.kind,
            **sigma,
            "images": [{"name": image.name, **_json_scores(image)} for image in self.images],
            "mean": _json_scores(self.mean),
            "published": [asdict(row) for row in self.published],
        }

    def table(self) -> "Table":
        """Every picture and the mean, beside bicubic unless that is what was measured."""
        from rich.table import Table

        how = "" if self.engine is None else f"; {self.engine} {self.precision}"
        blur = "" if self.degradation.sigma_px is None else f", sigma {self.degradation.sigma_px:g} px"
        table = Table(
            title=f"{self.model} on {self.dataset} x{self.scale}",
            caption=f"luma; LR: {self.degradation.kind}{blur}{how}",
        )
        headings = ["PSNR dB", "SSIM", "bicubic dB", "bicubic SSIM", "gain dB"]
        if self.model == "bicubic":
            del headings[2:]
        table.add_column("picture")
        for heading in headings:
            table.add_column(heading, justify="right")
        for image in self.images:
            table.add_row(*_cells(image)[: 1 + len(headings)], end_section=image is self.images[-1])
        table.add_row(*_cells(self.mean)[: 1 + len(headings)], style="bold")
        return table

    def published_table(self) -> "Table | None":
        """The mean PSNR among the published ones, ours in bold; None where nothing was published."""
        from rich.table import Table

        if not self.published:
            return None
        table = Table(title=f"{self.dataset} x{self.scale}: this result among published ones")
        table.add_column("method")
        table.add_column("PSNR dB", justify="right")
        table.add_column("source")
        ours = Published(self.model, self.mean.model.psnr_db, "measured now")
        for row in sorted([ours, *self.published], key=lambda row: round(row.psnr_db, 2)):
            table.add_row(row.method, f"{row.psnr_db:.2f}", row.source, style="bold" if row is ours else None)
        return table


def _cells(image: ImageScores) -> list[str]:
    return [image.name, *_figures(image.model), *_figures(image.bicubic), _gain(image)]


def _figures(scores: Scores) -> tuple[str, str]:
    return f"{scores.psnr_db:.2f}", f"{scores.ssim:.4f}"


def _gain(image: ImageScores) -> str:
    gain = image.model.psnr_db - image.bicubic.psnr_db
    return f"{gain:+.2f}" if math.isfinite(gain) else ""


def _json_scores(image: ImageScores) -> dict[str, float | None]:
    return {
        "psnr_db": _finite(image.model.psnr_db),
        "ssim": image.model.ssim,
        "bicubic_psnr_db": _finite(image.bicubic.psnr_db),
        "bicubic_ssim": image.bicubic.ssim,
    }


def _finite(psnr_db: float) -> float | None:
    return psnr_db if math.isfinite(psnr_db) else None
