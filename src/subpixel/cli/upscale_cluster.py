"""The jobs of `subpixel upscale` on a cluster."""

from collections.abc import Callable, Generator, Sequence

from subpixel.batch import Job
from subpixel.cli.upscale_jobs import JobsProgress
from subpixel.cluster.run import RunOptions, upscale_jobs
from subpixel.cluster.tasks import FileOutcome
from subpixel.results import ImageResult, Progress


def outcomes_on_cluster(
    jobs: Sequence[Job],
    run: RunOptions,
    progress: JobsProgress,
    show: Callable[[Job, Progress], object],
) -> Generator[tuple[Job, FileOutcome], None, None]:
    """Upscale files on the cluster to which this process is connected; yield them as they are completed.

    Args:
        jobs: to run, without those whose outputs are left.
        run: the options.
        progress: counts the jobs.
        show: shows the progress of one job.
    """

    def note(text: str) -> None:
        progress.print(f"note: {text}")

    for job, outcome in upscale_jobs(jobs, run, on_progress=show, on_note=note):
        if isinstance(outcome, ImageResult):
            frames = outcome.frames if outcome.frames > 1 else 0
            show(
                job, Progress(fraction=1, seconds=outcome.seconds, frames=frames, total_frames=frames or None)
            )
        progress.finish(job, done=not isinstance(outcome, Exception))
        yield job, outcome
