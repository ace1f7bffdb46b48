"""A real server in a process of its own, and clients with real sockets."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ADDRESS = re.compile(r"Open http://[^:]+:(\d+)/(?:\?token=(\S+))?")
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


class Server:
    """`subpixel serve` on a free port."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "subpixel", "serve", "--port", "0", "--data", str(self.data)]
        self.process = subprocess.Popen(
            [
                *command,
                "--reserve",
                "0.01",
                "--max-requests",
                "100000",
                "--image-workers",
                "1",
                *self.options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = ADDRESS.match(line)
        assert found, line + self.process.stdout.read()
        self.port, self.token = int(found[1]), found[2]

    def stop(self, sent: int = signal.SIGINT) -> str:
        """End the server, and return what it has printed since the first line."""
        self.process.send_signal(sent)
        output, _ = self.process.communicate(timeout=300)
        return output

    def begin_patch(self, address: str, offset: int, length: int, part: bytes) -> socket.socket:
        """Send the header and the first part of the body of a PATCH, and return the connection."""
        lines = [f"PATCH {address} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in {**BYTES, "Upload-Offset": offset}.items()]
        connection = self.connect()
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + part)
        return connection

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> "Answer":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        with contextlib.closing(connection):
            if isinstance(body, dict):
                body = json.dumps(body).encode()
                headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=300)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes, or pauses for 5 s."""
        with self.connect() as connection:
            received = b""
            with contextlib.suppress(OSError):
                connection.sendall(data)
            with contextlib.suppress(OSError):
                while part := connection.recv(65536):
                    received += part
                    connection.settimeout(5)
            return received

    def cpu_seconds(self) -> float:
        """CPU time of the server and its workers so far. Other load on the machine hardly changes it."""
        seconds = 0.0
        for pid in (self.process.pid, *self.workers()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system
        return seconds

    def workers(self, kind: str = "") -> list[int]:
        """The ids of the processes that upscale images, "videos" or both."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not children.exists():
            pytest.skip("no /proc here")
        pids = map(int, children.read_text().split())
        return [pid for pid in pids if kind.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]

    @contextlib.contextmanager
    def held(self, name: str, page: Any) -> Iterator[None]:
        """Wait until a video is upscaled, and hold it there: it would be done before a slow browser looks."""

        def is_upscaled() -> bool:
            jobs = [job for job in self.request("GET", "/api/jobs").json()["jobs"] if job["name"] == name]
            assert not any(job["state"] in ("done", "failed") for job in jobs), jobs
            # The preview comes first, and has times of its own.
            reports = [job["progress"] or {} for job in jobs]
            return any(one.get("stage") == "upscale" and one["seconds_left"] is not None for one in reports)

        end = time.monotonic() + 300
        while not is_upscaled():
            assert time.monotonic() < end
            page.wait_for_timeout(20)  # meanwhile playwright lets the requests of the page pass
        pids = self.workers("videos")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def submit(self, file: Path | bytes, name: str = "", **options: Any) -> dict[str, Any]:
        data = file if isinstance(file, bytes) else file.read_bytes()
        name = name or getattr(file, "name", "file.png")
        query = f"?name={http_quote(name)}&options={http_quote(json.dumps(options))}"
        answer = self.request("POST", f"/api/jobs{query}", data)
        assert answer.status == 201, answer.body
        return dict(answer.json())

    def job(self, id: str) -> dict[str, Any]:
        return dict(self.request("GET", f"/api/jobs/{id}").json())

    def wait(self, id: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until a job has one of the states; by default, until it is finished."""
        wanted = states or ("done", "failed", "cancelled")
        end = time.monotonic() + seconds
        while (job := self.job(id))["state"] not in wanted:
            assert time.monotonic() < end, job
            time.sleep(0.05)
        return job

    def result(self, id: str) -> bytes:
        answer = self.request("GET", f"/api/jobs/{id}/result")
        assert answer.status == 200, answer.body
        return answer.body

    def create_upload(self, length: int, name: str = "file.png", **options: Any) -> str:
        metadata = f"filename {encoded(name)},options {encoded(json.dumps(options))}"
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata}
        answer = self.request("POST", "/api/uploads", headers=headers)
        assert answer.status == 201, answer.body
        return answer.headers["Location"]


class Answer:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json()["error"])


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def http_quote(text: str) -> str:
    from urllib.parse import quote

    return quote(text)


@contextlib.contextmanager
def running(data: Path, *options: str) -> Iterator[Server]:
    """A server until the end of the body."""
    server = Server(data, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def command(source: Path, output: Path, *options: str) -> bytes:
    """What the command makes of a file."""
    subprocess.run(
        [sys.executable, "-m", "subpixel", "upscale", str(source), "-o", str(output), *options],
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    return output.read_bytes()
