"""Runs the server: socket, uvicorn, and its end."""

import logging
import secrets
import socket
from collections.abc import Callable

import uvicorn

from subpixel.web.app import create_app
from subpixel.web.protocol import protocol_class
from subpixel.web.service import Service
from subpixel.web.settings import LOOPBACK, WILDCARDS, Settings

_SILENT_LOGGERS = ("python_multipart", "asyncio")
"""Their messages may contain parts of requests, and with them names of files."""

_HEADER_BYTES = 32 * 2**10
_KEEP_ALIVE_SECONDS = 15
_SHUTDOWN_SECONDS = 3
_BACKLOG = 1024


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def serve(settings: Settings, listener: socket.socket, on_start: Callable[[list[str]], None]) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        settings: of the server.
        listener: see `open_socket`.
        on_start: called with the addresses to open in a browser when the server answers; see `addresses`.

    Raises:
        DataError: another server uses the same data, or they cannot be written.
    """
    for name in _SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    service = Service(settings)
    config = uvicorn.Config(
        create_app(settings, service),
        http=protocol_class(settings.limits),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.CRITICAL,  # its messages contain addresses, and with them names of files
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    _Server(config, service, lambda: on_start(addresses(settings, listener))).run(sockets=[listener])


def addresses(settings: Settings, listener: socket.socket) -> list[str]:
    """Return the addresses to open in a browser, the best one first.

    A server that listens on all addresses has two: the name of the machine, which phones often do not
    find, and its IP address.
    """
    hosts = [settings.host]
    if settings.host in WILDCARDS:
        hosts = [socket.gethostname(), *_network_address()]
    port = listener.getsockname()[1]
    query = f"/?token={settings.token}" if settings.token else "/"
    return [f"http://{f'[{host}]' if ':' in host else host}:{port}{query}" for host in hosts]


def _network_address() -> list[str]:
    """The IPv4 address under which other machines reach this one; none if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Selects the interface, and sends nothing. The host is reserved for documentation (RFC 5737).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in LOOPBACK


class _Server(uvicorn.Server):
    """Ends the streams of events when it stops; they would keep it waiting."""

    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.hub.close()
        await super().shutdown(sockets)
