"""Jobs through the API: what comes out, and all that can be done with them."""

import http.client
import io
import json
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from web_server import Server, command, running


def test_image_as_the_command_makes_it(server: Server, photo: Path, tmp_path: Path) -> None:
    job = server.submit(photo, scale=3)
    assert job["state"] in ("waiting", "running")
    job = server.wait(job["id"])
    assert (job["state"], job["kind"]) == ("done", "image"), job["error"]
    assert (job["source"]["width"], job["source"]["height"]) == (64, 48)
    assert (job["result"]["width"], job["result"]["height"], job["result"]["name"]) == (
        192,
        144,
        "photo-x3.png",
    )
    assert server.result(job["id"]) == command(photo, tmp_path / "large.png", "-s", "3")
    assert job["expires"] == pytest.approx(job["finished"] + 7 * 24 * 3600)


def test_multipart_form(server: Server, photo: Path) -> None:
    body = b"".join(
        (
            b'--X\r\nContent-Disposition: form-data; name="options"\r\n\r\n{"width": 100}\r\n',
            b'--X\r\nContent-Disposition: form-data; name="file"; filename="C:\\\\tmp\\\\a b.png"\r\n\r\n',
            photo.read_bytes(),
            b"\r\n--X--\r\n",
        )
    )
    answer = server.request("POST", "/api/jobs", body, {"Content-Type": "multipart/form-data; boundary=X"})
    assert answer.status == 201, answer.body
    job = server.wait(answer.json()["id"])
    assert (job["name"], job["result"]["width"], job["result"]["name"]) == ("a b.png", 100, "a b-100x75.png")


def test_views(server: Server, photo: Path, tmp_path: Path) -> None:
    """A TIFF of 16 bits, which no browser shows, turned by its orientation."""
    deep = tmp_path / "deep.tif"
    samples = np.asarray(Image.open(photo).convert("L")).astype(np.uint16) * 257
    import tifffile

    tifffile.imwrite(deep, samples, extratags=[(274, "H", 1, 6, True)])
    job = server.wait(server.submit(deep)["id"])
    assert job["state"] == "done", job["error"]
    sizes = {"thumbnail": (48, 64), "original": (48, 64), "bicubic": (96, 128), "view": (96, 128)}
    for link, size in sizes.items():
        answer = server.request("GET", job["links"][link])
        assert answer.status == 200, answer.body
        image = Image.open(io.BytesIO(answer.body))
        assert (link, image.size) == (link, size)
        assert answer.headers["Content-Type"] == f"image/{image.format.lower()}"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    original = Image.open(io.BytesIO(server.request("GET", job["links"]["original"]).body))
    assert np.array_equal(np.asarray(original), np.rot90(samples, -1))


def test_result_in_ranges(server: Server, photo: Path) -> None:
    job = server.wait(server.submit(photo)["id"])
    whole = server.result(job["id"])
    part = server.request("GET", job["links"]["result"], headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, whole[100:200])
    assert whole[:4] == b"\x89PNG"


def test_name_is_no_path(server: Server, photo: Path) -> None:
    job = server.submit(photo, '../../../etc/pass\u202ewd"\r.png')
    assert "/" not in job["name"] and "\u202e" not in job["name"]
    job = server.wait(job["id"])
    header = server.request("GET", job["links"]["result"]).headers["Content-Disposition"]
    assert header.startswith("attachment; ") and "\n" not in header
    assert not [path for path in server.data.rglob("*") if "wd" in path.name]


def test_failure_tells_the_cure(server: Server) -> None:
    job = server.wait(server.submit(b"\x89PNG\r\n\x1a\nnonsense", "broken.png")["id"])
    assert job["state"] == "failed"
    assert job["error"].startswith("broken.png: ") and str(server.data) not in job["error"]
    job = server.wait(server.submit(b"just text", "notes.txt")["id"])
    assert job["state"] == "failed" and job["error"].startswith("notes.txt: ")


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 99},
        {"scale": "2"},
        {"scale": 2, "width": 100},
        {"model": "/etc/passwd"},
        {"image": {"quality": 0}},
        {"image": {"upscaler": 1}},
        {"video": {"codec": "nothing"}},
        {"video": {"container": "y4m"}},
        {"output": "/tmp/x"},
        {"size": [100, 100]},
        [],
    ],
)
def test_wrong_options(server: Server, photo: Path, options: object) -> None:
    from web_server import http_quote

    count = len(server.request("GET", "/api/jobs").json()["jobs"])
    answer = server.request(
        "POST", f"/api/jobs?options={http_quote(json.dumps(options))}", photo.read_bytes()
    )
    assert answer.status == 422 and answer.error
    assert len(server.request("GET", "/api/jobs").json()["jobs"]) == count


def test_remove(server: Server, photo: Path) -> None:
    job = server.wait(server.submit(photo)["id"])
    assert (server.data / "jobs" / job["id"]).exists()
    assert server.request("DELETE", f"/api/jobs/{job['id']}").status == 204
    assert server.request("GET", f"/api/jobs/{job['id']}").status == 404
    assert not (server.data / "jobs" / job["id"]).exists()


@pytest.mark.parametrize(("method", "path"), [("POST", "/cancel"), ("DELETE", "")])
def test_cancel_while_the_file_arrives(server: Server, photo: Path, method: str, path: str) -> None:
    data = photo.read_bytes()
    known = {job["id"] for job in server.request("GET", "/api/jobs").json()["jobs"]}
    head = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode() + data[:100])
        end = time.monotonic() + 60
        while not (new := {job["id"] for job in server.request("GET", "/api/jobs").json()["jobs"]} - known):
            assert time.monotonic() < end
        (id,) = new
        assert server.request(method, f"/api/jobs/{id}{path}").status < 300
        connection.sendall(data[100:])
        assert connection.recv(100).startswith(b"HTTP/1.1 409")
    assert server.request("GET", f"/api/jobs/{id}").status == 404


def test_retry_with_other_options(server: Server, photo: Path) -> None:
    job = server.wait(server.submit(photo, scale=2)["id"])
    answer = server.request("POST", f"/api/jobs/{job['id']}/retry", {"options": {"scale": 4}})
    assert answer.status == 200 and answer.json()["result"] is None
    job = server.wait(job["id"])
    assert job["result"]["width"] == 256
    assert Image.open(io.BytesIO(server.result(job["id"]))).size == (256, 192)


def test_archive(server: Server, photo: Path) -> None:
    jobs = [server.wait(server.submit(photo)["id"]) for _ in range(2)]
    query = ",".join(job["id"] for job in jobs)
    answer = server.request("GET", f"/api/results.zip?jobs={query}")
    assert answer.status == 200
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["photo-x2.png", "photo-x2 (2).png"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("photo-x2.png") == server.result(jobs[0]["id"])
    assert server.request("GET", "/api/results.zip?jobs=nothing").status == 404


def test_events(server: Server, photo: Path) -> None:
    """The first event has all jobs; each change follows; a job that is removed too."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.request("GET", "/api/events")
    response = connection.getresponse()
    assert response.headers["Content-Type"].startswith("text/event-stream")

    def event() -> tuple[str, dict]:
        name, data = response.readline().decode(), response.readline().decode()
        assert response.readline() == b"\n"
        return name.removeprefix("event: ").strip(), json.loads(data.removeprefix("data: "))

    name, data = event()
    assert name == "jobs" and isinstance(data["jobs"], list)
    id = server.submit(photo)["id"]
    states = []
    while not states or states[-1] != "done":
        name, data = event()
        assert (name, data["id"]) == ("job", id)
        states.append(data["state"])
    server.request("DELETE", f"/api/jobs/{id}")
    assert event() == ("removed", {"id": id})
    connection.close()


def test_paths_of_the_server(server: Server, photo: Path, tmp_path: Path) -> None:
    assert server.request("POST", "/api/jobs", {"path": str(photo)}).status == 403
    outside = tmp_path / "outside.png"
    outside.write_bytes(photo.read_bytes())
    (photo.parent / "link.png").unlink(missing_ok=True)
    (photo.parent / "link.png").symlink_to(outside)
    with running(tmp_path / "data", "--allow-path", str(photo.parent)) as other:
        answer = other.request("POST", "/api/jobs", {"path": str(photo), "options": {"scale": 2}})
        assert answer.status == 201, answer.body
        job = other.wait(answer.json()["id"])
        assert job["state"] == "done" and job["name"] == "photo.png"
        for path in (outside, photo.parent / "link.png", photo.parent / ".." / outside.name, "photo.png", 7):
            answer = other.request("POST", "/api/jobs", {"path": path if path == 7 else str(path)})
            assert answer.status in (403, 422)
        other.request("DELETE", f"/api/jobs/{job['id']}")
        assert photo.exists()


def test_expiry(photo: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--keep-days", "0.00003") as server:
        answer = server.request("GET", "/api/server").json()
        assert answer["limits"]["keep_seconds"] == pytest.approx(2.592)
        job = server.wait(server.submit(photo)["id"])
        end = time.monotonic() + 60
        while server.request("GET", f"/api/jobs/{job['id']}").status == 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert not (tmp_path / "jobs" / job["id"]).exists()


def test_restart_keeps_jobs(photo: Path, tmp_path: Path) -> None:
    with running(tmp_path) as server:
        done = server.wait(server.submit(photo)["id"])
        output = server.stop()
        assert server.process.returncode == 130 and "next start" in output
        server.start()
        assert server.job(done["id"]) == done
        assert server.result(done["id"])


def test_stopping_the_server_damages_no_image(photo: Path, tmp_path: Path) -> None:
    """Decoders swallow the exception of a signal, and then say that the file is damaged."""
    jpeg = tmp_path / "photo.jpg"
    Image.open(photo).resize((3000, 2000)).save(jpeg)
    with running(tmp_path / "data") as server:
        ids = [server.submit(jpeg, scale=1.5)["id"]]
        for number in range(4):
            server.wait(ids[0], "running", "done")
            time.sleep(0.05 * number)
            server.stop(signal.SIGTERM)
            server.start()
            assert server.job(ids[0])["state"] in ("waiting", "running", "done")
        assert server.wait(ids[0])["state"] == "done"
