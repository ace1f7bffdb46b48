"""A server for S3 in this process: moto's, which records requests and fails as tests ask."""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest


@dataclass
class S3Server:
    """A server; processes that inherit the environment reach it."""

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    bytes_read: int = 0
    """The bytes that answers to GET for objects had, lists not counted."""
    fault: Callable[[str, str], str] = lambda method, path: ""
    """Gets method and path of a request. Returns status and body of the answer to give instead, such as
    "503 Slow Down" and "<Code>SlowDown</Code>" in two lines; "" for the right answer."""
    cut_answers: int = 0
    """How many answers with objects are still to end in the middle, as if the connection was lost."""
    _number: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that lead to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def bucket(self) -> str:
        """Make a new bucket, and return its name."""
        self._number += 1
        name = f"bucket-{os.getpid()}-{self._number}"
        self._request("PUT", name)
        return name

    def put(self, url: str, data: bytes) -> str:
        """Store an object, and return its URL."""
        self._request("PUT", quote(url.removeprefix("s3://")), data)
        return url

    def get(self, url: str) -> bytes:
        """Return the content of an object."""
        return self._request("GET", quote(url.removeprefix("s3://")))

    def names(self, bucket: str) -> list[str]:
        """List the keys in a bucket."""
        return re.findall(r"<Key>(.*?)</Key>", self._request("GET", f"{bucket}?list-type=2").decode())

    def _request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        headers = {
            "Content-Type": "application/octet-stream",
            "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        }
        with urlopen(Request(f"{self.url}/{path}", data, headers, method=method), timeout=30) as answer:
            return answer.read()


class _Recorder:
    def __init__(self, application: Any, server: S3Server) -> None:
        self._application = application
        self._server = server
        self._writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self._server.requests.append((method, path))
        status, _, body = self._server.fault(method, path).partition("\n")
        if status:
            # The client may still be sending; an answer without reading would reset its connection.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body.encode()]
        # moto looks at a condition and writes in two steps; those of two requests must not mix.
        with contextlib.nullcontext() if method in ("GET", "HEAD") else self._writing:
            answer = self._application(environ, start_response)
        return self._counted(answer) if method == "GET" and path.count("/") > 1 else answer

    def _counted(self, answer: Iterable[bytes]) -> Iterator[bytes]:
        for part in answer:
            if self._server.cut_answers and len(part) > 1:
                self._server.cut_answers -= 1
                yield part[: len(part) // 2]
                raise ConnectionResetError
            self._server.bytes_read += len(part)
            yield part


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    pytest.importorskip("obstore", reason="needs the extra s3")
    pytest.importorskip("moto.server", reason="needs moto's server")
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *arguments: Any) -> None:
            pass

    server = S3Server()
    application = _Recorder(DomainDispatcherApplication(create_backend_app), server)
    listening = make_server("127.0.0.1", 0, application, True, request_handler=Quiet)
    server.url = f"http://127.0.0.1:{listening.port}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment variables that lead to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    _s3_server.fault = lambda method, path: ""
    _s3_server.requests.clear()
    _s3_server.bytes_read = _s3_server.cut_answers = 0
    return _s3_server
