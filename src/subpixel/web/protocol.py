"""HTTP/1.1 with limits that uvicorn alone does not have: on connections, and on slow clients."""

import asyncio
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from subpixel.web.settings import Limits

_CHECK_SECONDS = 1.0

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\n"
    b"Connection: close\r\nContent-Length: 58\r\n\r\n"
    b'{"error": "too many connections are open; try again soon"}'
)

_DRAIN_BYTES = 64 * 2**20
"""How much of the body of a refused request is read and dropped, so that the client reads the refusal."""


def protocol_class(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's protocol with limits."""

    class LimitedProtocol(H11Protocol):
        """Cuts a connection that sends its header, sends its body, or takes its answer too slowly."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.write(_REFUSAL)
                transport.close()
                return
            self._header_started: float | None = time.monotonic()
            self._received = self._dropped = 0
            self._window = _Window()
            self._timer = self.loop.call_later(_CHECK_SECONDS, self._check_speed)

        def connection_lost(self, exc: Exception | None) -> None:
            if hasattr(self, "_timer"):
                self._timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self._received += len(data)
            if self.cycle is not None and self.cycle.response_complete and self._is_in_body():
                self._dropped += len(data)
                if self._dropped > _DRAIN_BYTES:
                    self.transport.abort()
                    return
            if self._header_started is None and not self._is_in_body() and not self._is_answering():
                self._header_started = time.monotonic()
            super().data_received(data)
            if self._is_in_body() or self._is_answering():
                self._header_started = None

        def _is_in_body(self) -> bool:
            """Whether the client has sent a header, and its body is not complete."""
            return bool(self.conn.their_state is h11.SEND_BODY)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _check_speed(self) -> None:
            """Cut the connection if the client is too slow."""
            if self.transport.is_closing() and not self.transport.get_write_buffer_size():
                return
            self._timer = self.loop.call_later(_CHECK_SECONDS, self._check_speed)
            now = time.monotonic()
            if self._header_started is not None and now - self._header_started > limits.header_seconds:
                self.transport.abort()
            elif self._is_in_body() and not self.flow.read_paused:
                self._require(now, "read", self._received)
            elif pending := self.transport.get_write_buffer_size():
                self._require(now, "write", -pending)
            else:
                self._window = _Window()

        def _require(self, now: float, kind: str, count: int) -> None:
            """Cut the connection unless a count rises by ``stall_bytes`` in ``stall_seconds``."""
            window = self._window
            if window.kind != kind or count - window.count >= limits.stall_bytes or count < window.count:
                self._window = _Window(kind, now, count)
            elif now - window.started > limits.stall_seconds:
                self.transport.abort()

    return LimitedProtocol


class _Window:
    """What a connection is observed for since when."""

    def __init__(self, kind: str = "", started: float = 0.0, count: int = 0) -> None:
        self.kind = kind
        self.started = started
        self.count = count
