"""`subpixel upscale --dry-run`: what a run would do, without doing it."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from subpixel.batch import ExistingOutputs, Job, reasons_to_skip
from subpixel.cli.display import ignore_closed_stdout
from subpixel.cli.upscale_messages import error_message
from subpixel.cli.upscale_rates import Rates, work_of
from subpixel.cli.upscale_shard import ShardRun
from subpixel.cli.upscale_summary import duration, printable
from subpixel.results import Preview
from subpixel.storage.paths import is_file

if TYPE_CHECKING:
    from subpixel.selection import ModelOptions
    from subpixel.sizes import TargetSize


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Prints what would become of each job."""

    model: "ModelOptions"
    target: "TargetSize"
    image_options: Mapping[str, Any]
    video_options: Mapping[str, Any]
    existing: ExistingOutputs
    as_json: bool
    shard: ShardRun | None = None
    """Which share this is; None for all."""
    rates: Rates = field(default_factory=Rates)

    def run(self, jobs: Sequence[Job]) -> int:
        """Print a line for each job, and return how many would fail."""
        skipped = failed = unknown = 0
        seconds = 0.0
        for job, reason in zip(jobs, reasons_to_skip(jobs, self.existing), strict=True):
            if reason:
                skipped += 1
                self._print(
                    {"input": str(job.source), "output": str(job.output), "skipped": reason},
                    f"{job.source}: skipped, {reason}: {job.output}",
                )
                continue
            try:
                preview = self._preview(job)
            except Exception as error:
                failed += 1
                message = error_message(job, error)
                typer.echo(f"error: {printable(message)}", err=True)
                if self.as_json:
                    self._print({"input": str(job.source), "error": message}, "")
                continue
            estimate = self.rates.estimate(work_of(job, preview, self.video_options.get("preset")))
            if estimate is not None and self.shard is not None:
                estimate *= self.shard.fraction_of(preview.frames)
            unknown += estimate is None
            seconds += estimate or 0
            for warning in preview.warnings:
                typer.echo(f"note: {printable(job.source)}: {warning}", err=True)
            time = None if estimate is None else round(estimate, 2)
            line = {**asdict(preview), "seconds": time, "dry_run": True}
            share = ""
            if self.shard is not None:
                line["shard"] = str(self.shard.shard)
                if self.shard.is_shared:
                    empty = "" if self.shard.fraction_of(preview.frames) else ", of which it has none"
                    share = f", shard {self.shard.shard} of its segments{empty}"
            self._print(line, _describe(job, preview, estimate) + share)
        if self.shard is not None and self.shard.note:
            typer.echo(f"note: {self.shard.note}", err=True)
        if not self.as_json:
            self._print({}, _total(len(jobs) - skipped - failed, skipped, failed, seconds, unknown))
        return failed

    def _preview(self, job: Job) -> Preview:
        overwrite = self.existing == "overwrite" or (self.existing == "newer" and is_file(job.output))
        if job.is_video:
            from subpixel.video.upscale import preview_video

            return preview_video(
                job.source, job.output, self.model, self.target, overwrite=overwrite, **self.video_options
            )
        from subpixel.images.plan import checked_options, preview_image

        options = checked_options(job.output, None, overwrite=overwrite, **self.image_options)
        return preview_image(job.source, job.output, self.model, self.target, options)

    def _print(self, line: Mapping[str, Any], text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        shown = json.dumps(line) if self.as_json else printable(text)
        with ignore_closed_stdout():
            typer.echo(shown.encode(encoding, "backslashreplace").decode(encoding))


def _describe(job: Job, preview: Preview, estimate: float | None) -> str:
    content = f" for {preview.content} sources ({preview.content_reason})" if preview.content else ""
    frames = "" if job.is_video or preview.frames == 1 else f", {preview.frames} frames"
    if job.is_video:
        frames = f", {preview.frames} frames" if preview.frames else ", frames unknown"
    time = "time unknown until the first run" if estimate is None else _about(estimate)
    resumed = ", resumes an interrupted run" if preview.resumes else ""
    return (
        f"{job.source} -> {job.output}: {preview.source_width} x {preview.source_height} to "
        f"{preview.width} x {preview.height}{frames}, {preview.model}{content}, {time}{resumed}"
    )


def _about(seconds: float) -> str:
    return "less than 0.1 s" if seconds < 0.05 else f"about {duration(seconds)}"


def _total(to_do: int, skipped: int, failed: int, seconds: float, unknown: int) -> str:
    parts = [f"{to_do} file{'s' * (to_do != 1)} to do"]
    if to_do > unknown:
        more = f", and the time of {unknown} of them is unknown" if unknown else ""
        parts[0] += f" in {_about(seconds)}{more}"
    if skipped:
        parts.append(f"{skipped} skipped")
    if failed:
        parts.append(f"{failed} would fail")
    return f"{', '.join(parts)}; nothing was written"
