"""A run over files on a cluster: options that hold for all machines, then tasks until all files are done."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subpixel.batch import ExistingOutputs, Job, content_of
from subpixel.cluster import connection
from subpixel.cluster.scheduler import Scheduler
from subpixel.cluster.tasks import FileOutcome
from subpixel.cluster.work import RunWork
from subpixel.errors import ClusterError
from subpixel.files import PIPE
from subpixel.results import Progress
from subpixel.selection import ModelOptions
from subpixel.storage.paths import is_file

_MAX_VIDEO_CPUS = 4
"""Of a task of a film. More threads work on one film with less effect than on several."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run."""

    options: Mapping[str, Any]
    """Arguments of both `upscale_image` and `upscale_video`. A task gets as many CPUs as ``threads``."""
    image_options: Mapping[str, Any]
    """Arguments of `upscale_image` only."""
    video_options: Mapping[str, Any]
    """Arguments of `upscale_video` only."""
    existing: ExistingOutputs = "refuse"
    """"skip" and "newer" concern only outputs that are to be replaced: jobs to skip are not passed."""


def upscale_jobs(
    jobs: Sequence[Job],
    run: RunOptions,
    *,
    on_progress: Callable[[Job, Progress], object] = lambda job, progress: None,
    on_note: Callable[[str], object] = lambda note: None,
) -> Iterator[tuple[Job, FileOutcome]]:
    """Upscale files on the cluster to which this process is connected; yield outcomes as they come.

    Args:
        jobs: the files; none is a pipe.
        run: how to upscale them.
        on_progress: called with the progress of a film.
        on_note: called with what the user should know about the cluster.

    Raises:
        ClusterError: no machine is large enough, or the connection was lost.
        ModelError, EngineError, ValueError: see `subpixel.load`.
    """
    refuse_pipes(jobs)
    options = _pinned(jobs, run.options)
    threads = options.pop("threads", None)
    image_cpus, video_cpus = _cpus_of_tasks(threads)
    work = RunWork(
        image_options={**options, **run.image_options},
        video_options={**options, **run.video_options},
        image_cpus=image_cpus,
        video_cpus=video_cpus,
        on_progress=on_progress,
    )
    for job in jobs:
        replaces = run.existing == "overwrite" or (run.existing == "newer" and is_file(job.output))
        work.add(job, overwrite=replaces)
    from ray.exceptions import RayError

    try:
        yield from Scheduler(work, on_note).run()
    except (RayError, ConnectionError) as error:
        raise ClusterError(
            f"the connection to the cluster was lost ({error}); run the same command again"
        ) from error


def refuse_pipes(jobs: Sequence[Job]) -> None:
    """Raise ValueError for a job that reads or writes a pipe, which other machines do not see."""
    if any(PIPE in map(str, job) for job in jobs):
        raise ValueError("- is a pipe, and the machines of a cluster need files; name files")


def _pinned(jobs: Sequence[Job], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with what "auto" means here, so that it means the same on all machines."""
    pinned = dict(options)
    model = options.get("model")
    if isinstance(model, os.PathLike) or (isinstance(model, str) and model.endswith(".safetensors")):
        pinned["model"] = str(Path(model).absolute())
    if options.get("engine", "auto") == "auto" and jobs:
        first = jobs[0]
        names = ("model", "scale", "content", "engine", "precision", "threads", "sharpness")
        model_options = ModelOptions(**{name: options[name] for name in names if name in options})
        pinned["engine"] = model_options.select(lambda: content_of(first)).upscaler.compiled.engine.name
    return pinned


def _cpus_of_tasks(threads: int | None) -> tuple[int, int]:
    """Return how many CPUs a batch of images and a task of a film get."""
    nodes = connection.nodes()
    if threads is not None:
        largest = max((int(node.cpus) for node in nodes), default=threads)
        if largest < threads:
            raise ClusterError(
                f"no machine of the cluster has {threads} CPUs, the largest has {largest}; pass at most that "
                "as --threads (threads)"
            )
        return threads, threads
    smallest = min((int(node.cpus) for node in nodes), default=1)
    return 1, max(1, min(smallest, _MAX_VIDEO_CPUS))
