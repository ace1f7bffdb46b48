"""Separate two machines of a cluster from each other in mid-job, and join them again: `make test-cluster`.

Each machine is a network namespace with a Ray node of its own. A cable, a pair of virtual interfaces, joins
them, and both see the same files. While the cable is out, the driver's side takes the other machine for lost
and does its segments again, while that machine goes on with them. The output must be whole, with the same
bytes as one machine's.

Needs root, Linux and the program ``ip`` (iproute2).
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from video_files import make_frames, write

PORT = 6379
SEGMENTS, SIDES = 48, (96, 64)
PARTITION_SECONDS = 25
START_SECONDS, TIMEOUT_SECONDS = 180, 900
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_memory_monitor_refresh_ms": "0",
}
"""A machine that does not answer is taken for lost after some seconds instead of half a minute."""


def why_not() -> str | None:
    """Why the test cannot run here."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "it needs Linux's network namespaces and the program ip (iproute2)"
    if os.geteuid():
        return "only root may create network namespaces"
    made = subprocess.run(["ip", "netns", "add", "subpixel-try"], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be created here ({made.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", "subpixel-try"], check=True)
    return None


class Machine:
    """A network namespace with one end of the cable."""

    def __init__(self, number: int) -> None:
        self.name = f"subpixel-{os.getpid()}-{number}"
        self.address = f"10.77.0.{number}"
        self.end = f"sp{os.getpid() % 10**6}-{number}"

    def command(self, *arguments: object) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, arguments)]

    def run(self, *arguments: object) -> None:
        subprocess.run(self.command(*arguments), check=True, capture_output=True)

    def connect(self) -> None:
        """Take an end of the cable."""
        subprocess.run(["ip", "link", "set", self.end, "netns", self.name], check=True)
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", self.end)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", self.end, "up")


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Create two machines with a cable between them."""
    machines = Machine(1), Machine(2)
    try:
        for machine in machines:
            subprocess.run(["ip", "netns", "add", machine.name], check=True)
        ends = [machine.end for machine in machines]
        subprocess.run(["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]], check=True)
        for machine in machines:
            machine.connect()
        yield machines
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "del", machine.name], check=False)


@contextlib.contextmanager
def ray_node(machine: Machine, log: Path, *options: object) -> Iterator[None]:
    """Run a Ray node with one CPU on a machine."""
    program = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
    node = [f"--node-ip-address={machine.address}", "--num-cpus=1", f"--object-store-memory={100 << 20}"]
    with log.open("w") as file:
        process = subprocess.Popen(
            machine.command(*program, *node, *options),
            env=os.environ | ENVIRONMENT,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + START_SECONDS
            while "Ray runtime started" not in log.read_text():
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"Ray did not start: {log.read_text()}")
                time.sleep(0.5)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored_segments(folder: Path) -> int:
    return len(list(folder.glob(".*.subpixel/*/*.segment")))


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str], what: str) -> None:
    until = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if driver.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{what} did not happen: {driver.communicate()[0]}")
        time.sleep(0.2)


def main() -> None:
    """Run the test; print what happened."""
    if reason := why_not():
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="subpixel-partition-") as name, two_machines() as (near, far):
        folder = Path(name)
        film = folder / "film.mp4"
        write(film, make_frames(240 * SEGMENTS, *SIDES), time_base=Fraction(1, 25))
        command = [sys.executable, "-m", "subpixel", "upscale", film, "-s", 2, "--threads", 1]
        address = f"{near.address}:{PORT}"
        temporary = [f"--temp-dir={folder / 'ray'}"]
        with (
            ray_node(near, folder / "near.log", "--head", f"--port={PORT}", *temporary),
            ray_node(far, folder / "far.log", f"--address={address}"),
        ):
            large = folder / "large"
            driver = subprocess.Popen(
                near.command(*command, "-o", large / "film.mkv", "--cluster", address, "-v"),
                env=os.environ | ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            wait_until(lambda: stored_segments(large) >= 3, driver, "the start of the job")
            far.run("ip", "link", "set", far.end, "down")
            print(f"cut after {stored_segments(large)} of {SEGMENTS} segments", flush=True)
            time.sleep(PARTITION_SECONDS)
            far.run("ip", "link", "set", far.end, "up")
            print(f"healed after {stored_segments(large)} segments", flush=True)
            output, _ = driver.communicate(timeout=TIMEOUT_SECONDS)
        if driver.returncode:
            raise SystemExit(f"the command ended with {driver.returncode}: {output}")
        alone = folder / "alone.mkv"
        subprocess.run([*map(str, command), "-o", alone], check=True, capture_output=True)
        if digest(alone) != digest(large / "film.mkv"):
            raise SystemExit("the output differs from that of one machine")
        if left := [path.name for path in large.iterdir() if path.name != "film.mkv"]:
            raise SystemExit(f"left over: {left}")
    print("whole and identical")


if __name__ == "__main__":
    main()
