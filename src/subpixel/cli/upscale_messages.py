"""What `subpixel upscale` prints about one file."""

from subpixel.batch import Job
from subpixel.cli.upscale_summary import printable
from subpixel.errors import SubpixelError
from subpixel.files import PIPE
from subpixel.results import ImageResult, VideoResult


def name_of(job: Job) -> str:
    """Return the name of the input."""
    return "stdin" if str(job.source) == PIPE else str(job.source)


def error_message(job: Job, error: Exception) -> str:
    """The message of an exception, which begins with the name of a file of the job."""
    message = str(error)
    if not isinstance(error, (SubpixelError, ValueError)):
        kind = type(error).__name__
        message = f"internal error ({kind}: {message}); please report it with the output of -v"
    job_folder = job.output.parent / f".{job.output.name[:60]}"
    files = (f"{name_of(job)}:", f"{job.output}:", "stdout:", str(job_folder))
    # pathlib makes :/ of the :// in a URL.
    is_named = message.startswith(files) or message.replace("://", ":/").startswith(files)
    return message if is_named else f"{name_of(job)}: {message}"


def what_is_missing(job: Job, segments: int) -> str:
    """Say that segments of a video are left to other calls; whether any runs is not known."""
    are = "segment is" if segments == 1 else "segments are"
    return (
        f"{segments} {are} missing, which other calls encode, now or when they are started; the one that "
        f"finishes the last writes {printable(job.output)}"
    )


def reasons(job: Job, result: ImageResult | VideoResult) -> str:
    """Say why the model and the engine were selected."""
    content = f" for {result.content} sources ({result.content_reason})" if result.content else ""
    return f"{job.source}: model {result.model}{content}, engine {result.reason}"


def summary_of(job: Job, result: ImageResult | VideoResult) -> str:
    """Say what was written, and how fast."""
    size = f"{result.width} x {result.height}"
    summary = f"{job.source} -> {job.output}: {size}, {result.model}, {result.seconds:.1f} s"
    if not isinstance(result, VideoResult):
        return f"{summary}, {result.frames} frames" if result.frames > 1 else summary
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.stages.items())
    resumed = f" ({result.resumed_frames} from an interrupted run)" if result.resumed_frames else ""
    share = result.copied_share
    copied = f", {share:.0%} of the luma copied from the frame before" if share else ""
    return (
        f"{summary}, {result.frames} frames{resumed}, {result.frames_per_second:.1f} fps{copied}; "
        f"seconds in each stage: {stages}; slowest: {result.bottleneck}"
    )
