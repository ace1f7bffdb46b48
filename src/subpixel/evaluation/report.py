"""The results of an evaluation, as tables for people and as JSON for programs."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.evaluation.methods import Method
from subpixel.evaluation.protocol import Degradation, ImageScores, Scores, mean
from subpixel.evaluation.published import Published, known_name, published
from subpixel.evaluation.video import ClipScores, ClipSetup, MeanScores, mean_of_clips

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Setup:
    """The method that was measured, and how LR was made."""

    method: Method
    degradation: Degradation

    def to_json(self) -> dict[str, Any]:
        """The keys of a report's JSON that describe the setup."""
        sigma = {} if self.degradation.sigma_px is None else {"sigma_px": self.degradation.sigma_px}
        return {
            "scale": self.method.scale,
            "model": self.method.name,
            "engine": self.method.engine,
            "precision": self.method.precision,
            "degradation": self.degradation.kind,
            **sigma,
        }

    def empty_table(self, dataset: str, how: str = "") -> "Table":
        """A table with title and caption, and no columns yet; the caption says ``how`` it was measured."""
        from rich.table import Table

        engine = "" if self.method.engine is None else f"; {self.method.engine} {self.method.precision}"
        blur = "" if self.degradation.sigma_px is None else f", sigma {self.degradation.sigma_px:g} px"
        return Table(
            title=f"{self.method.name} on {dataset} x{self.method.scale}",
            caption=f"luma; LR: {self.degradation.kind}{blur}{how}{engine}",
        )


@dataclass(frozen=True)
class ImageReport:
    """The scores of one method on a test set."""

    folder: Path
    setup: Setup
    images: tuple[ImageScores, ...]

    @property
    def dataset(self) -> str:
        """The usual name of the test set, or the name of the folder."""
        return known_name(self.folder) or self.folder.resolve().name

    @property
    def mean(self) -> ImageScores:
        """The mean over the images."""
        return ImageScores(
            "mean",
            mean([image.model for image in self.images]),
            mean([image.bicubic for image in self.images]),
        )

    @property
    def published(self) -> list[Published]:
        """The published numbers for the same test set, scale and degradation, lowest PSNR first."""
        if self.setup.degradation.kind != "bicubic":
            return []
        return published(known_name(self.folder), self.setup.method.scale)

    def to_json(self) -> dict[str, Any]:
        """An object for `json.dumps`; an infinite PSNR (identical images) is null."""
        return {
            "dataset": self.dataset,
            **self.setup.to_json(),
            "images": [{"name": image.name, **_json_scores(image)} for image in self.images],
            "mean": _json_scores(self.mean),
            "published": [asdict(row) for row in self.published],
        }

    def table(self) -> "Table":
        """A row for each image and for the mean, beside bicubic unless the method is bicubic."""
        table = self.setup.empty_table(self.dataset)
        headings = ["PSNR dB", "SSIM", "bicubic dB", "bicubic SSIM", "gain dB"]
        if self.setup.method.name == "bicubic":
            del headings[2:]
        table.add_column("image")
        for heading in headings:
            table.add_column(heading, justify="right")
        for image in self.images:
            table.add_row(*_cells(image)[: 1 + len(headings)], end_section=image is self.images[-1])
        table.add_row(*_cells(self.mean)[: 1 + len(headings)], style="bold")
        return table

    def tables(self) -> "list[Table]":
        """All tables to print: `table`, and `published_table` if there is one."""
        comparison = self.published_table()
        return [self.table()] if comparison is None else [self.table(), comparison]

    def published_table(self) -> "Table | None":
        """The mean PSNR, in bold, among the published ones; None if nothing was published."""
        from rich.table import Table

        if not self.published:
            return None
        table = Table(title=f"{self.dataset} x{self.setup.method.scale}: this result among published ones")
        table.add_column("method")
        table.add_column("PSNR dB", justify="right")
        table.add_column("source")
        ours = Published(self.setup.method.name, self.mean.model.psnr_db, "measured now")
        for row in sorted([ours, *self.published], key=lambda row: round(row.psnr_db, 2)):
            table.add_row(row.method, f"{row.psnr_db:.2f}", row.source, style="bold" if row is ours else None)
        return table


@dataclass(frozen=True)
class ClipReport:
    """The scores of one method on video clips, for which there are no published numbers."""

    setup: Setup
    measured: ClipSetup
    clips: tuple[ClipScores, ...]

    def to_json(self) -> dict[str, Any]:
        """An object for `json.dumps`; an infinite PSNR (a frame equal to its original) is null."""
        crf = {} if self.measured.crf is None else {"crf": self.measured.crf}
        return {
            "dataset": "video",
            **self.setup.to_json(),
            **crf,
            "protocol": self.measured.protocol.name,
            "clips": [_json_clip(clip) for clip in self.clips],
            "mean": _json_scores(mean_of_clips(self.clips)),
        }

    def tables(self) -> "list[Table]":
        """All tables to print: `table`, and `consistency_table` if more was measured."""
        return [self.table(), *([self.consistency_table()] if self._more else [])]

    @property
    def _more(self) -> bool:
        return self.measured.temporal or self.measured.vmaf

    def _empty_table(self) -> "Table":
        crf = "" if self.measured.crf is None else f", H.264 CRF {self.measured.crf}"
        return self.setup.empty_table("video", f"{crf}; protocol {self.measured.protocol.name}")

    def table(self) -> "Table":
        """A row for each clip, and for the mean of several, beside bicubic unless the method is bicubic."""
        table = self._empty_table()
        headings = ["frames", "PSNR dB", "SSIM", "bicubic dB", "bicubic SSIM", "gain dB"]
        if self.setup.method.name == "bicubic":
            del headings[3:]
        table.add_column("clip")
        for heading in headings:
            table.add_column(heading, justify="right")
        rows = [_clip_cells(clip.mean)[: 1 + len(headings)] for clip in self.clips]
        for row in rows:
            table.add_row(*row, end_section=row is rows[-1])
        if len(rows) > 1:
            table.add_row(*_clip_cells(mean_of_clips(self.clips))[: 1 + len(headings)], style="bold")
        return table

    def consistency_table(self) -> "Table":
        """Temporal consistency and VMAF, a row for each clip."""
        table = self._empty_table()
        columns = {"clip": [clip.name for clip in self.clips]}
        temporal = [clip.temporal for clip in self.clips if clip.temporal is not None]
        if temporal:
            columns["warping error x1000"] = [f"{1000 * one.warping_error:.3f}" for one in temporal]
            columns["of HR"] = [f"{1000 * one.hr_warping_error:.3f}" for one in temporal]
            columns["tOF px"] = [f"{one.tof_px:.3f}" for one in temporal]
            columns["flicker"] = ["" if one.flicker is None else f"{one.flicker:.2f}" for one in temporal]
            columns["static"] = [f"{one.static_share:.0%}" for one in temporal]
        vmaf = [clip.vmaf for clip in self.clips if clip.vmaf is not None]
        if vmaf:
            columns["VMAF"] = [f"{one.vmaf:.2f}" for one in vmaf]
            columns["VMAF-NEG"] = [f"{one.vmaf_neg:.2f}" for one in vmaf]
        for heading in columns:
            table.add_column(heading, justify="left" if heading == "clip" else "right")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        return table


def _cells(image: ImageScores) -> list[str]:
    gain = _gain(image.model.psnr_db, image.bicubic.psnr_db)
    return [image.name, *_figures(image.model), *_figures(image.bicubic), gain]


def _clip_cells(clip: MeanScores) -> list[str]:
    gain = _gain(clip.model.psnr_db, clip.bicubic.psnr_db)
    return [clip.name, str(clip.frames), *_figures(clip.model), *_figures(clip.bicubic), gain]


def _figures(scores: Scores) -> tuple[str, str]:
    return f"{scores.psnr_db:.2f}", f"{scores.ssim:.4f}"


def _gain(psnr_db: float, bicubic_psnr_db: float) -> str:
    gain = psnr_db - bicubic_psnr_db
    return f"{gain:+.2f}" if math.isfinite(gain) else ""


def _json_scores(image: ImageScores | MeanScores) -> dict[str, float | None]:
    return {
        "psnr_db": _finite(image.model.psnr_db),
        "ssim": image.model.ssim,
        "bicubic_psnr_db": _finite(image.bicubic.psnr_db),
        "bicubic_ssim": image.bicubic.ssim,
    }


def _json_clip(clip: ClipScores) -> dict[str, Any]:
    """The means over the frames of a clip, and the scores of each frame."""
    frames = zip(clip.model, clip.bicubic, strict=True)
    scores = [_json_scores(MeanScores(clip.name, 1, *pair)) for pair in frames]
    return {
        "name": clip.name,
        "frames": clip.frames,
        **_json_scores(clip.mean),
        **({} if clip.temporal is None else asdict(clip.temporal)),
        **({} if clip.vmaf is None else asdict(clip.vmaf)),
        "each_frame": {key: [one[key] for one in scores] for key in scores[0]},
    }


def _finite(psnr_db: float) -> float | None:
    return psnr_db if math.isfinite(psnr_db) else None
