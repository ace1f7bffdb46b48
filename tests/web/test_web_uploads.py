"""Uploads that resume."""

import os
import signal
import time
from pathlib import Path

import pytest

from web_server import BYTES, TUS, Server, command, running


def send_and_cut(server: Server, address: str, offset: int, part: bytes, length: int) -> None:
    """Send the first part of a body, and break the connection."""
    with server.begin_patch(address, offset, length, part):
        time.sleep(0.1)


def offset_of(server: Server, address: str) -> int:
    answer = server.request("HEAD", address, headers=TUS)
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


def wait_for_offset(server: Server, address: str, least: int) -> int:
    end = time.monotonic() + 60
    while (offset := offset_of(server, address)) < least:
        assert time.monotonic() < end, offset
        time.sleep(0.05)
    return offset


def patch(server: Server, address: str, offset: int, data: bytes):
    return server.request("PATCH", address, data, {**BYTES, "Upload-Offset": str(offset)})


def test_cut_connection(server: Server, photo: Path, tmp_path: Path) -> None:
    data = photo.read_bytes()
    address = server.create_upload(len(data), "photo.png", scale=2)
    assert server.job(address.rpartition("/")[2])["state"] == "uploading"
    send_and_cut(server, address, 0, data[:1000], len(data))
    offset = wait_for_offset(server, address, 1)
    assert offset <= 1000
    send_and_cut(server, address, offset, data[offset : offset + 500], len(data) - offset)
    offset = wait_for_offset(server, address, offset + 1)
    answer = patch(server, address, offset, data[offset:])
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(data)))
    job = server.wait(address.rpartition("/")[2])
    assert job["state"] == "done", job["error"]
    assert server.result(job["id"]) == command(photo, tmp_path / "large.png")
    assert offset_of(server, address) == len(data)


def test_large_upload_in_parts_with_a_killed_server(tmp_path: Path) -> None:
    """What arrived before a kill -9 is kept, byte by byte."""
    data = os.urandom(20_000_000)
    with running(tmp_path) as server:
        address = server.create_upload(len(data), "noise.bin")
        with server.begin_patch(address, 0, len(data), data[:12_000_000]):
            id = address.rpartition("/")[2]
            end = time.monotonic() + 60
            while server.job(id)["upload"]["offset"] < 8_000_000:
                assert time.monotonic() < end
                time.sleep(0.05)
            server.stop(signal.SIGKILL)
        server.start()
        offset = offset_of(server, address)
        assert 8_000_000 <= offset <= 12_000_000
        assert patch(server, address, offset - 5, data[offset - 5 :]).status == 409
        assert patch(server, address, offset, data[offset:]).status == 204
        assert (tmp_path / "jobs" / id / "input").read_bytes() == data
        assert server.wait(id)["state"] == "failed"


def test_newer_request_takes_over(server: Server, photo: Path) -> None:
    """A connection that is broken, but not closed, does not keep the client from going on."""
    data = photo.read_bytes()
    address = server.create_upload(len(data))
    with server.begin_patch(address, 0, len(data), data[:700]):
        time.sleep(0.2)
        offset = offset_of(server, address)
        assert offset <= 700
        assert patch(server, address, offset, data[offset:]).status == 204
    assert server.wait(address.rpartition("/")[2])["state"] == "done"


def test_creation_with_upload(server: Server, photo: Path) -> None:
    data = photo.read_bytes()
    headers = {**BYTES, "Upload-Length": str(len(data))}
    answer = server.request("POST", "/api/uploads", data, headers)
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, str(len(data)))
    assert server.wait(answer.json()["id"])["state"] == "done"


def test_terminated(server: Server) -> None:
    address = server.create_upload(1000)
    assert server.request("DELETE", address, headers=TUS).status == 204
    assert server.request("HEAD", address, headers=TUS).status == 404
    assert patch(server, address, 0, b"x").status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "10"}, 412),
        ({**TUS, "Upload-Length": "-1"}, 400),
        ({**TUS, "Upload-Length": "x"}, 400),
        ({**TUS}, 400),
        ({**TUS, "Upload-Length": "0"}, 422),
        ({**TUS, "Upload-Length": str(10**15)}, 413),
        ({**TUS, "Upload-Length": "10", "Upload-Metadata": "filename !!!"}, 400),
        ({**TUS, "Upload-Length": "10", "Upload-Metadata": "options e30x"}, 400),
    ],
)
def test_wrong_creation(server: Server, headers: dict[str, str], status: int) -> None:
    assert server.request("POST", "/api/uploads", headers=headers).status == status


def test_wrong_patches(server: Server) -> None:
    address = server.create_upload(10)
    assert patch(server, address, 5, b"x").status == 409
    assert patch(server, address, 0, bytes(11)).status == 413
    assert server.request("PATCH", address, b"x", {**TUS, "Upload-Offset": "0"}).status == 415
    assert patch(server, "/api/uploads/nothing", 0, b"x").status == 404
    assert server.request("OPTIONS", "/api/uploads").headers["Tus-Version"] == "1.0.0"
