"""Many faults in a cluster, at random moments: every output must be whole, and that of one machine.

`make test-cluster` runs it. Films and images are upscaled on a cluster of several nodes on this machine,
while processes of tasks are killed, nodes lost and replaced, disks filled, and the driver killed and started
again.
One film kills each process that begins its second segment. What fails three times is set aside by design;
faults spare what has failed twice, as far as they can choose. What they hit nevertheless must be named, and
is done by the next command. At the end, outputs are compared with those of one machine, and what was done
more than once with the faults that explain it.

    python tests/cluster_faults.py [--faults 50] [--tasks 100] [--seed 1] [--folder KEPT]
"""

import argparse
import contextlib
import hashlib
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cluster_process import Cluster, Node, running_cluster, tasks_of
from video_files import make_frames, write

NODES = 3
TASK_SECONDS = 1.5
"""What a task should take here, so that there are many."""
POISON = "poison.mp4"
IMAGES, FILMS, SEGMENTS = 24, 3, 6
ROUND_SECONDS = 1800


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the cluster with many faults.")
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for all files, kept afterwards; it must not exist")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with working_folder(options.folder) as folder:
        inputs = folder / "in"
        make_inputs(inputs)
        expected = upscale_alone(inputs, folder / "alone")
        generator = random.Random(options.seed)
        with running_cluster(folder / "cluster.log") as cluster:
            faults = Faults(cluster, generator)
            rounds = tasks = 0
            while faults.count < options.faults or tasks < options.tasks:
                rounds += 1
                run = Run(cluster, inputs, folder / f"out{rounds}", folder / f"log{rounds}")
                before = faults.counts.copy()
                run.run(faults)
                if run.named():
                    run.run(faults, strikes=False)
                run.check(expected, faults.counts - before)
                tasks += run.tasks
                print(f"round {rounds}: {tasks} tasks, {dict(faults.counts)}", flush=True)
    print(
        f"{tasks} tasks, {faults.count} faults, {faults.poisonings} processes killed by {POISON}: all right"
    )


@contextlib.contextmanager
def working_folder(given: Path | None) -> Iterator[Path]:
    """Yield a folder; one that was not given is removed, unless the run fails."""
    if given is not None:
        given.mkdir(parents=True)
    folder = Path(tempfile.mkdtemp()) if given is None else given.absolute()
    try:
        yield folder
    except BaseException:
        print(f"FAILED; the files and logs are in {folder}", flush=True)
        raise
    if given is None:
        shutil.rmtree(folder)


def make_inputs(folder: Path) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
        large = Image.fromarray(coarse).resize((640 + number, 480), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:02}.png")
    for number in range(FILMS):
        write(folder / f"film{number}.mp4", make_frames(240 * SEGMENTS - 50 * number, 192, 144), sound="aac")
    # Large enough that its process is killed before it has done a segment.
    write(folder / POISON, make_frames(240 * 3, 480, 360))


def upscale_alone(inputs: Path, output: Path) -> dict[str, str]:
    """Return the digests of the outputs of one machine."""
    command = [sys.executable, "-m", "subpixel", "upscale", inputs, "-o", f"{output}/"]
    subprocess.run([*map(str, command)], check=True)
    return digests(output)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


class Faults:
    """Does harm to a cluster."""

    def __init__(self, cluster: Cluster, generator: random.Random) -> None:
        self._cluster, self._random = cluster, generator
        self.nodes: list[Node] = [cluster.add() for _ in range(NODES)]
        self._full: dict[int, float] = {}
        """Processes that cannot write, and until when."""
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Of each image and segment, since the driver has started."""
        self.poison_began = False
        """Whether a segment of the poisonous film is done."""
        self.poisonings = 0
        threading.Thread(target=self._poison, daemon=True).start()

    @property
    def spared(self) -> set[str]:
        """Names of files that would be set aside after one more failure."""
        return {Path(name.split(" ")[0]).name for name, count in self.failures.items() if count > 1}

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def strike(self) -> str:
        """Do one kind of harm, and return it; empty if there is nobody to harm."""
        kind = self._random.choice(["process"] * 5 + ["node"] * 2 + ["disk"] * 2 + ["driver"])
        if kind == "process":
            busy = [pid for node in (*self.nodes, self._cluster.head) for pid in self._victims(node)]
            if not busy:
                return ""
            kill(self._random.choice(busy))
        elif kind == "node":
            node = self._random.choice(self.nodes)
            if len(self._victims(node)) < len(tasks_of(node)):
                return ""
            self._cluster.remove(node)
            self.nodes.remove(node)
            self.nodes.append(self._cluster.add())
        elif kind == "disk":
            busy = self._victims(self._random.choice(self.nodes))
            if not busy:
                return ""
            for pid in busy:
                limit_files(pid, 1000)
                self._full[pid] = time.monotonic() + 3
        self.counts[kind] += 1
        return kind

    def _victims(self, node: Node) -> list[int]:
        """Return the processes of a node that are in a task whose file may fail once more."""
        busy = tasks_of(node).items()
        return [pid for pid, command in busy if not any(name in command for name in self.spared)]

    def _poison(self) -> None:
        """Kill each process that begins the second segment of the poisonous film.

        So it does with the first task of a driver if some segments are done: it may do the last one itself.
        """
        poisoned: set[int] = set()
        while True:
            time.sleep(0.05)
            for node in (self._cluster.head, *self.nodes):
                for pid, command in tasks_of(node).items():
                    found = re.search(rf"{POISON} \((segment 1|segment 0 to|beginning)", command)
                    if found and (found[1] != "beginning" or self.poison_began) and pid not in poisoned:
                        kill(pid)
                        poisoned.add(pid)
                        self.poisonings += 1

    def wait(self) -> int:
        """Return how much is to be done before the next fault."""
        return self._random.randint(1, 3)

    def free_disks(self) -> None:
        """Free the disks whose time is over, and those of processes that got a file that is spared."""
        for pid, until in [*self._full.items()]:
            command = command_of(pid)
            if time.monotonic() > until or any(name in command for name in self.spared):
                limit_files(pid, resource.RLIM_INFINITY)
                del self._full[pid]


def limit_files(pid: int, size: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Run:
    """One run over all inputs, with drivers that follow each other."""

    def __init__(self, cluster: Cluster, inputs: Path, output: Path, log: Path) -> None:
        self._inputs, self._output, self._log = inputs, output, log
        self._command = [sys.executable, __file__, "--drive", cluster.address, inputs, output, log]
        self._read = self._done = 0

    def run(self, faults: Faults, *, strikes: bool = True) -> None:
        self._log.touch()
        faults.poison_began &= not strikes  # a new run
        driver = self._start()
        started = time.monotonic()
        next_fault = self._done + 1
        while True:
            if (code := driver.poll()) is not None:
                if code == 0:
                    break
                raise SystemExit(f"the driver ended with {code}; see {self._log}:\n{self._tail()}")
            if time.monotonic() - started > ROUND_SECONDS:
                driver.kill()
                raise SystemExit(f"the run does not end:\n{self._tail()}")
            time.sleep(0.1)
            faults.free_disks()
            self._follow_log(faults)
            # By what was done, not by time, so that a busy machine gets somewhere too.
            if strikes and self._done >= next_fault:
                next_fault = self._done + faults.wait()
                if faults.strike() == "driver":
                    driver.kill()
                    driver.wait()
                    driver = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*map(str, self._command)])

    def _tail(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-60:])

    def _follow_log(self, faults: Faults) -> None:
        """Count what was done, and what has failed."""
        with self._log.open() as file:
            file.seek(self._read)
            lines = file.readlines()
            self._read = file.tell()
        for line in lines:
            if "done: " in line:
                self._done += 1
                faults.poison_began |= POISON in line
            elif found := re.search(r"failed: ([^:]+)", line):
                faults.failures[found[1]] += 1
            elif "connected" in line:
                faults.failures.clear()

    def named(self) -> set[str]:
        """Return the files that the last driver has set aside, but the poisonous film; check that it may."""
        log = self._log.read_text().rpartition("connected")[2]
        named = set()
        for result in re.findall(r"result: (.*)", log):
            [name] = [file.name for file in self._inputs.iterdir() if file.name in result]
            if name != POISON:
                failures = Counter(re.findall(rf"failed: (\S+/{name}(?: segment \d+)?)\b", log))
                assert max(failures.values(), default=0) >= 3, (result, failures)
                named.add(name)
        if named:
            print(f"hit three times, named, and done by the next command: {sorted(named)}", flush=True)
        return named

    def check(self, expected: dict[str, str], faults: Counter[str]) -> None:
        """Compare the outputs, and count what was done."""
        log = self._log.read_text()
        visible = {name: digest for name, digest in digests_of_files(self._output).items() if name[0] != "."}
        wanted = {name: digest for name, digest in expected.items() if name != POISON}
        failed = re.findall(r"result: .*", log)
        assert visible == wanted, (sorted(visible.items() ^ wanted.items()), failed)
        hidden = {file.name for file in self._output.iterdir() if file.name[0] == "."}
        assert hidden <= {f".{POISON}.subpixel"}, hidden
        assert re.search(rf"result: .*{POISON}: set aside after 3 failures, the last one: ", log)
        done = Counter(re.findall(r"done: (.*)", log))
        again = sum(count - 1 for count in done.values())
        copies = len(re.findall(r"attempt \d+: copy of", log))
        assert again <= copies + sum(faults.values()), (again, copies, faults)
        self.tasks = len(re.findall(r"attempt \d+: start of", log))


def digests_of_files(folder: Path) -> dict[str, str]:
    files = [file for file in folder.iterdir() if file.is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def drive(address: str, inputs: str, output: str, log: str) -> None:
    """Be the driver."""
    from subpixel.cluster import films, images, rate, upscale

    for module in (rate, films):
        module.TASK_SECONDS = TASK_SECONDS  # type: ignore[attr-defined]
    images._MAX_IMAGES = 3
    logging.basicConfig(filename=log, format="%(asctime)s %(message)s")
    logging.getLogger("subpixel.cluster").setLevel(logging.DEBUG)
    logging.getLogger("subpixel.cluster").debug("connected")
    for result in upscale(inputs, output, address=address, existing="skip"):
        if isinstance(result, Exception):
            logging.getLogger("subpixel.cluster").debug("result: %s", result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(*sys.argv[2:])
    else:
        main()
