"""POST /upscale, the description of the API, and the example of a client."""

import concurrent.futures
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from web_server import Server, command, running

ROOT = Path(__file__).parents[2]


def test_raw_body(server: Server, photo: Path, tmp_path: Path) -> None:
    answer = server.request("POST", "/upscale?scale=2", photo.read_bytes())
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.body == command(photo, tmp_path / "large.png", "-s", "2")


def test_form_and_options(server: Server, photo: Path, tmp_path: Path) -> None:
    jpeg = tmp_path / "photo.jpg"
    Image.open(photo).save(jpeg, quality=40)
    head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=X"}
    body = head + jpeg.read_bytes() + b"\r\n--X--\r\n"
    answer = server.request("POST", "/upscale?scale=1.5&quality=80&content=compressed", body, kind)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    options = ["-s", "1.5", "--quality", "80", "--content", "compressed"]
    assert answer.body == command(jpeg, tmp_path / "large.jpg", *options)
    answer = server.request("POST", "/upscale?width=100&format=webp", body, kind)
    assert (answer.headers["Content-Type"], Image.open(io.BytesIO(answer.body)).size) == (
        "image/webp",
        (100, 75),
    )


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("?scale=two", b"x", 422),
        ("?scale=99", b"x", 422),
        ("?threads=1", b"x", 422),
        ("?scale=2", b"", 422),
        ("?scale=2", b"hello", 415),
        ("?scale=2", b"%PDF-1.4", 415),
        ("?scale=2", b"\x89PNG\r\n\x1a\nnonsense", 422),
    ],
)
def test_refusals(server: Server, query: str, body: bytes, status: int) -> None:
    answer = server.request("POST", f"/upscale{query}", body)
    assert answer.status == status and answer.error and str(server.data) not in answer.error
    end = time.monotonic() + 60  # files are removed after the answer
    while list((server.data / "scratch").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_bomb(server: Server, tmp_path: Path) -> None:
    """A small file of many pixels is refused before it is decoded."""
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    server.request("POST", "/upscale", b"\x89PNG\r\n\x1a\nnonsense")  # starts the worker
    before = server.cpu_seconds()
    answer = server.request("POST", "/upscale?scale=4", path.read_bytes())
    assert answer.status == 422 and "pixels" in answer.error
    assert server.cpu_seconds() - before < 1


def test_overload(tmp_path: Path, photo: Path) -> None:
    """Beyond its limit the server answers at once, and what it accepted is done."""
    large = tmp_path / "large.png"
    Image.open(photo).resize((1600, 1200)).save(large)
    body = large.read_bytes()
    with running(tmp_path, "--max-waiting", "2") as server:
        server.request("POST", "/upscale", photo.read_bytes())

        def send(_: int) -> tuple[int, float]:
            started = time.monotonic()
            return server.request("POST", "/upscale?scale=4", body).status, time.monotonic() - started

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(send, range(12)))
            assert server.request("GET", "/health").status == 200
        assert {status for status, _ in answers} == {200, 503}
        slowest = {each: max(seconds for status, seconds in answers if status == each) for each in (200, 503)}
        assert slowest[503] < slowest[200]
        assert server.request("POST", "/upscale", photo.read_bytes()).status == 200


def test_openapi(server: Server) -> None:
    """The document names every route, and every reference in it is defined."""
    description = server.request("GET", "/openapi.json").json()
    text = json.dumps(description)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in description["components"]["schemas"]
    from subpixel.web import routes_jobs, routes_uploads, routes_upscale

    routes = [*routes_jobs.ROUTES, *routes_uploads.ROUTES, *routes_upscale.ROUTES]
    described = {(path, method.upper()) for path, each in description["paths"].items() for method in each}
    for route in routes:
        for method in {*route.methods} - {"HEAD", "OPTIONS"}:
            assert (route.path, method) in described
    job = server.request("GET", "/api/server")
    assert job.status == 200
    page = server.request("GET", "/docs").body.decode()
    assert "http:" not in page and "https:" not in page


def test_job_has_the_fields_that_are_described(server: Server, photo: Path) -> None:
    schemas = server.request("GET", "/openapi.json").json()["components"]["schemas"]
    job = server.wait(server.submit(photo)["id"])
    properties = schemas["Job"]["properties"]
    assert set(job) == set(properties)
    for name in ("source", "target", "result"):
        assert set(job[name]) == set(properties[name]["oneOf"][0]["properties"])


def test_example(server: Server, photo: Path, tmp_path: Path) -> None:
    script = ROOT / "examples" / "web_client.py"
    output = tmp_path / "result.png"
    subprocess.run(
        [sys.executable, str(script), str(photo), str(output), f"http://127.0.0.1:{server.port}"],
        check=True,
        env={**os.environ},
        timeout=300,
    )
    assert output.read_bytes() == command(photo, tmp_path / "large.png")
