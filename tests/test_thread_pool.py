"""The thread pool makes each call exactly once, several at once, also after failures and forks."""

import gc
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from subpixel.engines.machine_code import MAX_ARGUMENTS, Call, MachineCode, target_machine
from subpixel.engines.thread_pool import ThreadPool
from subpixel.errors import EngineError

LONG = 10**10
"""Iterations of a loop that ends eventually, so that a failing test ends too."""

FUNCTIONS = {
    "add": """
define i32 @add(ptr %sum, i64 %number, i32 %code) {
  atomicrmw add ptr %sum, i64 %number seq_cst
  ret i32 %code
}""",
    "meet": """
define i32 @meet(ptr %arrived, i64 %wanted, i64 %turns) {
entry:
  atomicrmw add ptr %arrived, i64 1 seq_cst
  br label %look
look:
  %turn = phi i64 [ 0, %entry ], [ %next, %again ]
  %now = load atomic i64, ptr %arrived seq_cst, align 8
  %all = icmp sge i64 %now, %wanted
  br i1 %all, label %met, label %again
again:
  %next = add i64 %turn, 1
  %patient = icmp slt i64 %next, %turns
  br i1 %patient, label %look, label %alone
met:
  ret i32 0
alone:
  ret i32 7
}""",
    "copy": "define i32 @copy(ptr %place, "
    + ", ".join(f"i64 %word{n}" for n in range(1, MAX_ARGUMENTS))
    + ") {\n"
    + "".join(
        f"  %at{n} = getelementptr i64, ptr %place, i64 {n}\n  store i64 %word{n}, ptr %at{n}\n"
        for n in range(1, MAX_ARGUMENTS)
    )
    + "  ret i32 0\n}",
}


@cache
def compiled(name):
    from llvmlite import binding

    target = target_machine()
    return MachineCode(target.emit_object(binding.parse_assembly(FUNCTIONS[name])), name)


def call(name, memory, *words):
    code = compiled(name)
    return Call(code.address, (memory.ctypes.data, *words), (memory, code))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_call_is_made_once(count):
    pool, sums = ThreadPool(count), np.zeros(40, np.int64)
    for calls in (1, 2, 3, 40):
        sums[:] = 0
        pool.run([call("add", sums[n:], n + 1, 0) for n in range(calls)])
        assert sums.tolist() == [n + 1 if n < calls else 0 for n in range(40)]


def test_workers_run_at_the_same_time_as_their_caller():
    """Each of three calls ends only after the others have started, or fails."""
    pool = ThreadPool(2)
    for _ in range(20):
        arrived = np.zeros(1, np.int64)
        pool.run([call("meet", arrived, 3, LONG) for _ in range(3)])


def test_callers_at_the_same_time_use_fewer_workers():
    """With a pool for two threads and two callers at once, neither gets a worker."""
    pool, inside, alone = ThreadPool(1), np.zeros(1, np.int64), np.zeros(1, np.int64)
    two = threading.Thread(target=pool.run, args=([call("meet", inside, 2, LONG)],))
    two.start()
    while inside != 1:
        pass
    with pytest.raises(EngineError, match="code 7"):  # no other thread came
        pool.run([call("meet", alone, 2, 1000) for _ in range(2)])
    pool.run([call("meet", inside, 2, LONG)])
    two.join(10)
    assert not two.is_alive()


def test_a_failure_in_a_worker_is_raised():
    """The pool works afterwards."""
    pool, total = ThreadPool(1), np.zeros(1, np.int64)
    for code, words in ((1, "out of memory"), (2, "a buffer does not fit"), (-9, "code -9")):
        for failing in (0, 1):
            calls = [call("add", total, 1, code if n == failing else 0) for n in range(2)]
            with pytest.raises(EngineError, match=words):
                pool.run(calls)
    total[:] = 0
    pool.run([call("add", total, 1, 0) for _ in range(5)])
    assert total == 5


def test_several_threads_may_call_at_once():
    """Also if they need more workers than there are."""
    pool, total, failures = ThreadPool(2), np.zeros(1, np.int64), []

    def work():
        try:
            for turn in range(200):
                own = np.zeros(1, np.int64)
                pool.run([call("add", own, 1, 0), *[call("add", total, 1, 0) for _ in range(turn % 4)]])
                assert own == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
    assert total == 4 * 50 * (0 + 1 + 2 + 3)


def test_threads_end_with_their_object():
    before = set(threading.enumerate())
    pool, arrived = ThreadPool(3), np.zeros(1, np.int64)
    pool.run([call("meet", arrived, 4, LONG) for _ in range(4)])
    begun = {each for each in set(threading.enumerate()) - before if each.name.startswith("subpixel")}
    assert len(begun) == 3
    del pool
    gc.collect()
    for thread in begun:
        thread.join(10)
        assert not thread.is_alive()


def test_a_function_gets_all_its_arguments():
    """Up to the maximum, and fewer."""
    memory = np.zeros(MAX_ARGUMENTS, np.int64)
    words = [n * 2**50 + n for n in range(1, MAX_ARGUMENTS)]
    for make in (lambda call: ThreadPool(1).run([call]), lambda call: call()):
        memory[:] = 0
        make(call("copy", memory, *words))
        assert memory[1:].tolist() == words
        make(call("add", memory, 5, 0))
        assert memory[0] == 5


def test_a_pool_works_without_threads_if_the_system_refuses_them(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    pool, total = ThreadPool(2), np.zeros(1, np.int64)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        pool.run([call("add", total, 1, 0) for _ in range(4)])
    assert total == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_workers_of_its_own():
    """Also if it was forked while other threads were calling."""
    script = """
import os, threading
import numpy as np
from test_thread_pool import LONG, ThreadPool, call

pool, ended = ThreadPool(1), threading.Event()

def work():
    total = np.zeros(1, np.int64)
    while not ended.is_set():
        pool.run([call("add", total, 1, 0) for _ in range(3)])

call("meet", np.zeros(1, np.int64), 1, LONG)()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = set()
for _ in range(10):
    child = os.fork()
    if not child:
        arrived = np.zeros(1, np.int64)
        pool.run([call("meet", arrived, 2, LONG) for _ in range(2)])
        os._exit(7)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ended.set()
print(codes)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert done.stdout.strip() == "{7}"
