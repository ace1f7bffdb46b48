"""What an evaluation came to: as tables for people and as JSON for programs."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.evaluation.protocol import Degradation, ImageScores, Scores, mean
from subpixel.evaluation.published import Published, known_name, published
from subpixel.evaluation.video import ClipScores
from subpixel.evaluation.video import mean as mean_of_clips

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Method:
    """What was measured, and how LR was made."""

    scale: int
    model: str
    engine: str | None
    """None for bicubic, which needs none; the precision likewise."""
    precision: str | None
    degradation: Degradation

    def to_json(self) -> dict[str, Any]:
        """The part of a report's JSON that tells it."""
        sigma = {} if self.degradation.sigma_px is None else {"sigma_px": self.degradation.sigma_px}
        return {
            "scale": self.scale,
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "degradation": self.degradation.kind,
            **sigma,
        }

    def table(self, dataset: str) -> "Table":
        """An empty table with title and caption."""
        from rich.table import Table

        how = "" if self.engine is None else f"; {self.engine} {self.precision}"
        blur = "" if self.degradation.sigma_px is None else f", sigma {self.degradation.sigma_px:g} px"
        return Table(
            title=f"{self.model} on {dataset} x{self.scale}",
            caption=f"luma; LR: {self.degradation.kind}{blur}{how}",
        )


@dataclass(frozen=True)
class Report:
    """The scores of one model on one test set, and how they were made."""

    folder: Path
    method: Method
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
        if self.method.degradation.kind == "gaussian":
            return []
        return published(known_name(self.folder), self.method.scale)

    def to_json(self) -> dict[str, Any]:
        """One JSON-ready object; a PSNR without bound (identical pictures) is null."""
        return {
            "dataset": self.dataset,
            **self.method.to_json(),
            "images": [{"name": image.name, **_json_scores(image)} for image in self.images],
            "mean": _json_scores(self.mean),
            "published": [asdict(row) for row in self.published],
        }

    def table(self) -> "Table":
        """Every picture and the mean, beside bicubic unless that is what was measured."""
        table = self.method.table(self.dataset)
        headings = ["PSNR dB", "SSIM", "bicubic dB", "bicubic SSIM", "gain dB"]
        if self.method.model == "bicubic":
            del headings[2:]
        table.add_column("picture")
        for heading in headings:
            table.add_column(heading, justify="right")
        for image in self.images:
            table.add_row(*_cells(image)[: 1 + len(headings)], end_section=image is self.images[-1])
        table.add_row(*_cells(self.mean)[: 1 + len(headings)], style="bold")
        return table

    def tables(self) -> "list[Table]":
        """All there is to show: `table`, and `published_table` if there is one."""
        others = self.published_table()
        return [self.table()] if others is None else [self.table(), others]

    def published_table(self) -> "Table | None":
        """The mean PSNR among the published ones, ours in bold; None where nothing was published."""
        from rich.table import Table

        if not self.published:
            return None
        table = Table(title=f"{self.dataset} x{self.method.scale}: this result among published ones")
        table.add_column("method")
        table.add_column("PSNR dB", justify="right")
        table.add_column("source")
        ours = Published(self.method.model, self.mean.model.psnr_db, "measured now")
        for row in sorted([ours, *self.published], key=lambda row: round(row.psnr_db, 2)):
            table.add_row(row.method, f"{row.psnr_db:.2f}", row.source, style="bold" if row is ours else None)
        return table


@dataclass(frozen=True)
class ClipsReport:
    """The scores of one model on video clips, and how they were made; nothing published compares with it."""

    method: Method
    clips: tuple[ClipScores, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON-ready object; a PSNR without bound (a frame that came back exactly) is null."""
        return {
            "dataset": "video",
            **self.method.to_json(),
            "clips": [{"name": clip.name, "frames": clip.frames, **_json_psnr(clip)} for clip in self.clips],
            "mean": _json_psnr(mean_of_clips(self.clips)),
        }

    def tables(self) -> "list[Table]":
        """All there is to show."""
        return [self.table()]

    def table(self) -> "Table":
        """Every clip, and the mean of several, beside bicubic unless that is what was measured."""
        table = self.method.table("video")
        headings = ["frames", "PSNR dB", "bicubic dB", "gain dB"]
        if self.method.model == "bicubic":
            del headings[2:]
        table.add_column("clip")
        for heading in headings:
            table.add_column(heading, justify="right")
        rows = [_clip_cells(clip)[: 1 + len(headings)] for clip in self.clips]
        for row in rows:
            table.add_row(*row, end_section=row is rows[-1])
        if len(rows) > 1:
            table.add_row(*_clip_cells(mean_of_clips(self.clips))[: 1 + len(headings)], style="bold")
        return table


def _cells(image: ImageScores) -> list[str]:
    gain = _gain(image.model.psnr_db, image.bicubic.psnr_db)
    return [image.name, *_figures(image.model), *_figures(image.bicubic), gain]


def _clip_cells(clip: ClipScores) -> list[str]:
    gain = _gain(clip.psnr_db, clip.bicubic_psnr_db)
    return [clip.name, str(clip.frames), f"{clip.psnr_db:.2f}", f"{clip.bicubic_psnr_db:.2f}", gain]


def _figures(scores: Scores) -> tuple[str, str]:
    return f"{scores.psnr_db:.2f}", f"{scores.ssim:.4f}"


def _gain(psnr_db: float, bicubic_psnr_db: float) -> str:
    gain = psnr_db - bicubic_psnr_db
    return f"{gain:+.2f}" if math.isfinite(gain) else ""


def _json_scores(image: ImageScores) -> dict[str, float | None]:
    return {
        "psnr_db": _finite(image.model.psnr_db),
        "ssim": image.model.ssim,
        "bicubic_psnr_db": _finite(image.bicubic.psnr_db),
        "bicubic_ssim": image.bicubic.ssim,
    }


def _json_psnr(clip: ClipScores) -> dict[str, float | None]:
    return {"psnr_db": _finite(clip.psnr_db), "bicubic_psnr_db": _finite(clip.bicubic_psnr_db)}


def _finite(psnr_db: float) -> float | None:
    return psnr_db if math.isfinite(psnr_db) else None
