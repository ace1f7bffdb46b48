"""Upscale files on a cluster."""

import inspect
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, get_args

from subpixel import arguments
from subpixel.batch import ExistingOutputs, Job, plan_batch, reason_to_skip
from subpixel.cluster.connection import check_address, connect
from subpixel.cluster.run import RunOptions, refuse_pipes, upscale_jobs
from subpixel.cluster.tasks import FileOutcome
from subpixel.errors import InputError, OutputExists
from subpixel.images.upscale import upscale_image
from subpixel.results import Progress
from subpixel.storage.paths import locate
from subpixel.video.upscale import has_unfinished_job, upscale_video

_NOT_OPTIONS = ("input", "output", "upscaler", "overwrite", "progress", "shard")


def upscale(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    address: str = "auto",
    existing: ExistingOutputs = "refuse",
    recursive: bool = False,
    suffix: str = "",
    progress: Callable[[Progress], object] = lambda progress: None,
    note: Callable[[str], object] = lambda note: None,
    **options: Any,
) -> list[FileOutcome]:
    """Upscale images and videos on the machines of a Ray cluster.

    All machines need this version of Subpixel with its extra ``cluster``, and must see inputs and outputs
    under the same paths. The result is that of this machine alone, whatever the machines; see
    ``docs/cluster.md``.

    >>> import subpixel.cluster
    >>> results = subpixel.cluster.upscale("photos", "photos-large", address="local")  # doctest: +SKIP
    >>> [result.output for result in results]  # doctest: +SKIP
    ['photos-large/a.png', 'photos-large/b.png']

    Args:
        inputs: images, videos, or folders of them: a path or several.
        output: a file for a single file, else a folder; with ``suffix`` it may be left out.
        address: "auto" for the cluster that this machine belongs to, "local" for one that is started on this
            machine, ``host:port`` for the cluster with this head node, or ``ray://host:port``. A process that
            is connected to a cluster uses that one.
        existing: what happens to outputs that exist: "refuse" is an error for that file, "overwrite" replaces
            them, "skip" leaves them, and "newer" leaves those that are newer than their input.
        recursive: whether to include subfolders of input folders.
        suffix: added to the names of outputs.
        progress: called a few times a second, with a fraction of all files.
        note: called with what there is to know about the cluster, such as a machine that is left out.
        options: arguments of `subpixel.upscale_image`, `subpixel.upscale_video` or both, such as ``scale``;
            those of only one of them have no effect on the other. ``threads`` is how many CPUs a task gets.

    Returns:
        For each file that was not skipped, its result or, if it failed, the exception, in the order of the
        inputs.

    Raises:
        ClusterError: Ray is not installed, there is no such cluster, or no machine can be used.
        InputError: a folder cannot be read.
        ModelError, EngineError: see `subpixel.load`.
        ValueError, TypeError: a wrong argument.
    """
    check_address(address)
    arguments.check_callables(progress=progress, note=note)
    if existing not in get_args(ExistingOutputs):
        raise ValueError(f"unknown existing {existing!r}; known: {', '.join(get_args(ExistingOutputs))}")
    run = _run_options(existing, options)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    target = None if output is None else os.fspath(output)
    plan = plan_batch([locate(each) for each in given], target, recursive=recursive, suffix=suffix)
    if plan.unreadable:
        raise InputError("; ".join(plan.unreadable))
    jobs = [job for job in plan.jobs if not _is_skipped(job, existing)]
    refuse_pipes(jobs)
    if not jobs:
        return []
    overall = _OverallProgress(len(jobs), progress)
    outcomes: dict[Job, FileOutcome] = {}
    with connect(address):
        for job, outcome in upscale_jobs(jobs, run, on_progress=overall.update, on_note=note):
            if isinstance(outcome, OutputExists):
                message = str(outcome).replace("--overwrite (overwrite=True)", "existing='overwrite'")
                outcome = OutputExists(message)
            outcomes[job] = outcome
            overall.finish(job)
    return [outcomes[job] for job in jobs]


def _is_skipped(job: Job, existing: ExistingOutputs) -> bool:
    """Whether a job is left out; then the folder of its segments goes, if its output is written."""
    if not reason_to_skip(job, existing):
        return False
    if job.is_video:
        has_unfinished_job(job.output)
    return True


def _run_options(existing: ExistingOutputs, options: dict[str, Any]) -> RunOptions:
    """Divide the options; raise TypeError for one that neither images nor videos have."""
    of_images, of_videos = (
        {name for name in inspect.signature(function).parameters if name not in _NOT_OPTIONS}
        for function in (upscale_image, upscale_video)
    )
    for name in options:
        if name not in of_images | of_videos:
            raise TypeError(f"{name!r} is no option of upscale_image or upscale_video that a cluster takes")

    def chosen(names: set[str]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name in names}

    return RunOptions(
        options=chosen(of_images & of_videos),
        image_options=chosen(of_images - of_videos),
        video_options=chosen(of_videos - of_images),
        existing=existing,
    )


class _OverallProgress:
    """The progress of all files together."""

    def __init__(self, total: int, report: Callable[[Progress], object]) -> None:
        self._total = total
        self._report = report
        self._started = time.perf_counter()
        self._finished = 0
        self._fractions: dict[Job, float] = {}

    def update(self, job: Job, progress: Progress) -> None:
        self._fractions[job] = progress.fraction
        self._show()

    def finish(self, job: Job) -> None:
        self._fractions.pop(job, None)
        self._finished += 1
        self._show()

    def _show(self) -> None:
        fraction = (self._finished + sum(self._fractions.values())) / self._total
        self._report(Progress(fraction=fraction, seconds=time.perf_counter() - self._started))
