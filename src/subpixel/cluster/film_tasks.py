"""The tasks of films, and what the machines of a cluster do for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from subpixel.cluster.files import ClusterFile, Version, check_version
from subpixel.cluster.tasks import Call, Task
from subpixel.cluster.worker import Context, Refused
from subpixel.errors import EngineError, OtherJob
from subpixel.results import Progress, VideoResult
from subpixel.video.distributed import (
    EncodedSegments,
    SegmentPlan,
    encode_segments,
    join_segments,
    plan_segments,
)

Step = TypeVar("Step")


class SegmentDone(NamedTuple):
    """The message that a segment is stored."""

    number: int


class FilmStep(NamedTuple):
    """What a task of a film returns."""

    plan: SegmentPlan | None = None
    """If segments are missing."""
    encoded: EncodedSegments | None = None
    result: VideoResult | None = None
    """If the output is complete."""
    digest: str = ""
    """Of the folder of segments, which is then to be removed."""


class FilmArguments(NamedTuple):
    """The arguments of `upscale_video` for a film, and what its tasks need besides."""

    source: str
    output: str
    version: Version | None
    owner: str
    """The name of the run, in claims."""
    encoder_threads: int
    """Threads of each encoder: those of the driver's machine, whose output it will be."""
    options: Mapping[str, Any]


@dataclass(eq=False, kw_only=True)
class FilmTask(Task):
    """A task of a film."""

    film: ClusterFile
    arguments: FilmArguments
    done: set[int] = field(default_factory=set)
    """Segments that it has stored."""
    frames: int = 0
    """That it has upscaled."""
    total_frames: int | None = None

    @property
    def fraction(self) -> float:
        """See `Task.fraction`."""
        return min(1.0, self.frames / self.total_frames) if self.total_frames else 0.0


@dataclass(eq=False, kw_only=True)
class BeginFilm(FilmTask):
    """Plans a film; a short one is done as a whole."""

    whole_pixels: float
    """Films with at most this many pixels to make are short."""

    def call(self, *, is_copy: bool) -> Call:
        """See `Task.call`."""
        self.film.attempts += 1
        return Call(begin_film, (self.arguments, self.whole_pixels))


@dataclass(eq=False, kw_only=True)
class SegmentRange(FilmTask):
    """Encodes segments of a film."""

    digest: str
    numbers: list[int]

    def call(self, *, is_copy: bool) -> Call:
        """See `Task.call`."""
        left = [number for number in self.numbers if number not in self.done]
        return Call(encode_range, (self.arguments, self.digest, left))


@dataclass(eq=False, kw_only=True)
class JoinFilm(FilmTask):
    """Joins the segments of a film."""

    def call(self, *, is_copy: bool) -> Call:
        """See `Task.call`."""
        return Call(join_film, (self.arguments,))


def begin_film(context: Context, arguments: FilmArguments, whole_pixels: float) -> FilmStep:
    """Plan a film, and do it as a whole if that is short."""

    def begin() -> FilmStep:
        plan = plan_segments(
            arguments.source,
            arguments.output,
            encoder_threads=arguments.encoder_threads,
            **arguments.options,
        )
        if plan.is_written or (plan.count is not None and not plan.missing):
            return _join(context, arguments)
        pixels = (plan.frames or 0) * plan.width * plan.height
        if plan.expected_count is not None and len(plan.missing) > 1 and pixels > whole_pixels:
            return FilmStep(plan)
        encoded = _encode(context, arguments, plan.digest, None)
        if encoded.held:
            return FilmStep(plan, encoded)
        return _join(context, arguments)._replace(encoded=encoded)

    return _checked(arguments, begin)


def encode_range(context: Context, arguments: FilmArguments, digest: str, numbers: list[int]) -> FilmStep:
    """Encode segments of a film."""
    return _checked(arguments, lambda: FilmStep(encoded=_encode(context, arguments, digest, numbers)))


def join_film(context: Context, arguments: FilmArguments) -> FilmStep:
    """Join the segments of a film; or return which ones are missing."""
    return _checked(arguments, lambda: _join(context, arguments))


def _encode(
    context: Context, arguments: FilmArguments, digest: str, numbers: list[int] | None
) -> EncodedSegments:
    return encode_segments(
        arguments.source,
        arguments.output,
        numbers,
        owner=arguments.owner,
        digest=digest,
        on_segment=lambda number: context.send(SegmentDone(number)),
        progress=context.progress,
        **arguments.options,
    )


def _join(context: Context, arguments: FilmArguments) -> FilmStep:
    plan = plan_segments(arguments.source, arguments.output, **arguments.options)
    if plan.missing and not plan.is_written:
        return FilmStep(plan)

    def on_progress(progress: Progress) -> None:
        context.check_canceled()

    result = join_segments(
        arguments.source,
        arguments.output,
        owner=arguments.owner,
        keep_folder=True,
        progress=on_progress,
        **arguments.options,
    )
    return FilmStep(result=result, digest=plan.digest)


def _checked(arguments: FilmArguments, step: Callable[[], Step]) -> Step:
    """Call a function; refuse the task if this machine cannot do it as the others do."""
    check_version(arguments.source, arguments.version)
    try:
        return step()
    except EngineError as error:
        raise Refused(f"cannot run the engine ({error})", only_this_task=True) from error
    except OtherJob as error:
        raise Refused(f"would make other frames ({error})", only_this_task=True) from error
