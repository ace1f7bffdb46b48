"""Claims: of several workers one has a name, until it releases it or is dead."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from subpixel.storage.base import Storage
from subpixel.storage.claims import Claims, ClaimState, expiry_seconds
from subpixel.storage.select import open_storage

SPAWN = multiprocessing.get_context("spawn")
OTHER_MACHINE = "another boot 4026531836"


@pytest.fixture(params=["folder", "bucket"])
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "job")
    return open_storage(f"s3://{request.getfixturevalue('s3').bucket()}/job")


def claims_of_another_machine(storage: Storage, monkeypatch, expiry: float) -> Claims:
    with monkeypatch.context() as patch:
        patch.setattr("subpixel.storage.claims._machine", lambda: OTHER_MACHINE)
        return Claims(storage, expiry)


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_claim_is_exclusive_until_it_is_released(storage):
    with Claims(storage) as one, Claims(storage) as two:
        claim = one.take("a.claim")
        assert claim is not None and two.take("a.claim") is None
        assert two.state("a.claim") is ClaimState.LIVING and str(os.getpid()) in two.holder("a.claim")
        assert two.take("b.claim") is not None
        one.release(claim)
        assert two.state("a.claim") is ClaimState.FREE and two.holder("a.claim") == ""
        assert two.take("a.claim") is not None
    assert storage.entries() == []


def test_a_claim_of_another_machine_lives_while_it_changes(storage, monkeypatch):
    clock = iter(range(0, 1000, 45))  # of looks at a claim that expires after 60 s
    with claims_of_another_machine(storage, monkeypatch, expiry=60) as remote, Claims(storage, 60) as here:
        monkeypatch.setattr(remote, "_start", lambda: None)
        claim = remote.take("a.claim")
        monkeypatch.setattr("subpixel.storage.claims.time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert here.state("a.claim") is ClaimState.UNKNOWN
        for _ in range(3):
            remote._renew(claim)
            assert here.state("a.claim") is ClaimState.LIVING
        assert here.take("a.claim") is None
        assert here.state("a.claim") is ClaimState.DEAD


def test_a_claim_changes_as_long_as_its_process_lives(storage, monkeypatch):
    monkeypatch.setattr("subpixel.storage.claims._BEATS_PER_EXPIRY", 1200)
    with Claims(storage, 60) as claims:
        seen = {claims.take("a.claim").version}

        def has_changed() -> bool:
            seen.add(storage.read("a.claim").version)
            return len(seen) > 3

        wait_until(has_changed)


def test_a_claim_that_stops_changing_is_taken_over_once(storage, monkeypatch):
    remote = claims_of_another_machine(storage, monkeypatch, expiry=0.3)
    monkeypatch.setattr(remote, "_start", lambda: None)  # no heartbeat: the machine is off
    lost = remote.take("a.claim")
    observers = [Claims(storage, 0.3) for _ in range(4)]
    assert all(observer.take("a.claim") is None for observer in observers)
    time.sleep(0.35)
    won = []
    threads = [
        threading.Thread(target=lambda each=each: won.append(each.take("a.claim"))) for each in observers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in won) == 1
    # The first owner comes back, is told, and leaves the claim of the new one alone.
    remote._renew(lost)
    assert lost.lost
    remote.release(lost)
    assert storage.read("a.claim").data
    for observer in observers:
        observer.close()
    assert storage.entries() == []


def test_workers_of_one_group_take_over_at_once(storage):
    with Claims(storage, group="g") as one, Claims(storage, group="g") as two, Claims(storage) as other:
        claim = one.take("a.claim")
        assert claim is not None
        assert other.take("a.claim") is None
        assert two.take("a.claim") is not None
        one._renew(claim)
        assert claim.lost
        assert one.take("a.claim") is not None


def _hold(location: str, ready) -> None:
    Claims(open_storage(location)).take("a.claim")
    ready.set()
    time.sleep(60)


def test_a_killed_process_of_this_machine_is_dead_at_once(storage):
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(storage.location, ready))
    process.start()
    assert ready.wait(60)
    with Claims(storage) as here:
        assert here.take("a.claim") is None and here.state("a.claim") is ClaimState.LIVING
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: here.state("a.claim") is ClaimState.DEAD)
        process.join()
        assert here.take("a.claim") is not None


def test_a_stopped_process_of_this_machine_expires(storage):
    # Its id exists, but it does not go on.
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(storage.location, ready))
    process.start()
    assert ready.wait(60)
    with Claims(storage, 0.3) as here:
        data = storage.read("a.claim")
        storage.replace("a.claim", data.data.replace(b"60.0", b"0.3"), data.version)
        os.kill(process.pid, signal.SIGSTOP)
        assert here.take("a.claim") is None
        time.sleep(0.35)
        assert here.take("a.claim") is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()


def test_a_reused_process_id_is_another_process(storage):
    with Claims(storage) as here:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        claim = here.take("a.claim")
        stored = storage.read("a.claim")
        changed = stored.data.replace(b'"pid": %d' % os.getpid(), b'"pid": %d' % process.pid)
        storage.replace("a.claim", changed, stored.version)
        assert claim is not None
        with Claims(storage) as other:
            assert other.state("a.claim") is ClaimState.DEAD
        process.communicate(b"\n")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"owner": 1}', b"\xff"])
def test_a_damaged_claim_expires(storage, data):
    if not data and storage.location.startswith("s3://"):
        pytest.skip("an empty object counts as removed")
    storage.create("a.claim", data)
    with Claims(storage, 0.05) as here:
        assert here.take("a.claim") is None and here.holder("a.claim") == "another process"
        time.sleep(0.06)
        assert here.take("a.claim") is not None


def test_a_lost_answer_does_not_lose_the_claim(storage, monkeypatch):
    with Claims(storage) as here:
        claim = here.take("a.claim")
        assert claim is not None
        before = claim.version
        here._renew(claim)
        claim.version = before
        here._renew(claim)
        assert not claim.lost and claim.version == storage.read("a.claim").version


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "inf", "nan"])
def test_the_expiry_must_be_a_number_of_seconds(monkeypatch, value):
    assert expiry_seconds() == 60
    monkeypatch.setenv("SUBPIXEL_CLAIM_SECONDS", value)
    with pytest.raises(ValueError, match="SUBPIXEL_CLAIM_SECONDS"):
        expiry_seconds()
