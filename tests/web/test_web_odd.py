"""Odd requests: nothing of them is an internal error, and nothing of a file reaches a log."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web_server import TUS, Server, http_quote, running


@pytest.mark.parametrize(
    "options",
    [
        "[" * 20_000,
        '{"width": ' + "9" * 5000 + "}",
        '{"width": ' + "9" * 400 + "}",
        '{"scale": ' + "9" * 400 + "}",
        '{"video": {"start": ' + "9" * 400 + "}}",
        '{"scale": NaN}',
        '{"video": {"start": 1e999}}',
        '{"video": {"start": -1}}',
        '{"video": {"crf": 1e308, "codec": "libx264"}}',
        '{"video": {"grain": "much"}}',
        '{"video": []}',
        '{"scale": true}',
        '{"fit": 1}',
        '{"sharpness": 2}',
        '{"\\ud800": 1}',
        "{",
        "\x00",
    ],
)
def test_odd_options(server: Server, photo: Path, options: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    body = b'--X\r\nContent-Disposition: form-data; name="options"\r\n\r\n' + options.encode() + b"\r\n"
    body += b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    answer = server.request("POST", "/api/jobs", body + photo.read_bytes() + b"\r\n--X--\r\n", headers)
    if answer.status == 201:  # a width that is too large for this image
        assert server.wait(answer.json()["id"])["state"] == "failed"
    else:
        assert answer.status in (400, 422), answer.body


@given(st.binary(max_size=2000))
def test_damaged_forms(server: Server, data: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    for body in (data, b"--X\r\n" + data, b"--X\r\nContent-Disposition: form-data; name=file\r\n\r\n" + data):
        assert server.request("POST", "/upscale", body, headers).status in (400, 413, 415, 422)


def test_form_without_its_end(server: Server, photo: Path) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    form = b"--X\r\nContent-Disposition: form-data; name=file\r\n\r\n" + photo.read_bytes() + b"\r\n--X--\r\n"
    for path in ("/api/jobs", "/upscale"):
        assert server.request("POST", path, form, headers).status in (200, 201)
        for cut in (4, 6, 9, 100):
            answer = server.request("POST", path, form[:-cut], headers)
            assert (answer.status, "last boundary" in answer.error) == (400, True)


def test_what_is_refused_for_its_size_is_not_decoded(photo: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--max-output-pixels", "1000") as server:
        job = server.wait(server.submit(photo)["id"])
        assert job["state"] == "failed" and "more than the limit of 1000" in job["error"]
        assert "thumbnail" not in job["links"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_do_not_read_the_data(photo: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with running(tmp_path) as server:
        server.wait(server.submit(photo)["id"])
        readable = {file.name for file in tmp_path.iterdir() if file.stat().st_mode & 0o077}
        assert readable <= {"lock"}  # which is empty


@given(st.binary(max_size=300))
def test_damaged_requests(server: Server, data: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(data.replace(b"DELETE", b"") + b"\r\n\r\n")
        connection.settimeout(0.02)
        with contextlib.suppress(OSError):
            assert not connection.recv(65536).startswith(b"HTTP/1.1 5")


@pytest.mark.parametrize("path", ["/api/jobs/..%2f..%2fjobs.sqlite", "/api/jobs/x/../../jobs.sqlite", "/%00"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "PUT", "TRACE"])
def test_odd_paths(server: Server, method: str, path: str) -> None:
    assert server.request(method, path, headers=TUS).status in (400, 404, 405)


def test_odd_links(server: Server, photo: Path) -> None:
    job = server.wait(server.submit(photo)["id"])
    for link in ("input", "input.png", "lock", "..", "upload", "result.png", "preview_result"):
        assert server.request("GET", f"/api/jobs/{job['id']}/{link}").status == 404
    assert server.request("GET", f"/api/results.zip?jobs={job['id']},nothing,,").status == 200
    for body in (b"[]", b"1", b"{}x", b'{"options": 1}', b'{"other": 1}'):
        answer = server.request("POST", f"/api/jobs/{job['id']}/retry", body)
        assert answer.status in (400, 422), answer.body


def test_nothing_of_a_file_is_logged(photo: Path, tmp_path: Path) -> None:
    """Names of files, and messages of errors about them, are told to the client alone."""
    with running(tmp_path) as server:
        for data in (photo.read_bytes(), b"\x89PNG\r\n\x1a\nnonsense", b"RIFF1234AVI nonsense", b"x"):
            job = server.submit(data, "secret-name.png")
            server.wait(job["id"])
        server.request("POST", "/upscale?name=secret-name.png&scale=3", b"\xff\xd8\xffnonsense")
        server.request("GET", f"/secret-name?{http_quote('secret-name')}")
        server.raw(b"GET /secret-name HTTP/1.1\r\nHost: localhost\r\nbad header secret-name\r\n\r\n")
        head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="secret-name"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=X"}
        server.request("POST", "/upscale", head + b"abc\r\n--X--\r\nmore secret-name", kind)
        with server.begin_patch(server.create_upload(1000, "secret-name.png"), 0, 1000, b"a"):
            time.sleep(0.1)
        output = server.stop()
    assert "secret" not in output and "Traceback" not in output and "error" not in output, output


def test_json_of_every_answer(server: Server) -> None:
    for method, path in (("GET", "/nothing"), ("PUT", "/"), ("GET", "/api/jobs/x"), ("POST", "/upscale")):
        answer = server.request(method, path)
        assert list(json.loads(answer.body)) == ["error"]
