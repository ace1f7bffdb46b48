"""Which segments of a job this process encodes: all that are missing, or those that it can claim."""

from collections.abc import Callable
from typing import Protocol

from subpixel.storage.claims import Claim, Claims, ClaimState
from subpixel.video.pipeline.segments import SegmentFolder


class Work(Protocol):
    """Decides about segments in the order in which their frames are decoded."""

    def wants(self, number: int) -> bool:
        """Return whether to encode a segment, whose first frame was decoded. Called once for each."""

    def finish(self, number: int) -> None:
        """Note that a segment is stored."""

    @property
    def wants_all(self) -> bool:
        """Whether all frames have to be decoded, so that it is best to do so from the start."""

    @property
    def last(self) -> int | None:
        """After this segment none is wanted, so that decoding ends; None if it has to reach the end."""


class NoSegments:
    """No segments: the input is only decoded, which shows how many there are."""

    last = None
    wants_all = True

    def wants(self, number: int) -> bool:
        """Return False."""
        return False

    def finish(self, number: int) -> None:
        """Do nothing."""


class AllSegments:
    """All segments that are missing; for a process that does a job alone."""

    last = None

    def __init__(self, folder: SegmentFolder) -> None:
        self._finished = frozenset(folder.segments)
        self.wants_all = not self._finished

    def wants(self, number: int) -> bool:
        """Return whether a segment was missing at the start."""
        return number not in self._finished

    def finish(self, number: int) -> None:
        """Do nothing."""


class ClaimedSegments:
    """The missing segments of a share that no other process works on. Each is claimed until it is stored."""

    def __init__(
        self,
        folder: SegmentFolder,
        claims: Claims,
        is_share: Callable[[int], bool],
        last: int | None = None,
        on_finish: Callable[[int], object] = lambda number: None,
    ) -> None:
        """Start without claims.

        Args:
            folder: of the job.
            claims: of this worker, in the folder's storage.
            is_share: whether a segment is one of this worker's share.
            last: the last segment of the share, if decoding is to end there.
            on_finish: called with the number of each segment that this worker has stored.
        """
        self._folder, self._claims, self._is_share = folder, claims, is_share
        self._on_finish = on_finish
        self.last = last
        self.wants_all = False
        self._held: dict[int, Claim] = {}
        self.encoded: list[int] = []
        """What this process encoded."""

    def wants(self, number: int) -> bool:
        """Claim a segment; return whether that succeeded and the segment is still missing."""
        if not self._is_share(number):
            return False
        with self._folder.write_errors():
            return self._take(number)

    def _take(self, number: int) -> bool:
        if self._folder.find(number):
            return False
        claim = self._claims.take(self._folder.claim(number))
        if claim is None:
            return False
        # Meanwhile another process may have finished it, or joined the job and removed the folder.
        if self._folder.find(number) or not self._folder.exists():
            self._claims.release(claim)
            return False
        self._held[number] = claim
        return True

    def finish(self, number: int) -> None:
        """Release the claim of a segment that is stored."""
        self.encoded.append(number)
        self._claims.release(self._held.pop(number))
        self._on_finish(number)

    def is_free(self, number: int) -> bool:
        """Return whether this process could claim a segment now, which another one may have claimed."""
        with self._folder.write_errors():
            if self._claims.state(self._folder.claim(number)) in (ClaimState.LIVING, ClaimState.UNKNOWN):
                return False
            # A dead claim may be stuck for some seconds, if its process ended while it changed the file.
            claim = self._claims.take(self._folder.claim(number))
            if claim is not None:
                self._claims.release(claim)
            return claim is not None

    def state(self, number: int) -> ClaimState:
        """Return what is known of the claim of another process."""
        with self._folder.write_errors():
            return self._claims.state(self._folder.claim(number))
