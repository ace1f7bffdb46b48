"""Images on a cluster: batches of them, sized by the time that earlier ones took."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from subpixel.batch import Job
from subpixel.cluster.files import ClusterFile, Version, check_version, file_fields
from subpixel.cluster.rate import Rate, seconds_of_next_task
from subpixel.cluster.tasks import Call, Failure, FileOutcome, Task
from subpixel.cluster.worker import Context, Refused, portable
from subpixel.errors import EngineError, OutputError
from subpixel.storage.outputs import refuse_existing
from subpixel.storage.paths import locate

_log = logging.getLogger("subpixel.cluster")

_OVERHEAD_BYTES = 20_000
"""An image costs as much as this many bytes more, whatever its size."""

_MAX_IMAGES = 1000
"""In one batch."""


class _Done(NamedTuple):
    """The message that an image of a batch is done, or has failed."""

    number: int
    """In the batch."""
    outcome: FileOutcome
    seconds: float


@dataclass(eq=False)
class ImageBatch(Task):
    """Images, upscaled one after the other by one process."""

    images: list[ClusterFile] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    """Indices in ``images``."""

    @property
    def fraction(self) -> float:
        """See `Task.fraction`."""
        return len(self.done) / len(self.images)

    def call(self, *, is_copy: bool) -> Call:
        """See `Task.call`."""
        left = [(index, image) for index, image in enumerate(self.images) if index not in self.done]
        # An earlier attempt, or the other process, may have written an output that the driver does not know
        # of; the driver has seen that there was none before.
        files = [
            (index, image.source, image.output, image.overwrite or image.attempts > 0, image.version)
            for index, image in left
        ]
        for _, image in left:
            image.attempts += 1
        return Call(upscale_batch, (files, {**self.options, "threads": self.cpus}))


class Images:
    """The images of a run, and their tasks."""

    def __init__(self, options: Mapping[str, Any], cpus: int) -> None:
        """Prepare to upscale images.

        Args:
            options: arguments of `upscale_image`.
            cpus: of a task.
        """
        self._options = options
        self._cpus = cpus
        self._waiting: deque[ClusterFile] = deque()
        self._units_waiting = 0.0
        self._alone: deque[ClusterFile] = deque()
        """Images that failed once: each is a task of its own, so that it takes no other one with it."""
        self._rate = Rate()
        self.outcomes: list[tuple[Job, FileOutcome]] = []

    def add(self, job: Job, *, overwrite: bool) -> None:
        """Add an image."""
        image = ClusterFile(**file_fields(job, overwrite=overwrite))
        self._waiting.append(image)
        self._units_waiting += _units(image)

    @property
    def is_pending(self) -> bool:
        """Whether images wait."""
        return bool(self._waiting or self._alone)

    def next_task(self, cpus: float) -> ImageBatch | None:
        """Return the next batch; None if all are handed out."""
        if self._alone:
            return self._task([self._alone.popleft()])
        left = self._rate.seconds(self._units_waiting)
        wanted = None if left is None else seconds_of_next_task(left, cpus / self._cpus)
        images: list[ClusterFile] = []
        units = 0.0
        while self._waiting and len(images) < _MAX_IMAGES:
            image = self._waiting[0]
            expected = self._rate.seconds(units + _units(image))
            if images and (wanted is None or expected is None or expected > wanted):
                break
            self._waiting.popleft()
            self._units_waiting -= _units(image)
            if self._exists(image):
                continue
            images.append(image)
            units += _units(image)
        return self._task(images) if images else None

    def _exists(self, image: ClusterFile) -> bool:
        """Whether the output is refused, as it exists; then this is the outcome."""
        if image.overwrite or image.attempts:
            return False
        try:
            refuse_existing(locate(image.job.output))
        except OutputError as error:
            self.outcomes.append((image.job, error))
            return True
        return False

    def _task(self, images: list[ClusterFile]) -> ImageBatch:
        more = f" and {len(images) - 1} more" if len(images) > 1 else ""
        expected = self._rate.seconds(sum(_units(image) for image in images))
        name = f"{images[0].job.source}{more}"
        failed_on = images[0].failed_on if len(images) == 1 else set()
        return ImageBatch(
            name, self._cpus, expected, failed_on=failed_on, images=images, options=self._options
        )

    def on_message(self, task: ImageBatch, message: _Done, node: str) -> None:
        """Take the outcome of one image."""
        _log.debug("done: %s", task.images[message.number].source)
        if message.number in task.done:
            return
        task.done.add(message.number)
        image, outcome = task.images[message.number], message.outcome
        if isinstance(outcome, Exception):
            if image.may_pass_elsewhere(outcome):
                self._fail(image, Failure("error", str(outcome), outcome, node))
                return
        else:
            self._rate.add(_units(image), message.seconds)
        self._finish(image, outcome)

    def on_value(self, task: ImageBatch, value: list[_Done], node: str) -> None:
        """Take the messages that could not be sent before."""
        for message in value:
            self.on_message(task, message, node)

    def on_failure(self, task: ImageBatch, failure: Failure) -> None:
        """Hand out the other images of a batch again. The first of them was in work, and is to blame."""
        left = [image for index, image in enumerate(task.images) if index not in task.done]
        if left and failure.kind == "refused":
            image = left.pop(0)
            self._finish(image, image.refused(failure))
        elif left:
            self._fail(left.pop(0), failure)
        self._waiting.extendleft(reversed(left))
        self._units_waiting += sum(_units(image) for image in left)

    def on_end(self, task: ImageBatch) -> None:
        """Do nothing."""

    def _fail(self, image: ClusterFile, failure: Failure) -> None:
        """Count a failure of an image, and do it again, or set it aside."""
        _log.debug("failed: %s: %s", image.source, failure.reason)
        error = image.count_failure(failure)
        if error is None:
            self._alone.append(image)
        else:
            self._finish(image, error)

    def _finish(self, image: ClusterFile, outcome: FileOutcome) -> None:
        self.outcomes.append((image.job, image.outcome(outcome)))


def upscale_batch(
    context: Context,
    files: list[tuple[int, str, str, bool, Version | None]],
    options: Mapping[str, Any],
) -> list[_Done]:
    """Upscale images one after the other; return the outcomes that could not be sent to the board.

    This runs on the machines of the cluster.
    """
    from subpixel.images.upscale import upscale_image

    unsent = []
    for index, source, output, overwrite, version in files:
        check_version(source, version)
        started = time.perf_counter()
        outcome: FileOutcome
        try:
            outcome = upscale_image(
                source,
                output,
                overwrite=overwrite,
                progress=lambda progress: context.check_canceled(),
                **options,
            )
        except EngineError as error:
            raise Refused(f"cannot run the engine ({error})", only_this_task=True) from error
        except Exception as error:
            outcome = portable(error)
        done = _Done(index, outcome, time.perf_counter() - started)
        if not context.send(done):
            unsent.append(done)
    return unsent


def _units(image: ClusterFile) -> float:
    """How much work an image is, for `Rate`."""
    return _OVERHEAD_BYTES + (image.version.size if image.version else 0)
