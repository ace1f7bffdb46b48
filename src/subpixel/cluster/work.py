"""The work of a run: films and images, as tasks."""

from collections.abc import Callable, Mapping
from typing import Any

from subpixel.batch import Job
from subpixel.cluster.films import Films
from subpixel.cluster.images import ImageBatch, Images
from subpixel.cluster.tasks import Failure, FileOutcome, Task
from subpixel.results import Progress


class RunWork:
    """Files to upscale; see `subpixel.cluster.tasks.Work`."""

    def __init__(
        self,
        *,
        image_options: Mapping[str, Any],
        video_options: Mapping[str, Any],
        image_cpus: int,
        video_cpus: int,
        on_progress: Callable[[Job, Progress], object],
    ) -> None:
        self._images = Images(image_options, image_cpus)
        self._films = Films(video_options, video_cpus, on_progress)

    def add(self, job: Job, *, overwrite: bool) -> None:
        """Add a file."""
        part: Any = self._films if job.is_video else self._images
        part.add(job, overwrite=overwrite)

    @property
    def is_pending(self) -> bool:
        """See `Work.is_pending`."""
        return self._films.is_pending or self._images.is_pending

    def next_task(self, cpus: float) -> Task | None:
        """Return a task of a film, or else of images, whose short tasks fill the end of the run."""
        return self._films.next_task(cpus) or self._images.next_task(cpus)

    def on_message(self, task: Task, message: Any, node: str) -> None:
        """See `Work.on_message`."""
        self._part_of(task).on_message(task, message, node)

    def on_value(self, task: Task, value: Any, node: str) -> None:
        """See `Work.on_value`."""
        self._part_of(task).on_value(task, value, node)

    def on_failure(self, task: Task, failure: Failure) -> None:
        """See `Work.on_failure`."""
        self._part_of(task).on_failure(task, failure)

    def on_end(self, task: Task) -> None:
        """See `Work.on_end`."""
        self._part_of(task).on_end(task)

    def take_outcomes(self) -> list[tuple[Job, FileOutcome]]:
        """See `Work.take_outcomes`."""
        outcomes = [*self._films.outcomes, *self._images.outcomes]
        self._films.outcomes.clear()
        self._images.outcomes.clear()
        return outcomes

    def _part_of(self, task: Task) -> Any:
        return self._images if isinstance(task, ImageBatch) else self._films
