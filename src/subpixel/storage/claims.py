"""Claims: which process works on what, among processes on several machines that share a storage.

A claim is a file that is created only if it does not exist. While its owner lives, it replaces the file every
few seconds with one that has a higher count. No clocks of two machines are compared: a claim is dead when a
process saw the same content for the whole expiry on its own clock, or when the owner is a process of the same
machine that has ended. A dead claim is taken over with a replacement that fails if another process was first.

A claim saves work, it protects nothing: an owner that was cut off and comes back may do its work too. So
whoever uses claims must write results in one step, and results must be the same whoever makes them.
"""

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Any

from subpixel.storage.base import Conflict, Storage, Stored

EXPIRY_VARIABLE = "SUBPIXEL_CLAIM_SECONDS"
"""Environment variable with the expiry in seconds, for a storage that is slower than the default allows."""
_EXPIRY_SECONDS = 60.0
_BEATS_PER_EXPIRY = 12


def expiry_seconds() -> float:
    """Return how long a claim must be unchanged to be dead.

    Raises ``ValueError`` if the environment variable is no positive number.
    """
    text = os.environ.get(EXPIRY_VARIABLE, str(_EXPIRY_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{EXPIRY_VARIABLE}={text!r} is no positive number of seconds")
    return seconds


class ClaimState(Enum):
    """What is known about a claim."""

    FREE = auto()
    """There is none."""
    LIVING = auto()
    """Its owner runs: on this machine, or the claim was seen to change within the expiry."""
    UNKNOWN = auto()
    """It was not yet seen to change, nor for long enough to be dead."""
    DEAD = auto()
    """Its owner has ended, or did not change it for the whole expiry, or is of the same group."""


@dataclass(frozen=True)
class Owner:
    """A process, on any machine."""

    host: str
    pid: int
    machine: str
    """The same for all processes that can see each other by their ids, and until the next start of the
    machine; empty if that is not known."""
    started: str
    """When the process started, in the machine's own unit, since ids of processes are used again."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"

    @classmethod
    def this_process(cls) -> "Owner":
        """Return the owner of the claims of this process; each call gives another token."""
        return cls(platform.node(), os.getpid(), _machine(), _process_state(os.getpid())[1])

    @property
    def has_ended(self) -> bool:
        """Whether this is a process of this machine that has ended; False if that cannot be known."""
        if not self.machine or self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        state, started = _process_state(self.pid)
        return state in ("Z", "X") or bool(started and started != self.started)

    @property
    def is_running(self) -> bool:
        """Whether this is a process of this machine that runs; False if that cannot be known."""
        return bool(self.machine) and self.machine == _machine() and not self.has_ended


@dataclass(frozen=True)
class _Content:
    owner: Owner
    expiry: float
    group: str = ""
    count: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "_Content | None":
        """Return the content; None if it is damaged."""
        try:
            fields: dict[str, Any] = json.loads(data)
            owner = Owner(**fields["owner"])
            return cls(owner, float(fields["expiry"]), str(fields["group"]), int(fields["count"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass
class Claim:
    """What this process works on. It is kept alive until `Claims.release`."""

    name: str
    version: str
    content: _Content
    lost: bool = False
    """Whether another process took it over, as this one seemed dead. Work may be finished nevertheless."""


@dataclass
class _Sight:
    """What was seen of a claim of another process."""

    version: str
    since: float
    has_changed: bool = False
    was_dead: bool = False
    """Whether it was unchanged for the whole expiry. A change after that may be one that its owner began
    before it ended, and that this process has finished; see `subpixel.storage.local`."""


class Claims:
    """The claims of one worker in a storage, and what it saw of those of others.

    A context manager: the body's claims are released at its end. One thread may use it at a time.
    """

    def __init__(self, storage: Storage, expiry: float | None = None, group: str = "") -> None:
        """Start without claims.

        Args:
            storage: where the claims are.
            expiry: seconds; `expiry_seconds` by default.
            group: the name of workers that one scheduler directs. A claim of another worker of the group is
                taken over at once, since the scheduler knows that it failed, or wants the work done twice.
        """
        self._storage = storage
        self._group = group
        self._expiry = expiry_seconds() if expiry is None else expiry
        self._owner = Owner.this_process()
        self._held: dict[str, Claim] = {}
        self._seen: dict[str, _Sight] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def take(self, name: str) -> Claim | None:
        """Claim a name; return None if another worker has it, unless that is dead.

        Raises ``OSError`` if the storage cannot be used.
        """
        if self._closed.is_set():
            return None
        content = _Content(self._owner, self._expiry, self._group)
        try:
            try:
                self._storage.create(name, content.to_bytes(), durable=False)
                data, version = self._storage.read(name)
                if data != content.to_bytes():
                    return None
            except FileExistsError:
                stored = self._storage.read(name)
                if self._state(name, stored) is not ClaimState.DEAD:
                    return None
                version = self._storage.replace(name, content.to_bytes(), stored.version)
        except (FileNotFoundError, Conflict):
            return None
        claim = Claim(name, version, content)
        with self._lock:
            self._held[name] = claim
            self._seen.pop(name, None)
        self._start()
        return claim

    def release(self, claim: Claim) -> None:
        """Give a claim up. A claim that was lost stays with its new owner."""
        with self._lock:
            self._held.pop(claim.name, None)
            if not claim.lost:
                with contextlib.suppress(Conflict, OSError):  # it expires
                    self._storage.delete(claim.name, claim.version)

    def state(self, name: str) -> ClaimState:
        """Return what is known of a claim of another worker. Call it now and then: it watches for changes."""
        try:
            return self._state(name, self._storage.read(name))
        except FileNotFoundError:
            return ClaimState.FREE

    def holder(self, name: str) -> str:
        """Return who has a claim, as text for users; empty if nobody has."""
        try:
            content = _Content.from_bytes(self._storage.read(name).data)
        except FileNotFoundError:
            return ""
        return "another process" if content is None else str(content.owner)

    def close(self) -> None:
        """Release all claims."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        for claim in list(self._held.values()):
            self.release(claim)

    def _state(self, name: str, stored: Stored) -> ClaimState:
        content = _Content.from_bytes(stored.data)
        if content is not None and (content.owner.has_ended or self._is_of_group(content)):
            return ClaimState.DEAD
        now = time.monotonic()
        sight = self._seen.get(name)
        if sight is None or sight.version != stored.version:
            has_changed = sight is not None and not sight.was_dead
            sight = self._seen[name] = _Sight(stored.version, now, has_changed)
        expiry = max(self._expiry, content.expiry if content else 0)
        if now - sight.since >= expiry:
            sight.was_dead = True
            return ClaimState.DEAD
        running = content is not None and content.owner.is_running
        return ClaimState.LIVING if running or sight.has_changed else ClaimState.UNKNOWN

    def _is_of_group(self, content: _Content) -> bool:
        return bool(self._group) and content.group == self._group and content.owner != self._owner

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="subpixel-claims", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._closed.wait(self._expiry / _BEATS_PER_EXPIRY):
            with self._lock:
                for claim in self._held.values():
                    self._renew(claim)

    def _renew(self, claim: Claim) -> None:
        if claim.lost:
            return
        content = replace(claim.content, count=claim.content.count + 1)
        try:
            claim.version = self._storage.replace(claim.name, content.to_bytes(), claim.version)
            claim.content = content
        except Conflict:
            claim.lost = not self._is_own(claim)
        except OSError:
            pass  # the storage may be back for the next one

    def _is_own(self, claim: Claim) -> bool:
        """Read a claim again: an earlier replacement may have succeeded though its answer was lost."""
        try:
            data, version = self._storage.read(claim.name)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        content = _Content.from_bytes(data)
        if content is None or content.owner != self._owner:
            return False
        claim.version, claim.content = version, content
        return True


@lru_cache(maxsize=1)
def _machine() -> str:
    """Identify this start of this machine, and the namespace of process ids; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - a link to no file
    except OSError:
        return ""


def _process_state(pid: int) -> tuple[str, str]:
    """Return the state of a process, such as R or Z, and when it started; empty if they cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return "", ""
