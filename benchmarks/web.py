"""Measure the server of `subpixel serve`: for `docs/web.md`.

    python benchmarks/web.py [--seconds 60] [--jobs 500] [--upload-gb 3]

Starts a server, and measures: the time from the start of an upload of a 1 MP image to its result; calls of
``POST /upscale`` a second with 8 clients; what happens when ten times as many calls are started in a second;
the memory of all its processes over many jobs; its memory during a large upload that is cut in the
middle. Writes ``benchmarks/results/web-KIND.json`` for this kind of processor.
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from shared import host_kind, store

CLIENTS = 8
OVERLOAD = 10
"""How many times as many calls are started under overload as the server can answer."""


def photo(width: int, height: int, quality: int | None = None) -> bytes:
    """An image file with some detail."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
    data = io.BytesIO()
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    image.save(data, "jpeg" if quality else "png", **({"quality": quality} if quality else {}))
    return data.getvalue()


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the port and the process id of a server."""
    command = [sys.executable, "-m", "subpixel", "serve", "--port", "0", "--data", str(folder)]
    command += ["--max-requests", "1000000", "--max-connections", "1000", "--max-jobs", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r":(\d+)/", process.stdout.readline())
    assert found
    try:
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def job_seconds(port: int, data: bytes) -> float:
    """Seconds from the start of an upload to the first byte of the result."""
    events = http.client.HTTPConnection("127.0.0.1", port)
    events.request("GET", "/api/events")
    stream = events.getresponse()
    stream.readline()  # the answer to this request has begun
    started = time.perf_counter()
    _, answer = request(port, "POST", "/api/jobs?name=photo.png", data)
    id = json.loads(answer)["id"]
    finished = False
    while not finished:
        line = stream.readline().decode()
        if line.startswith('data: {"id"'):
            job = json.loads(line.removeprefix("data: "))
            finished = job["id"] == id and job["state"] == "done"
            assert job["state"] != "failed", job
    events.close()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/jobs/{id}/result")
        connection.getresponse().read(1)
    return time.perf_counter() - started


async def call(port: int, head: str, body: bytes) -> tuple[int, float]:
    """Send a request; return the status, 0 for a broken connection, and the seconds that it took."""
    started = time.perf_counter()
    status = 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        while await reader.read(2**16):
            pass
        writer.close()
    return status, time.perf_counter() - started


async def load(port: int, clients: int, per_second: float | None, seconds: float) -> dict[str, Any]:
    """Call /upscale, and /health beside it.

    Args:
        port: of the server.
        clients: how many calls there are at once.
        per_second: how many calls are started in a second; None if each client waits for its answer only.
        seconds: for which calls are started.
    """
    data = photo(256, 256)
    spent: dict[int, list[float]] = {}
    health: list[float] = []
    end = time.monotonic() + seconds

    async def upscale() -> None:
        status, took = await call(port, "POST /upscale?scale=2 HTTP/1.1", data)
        spent.setdefault(status, []).append(took)

    async def client() -> None:
        while time.monotonic() < end:
            await upscale()

    async def watch() -> None:
        while time.monotonic() < end:
            status, took = await call(port, "GET /health HTTP/1.1", b"")
            assert status == 200
            health.append(took)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        if per_second is None:
            for _ in range(clients):
                tasks.create_task(client())
        else:
            while time.monotonic() < end:
                tasks.create_task(upscale())
                await asyncio.sleep(1 / per_second)
    refused = sorted(each for status, times in spent.items() if status in (429, 503) for each in times)
    accepted = spent.get(200, [0.0])
    return {
        "seconds": seconds,
        "answers": {str(status): len(times) for status, times in sorted(spent.items())},
        "per_second": round(len(spent.get(200, [])) / seconds, 1),
        "accepted_median_seconds": round(statistics.median(accepted), 3),
        "accepted_max_seconds": round(max(accepted), 3),
        "refused_median_seconds": round(statistics.median(refused), 4) if refused else None,
        "refused_p99_seconds": round(refused[int(0.99 * len(refused))], 4) if refused else None,
        "health_median_seconds": round(statistics.median(health), 4),
        "health_max_seconds": round(max(health), 4),
    }


def memory_mib(pid: int, *, children: bool = True) -> float:
    """Resident memory of a process, and of its children."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir() if children else ():
        pids += map(int, (task / "children").read_text().split())
    total = 0.0
    for each in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{each}/status").read_text())
            total += int(found[1]) / 1024 if found else 0
    return round(total, 1)


def many_jobs(port: int, pid: int, count: int) -> dict[str, Any]:
    """Run many jobs of images of different sizes; measure the memory after each tenth."""
    sizes = [(320, 240), (640, 480), (200, 300), (1000, 800)]
    files = [photo(*size, quality=80) for size in sizes]
    measured = []
    for number in range(count):
        request(port, "POST", f"/api/jobs?name={number}.jpg", files[number % len(files)])
        if (number + 1) % max(1, count // 10) == 0:
            while any(
                job["state"] != "done" for job in json.loads(request(port, "GET", "/api/jobs")[1])["jobs"]
            ):
                time.sleep(0.2)
            measured.append(memory_mib(pid))
    return {"jobs": count, "memory_mib": measured}


def cut_upload(port: int, pid: int, gigabytes: float) -> dict[str, Any]:
    """Send half of a large upload, break the connection, and resume; measure the memory of the server."""
    length = int(gigabytes * 1e9)
    tus = {"Tus-Resumable": "1.0.0"}
    headers = {**tus, "Upload-Length": str(length), "Upload-Metadata": "filename bm9pc2UuYmlu"}
    _, answer = request(port, "POST", "/api/uploads", headers=headers)
    id = json.loads(answer)["id"]
    block = os.urandom(2**20)
    peak = 0.0
    started = time.perf_counter()

    def send(offset: int, end: int) -> None:
        nonlocal peak
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"PATCH /api/uploads/{id} HTTP/1.1\r\nContent-Length: {length - offset}\r\n"
            head += (
                "Host: localhost\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
            )
            connection.sendall(f"{head}Upload-Offset: {offset}\r\n\r\n".encode())
            while offset < end:
                start = offset % len(block)
                part = block[start : start + min(len(block) - start, end - offset)]
                connection.sendall(part)
                offset += len(part)
                if start == 0 and offset % (64 * len(block)) < len(block):
                    peak = max(peak, memory_mib(pid, children=False))
            if end == length:
                assert connection.recv(65536).startswith(b"HTTP/1.1 204")

    send(0, length // 2)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("HEAD", f"/api/uploads/{id}", headers=tus)
        offset = int(connection.getresponse().headers["Upload-Offset"])
    send(offset, length)
    seconds = time.perf_counter() - started
    request(port, "DELETE", f"/api/jobs/{id}")
    return {
        "gigabytes": gigabytes,
        "resumed_at": offset,
        "seconds": round(seconds, 1),
        "peak_memory_mib": peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--upload-gb", type=float, default=3)
    options = parser.parse_args()
    stored: dict[str, Any] = {"kind": host_kind(), "load_before": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (port, pid):
        large = photo(1280, 800)
        job_seconds(port, large)
        stored["memory_mib_at_start"] = memory_mib(pid)
        times = [job_seconds(port, large) for _ in range(10)]
        stored["job_seconds"] = {"median": round(statistics.median(times), 3), "max": round(max(times), 3)}
        print(stored, flush=True)
        stored["busy"] = asyncio.run(load(port, CLIENTS, None, options.seconds))
        print(stored["busy"], flush=True)
        rate = OVERLOAD * stored["busy"]["per_second"]
        stored["overload"] = asyncio.run(load(port, CLIENTS, rate, options.seconds))
        print(stored["overload"], flush=True)
        stored["upload"] = cut_upload(port, pid, options.upload_gb)
        print(stored["upload"], flush=True)
        stored["many_jobs"] = many_jobs(port, pid, options.jobs)
        print(stored["many_jobs"], flush=True)
        states = Counter(job["state"] for job in json.loads(request(port, "GET", "/api/jobs")[1])["jobs"])
        stored["states"] = dict(states)
    store(f"web-{host_kind()}", stored)


if __name__ == "__main__":
    main()
