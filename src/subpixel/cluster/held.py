"""Segments that processes of another run work on, or worked on until they died."""

import time
from collections.abc import Iterable

from subpixel.storage.claims import Claims, ClaimState
from subpixel.storage.paths import locate
from subpixel.storage.select import open_storage
from subpixel.video.pipeline.run import job_folder
from subpixel.video.pipeline.segments import claim_of

_POLL_SECONDS = 2.0


class HeldSegments:
    """Watches claims from the driver, since a task would occupy a CPU while it waits for one to expire."""

    def __init__(self, owner: str) -> None:
        """Start to watch.

        Args:
            owner: the name of this run.
        """
        self._owner = owner
        self._claims: dict[str, Claims] = {}
        self._looked: dict[str, float] = {}

    def free(self, output: str, digest: str, numbers: Iterable[int]) -> set[int]:
        """Return the segments that are claimed no more. Dead claims are removed.

        Args:
            output: of the film.
            digest: see `subpixel.video.distributed.SegmentPlan`.
            numbers: of the segments.
        """
        now = time.monotonic()
        if now - self._looked.get(output, 0.0) < _POLL_SECONDS:
            return set()
        self._looked[output] = now
        if output not in self._claims:
            storage = open_storage(job_folder(locate(output)))
            self._claims[output] = Claims(storage, group=self._owner)
        return {number for number in numbers if self._is_free(output, claim_of(f"{digest}/", number))}

    def _is_free(self, output: str, name: str) -> bool:
        claims = self._claims[output]
        try:
            state = claims.state(name)
            if state is ClaimState.DEAD and (claim := claims.take(name)) is not None:
                claims.release(claim)
        except OSError:
            return False  # a task that writes there reports it
        return state in (ClaimState.FREE, ClaimState.DEAD)
