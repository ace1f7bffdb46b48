"""What the scheduler makes of the ends of tasks, without a cluster."""

import pytest

pytest.importorskip("ray", reason="the extra cluster is not installed")

import threading
import time
from concurrent.futures import Future

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    TaskCancelledError,
    WorkerCrashedError,
)

from subpixel.cluster.attempt import Attempt
from subpixel.cluster.connection import Node
from subpixel.cluster.rate import TASK_SECONDS, Rate, seconds_of_next_task
from subpixel.cluster.scheduler import Scheduler
from subpixel.cluster.tasks import Call, Failure, Task
from subpixel.errors import ClusterError


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (WorkerCrashedError(), "process", "its process on host died"),
        (OutOfMemoryError("much text"), "process", "its process on host was killed, as memory was short"),
        (NodeDiedError("much text"), "machine", "the machine on host was lost"),
        (TaskCancelledError(), "process", "its process on host ended: TaskCancelledError"),
    ],
)
def test_how_tasks_end(error, kind, reason):
    attempt = Attempt(1, Task("task", 1), None, is_copy=False, submitted=0, host="host", node="node")
    failure = attempt.failure(error, {"node"})
    assert (failure.kind, failure.reason) == (kind, reason)
    assert attempt.failure(error, {}).kind == ("process" if "memory" in reason else "machine")


def test_no_file_is_to_blame_if_no_task_can_be_submitted():
    attempt = Attempt(1, Task("task", 1), None, is_copy=False, submitted=0)
    with pytest.raises(ClusterError, match=r"raylet.* has ended .* run `ray start` there"):
        attempt.failure(LocalRayletDiedError(), {"node"})


class Called:
    """What Ray returns for a call: one that never ends, or one with a result."""

    def __init__(self, result=None):
        self._future = Future()
        if result is not None:
            self._future.set_result(result)

    def future(self):
        return self._future


class FakeRay:
    """In place of the function that runs on machines, and of the board, which never answers."""

    def __init__(self, result=None):
        self.result = result
        self.selectors = []
        self.take = self

    def options(self, *, label_selector=None, **others):
        self.selectors.append((label_selector or {}).get("ray.io/node-id", ""))
        return self

    def remote(self, *arguments):
        return Called(self.result if arguments else None)


class OneTask:
    """A work of one task."""

    is_pending = False

    def __init__(self, **values):
        self.task = Task("task", **{"cpus": 1, **values})
        self.task.call = lambda is_copy: Call(len, ())
        self.waiting = [self.task]
        self.ends = []

    def next_task(self, cpus):
        return self.waiting.pop() if self.waiting else None

    def on_value(self, task, value, node):
        self.ends.append(value)

    def on_failure(self, task, failure):
        self.ends.append(failure)

    def on_end(self, task):
        self.ends.append("end")

    def take_outcomes(self):
        return []


@pytest.fixture
def start(monkeypatch):
    """Returns a function that makes a scheduler, on a cluster whose machines are in ``alive``."""

    def make(work, fake, alive, note=lambda text: None):
        monkeypatch.setattr("subpixel.cluster.scheduler.start_board", lambda: fake)
        monkeypatch.setattr("subpixel.cluster.scheduler.remote_function", lambda: fake)
        monkeypatch.setattr("subpixel.cluster.watch._ASK_SECONDS", 0.01)
        monkeypatch.setattr(
            "subpixel.cluster.connection.nodes", lambda: [Node(name, 1, name) for name in alive]
        )
        monkeypatch.setattr(ray, "cancel", lambda ref, force: None)
        monkeypatch.setattr("subpixel.cluster.scheduler._CANCEL_SECONDS", 0.0)
        return Scheduler(work, note)

    return make


@pytest.mark.timeout(60)
def test_a_task_does_not_wait_for_a_machine_that_is_gone(start, monkeypatch):
    fake, work = FakeRay(), OneTask(avoided={"a": "a has another file"})
    alive = ["a", "b"]
    take = work.take_outcomes

    def machine_b_dies():
        del alive[1:]
        return take()

    monkeypatch.setattr(work, "take_outcomes", machine_b_dies)
    assert not list(start(work, fake, alive).run())
    assert fake.selectors == ["!in(a)"]
    assert work.ends == [Failure("refused", "a has another file"), "end"]


@pytest.mark.timeout(60)
def test_a_board_that_does_not_answer_holds_nothing_up(start, monkeypatch):
    monkeypatch.setattr("subpixel.cluster.scheduler._BOARD_SECONDS", 0.1)
    work = OneTask()
    assert not list(start(work, FakeRay({"value": 7}), ["a"]).run())
    assert work.ends == [7, "end"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", [None, ConnectionError("it is gone")])
def test_a_head_node_that_does_not_answer_is_an_error(start, monkeypatch, error):
    """Whether the call blocks, as on a machine of the cluster, or raises, as outside it."""
    monkeypatch.setattr("subpixel.cluster.watch._HEAD_SECONDS", 0.5)
    answered, end = [], threading.Event()
    scheduler = start(OneTask(), FakeRay(), ["a"])

    def nodes():
        answered.append(True)
        if error is not None:
            raise error
        end.wait()
        return []

    monkeypatch.setattr("subpixel.cluster.connection.nodes", nodes)
    with pytest.raises(ClusterError, match=r"has not answered for .*it is gone" if error else "not answered"):
        list(scheduler.run())
    end.set()
    assert answered


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("cpus", "text"), [(1, "has no free CPUs"), (4, "has no machine with 4 CPUs, and waits for one")]
)
def test_a_run_in_which_no_task_runs_says_why(start, monkeypatch, cpus, text):
    monkeypatch.setattr("subpixel.cluster.scheduler._WAITING_NOTE_SECONDS", 0.1)
    notes = []

    def note(text):
        notes.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(start(OneTask(cpus=cpus), FakeRay(), ["a"], note).run())
    assert len(notes) == 1 and text in notes[0]


@pytest.mark.timeout(60)
def test_a_run_that_waits_for_another_says_so(start, monkeypatch):
    monkeypatch.setattr("subpixel.cluster.scheduler._WAITING_NOTE_SECONDS", 0.1)
    work = OneTask()
    work.waiting, work.is_pending = [], True
    notes = []

    def note(text):
        notes.append(text)
        work.is_pending = False

    assert not list(start(work, FakeRay(), ["a"], note).run())
    assert notes == ["no task runs: another command works on what is left; this one waits for it"]


@pytest.mark.timeout(60)
def test_a_first_task_that_is_silent_is_done_elsewhere_too(start, monkeypatch):
    """Nothing was measured that tells how long it should take."""
    monkeypatch.setattr("subpixel.cluster.scheduler._SILENT_SECONDS", 0.2)
    fake = FakeRay()
    scheduler = start(OneTask(), fake, ["a", "b"])
    monkeypatch.setattr(scheduler, "_note_waiting", lambda: None)

    def started():
        for attempt in scheduler._attempts.values():
            attempt.started = attempt.heard = attempt.started or time.monotonic()
            attempt.node = "a"
        if len(fake.selectors) == 2:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(scheduler._work, "take_outcomes", started)
    with pytest.raises(KeyboardInterrupt):
        list(scheduler.run())
    assert fake.selectors == ["", "!in(a)"]


def test_tasks_get_shorter_near_the_end():
    assert seconds_of_next_task(10_000, 4) == TASK_SECONDS
    assert seconds_of_next_task(80, 4) == 10
    assert seconds_of_next_task(0.1, 4) == 1


def test_rates_are_medians_of_what_was_measured():
    rate = Rate()
    assert rate.seconds(10) is None
    for seconds in (2, 100, 2):
        rate.add(1, seconds)
    assert rate.seconds(10) == 20


def test_a_task_whose_process_hangs_before_it_begins_is_copied(start):
    fake, work = FakeRay(), OneTask(expected_seconds=1)
    scheduler = start(work, fake, ["a", "b", "c"])
    scheduler._refresh_nodes()
    scheduler._start(work.task, is_copy=False)
    [attempt] = scheduler._attempts.values()
    scheduler._copy_slow_task()
    assert len(fake.selectors) == 1  # it may begin yet
    attempt.submitted -= 1000
    scheduler._copy_slow_task()
    assert len(fake.selectors) == 2
