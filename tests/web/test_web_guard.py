"""Who may use the server: hosts, origins, tokens; and limits on what clients send."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from web_server import Server, running


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def ask(server: Server, host: str, method: str = "GET", path: str = "/api/jobs", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Length: 0", *headers]
    return server.raw("\r\n".join([*lines, "", ""]).encode())


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST."]
)
def test_known_hosts(server: Server, host: str) -> None:
    assert status(ask(server, host.format(port=server.port))) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil@localhost", "192.168.0.1", "", "localhost/x", "1.1"],
)
def test_foreign_hosts(server: Server, host: str) -> None:
    answer = ask(server, host)
    assert status(answer) in (400, 403)
    assert b"jobs" not in answer.split(b"\r\n\r\n", 1)[1] or b"error" in answer
    for path in ("/", "/health", "/static/index.html", "/upscale"):
        assert status(ask(server, host, "GET", path)) in (400, 403)


def test_two_hosts(server: Server) -> None:
    assert status(ask(server, "localhost", "GET", "/api/jobs", "Host: evil.example")) == 400
    assert status(server.raw(b"GET /api/jobs HTTP/1.0\r\n\r\n")) in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        ["Origin: http://evil.example"],
        ["Origin: null"],
        ["Origin: http://["],
        ["Origin: http://localhost:1"],
        ["Origin: http://localhost"],
        ["Origin: file://"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
    ],
)
def test_foreign_pages_change_nothing(server: Server, headers: list[str]) -> None:
    for method, path in (
        ("POST", "/upscale"),
        ("POST", "/api/jobs"),
        ("DELETE", "/api/jobs/x"),
        ("PATCH", "/x"),
    ):
        answer = ask(server, f"localhost:{server.port}", method, path, *headers)
        assert status(answer) == 403, answer


def test_own_page(server: Server) -> None:
    host = f"localhost:{server.port}"
    answer = ask(
        server, host, "DELETE", "/api/jobs/x", f"Origin: http://{host}", "Sec-Fetch-Site: same-origin"
    )
    assert status(answer) == 404
    assert status(ask(server, host, "GET", "/api/jobs", "Sec-Fetch-Site: cross-site")) == 403
    link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
    assert status(ask(server, host, "GET", "/", *link)) == 200
    assert status(ask(server, host, "GET", "/", *link[:2], "Sec-Fetch-Dest: iframe")) == 403


def test_headers(server: Server) -> None:
    for path in ("/", "/api/jobs", "/nothing", "/docs", "/openapi.json", "/static/index.html"):
        headers = server.request("GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY" and headers["Server"] is None
        assert headers["Access-Control-Allow-Origin"] is None
    assert server.request("GET", "/static/../app.py").status == 404
    assert server.request("GET", "/static/%2e%2e/app.py").status == 404
    assert server.request("PUT", "/api/jobs").status == 405


def test_token(tmp_path: Path, photo: Path) -> None:
    with running(tmp_path, "--token", "correct horse") as server:
        for method, path in (("GET", "/"), ("GET", "/api/jobs"), ("POST", "/upscale"), ("GET", "/docs")):
            answer = server.request(method, path)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert server.request("GET", "/health").status == 200
        bearer = {"Authorization": "Bearer correct horse"}
        assert server.request("POST", "/upscale", photo.read_bytes(), bearer).status == 200
        answer = server.request("GET", "/?token=correct%20horse&x=1")
        assert (answer.status, answer.headers["Location"]) == (303, "/?x=1")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "correct" not in cookie
        assert server.request("GET", "/", headers={"Cookie": cookie.partition(";")[0]}).status == 200
        assert (
            server.request("GET", "//evil.example/?token=correct%20horse").headers["Location"]
            == "/evil.example/"
        )
        wrong = {"Authorization": "Bearer wrong"}
        codes = [server.request("GET", "/", headers=wrong).status for _ in range(30)]
        assert codes[0] == 401 and codes[-1] == 429
        assert server.request("GET", "/", headers=bearer).status == 200


def test_guesses_of_cookies_are_limited(tmp_path: Path) -> None:
    with running(tmp_path, "--token", "open sesame") as server:
        guesses = [{"Cookie": f"subpixel-{server.port}={number:064x}"} for number in range(30)]
        statuses = [server.request("GET", "/api/jobs", headers=guess).status for guess in guesses]
        assert statuses[0] == 401 and statuses[-1] == 429
        headers = {"Authorization": "Bearer open sesame"}
        assert server.request("GET", "/api/jobs", headers=headers).status == 200


def test_other_address_needs_a_token(tmp_path: Path) -> None:
    with running(tmp_path, "--host", "0.0.0.0") as server:
        assert server.token and len(server.token) > 20
        assert server.request("GET", "/").status == 401
        bearer = f"Authorization: Bearer {server.token}"
        assert status(ask(server, f"127.0.0.1:{server.port}", "GET", "/", bearer)) == 200
        assert status(ask(server, "evil.example", "GET", "/", bearer)) == 403


def test_second_address_answers(tmp_path: Path) -> None:
    """It has the IP address of the machine, for phones that do not find the name."""
    with running(tmp_path, "--host", "0.0.0.0") as server:
        assert server.process.stdout is not None
        found = re.search(r"(http://[\d.]+:\d+/)\?token=(.*)", server.process.stdout.readline())
        if found is None:
            pytest.skip("no network")
        assert found[2] == server.token
        request = urllib.request.Request(found[1], headers={"Authorization": f"Bearer {found[2]}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=300
        ) as answer:
            assert answer.status == 200


def test_data_is_used_by_one_server(server: Server) -> None:
    command = [sys.executable, "-m", "subpixel", "serve", "--port", "0", "--data", str(server.data)]
    other = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert other.returncode == 1 and "another server" in other.stderr
    command = [*command[:-1], str(server.data / "other"), "--port", str(server.port)]
    other = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert other.returncode == 1 and "--port" in other.stderr


def test_form_of_many_parts(server: Server) -> None:
    part = b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    body = part * 10_000 + b"--X--\r\n"
    before = server.cpu_seconds()
    for path in ("/upscale", "/api/jobs"):
        answer = server.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=X"})
        assert answer.status == 413 and "parts" in answer.error
    assert server.cpu_seconds() - before < 2
    long = b'--X\r\nContent-Disposition: form-data; name="' + b"a" * 100_000 + b'"\r\n\r\nb\r\n--X--\r\n'
    answer = server.request("POST", "/upscale", long, {"Content-Type": "multipart/form-data; boundary=X"})
    assert answer.status in (400, 413)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "X" * 100):
        assert server.request("POST", "/upscale", b"--X--", {"Content-Type": kind}).status == 400


def test_long_bodies(tmp_path: Path, photo: Path) -> None:
    with running(tmp_path, "--max-upload", "0.0001", "--max-jobs", "1") as server:
        assert server.request("POST", "/api/jobs", bytes(200_000)).status == 413
        head = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = (b"8000\r\n" + bytes(0x8000) + b"\r\n") * 10 + b"0\r\n\r\n"
        assert status(server.raw(head + chunks)) == 413
        assert server.request("GET", "/api/jobs").json() == {"jobs": []}
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "200000"}
        assert server.request("POST", "/api/uploads", headers=headers).status == 413
        server.create_upload(1000)
        answer = server.request("POST", "/api/jobs", photo.read_bytes())
        assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0


def test_full_disk(tmp_path: Path, photo: Path) -> None:
    with running(tmp_path, "--reserve", "1000000") as server:
        answer = server.request("POST", "/api/jobs", photo.read_bytes())
        assert answer.status == 507 and answer.headers["Retry-After"]
        assert server.request("POST", "/upscale", photo.read_bytes()).status == 507
        assert server.request("GET", "/api/server").json()["free_bytes"] == 0
    with running(tmp_path / "quota", "--max-data", "0.00001") as server:
        server.wait(server.submit(photo.read_bytes()[:0] or photo)["id"])
        answer = server.request("POST", "/api/jobs", bytes(10_000))
        assert answer.status == 507 and "--max-data" in answer.error


def test_too_many_requests(tmp_path: Path) -> None:
    with running(tmp_path, "--max-requests", "1") as server:
        answers = [server.request("GET", "/api/jobs") for _ in range(30)]
        assert answers[0].status == 200 and answers[-1].status == 429
        assert answers[-1].headers["Retry-After"] == "1"
        assert server.request("GET", "/health").status == 200


def test_too_many_connections(tmp_path: Path) -> None:
    with running(tmp_path, "--max-connections", "10") as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(10)]

        def answer_with(wanted: int) -> bytes:
            """Ask until the server has noticed which connections are open."""
            end = time.monotonic() + 60
            while status(answer := ask(server, "localhost", "GET", "/health")) != wanted:
                assert time.monotonic() < end
                time.sleep(0.05)
            return answer

        assert b"Retry-After" in answer_with(503)
        for connection in idle:
            connection.close()
        answer_with(200)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> "Server":
    with running(tmp_path_factory.mktemp("slow"), "--client-timeout", "2") as server:
        yield server


def cut_after(connection: socket.socket) -> float:
    """Seconds until the server closes a connection."""
    connection.settimeout(60)
    started = time.monotonic()
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
    return time.monotonic() - started


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n",
    ],
)
def test_slow_clients(impatient: Server, start: bytes) -> None:
    """One byte every now and then keeps no connection open."""
    with impatient.connect() as connection:
        connection.sendall(start)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.3):
                with contextlib.suppress(OSError):
                    connection.send(b"a")

        thread = threading.Thread(target=drip)
        thread.start()
        seconds = cut_after(connection)
        stop.set()
        thread.join()
    assert seconds < 50


def test_slow_reader(impatient: Server) -> None:
    """A client that takes no answers is cut, and others are served meanwhile."""
    with impatient.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        started = time.monotonic()
        with contextlib.suppress(OSError):
            connection.settimeout(60)
            while time.monotonic() - started < 60:
                connection.sendall(request * 100)
        assert time.monotonic() - started < 50
    assert impatient.request("GET", "/health").status == 200


def test_idle_stream_of_events_stays(impatient: Server) -> None:
    with impatient.connect() as connection:
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.settimeout(5)
        with pytest.raises(TimeoutError):
            while connection.recv(65536):
                pass


def test_huge_body_is_refused_before_it_is_sent(server: Server) -> None:
    head = f"POST /upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: {3 * 10**9}\r\n"
    with server.connect() as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    with server.connect() as connection:
        connection.sendall(f"{head}\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 500 * 10**6:
                sent += connection.send(bytes(10**6))
        assert sent < 400 * 10**6  # the server does not read all of it


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "jobs.sqlite").write_bytes(b"not a database" * 100)
    for name in ("file", "damaged"):
        command = [sys.executable, "-m", "subpixel", "serve", "--port", "0", "--data", str(tmp_path / name)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 1 and ended.stderr.startswith(f"error: {tmp_path / name}")
        assert ended.stderr.count("\n") == 1
