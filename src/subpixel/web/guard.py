"""Checks of every request before it is answered, and the headers of every answer.

No page of another site can use the server. A page that reaches it under a name of its own (DNS rebinding)
has a ``Host`` that is not on the list. A page that sends requests across sites has another ``Origin``, or
states it with ``Sec-Fetch-Site``.
"""

import hashlib
import hmac
import ipaddress
import socket
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from subpixel.web.errors import RequestError
from subpixel.web.settings import LOOPBACK, WILDCARDS, Settings

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_MAX_HOST_CHARACTERS = 255
_COOKIE = "subpixel"
_BURST_SECONDS = 3.0
"""A client may send the requests of so many seconds at once."""
_MAX_CLIENTS = 10_000
_FAILURES_PER_MINUTE = 20

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._token = settings.token
        own = [] if settings.host in WILDCARDS else [settings.host]
        self._hosts = {name.lower() for name in (*LOOPBACK, *own, *settings.allow_hosts)}
        if settings.host in WILDCARDS:
            self._hosts.add(socket.gethostname().lower())
        rate = settings.limits.requests_per_second
        self._requests = RateLimit(rate, rate * _BURST_SECONDS)
        self._failures = RateLimit(_FAILURES_PER_MINUTE / 60, _FAILURES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            answer = self._check(scope)
        except RequestError as error:
            answer = JSONResponse({"error": error.message}, error.status, error.headers)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> Response | None:
        """Raise `RequestError` to refuse a request; return an answer, or None to pass it on."""
        headers = Headers(scope=scope)
        self._check_host(headers, scope)
        _check_site(headers, scope)
        client = scope["client"][0] if scope.get("client") else "?"
        if scope["path"] == "/health":
            return None
        if (wait := self._requests.take(client)) is not None:
            raise RequestError(429, "too many requests; wait a little", retry_after=wait)
        return self._check_token(headers, scope, client) if self._token else None

    def _check_host(self, headers: Headers, scope: Scope) -> None:
        """Refuse a Host that is neither a name of the server nor the address that the client connected to."""
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self._hosts or _is_address(name, scope)):
            raise RequestError(
                403,
                "the Host of this request is not one of this server; open the address that it printed, or "
                "add the name with --allow-host",
            )

    def _check_token(self, headers: Headers, scope: Scope, client: str) -> Response | None:
        """Refuse a request without the token; answer one with ``?token=`` by setting a cookie."""
        assert self._token is not None
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        cookie_name = f"{_COOKIE}-{scope['server'][1]}"
        if (given := query.pop("token", [None])[-1]) is not None and scope["method"] == "GET":
            if _equal(given, self._token):
                path = scope["path"] + (f"?{urlencode(query, doseq=True)}" if query else "")
                answer = RedirectResponse("/" + path.lstrip("/"), 303)
                answer.set_cookie(cookie_name, self._cookie(), httponly=True, samesite="strict", path="/")
                return answer
            given = "wrong"
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if _equal(bearer.strip(), self._token):
                return None
            given = "wrong"
        elif cookie := _cookie_value(headers, cookie_name):
            if _equal(cookie, self._cookie()):
                return None
            given = "wrong"  # whoever guesses tokens can compute their cookies
        if given is not None and (wait := self._failures.take(client)) is not None:
            raise RequestError(429, "too many wrong tokens; wait a little", retry_after=wait)
        raise RequestError(
            401,
            "this server needs its token: open the address with ?token= that it printed, or send "
            "Authorization: Bearer TOKEN",
            WWW_Authenticate="Bearer",
        )

    def _cookie(self) -> str:
        """The value of the cookie, from which the token cannot be computed."""
        assert self._token is not None
        return hmac.new(self._token.encode(), b"subpixel cookie", hashlib.sha256).hexdigest()


def host_name(host: str) -> str | None:
    """Return the name in a Host header, without the port and in lower case; None if it is not valid."""
    if len(host) > _MAX_HOST_CHARACTERS or any(character in host for character in "/\\@?# \t"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises ValueError
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _is_address(name: str, scope: Scope) -> bool:
    """Whether a Host is the address to which the client connected. No name can be made to look like it."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(scope["server"][0])
    except (ValueError, TypeError, KeyError):
        return False


def _check_site(headers: Headers, scope: Scope) -> None:
    """Refuse requests that pages of other sites send."""
    site = headers.get("sec-fetch-site")
    if scope["method"] in _SAFE_METHODS:
        navigation = (
            headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        )
        if site in ("cross-site", "same-site") and not navigation:
            raise RequestError(403, "pages of other sites cannot use this server")
        return
    if (origin := headers.get("origin")) is not None:
        scheme, _, host = origin.partition("://")
        if scheme.lower() not in ("http", "https") or host.lower() != headers["host"].lower():
            raise RequestError(403, "pages of other sites cannot use this server: its Origin is another one")
    if site not in (None, "same-origin", "none"):
        raise RequestError(403, "pages of other sites cannot use this server")


def _cookie_value(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


class RateLimit:
    """A token bucket for each client."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> int | None:
        """Count one request; return None, or the seconds to wait if there were too many."""
        now = time.monotonic()
        left, before = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._per_second)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return None if allowed else max(1, round((1 - left) / self._per_second))
