"""Runs the tasks of a work on a cluster: bounded submission, lost machines, slow processes, cancellation."""

import logging
import pickle
import queue
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Generic, TypeVar

from subpixel.cluster import connection
from subpixel.cluster.attempt import Attempt
from subpixel.cluster.remote import remote_function, start_board
from subpixel.cluster.tasks import Failure, Task, Work
from subpixel.cluster.watch import ClusterWatch
from subpixel.cluster.worker import Started, versions

_log = logging.getLogger("subpixel.cluster")

Outcome = TypeVar("Outcome")

_WAITING_PER_CPU = 1
"""Tasks that wait for each CPU, so that no process is idle until the driver answers. More of them would be
sized by older measurements."""
_MIN_CPUS_SUBMITTED = 8
"""A cluster that grows on demand must see demand, even if it has no machine now."""
_POLL_SECONDS = 0.3
_BOARD_SECONDS = 30.0
"""After these without an answer of the board, the ends of tasks are settled without their messages."""
_SUSPENDED_SECONDS = 60.0
"""How long a machine gets no tasks that refused one. Its folders may be mounted meanwhile."""
_CANCEL_SECONDS = 5.0
"""After these, the process of a canceled task is killed."""
_LOST_SECONDS = 10.0
"""After these, an attempt on a machine that is lost is over. Ray itself waits for some minutes if the network
was cut, since nothing closed the connection."""
_WAITING_NOTE_SECONDS = 20.0

_SLOW_FACTOR = 1.5
"""A task is slow if it takes longer than this times what was expected."""
_SLOW_SECONDS = 5.0
"""And longer than this."""
_SILENT_SECONDS = 300.0
"""If nothing tells what to expect, a task is slow that has sent no message for so long."""


class Scheduler(Generic[Outcome]):
    """Runs tasks until a work has no more."""

    def __init__(self, work: Work[Outcome], on_note: Callable[[str], object] = lambda note: None) -> None:
        """Prepare to run ``work`` on the cluster to which this process is connected.

        Args:
            work: hands out the tasks.
            on_note: called with what the user should know about the cluster, such as a machine left out.
        """
        self._work = work
        self._on_note = on_note
        self._function = remote_function()
        self._versions = versions()
        self._board = start_board()
        self._events: queue.SimpleQueue[tuple[Attempt | None, Any]] = queue.SimpleQueue()
        """Attempts that ended, or None for the board's messages, each with its future."""
        self._attempts: dict[int, Attempt] = {}
        self._attempts_of: defaultdict[Task, list[Attempt]] = defaultdict(list)
        self._count = 0
        self._again: deque[Task] = deque()
        self._ended: list[tuple[Attempt, Any]] = []
        self._settling: list[tuple[Attempt, Any]] = []
        self._asked_board: float | None = None
        self._last_take = 0.0
        self._active = time.monotonic()
        """When a task last began or ended."""
        self._watch = ClusterWatch()
        self._nodes: dict[str, connection.Node] = {}
        self._suspended: dict[str, tuple[str, float]] = {}
        """Machines that refused a task: why, and until when they get none."""
        self._durations: defaultdict[type[Task], list[float]] = defaultdict(list)
        self._noted: set[str] = set()
        """Machines about which the user was told, and "waiting"."""

    def run(self) -> Iterator[Outcome]:
        """Run all tasks, and yield the outcomes of the work as they come.

        If the iterator is closed, or a signal interrupts it, the tasks are canceled.

        Raises `ClusterError` if the head node does not answer any more.
        """
        with self._watch, self._canceling():
            while True:
                self._refresh_nodes()
                self._submit()
                yield from self._work.take_outcomes()
                if not (self._attempts or self._again or self._work.is_pending):
                    return
                self._wait()
                self._copy_slow_task()
                self._kill_canceled()
                self._end_lost()
                self._withdraw_unplaceable()

    # Submission

    def _refresh_nodes(self) -> None:
        self._nodes = self._watch.nodes()
        now = time.monotonic()
        self._suspended = {
            node: (why, until) for node, (why, until) in self._suspended.items() if until > now
        }

    @property
    def _cpus(self) -> float:
        return sum(node.cpus for node in self._nodes.values() if node.id not in self._suspended)

    def _submit(self) -> None:
        most = max(self._cpus * (1 + _WAITING_PER_CPU), _MIN_CPUS_SUBMITTED if not self._nodes else 1)
        submitted = sum(attempt.task.cpus for attempt in self._attempts.values())
        while submitted < most:
            task = self._again.popleft() if self._again else self._work.next_task(self._cpus)
            if task is None:
                break
            if self._start(task, is_copy=False):
                submitted += task.cpus

    def _start(self, task: Task, *, is_copy: bool) -> bool:
        """Submit a task, unless no machine takes it."""
        refused = {node: why for node, (why, _) in self._suspended.items()} | task.avoided
        avoided = set(refused) & set(self._nodes)
        if avoided and avoided == set(self._nodes):
            if is_copy:
                return False
            reasons = sorted({refused[node] for node in avoided})
            self._work.on_failure(task, Failure("refused", "; ".join(reasons)))
            self._work.on_end(task)
            return False
        others = task.failed_on | {attempt.node for attempt in self._attempts_of.get(task, ())}
        others = (others | avoided) & set(self._nodes)
        avoided = avoided if others == set(self._nodes) else others
        options: dict[str, Any] = {"num_cpus": task.cpus}
        if avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}
        self._count += 1
        function, arguments = task.call(is_copy=is_copy)
        payload = pickle.dumps((function, arguments))
        ref = self._function.options(name=f"subpixel: {task.name[-80:]}", **options).remote(
            payload, self._versions, self._board, self._count
        )
        attempt = Attempt(self._count, task, ref, is_copy, time.monotonic(), frozenset(avoided))
        self._attempts[attempt.number] = attempt
        self._attempts_of[task].append(attempt)
        ref.future().add_done_callback(lambda future: self._events.put((attempt, future)))
        _log.debug("attempt %d: %s of %s", attempt.number, "copy" if is_copy else "start", task.name)
        return True

    # Events

    def _wait(self) -> None:
        """Take events; return after one, or after a moment."""
        self._ask_board()
        timeout = _POLL_SECONDS
        while True:
            try:
                attempt, future = self._events.get(timeout=timeout)
            except queue.Empty:
                self._note_waiting()
                return
            timeout = 0  # whatever else is there
            if attempt is None:
                self._read_board(future)
            else:
                attempt.ended = time.monotonic()
                self._ended.append((attempt, future))
            self._ask_board()

    def _ask_board(self) -> None:
        """Ask the board for messages: now and then, and before the end of a task is settled."""
        now = time.monotonic()
        if self._asked_board is not None and now - self._asked_board > _BOARD_SECONDS:
            self._end_question()
        if self._asked_board is None and (self._ended or now - self._last_take >= _POLL_SECONDS):
            self._asked_board = now
            self._settling, self._ended = self._ended, []
            future = self._board.take.remote().future()
            future.add_done_callback(lambda future: self._events.put((None, (now, future))))

    def _read_board(self, answer: tuple[float, Any]) -> None:
        asked, future = answer
        messages = [] if future.exception() else future.result()  # a board that starts again has none
        for number, data in messages:
            attempt = self._attempts.get(number)
            if attempt is not None:
                self._take_message(attempt, pickle.loads(data))
        if asked == self._asked_board:
            self._end_question()

    def _take_message(self, attempt: Attempt, message: Any) -> None:
        attempt.heard = time.monotonic()
        if isinstance(message, Started):
            attempt.started = self._active = attempt.heard
            self._noted.discard("waiting")
            attempt.node, attempt.host, process = message
            _log.debug("attempt %d: started, process %d on %s %s", attempt.number, process, *message[1::-1])
        elif attempt.canceled is None:
            self._work.on_message(attempt.task, message, attempt.node)

    def _end_question(self) -> None:
        """Settle the attempts that had ended before the board was asked."""
        self._asked_board, self._last_take = None, time.monotonic()
        settling, self._settling = self._settling, []
        for attempt, ended in settling:
            if ended is not None and ended.exception() and self._watch.as_of < attempt.ended:
                self._ended.append((attempt, ended))  # it is not yet known whether its machine is lost
            else:
                self._settle(attempt, ended)

    def _settle(self, attempt: Attempt, future: Any) -> None:
        """Take the result of an attempt, after all of its messages; None if its machine is lost."""
        if attempt.number not in self._attempts:
            return  # it was given up before
        self._active = time.monotonic()
        others = self._forget(attempt)
        failure = self._failure_of(attempt, future)
        _log.debug("attempt %d: %s", attempt.number, failure.reason if failure else "done")
        is_repeated = self._take_result(attempt, future, failure, others)
        if not others and not is_repeated:
            self._work.on_end(attempt.task)

    def _take_result(
        self, attempt: Attempt, future: Any, failure: Failure | None, others: list[Attempt]
    ) -> bool:
        """Pass the result of an attempt to the work; return whether the task is submitted again."""
        if attempt.canceled is not None:
            return False
        if failure is None:
            if attempt.started is not None:
                self._durations[type(attempt.task)].append(time.monotonic() - attempt.started)
            for other in others:
                self._cancel(other)
            self._work.on_value(attempt.task, future.result()["value"], attempt.node)
        elif any(other.canceled is None for other in others):
            pass  # a copy of the task still runs
        elif failure.kind == "refused":
            self._again.append(attempt.task)
            return True
        else:
            self._work.on_failure(attempt.task, failure._replace(node=attempt.node))
        return False

    def _failure_of(self, attempt: Attempt, future: Any) -> Failure | None:
        if future is None:
            return attempt.lost_machine()
        error = future.exception()
        if error is None:
            return self._failure_in(attempt, future.result())
        return attempt.failure(error, self._watch.nodes())

    def _failure_in(self, attempt: Attempt, result: dict[str, Any]) -> Failure | None:
        if "error" in result:
            return Failure("error", str(result["error"]), result["error"])
        if "refused" not in result:
            return None
        reason, node = result["refused"], result["node"]
        if result.get("only_this_task"):
            attempt.task.avoided[node] = reason
        elif node not in self._suspended:
            self._suspended[node] = (reason, time.monotonic() + _SUSPENDED_SECONDS)
        if node not in self._noted:
            self._noted.add(node)
            self._on_note(f"a machine is left out: {reason}")
        return Failure("refused", reason)

    # Notes

    def _note_waiting(self) -> None:
        """Say that no task runs, and why, once until one does again."""
        attempts = self._attempts.values()
        is_short = time.monotonic() - self._active <= _WAITING_NOTE_SECONDS
        if is_short or "waiting" in self._noted or any(attempt.started is not None for attempt in attempts):
            return
        self._noted.add("waiting")
        needed = min((attempt.task.cpus for attempt in attempts), default=0)
        if not attempts:
            reason = "another command works on what is left; this one waits for it"
        elif needed > max((node.cpus for node in self._nodes.values()), default=0):
            reason = f"the cluster has no machine with {needed} CPUs, and waits for one"
        else:
            reason = "the cluster has no free CPUs, or starts machines"
        self._on_note(f"no task runs: {reason}")

    # Slow tasks

    def _copy_slow_task(self) -> None:
        """If no task waits, and CPUs would be idle if all had begun, copy the one that will take longest.

        A process may also hang before it can say that it has begun.
        """
        attempts = self._attempts.values()
        if self._again:
            return
        free = self._cpus - sum(attempt.task.cpus for attempt in attempts)
        now = time.monotonic()
        slow = [
            (left, attempt.number, attempt.task)
            for attempt in attempts
            if len(self._attempts_of[attempt.task]) == 1
            and attempt.canceled is None
            and attempt.task.cpus <= free
            and (left := self._seconds_left(attempt, now)) > 0
        ]
        if slow:
            _, _, task = max(slow)
            _log.debug("slow: %s", task.name)
            self._start(task, is_copy=True)

    def _seconds_left(self, attempt: Attempt, now: float) -> float:
        """How long a slow attempt will take; 0 if it is not slow, or nothing tells what is."""
        durations = self._durations[type(attempt.task)]
        expected = attempt.task.expected_seconds or (median(durations) if durations else None)
        elapsed = now - (attempt.started or attempt.submitted)
        if expected is None:
            silent = now - (attempt.heard or attempt.submitted)
            return silent if silent > _SILENT_SECONDS else 0.0
        if elapsed < max(_SLOW_FACTOR * expected, _SLOW_SECONDS):
            return 0.0
        left = elapsed * (1 / max(attempt.task.fraction, 0.01) - 1)
        return left if left > expected / 2 else 0.0

    # Cancellation

    def _cancel(self, attempt: Attempt, *, force: bool = False) -> None:
        import ray

        attempt.canceled = attempt.canceled or time.monotonic()
        ray.cancel(attempt.ref, force=force)

    def _kill_canceled(self) -> None:
        now = time.monotonic()
        for attempt in self._attempts.values():
            if attempt.canceled is not None and now - attempt.canceled > _CANCEL_SECONDS:
                self._cancel(attempt, force=True)
                attempt.canceled = now

    def _end_lost(self) -> None:
        """Settle the attempts on machines that are lost."""
        now = time.monotonic()
        for attempt in list(self._attempts.values()):
            is_lost = bool(attempt.node) and attempt.node not in self._nodes
            attempt.lost = (attempt.lost or now) if is_lost else None
            if attempt.lost is not None and now - attempt.lost > _LOST_SECONDS:
                self._settle(attempt, None)

    def _withdraw_unplaceable(self) -> None:
        """Submit again what waits for machines that are gone: Ray would wait for them forever."""
        for attempt in list(self._attempts.values()):
            is_waiting = attempt.started is None and attempt.canceled is None
            if is_waiting and self._nodes and attempt.avoided >= self._nodes.keys():
                self._cancel(attempt)
                others = self._forget(attempt)
                if not others:
                    self._again.append(attempt.task)

    def _forget(self, attempt: Attempt) -> list[Attempt]:
        """Give up an attempt; return the others at its task."""
        del self._attempts[attempt.number]
        others = self._attempts_of[attempt.task]
        others.remove(attempt)
        if not others:
            del self._attempts_of[attempt.task]
        return others

    @contextmanager
    def _canceling(self) -> Iterator[None]:
        """Cancel what still runs at the end of the body, unless the head node is lost."""
        try:
            yield
        finally:
            if not self._watch.is_lost:
                self._cancel_all()

    def _cancel_all(self) -> None:
        """Cancel what still runs; after a moment, kill it."""
        running = dict(self._attempts)
        for attempt in running.values():
            self._cancel(attempt)
        until = time.monotonic() + _CANCEL_SECONDS
        while running and time.monotonic() < until:
            try:
                ended, _ = self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if ended is not None:
                running.pop(ended.number, None)
        for attempt in running.values():
            self._cancel(attempt, force=True)
