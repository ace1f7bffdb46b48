"""The options of a server, and its limits."""

from dataclasses import dataclass, field
from pathlib import Path

from subpixel.images.formats import MAX_MEMORY_MIB, MAX_OUTPUT_PIXELS

GIB = 2**30
DAY_SECONDS = 24 * 3600.0
WILDCARDS = ("0.0.0.0", "::", "")
"""Addresses that mean all addresses of this machine."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server accepts and keeps."""

    upload_bytes: int = 16 * GIB
    """Of one upload."""
    image_bytes: int = 256 * 2**20
    """Of the body of the synchronous call."""
    output_pixels: int = MAX_OUTPUT_PIXELS
    """Of one image, and of one frame of a video."""
    memory_mib: int = MAX_MEMORY_MIB
    """That one image may need."""
    frames: int = 1_000_000
    """Of one video."""
    jobs: int = 1000
    """That are not finished."""
    synchronous: int = 32
    """Synchronous calls at once; further ones get 503."""
    requests_per_second: float = 200.0
    """Of one client address, on average over a few seconds."""
    connections: int = 256
    """Open at once."""
    streams: int = 32
    """Streams of events at once."""
    keep_seconds: float = 7 * DAY_SECONDS
    """How long a finished job and its files are kept, and an upload to which nothing is added."""
    reserve_bytes: int = 1 * GIB
    """Free space on the disk that uploads and jobs must leave."""
    data_bytes: int = 200 * GIB
    """Of all sources and results together."""
    header_seconds: float = 10.0
    """For the complete header of a request."""
    stall_seconds: float = 30.0
    """In which a client must send, or take, at least ``stall_bytes``."""
    stall_bytes: int = 16 * 2**10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a server."""

    data: Path
    """The folder of jobs and their files; one server uses it at a time."""
    host: str = "127.0.0.1"
    port: int = 8765
    """0 for any free one."""
    token: str | None = None
    """That clients must send; None if everyone on this machine may use the server."""
    allow_hosts: tuple[str, ...] = ()
    """Names, besides those of the address itself, under which clients may reach the server."""
    allow_paths: tuple[Path, ...] = ()
    """Folders whose files may be used as input without an upload."""
    image_workers: int = 2
    """Processes that upscale images."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raise ValueError for an address that others reach, without a token."""
        if self.host not in LOOPBACK and not self.token:
            raise ValueError(f"{self.host}: others can reach this address, so the server needs a token")
