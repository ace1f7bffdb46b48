"""One video job: its checked options, its opened input, its plan and its result."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from subpixel import arguments
from subpixel.content import content_of_video
from subpixel.engines.select import available_cpus
from subpixel.errors import EngineError, InputError, OtherJob, name_file_in_errors
from subpixel.files import PIPE, Target
from subpixel.options import ContainerName, Deinterlace, FieldOrder, Precision
from subpixel.results import Progress, VideoResult
from subpixel.selection import ModelOptions, Selection
from subpixel.sizes import TargetSize
from subpixel.storage.base import Storage
from subpixel.storage.outputs import make_folder_of, refuse_existing, refuse_input
from subpixel.storage.paths import locate
from subpixel.storage.select import open_storage
from subpixel.video.animated import as_video
from subpixel.video.media.codecs import Encoding
from subpixel.video.media.containers import OUTPUT_EXTENSIONS, Y4M, Container, container_named, container_of
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.losses import losses_in_later_frames
from subpixel.video.media.source import Source as VideoSource
from subpixel.video.media.source import is_regular, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.trial import check_output
from subpixel.video.pipeline.decode import SegmentFrames
from subpixel.video.pipeline.deinterlace import Deinterlacing
from subpixel.video.pipeline.deinterlace_filters import has_captions
from subpixel.video.pipeline.fingerprint import choices_of, fingerprint_of
from subpixel.video.pipeline.outputs import has_written
from subpixel.video.pipeline.plan import VideoPlan, plan_video
from subpixel.video.pipeline.progress import ProgressTracker
from subpixel.video.pipeline.run import job_folder
from subpixel.video.pipeline.segments import SegmentFolder
from subpixel.video.pipeline.stages import call_interruptibly
from subpixel.video.pipeline.stored_index import stored_index

_STALLED_SOURCE_SECONDS = 2
"""How long a job that stops waits for a pipe that delivers no data."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of a job, after they were checked."""

    target: TargetSize
    square_pixels: bool
    grain: float
    model: ModelOptions
    encoding: Encoding
    container: Container
    time_range: TimeRange
    deinterlacing: Deinterlacing
    overwrite: bool
    drop_unsupported: bool
    progress: Callable[[Progress], object]


_TARGET = {field.name for field in fields(TargetSize)}
_MODEL = {field.name for field in fields(ModelOptions)}


def job_options(output: Target, arguments: Mapping[str, Any]) -> JobOptions:
    """Check the arguments of `upscale_video`; those that are left out have its defaults.

    Raises ``ValueError`` or ``TypeError`` if they are wrong.
    """
    target = {name: value for name, value in arguments.items() if name in _TARGET}
    model = {name: value for name, value in arguments.items() if name in _MODEL}
    others = {name: value for name, value in arguments.items() if name not in _TARGET | _MODEL}
    return checked_options(output, TargetSize(**target), ModelOptions(**model), **others)


def checked_options(
    output: Target,
    target: TargetSize,
    model: ModelOptions,
    *,
    square_pixels: bool = False,
    grain: float | Literal["keep"] = 0.0,
    codec: str = "auto",
    crf: float | None = None,
    preset: str | None = None,
    codec_options: Mapping[str, str] | None = None,
    container: ContainerName | None = None,
    start: float | Fraction = 0,
    end: float | Fraction | None = None,
    deinterlace: Deinterlace = "auto",
    field_order: FieldOrder = "auto",
    inverse_telecine: bool = False,
    overwrite: bool = False,
    drop_unsupported: bool = False,
    progress: Callable[[Progress], object] = lambda progress: None,
) -> JobOptions:
    """Check the arguments of `upscale_video`, with its defaults; see `job_options`."""
    arguments.check_strings(codec=codec, preset=preset, container=container)
    arguments.check_numbers(crf=crf, start=start, end=end)
    arguments.check_mappings(codec_options=codec_options)
    if grain is None or (isinstance(grain, str) and grain != "keep"):
        raise TypeError(f"grain must be 'keep', or a number from 0 to 1, not {grain!r}")
    grain_share = 1.0 if grain == "keep" else grain
    arguments.check_shares(grain=grain_share)
    return JobOptions(
        target=target,
        square_pixels=square_pixels,
        grain=float(grain_share),
        model=model,
        encoding=Encoding(codec, crf, preset, codec_options or {}),
        container=_select_container(output, container),
        time_range=_exact_time_range(start, end),
        deinterlacing=Deinterlacing(
            mode=deinterlace, field_order=field_order, inverse_telecine=inverse_telecine
        ),
        overwrite=overwrite,
        drop_unsupported=drop_unsupported,
        progress=progress,
    )


def _exact_time_range(start: float | Fraction, end: float | Fraction | None) -> TimeRange:
    # Through the decimal digits: a user's 0.2 means 1/5, and the nearest float is a little larger.
    return TimeRange(Fraction(str(start)), None if end is None else Fraction(str(end)))


def _select_container(output: Target, name: str | None) -> Container:
    """Return the container for an output, from ``name`` or else from the output's extension."""
    if not isinstance(output, str | os.PathLike):
        if name is None:
            raise ValueError("the output is a file object: pass a container too, such as container='mkv'")
        return container_named(name)
    output = os.fspath(output)
    if name is None:
        return Y4M if output == PIPE else container_of(Path(output))
    container = container_named(name)
    if output != PIPE and Path(output).suffix.lower() in OUTPUT_EXTENSIONS:
        by_extension = container_of(Path(output))
        if by_extension is not container:
            raise ValueError(
                f"{output}: the extension means {by_extension.name}, not {container.name}; change one of them"
            )
    return container


class OpenedJob:
    """A job whose input is open and whose encoder is planned."""

    def __init__(
        self,
        source: VideoSource,
        input: str,
        output: str,
        options: JobOptions,
        tracker: ProgressTracker,
        warnings: Sequence[str] = (),
    ) -> None:
        """Select the model, and plan the job.

        Args:
            source: the opened input.
            input, output: paths, or "-".
            options: of the job.
            tracker: of its progress.
            warnings: about what was done before the input was opened.
        """
        self.source, self.input, self.output, self.options = source, input, output, options
        self.tracker = tracker
        factor = options.deinterlacing.rate_factor
        self.tracker.frame_rate = float(source.timeline.frame_rate * factor)
        if source.timeline.expected_frames is not None:
            self.tracker.total_frames = round(source.timeline.expected_frames * factor)
        self._warnings = warnings
        self._streams = list(source.others)
        self.selection, self.plan = _plan(source, input, output, options)

    @property
    def is_resumable(self) -> bool:
        """See the function of this name."""
        return is_resumable(self.input, self.output)

    @property
    def storage(self) -> Storage:
        """Where the segments are stored."""
        return open_storage(job_folder(locate(self.output)))

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the encoded frames."""
        model = self.options.model
        is_chosen = model.upscaler is not None or model.precision != "auto"
        return fingerprint_of(self.plan, self.storage, precision_is_chosen=is_chosen)

    def open_folder(
        self, fingerprint: Mapping[str, Any], *, alone: bool, encoder_threads: int | None = None
    ) -> SegmentFolder:
        """Open the folder of segments, and adopt the choices of the process that created it.

        Args:
            fingerprint: of the job.
            alone: whether no other process may use the folder.
            encoder_threads: what to choose if nothing is chosen yet; by default the CPUs of this process.

        Raises:
            OutputError: another process uses it, or it cannot be written.
            OtherJob: its segments were made by another engine; if ``alone``, those are removed instead.
        """
        folder = SegmentFolder(self.storage, fingerprint, alone=alone)
        codec = self.plan.encoder.codec
        if not alone and codec.differs:
            self.plan.warnings.append(f"{codec.name} on several machines: {codec.differs}")
        try:
            self._adopt_choices(folder, alone, encoder_threads)
            folder.index = stored_index(self.source, folder.storage)
            frames = SegmentFrames(self.plan, folder.index)
            folder.count, folder.frames = frames.count, frames.frames
        except BaseException:
            folder.close()
            raise
        return folder

    def _adopt_choices(self, folder: SegmentFolder, alone: bool, encoder_threads: int | None) -> None:
        if encoder_threads is not None:
            self._set_encoder_threads(encoder_threads)
        own = choices_of(self.plan)
        pinned = folder.pin(own)
        model = self.options.model
        if pinned["engines"] != own["engines"] and model.upscaler is None and model.precision == "auto":
            with contextlib.suppress(EngineError, ValueError):
                self._plan_with_precision(pinned["precision"])
                own = choices_of(self.plan)
        if pinned["engines"] != own["engines"]:
            if not alone:
                raise OtherJob(
                    f"{folder.location}: its segments were made by the engine {_engine_text(pinned)}, and "
                    f"here it is {_engine_text(own)}, whose frames differ; pass the same --engine and "
                    "--precision on machines of one kind, or --precision int8 for all"
                )
            folder.discard("an earlier run had another engine")
            pinned = folder.pin(own)
        if pinned["threads"] != self.plan.encoder.threads:
            self._set_encoder_threads(pinned["threads"])

    def _set_encoder_threads(self, threads: int) -> None:
        self.plan = replace(self.plan, encoder=replace(self.plan.encoder, threads=threads))

    def _plan_with_precision(self, precision: Precision) -> None:
        self.source.others = list(self._streams)
        options = replace(self.options, model=replace(self.options.model, precision=precision))
        self.selection, self.plan = _plan(self.source, self.input, self.output, options)

    def result(self, decode_errors: DecodeErrors, *, missing_segments: int = 0) -> VideoResult:
        """Return what the job gives."""
        plan, tracker = self.plan, self.tracker
        codec = plan.encoder.codec.name
        captions = has_captions(plan.source.first_frame) or "A53_CC" in decode_errors.carried_later
        rate = plan.source.timeline.frame_rate
        return VideoResult(
            input=self.input,
            output=self.output,
            **self.selection.as_result(plan.upsampling),
            codec=codec,
            grain=plan.grain,
            width=plan.encoder.width,
            height=plan.encoder.height,
            frames=decode_errors.output_frames,
            resumed_frames=tracker.resumed_frames,
            missing_segments=missing_segments,
            seconds=round(tracker.seconds, 3),
            frames_per_second=round(tracker.frames_per_second, 2),
            copied_share=round(tracker.copied_frames / max(1, tracker.frames), 4),
            stages=tracker.stages(),
            bottleneck=tracker.bottleneck,
            damaged_frames=decode_errors.damaged,
            missing_frames=decode_errors.missing,
            lost_frames=decode_errors.lost,
            damaged_share=round(decode_errors.damaged_share, 4),
            warnings=(
                *self._warnings,
                *plan.warnings,
                *decode_errors.warnings,
                *plan.deinterlacing.warnings(decode_errors, rate, captions=captions),
                *losses_in_later_frames(decode_errors.carried_later, codec),
            ),
        )


def is_resumable(input: str, output: str) -> bool:
    """Return whether an interrupted job can resume: both ends must be files, not pipes."""
    return output != PIPE and is_regular(input)


@contextlib.contextmanager
def open_job(
    input: str, output: str, options: JobOptions, tracker: ProgressTracker | None = None
) -> Iterator[OpenedJob]:
    """Open the input and plan the job. Errors of the body name the file; at its end, the stages stop."""
    tracker = tracker or ProgressTracker(options.progress)
    output_names = ("stdout:",) if output == PIPE else (f"{output}:", str(job_folder(locate(output))))
    warnings: list[str] = []
    with (
        name_file_in_errors("stdin" if input == PIPE else input, *output_names),
        as_video(input, warnings) as video,
        contextlib.closing(open_input(video, options.time_range)) as source,
    ):
        try:
            yield OpenedJob(source, input, output, options, tracker, warnings)
        finally:
            ended = tracker.pipeline.close(None if is_regular(input) else _STALLED_SOURCE_SECONDS)
            source.has_blocked_reader = not ended


def open_input(input: str, time_range: TimeRange) -> VideoSource:
    """Open a file or a pipe. Raises `InputError`; an interrupt ends the wait for a pipe."""
    with processing_errors():
        if is_regular(input):
            return open_source(input, time_range)
        return call_interruptibly(lambda: open_source(input, time_range))


def _plan(source: VideoSource, input: str, output: str, options: JobOptions) -> tuple[Selection, VideoPlan]:
    """Select the model, and plan the job."""
    selection = options.model.select(lambda: content_of_video(Path(input)))
    plan = plan_video(
        source,
        selection.upscaler.family,
        options.target.or_scale(selection.upscaler.scale),
        options.container,
        options.encoding,
        square_pixels=options.square_pixels,
        deinterlacing=options.deinterlacing,
        grain=options.grain,
        threads=available_cpus(),
        drop_unsupported=options.drop_unsupported,
        to_pipe=output == PIPE,
    )
    plan.warnings += check_output(options.container, source, plan.track, to_pipe=output == PIPE)
    return selection, plan


@contextlib.contextmanager
def processing_errors() -> Iterator[None]:
    """Turn errors of FFmpeg, and any ValueError while frames are processed, into `InputError`.

    Outside this context, a ValueError means a wrong argument.
    """
    import av

    try:
        yield
    except BrokenPipeError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"could not be upscaled ({reason})") from error


def _engine_text(choices: Mapping[str, Any]) -> str:
    return " and ".join(" ".join(engine) for engine in choices["engines"])


def check_paths(input: str, output: str, overwrite: bool) -> None:
    """Refuse an output that exists or is the input before any work is done, and create its folder."""
    if output == PIPE:
        return
    path = locate(output)
    if is_regular(input):
        refuse_input(path, locate(input))
    if not overwrite and not has_written(open_storage(job_folder(path)), path):
        refuse_existing(path)
    make_folder_of(path)
