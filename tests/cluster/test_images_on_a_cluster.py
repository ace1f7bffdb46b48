"""Images on a cluster: the same files as on one machine, whatever happens to the machines."""

import asyncio
import importlib.util
import json
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import subpixel.cluster
from cluster_process import workers_of
from subpixel import ClusterError, ImageResult, OutputExists, UnreadableImage, upscale_image
from subpixel.cluster import connection, files
from subpixel.cluster.images import Images


def run_command(*arguments, **options):
    command = [sys.executable, "-m", "subpixel", "upscale", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def without_times(text):
    return re.sub(r"[0-9.]+ s ", "", text)


@pytest.fixture
def expected(photos, tmp_path):
    """The bytes of each output, as made on this machine alone."""
    folder = tmp_path / "expected"
    for photo in sorted(photos.iterdir()):
        upscale_image(photo, folder / photo.name, scale=2)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def on_both_kinds(cluster, monkeypatch):
    """Sends each second task to the older kind of processor, and no other one."""
    make, tasks = Images._task, []

    def task(images, files):
        tasks.append(make(images, files))
        older = cluster.older.id
        others = {node.id for node in connection.nodes()} - {older}
        tasks[-1].avoided = dict.fromkeys({older} if len(tasks) % 2 else others, "for this test")
        return tasks[-1]

    monkeypatch.setattr(Images, "_task", task)


def test_processors_of_two_kinds_give_the_same_files(cluster, on_both_kinds, photos, expected, tmp_path):
    fractions = []
    results = subpixel.cluster.upscale(
        photos,
        tmp_path / "large",
        address=cluster.address,
        scale=2,
        progress=lambda progress: fractions.append(progress.fraction),
    )
    assert contents(tmp_path / "large") == expected
    assert [result.input for result in results] == [str(file) for file in sorted(photos.iterdir())]
    assert len({result.target for result in results}) == 2
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_the_command_reports_as_on_one_machine(cluster, photos, tmp_path):
    (photos / "damaged.png").write_bytes(b"no image")
    alone = run_command("photos", "-o", "alone/", "--json", cwd=tmp_path)
    on_cluster = run_command("photos", "-o", "large/", "--json", "--cluster", cluster.address, cwd=tmp_path)
    assert on_cluster.returncode == alone.returncode == 1
    assert without_times(on_cluster.stderr) == without_times(alone.stderr)
    ours, theirs = (
        sorted(map(json.loads, run.stdout.splitlines()), key=lambda line: line["input"])
        for run in (on_cluster, alone)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for key in mine.keys() - {"seconds", "target", "threads", "reason"}:
            wanted = other[key].replace("alone", "large") if key == "output" else other[key]
            assert mine[key] == wanted
    assert contents(tmp_path / "large") == contents(tmp_path / "alone")


def test_a_killed_process_costs_one_image(cluster, photos, expected, tmp_path, run_log):
    run_log.kill_process_of(r"00\.png", times=1)
    results = subpixel.cluster.upscale(photos, tmp_path / "large", address=cluster.address, scale=2)
    assert all(isinstance(result, ImageResult) for result in results)
    assert contents(tmp_path / "large") == expected
    assert run_log.killed == 1
    assert sorted(run_log.done) == [str(photo) for photo in sorted(photos.iterdir())]  # each once


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_set_aside(cluster, photos, tmp_path, run_log):
    run_log.kill_process_of(r"00\.png", times=10)
    first, *others = subpixel.cluster.upscale(photos, tmp_path / "large", address=cluster.address, scale=2)
    assert isinstance(first, ClusterError)
    assert str(first).startswith(
        f"{photos / '00.png'}: set aside after 3 failures, the last one: its process"
    )
    assert all(isinstance(result, ImageResult) for result in others)
    assert run_log.killed == 3


@pytest.mark.slow
def test_a_machine_with_another_version_gets_no_tasks(cluster, photos, expected, tmp_path):
    (tmp_path / "old" / "subpixel").mkdir(parents=True)
    (tmp_path / "old" / "subpixel" / "__init__.py").write_text("__version__ = '0.0.1'")
    node = cluster.add(PYTHONPATH=str(tmp_path / "old"))
    notes = []
    try:
        subpixel.cluster.upscale(
            photos, tmp_path / "large", address=cluster.address, scale=2, note=notes.append
        )
    finally:
        cluster.remove(node)
    assert contents(tmp_path / "large") == expected
    assert len(notes) == 1 and "has no Subpixel like that of the driver" in notes[0]


@pytest.mark.slow
def test_a_file_that_machines_see_otherwise_fails_alone(cluster, photos, expected, tmp_path, monkeypatch):
    seen = files.version_of
    monkeypatch.setattr(
        files, "version_of", lambda file: seen(photos / "04.png" if "03" in file.name else file)
    )
    notes = []
    results = subpixel.cluster.upscale(
        photos, tmp_path / "large", address=cluster.address, scale=2, note=notes.append
    )
    assert [type(result) for result in results].count(ImageResult) == len(expected) - 1
    assert re.match(rf"{photos}/03.png: no machine can do it: .* has another file at", str(results[3]))
    assert len(notes) == 3  # one for each machine


@pytest.mark.slow
def test_a_full_disk_on_one_machine_is_left_to_the_others(cluster, photos, expected, tmp_path, run_log):
    node = cluster.add()
    stopped = threading.Event()

    def limit_files() -> None:
        while not stopped.wait(0.01):
            for pid in workers_of(node):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, 1000))

    thread = threading.Thread(target=limit_files)
    thread.start()
    try:
        results = subpixel.cluster.upscale(photos, tmp_path / "large", address=cluster.address, scale=2)
    finally:
        stopped.set()
        thread.join()
        cluster.remove(node)
    assert all(isinstance(result, ImageResult) for result in results), results
    assert any("File too large" in failure for failure in run_log.failed)
    assert contents(tmp_path / "large") == expected


@pytest.mark.slow
def test_a_client_outside_the_cluster(cluster, photos, expected, tmp_path):
    results = subpixel.cluster.upscale(photos, tmp_path / "large", address=cluster.client_address, scale=2)
    assert all(isinstance(result, ImageResult) for result in results)
    assert contents(tmp_path / "large") == expected


@pytest.mark.slow
def test_a_client_prints_what_a_machine_of_the_cluster_prints(cluster, photos, tmp_path):
    def printed(name, address):
        run = run_command(photos, "-o", tmp_path / name, "--cluster", address, "--progress", "none")
        return run.returncode, run.stdout, without_times(run.stderr)

    assert printed("one", cluster.client_address) == printed("other", cluster.address)


@pytest.fixture
def large_photo(photos):
    """The first of the photos, now one that takes some time."""
    photo = photos / "00.png"
    noise = np.random.default_rng(1).integers(0, 256, (1800, 2400, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    return photo


@pytest.mark.slow
def test_ctrl_c_cancels_the_tasks_and_the_same_command_does_the_rest(
    cluster, large_photo, photos, expected, tmp_path
):
    command = [sys.executable, "-m", "subpixel", "upscale", photos, "-o", tmp_path / "large/"]
    command += ["--skip-existing", "--cluster", cluster.address]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "large").exists() or not any((tmp_path / "large").glob("*.png")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.startswith("interrupted; ") and "and the same command does the rest" in errors
    left = contents(tmp_path / "large")
    assert left.items() <= expected.items()  # no unfinished files
    assert subprocess.run([*map(str, command)], capture_output=True).returncode == 0
    assert contents(tmp_path / "large") == expected


def test_wrong_arguments_are_refused_before_any_work(photos, tmp_path):
    with pytest.raises(ValueError, match=r"no address of a cluster.*ray://head:10001"):
        subpixel.cluster.upscale(photos, tmp_path / "large", address="ray://somewhere")
    with pytest.raises(TypeError, match="'sharpnes' is no option"):
        subpixel.cluster.upscale(photos, tmp_path / "large", sharpnes=1)
    with pytest.raises(ClusterError, match="no connection to a cluster"):
        subpixel.cluster.upscale(photos, tmp_path / "large", address="ray://127.0.0.1:9")
    run = run_command(photos, "-o", f"{tmp_path}/large/", "--cluster", "local", "--jobs", "2")
    assert run.returncode == 2 and "--jobs is for this machine" in run.stderr


def test_existing_outputs(cluster, photos, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "03.png").write_bytes(b"mine")
    (photos / "04.png").write_bytes(b"no image")
    results = subpixel.cluster.upscale(photos, tmp_path / "large", address=cluster.address)
    failed = {result.__class__: str(result) for result in results if isinstance(result, Exception)}
    assert len(failed) == 2
    refused = f"{tmp_path / 'large' / '03.png'}: exists already; pass existing='overwrite' to replace it"
    assert failed[OutputExists] == refused
    assert str(photos / "04.png") in failed[UnreadableImage]
    assert (tmp_path / "large" / "03.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_the_example_runs_where_an_event_loop_runs_as_in_a_notebook(
    cluster, photos, expected, tmp_path, capsys
):
    path = Path(__file__).parents[2] / "examples" / "cluster.py"
    spec = importlib.util.spec_from_file_location("cluster_example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    async def cell() -> None:
        example.main(str(photos), str(tmp_path / "large"), cluster.address)

    asyncio.run(cell())
    assert contents(tmp_path / "large") == expected
    assert "100% after" in capsys.readouterr().out
