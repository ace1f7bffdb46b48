"""What every storage promises: files appear whole, and of several writers one wins."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from subpixel.storage.base import Conflict, Storage
from subpixel.storage.paths import is_folder, locate
from subpixel.storage.select import open_storage

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["folder", "bucket"])
def location(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if request.param == "folder":
        return str(tmp_path / ".film.mkv.subpixel")
    return f"s3://{request.getfixturevalue('s3').bucket()}/films/.film.mkv.subpixel"


@pytest.fixture
def storage(location: str) -> Storage:
    return open_storage(location)


def names(storage: Storage, prefix: str = "") -> list[str]:
    return [entry.name for entry in storage.entries(prefix)]


def test_a_created_file_is_read_back(storage, tmp_path):
    storage.create("one", b"1")
    part = storage.scratch / ".two.part"
    part.write_bytes(b"22")
    storage.create("folder/two", part)
    part.unlink()
    assert storage.read("one").data == b"1"
    with storage.open("folder/two") as file:
        file.seek(1)
        assert file.read() == b"2"
    assert [tuple(entry) for entry in storage.entries()] == [("folder/two", 2), ("one", 1)]
    assert names(storage, "folder/") == names(storage, "folder/t") == ["folder/two"]


def test_an_existing_file_is_not_created_again(storage):
    storage.create("one", b"1")
    with pytest.raises(FileExistsError):
        storage.create("one", b"2")
    assert storage.read("one").data == b"1"


def test_pruning_removes_what_nothing_needs(storage, location):
    storage.create("one/file", b"1")
    storage.create("two/file", b"1")
    storage.delete("one/file", storage.read("one/file").version)
    storage.prune()
    assert names(storage) == ["two/file"]
    if not location.startswith("s3:"):
        assert [path.name for path in Path(location).iterdir()] == ["two"]
        (Path(location) / ".killed.part").touch()
    storage.delete("two/file", storage.read("two/file").version)
    storage.prune()
    assert not is_folder(locate(location))
    storage.prune()


def test_a_folder_that_another_process_removes_before_its_first_file(tmp_path, monkeypatch):
    storage, other = (open_storage(tmp_path / "folder") for _ in range(2))
    prunes = iter(range(2))

    def name_of_file_and_prune(count):
        if next(prunes, None) is not None:
            other.prune()
        return "0" * count

    monkeypatch.setattr("secrets.token_hex", name_of_file_and_prune)
    storage.create("job/file", b"1")
    assert next(prunes, None) is None
    assert storage.read("job/file").data == b"1"
    with pytest.raises(FileNotFoundError):
        storage.create("job/other", tmp_path / "missing")


def test_a_missing_file(storage):
    assert storage.entries() == []
    for read in (storage.read, storage.open):
        with pytest.raises(FileNotFoundError):
            read("one")
    storage.delete("one")
    storage.delete("one", "version")
    with pytest.raises(Conflict):
        storage.replace("one", b"1", "version")
    storage.remove()


def test_a_file_is_replaced_only_at_the_version_that_was_seen(storage):
    storage.create("one", b"1")
    seen = storage.read("one").version
    new = storage.replace("one", b"2", seen)
    assert storage.read("one") == (b"2", new)
    with pytest.raises(Conflict):
        storage.replace("one", b"3", seen)
    with pytest.raises(Conflict):
        storage.delete("one", seen)
    assert storage.read("one").data == b"2"
    storage.delete("one", new)
    assert names(storage) == []


def test_remove_takes_everything_along(storage):
    storage.create("one", b"1")
    storage.create("folder/two", b"2")
    storage.remove()
    assert names(storage) == []


def _create(location: str, data: bytes, barrier, won) -> None:
    barrier.wait()
    try:
        open_storage(location).create("one", data)
    except FileExistsError:
        return
    won.put(data)


def test_of_several_processes_that_create_a_file_one_wins(location):
    barrier, won = SPAWN.Barrier(4), SPAWN.Queue()
    contents = [bytes([number]) * 100_000 for number in range(4)]
    processes = [SPAWN.Process(target=_create, args=(location, data, barrier, won)) for data in contents]
    for process in processes:
        process.start()
    winner = won.get(timeout=300)
    for process in processes:
        process.join()
    assert won.empty()
    assert open_storage(location).read("one").data == winner


def test_of_several_threads_that_replace_a_file_one_wins(storage):
    storage.create("count", b"0")
    success = []

    def count() -> None:
        for _ in range(60):
            data, version = storage.read("count")
            try:
                storage.replace("count", b"%d" % (int(data) + 1), version)
            except Conflict:
                continue
            success.append(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(storage.read("count").data) == len(success) >= 25


def test_a_failed_write_leaves_nothing(tmp_path):
    storage = open_storage(tmp_path / "job")
    with pytest.raises(FileNotFoundError):
        storage.create("one", tmp_path / "missing")
    assert os.listdir(tmp_path / "job") == []  # noqa: PTH208


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        open_storage(tmp_path / "file" / "job").create("one", b"1")


def test_a_process_that_stops_while_it_replaces_a_file_does_not_block_others(tmp_path, monkeypatch):
    """It has linked the successor, and has not renamed it."""
    monkeypatch.setattr("subpixel.storage.local._STUCK_SECONDS", 0.2)
    storage = open_storage(tmp_path / "job")
    storage.create("one", b"1")
    version = storage.read("one").version
    successor = tmp_path / "job" / f".one.{version}.next"
    successor.write_bytes(b"2")
    with pytest.raises(Conflict):
        storage.replace("one", b"3", version)
    assert storage.read("one").data == b"1"  # it may only be slow
    time.sleep(0.3)
    with pytest.raises(Conflict):
        storage.replace("one", b"3", version)
    data, version = storage.read("one")
    assert data == b"2" and not successor.exists()
    storage.replace("one", b"3", version)
    assert storage.read("one").data == b"3"


def test_a_late_process_does_not_replace_a_newer_version(tmp_path):
    storage = open_storage(tmp_path / "job")
    storage.create("one", b"1")
    old = storage.read("one").version
    storage.replace("one", b"2", old)
    with pytest.raises(Conflict):
        storage.replace("one", b"3", old)
    with pytest.raises(Conflict):
        storage.delete("one", old)
    assert storage.read("one").data == b"2"
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["one"]
