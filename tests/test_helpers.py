"""Threads that make calls of compiled functions: all are made, once, at once, whatever happens meanwhile."""

import gc
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from subpixel.engines.halide import helpers as module
from subpixel.engines.halide.helpers import Crew, Pool
from subpixel.engines.machine_code import MOST_WORDS, Call, MachineCode, target_machine
from subpixel.engines.select import available_cpus
from subpixel.errors import EngineError

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="a crew waits for Linux's semaphores")
KINDS = [pytest.param(Crew, marks=needs_linux), Pool]

LONG = 10**10
"""Turns of a loop that ends at last, so that a test that fails does."""

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
    + ", ".join(f"i64 %word{n}" for n in range(1, MOST_WORDS))
    + ") {\n"
    + "".join(
        f"  %at{n} = getelementptr i64, ptr %place, i64 {n}\n  store i64 %word{n}, ptr %at{n}\n"
        for n in range(1, MOST_WORDS)
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_call_is_made_once(kind, count):
    helpers, sums = kind(count), np.zeros(40, np.int64)
    for calls in (1, 2, 3, 40):
        sums[:] = 0
        spans = helpers.make([call("add", sums[n:], n + 1, 0) for n in range(calls)])
        assert sums.tolist() == [n + 1 if n < calls else 0 for n in range(40)]
        assert len(spans) == calls
        assert all(span.began_s <= span.ended_s for span in spans)


@pytest.mark.parametrize("kind", KINDS)
def test_helpers_work_beside_their_caller(kind):
    """Each of three calls ends only when the others have begun; and this can be told from their times."""
    helpers = kind(2)
    for _ in range(20):
        arrived = np.zeros(1, np.int64)
        spans = helpers.make([call("meet", arrived, 3, LONG) for _ in range(3)])
        assert max(span.began_s for span in spans) <= min(span.ended_s for span in spans)


@pytest.mark.parametrize("kind", KINDS)
def test_callers_have_each_other_do_what_helpers_would(kind):
    """Where two threads are wanted in all, and two call at once, there is no helper for either."""
    helpers, inside, alone = kind(1), np.zeros(1, np.int64), np.zeros(1, np.int64)
    two = threading.Thread(target=helpers.make, args=([call("meet", inside, 2, LONG)],))
    two.start()
    while inside != 1:
        pass
    with pytest.raises(EngineError, match="code 7"):  # nobody came
        helpers.make([call("meet", alone, 2, 1000) for _ in range(2)])
    helpers.make([call("meet", inside, 2, LONG)])
    two.join(10)
    assert not two.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_in_a_helper_arrives(kind):
    """And the next calls are made as ever."""
    helpers, total = kind(1), np.zeros(1, np.int64)
    for code, words in ((1, "out of memory"), (2, "a buffer does not fit"), (-9, "code -9")):
        for failing in (0, 1):
            calls = [call("add", total, 1, code if n == failing else 0) for n in range(2)]
            with pytest.raises(EngineError, match=words):
                helpers.make(calls)
    total[:] = 0
    helpers.make([call("add", total, 1, 0) for _ in range(5)])
    assert total == 5


@pytest.mark.parametrize("kind", KINDS)
def test_several_threads_may_ask_at_once(kind):
    """For more helpers than there are."""
    helpers, total, failures = kind(2), np.zeros(1, np.int64), []

    def ask():
        try:
            for turn in range(200):
                own = np.zeros(1, np.int64)
                helpers.make([call("add", own, 1, 0), *[call("add", total, 1, 0) for _ in range(turn % 4)]])
                assert own == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
    assert total == 4 * 50 * (0 + 1 + 2 + 3)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_end_with_their_object(kind):
    before = set(threading.enumerate())
    helpers, arrived = kind(3), np.zeros(1, np.int64)
    helpers.make([call("meet", arrived, 4, LONG) for _ in range(4)])
    begun = set(threading.enumerate()) - before
    assert len(begun) == 3
    del helpers
    gc.collect()
    for thread in begun:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_is_given_all_its_words(kind):
    """Or fewer than a function may have."""
    memory = np.zeros(MOST_WORDS, np.int64)
    words = [n * 2**50 + n for n in range(1, MOST_WORDS)]
    for make in (lambda one: kind(1).make([one]), lambda one: one()):
        memory[:] = 0
        make(call("copy", memory, *words))
        assert memory[1:].tolist() == words
        make(call("add", memory, 5, 0))
        assert memory[0] == 5


@needs_linux
@pytest.mark.skipif(available_cpus() < 2, reason="needs two processors")
def test_helpers_are_sent_away_from_their_caller(monkeypatch):
    allowed = os.sched_getaffinity(0)
    crew = Crew(1)
    for here in sorted(allowed)[:2]:
        monkeypatch.setattr(module, "_current", lambda here=here: lambda: here)
        for turn in range(2):
            arrived = np.zeros(1, np.int64)
            crew.make([call("meet", arrived, 2, LONG) for _ in range(2)])
            assert turn == 0 or os.sched_getaffinity(crew._ids[0]) == allowed - {here}
    assert os.sched_getaffinity(0) == allowed


@needs_linux
def test_a_crew_does_without_threads_that_it_does_not_get(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    crew, total = Crew(2), np.zeros(1, np.int64)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        crew.make([call("add", total, 1, 0) for _ in range(4)])
    assert total == 12


@needs_linux
def test_a_forked_process_has_helpers_of_its_own():
    """Though it was forked while other threads were calling."""
    script = """
import os, threading
import numpy as np
from test_helpers import LONG, Crew, call

crew, ended = Crew(1), threading.Event()

def work():
    total = np.zeros(1, np.int64)
    while not ended.is_set():
        crew.make([call("add", total, 1, 0) for _ in range(3)])

call("meet", np.zeros(1, np.int64), 1, LONG)()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = set()
for _ in range(30):
    child = os.fork()
    if not child:
        arrived = np.zeros(1, np.int64)
        crew.make([call("meet", arrived, 2, LONG) for _ in range(2)])
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
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert done.stdout.strip() == "{7}"
