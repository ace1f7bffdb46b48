"""Compiled code for worker threads: they wait for work, do it and report its end, without Python.

A *slot* belongs to one worker: a semaphore that wakes it, a semaphore that reports that it is finished, and
its batch. A *batch* is a list of calls; each thread that is free takes the next one.
"""

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from subpixel.engines.machine_code import MAX_ARGUMENTS, target_machine

SLOT_WORDS, FINISHED_AT, BATCH_AT = 24, 8, 16
"""Layout of a slot in 64-bit words: parts do not share cache lines. The semaphore to wake it is first."""

COUNT, BATCH_WORDS = 1, 2
"""Layout of a batch: the number of calls that are taken, the number of all calls, then the calls."""

RESULT, CALL_WORDS = 1 + MAX_ARGUMENTS, 2 + MAX_ARGUMENTS
"""Layout of a call: the function, its arguments and its result."""

MAX_SPINS = 2000
"""How often a caller polls a worker before it sleeps: at most 30 microseconds."""

_PAUSES = {
    **dict.fromkeys(("x86_64", "AMD64"), "@llvm.x86.sse2.pause()"),
    **dict.fromkeys(("aarch64", "arm64"), "@llvm.aarch64.hint(i32 1)"),
}
"""By Python's name of the architecture: what tells the processor that a thread only polls."""


class Code(NamedTuple):
    """The compiled functions. Arguments are addresses; none needs the interpreter's lock."""

    prepare: Callable[[int], None]
    """Initialize a slot."""
    serve: Callable[[int], None]
    """Run a worker: process all batches of its slot until `stop`."""
    stop: Callable[[int], None]
    """Let the worker of an idle slot end."""
    run: Callable[[int, int, int], None]
    """Run a batch: the first call on this thread, the others on this thread and the workers.

    Arguments: the batch, an array of addresses of idle slots, and their number. Afterwards the slots are idle
        again.
    """


@cache
def code() -> Code:
    """Compile the functions at first use."""
    from llvmlite import binding

    module = binding.parse_assembly(assembly(platform.machine()))
    module.verify()
    # Without optimization: the code itself does very little.
    loader = binding.create_mcjit_compiler(module, target_machine(optimized=False))
    loader.finalize_object()
    pointer, number = ctypes.c_void_p, ctypes.c_int64

    def function(name: str, *types: Any) -> Any:
        return ctypes.CFUNCTYPE(None, *types)(loader.get_function_address(name))

    code = Code(
        prepare=function("prepare", pointer),
        serve=function("serve", pointer),
        stop=function("stop", pointer),
        run=function("run", pointer, pointer, number),
    )
    loader.detach()  # never freed: threads may run in it until the process ends
    return code


def assembly(machine: str) -> str:
    """Return the functions as LLVM assembly, for an architecture by Python's name."""
    arguments = range(MAX_ARGUMENTS)
    loads = "\n".join(
        f"  %at{n} = getelementptr i64, ptr %call, i64 {1 + n}\n  %argument{n} = load i64, ptr %at{n}"
        for n in arguments
    )
    return f"""
declare i32 @sem_init(ptr, i32, i32)
declare i32 @sem_post(ptr)
declare i32 @sem_wait(ptr)
declare i32 @sem_trywait(ptr)

define void @prepare(ptr %slot) {{
  %done = getelementptr i64, ptr %slot, i64 {FINISHED_AT}
  call i32 @sem_init(ptr %slot, i32 0, i32 0)
  call i32 @sem_init(ptr %done, i32 0, i32 0)
  ret void
}}

define internal void @assign(ptr %slot, ptr %batch) {{
  %at = getelementptr i64, ptr %slot, i64 {BATCH_AT}
  store ptr %batch, ptr %at
  call i32 @sem_post(ptr %slot)
  ret void
}}

define void @stop(ptr %slot) {{
  call void @assign(ptr %slot, ptr null)
  ret void
}}

; Repeats after a signal has interrupted the wait.
define internal void @wait(ptr %semaphore) {{
entry:
  br label %again
again:
  %failed = call i32 @sem_wait(ptr %semaphore)
  %early = icmp ne i32 %failed, 0
  br i1 %early, label %again, label %end
end:
  ret void
}}

define internal void @run_call(ptr %call) {{
  %function = load ptr, ptr %call
{loads}
  %code = call i32 %function({", ".join(f"i64 %argument{n}" for n in arguments)})
  %result = sext i32 %code to i64
  %result_at = getelementptr i64, ptr %call, i64 {RESULT}
  store i64 %result, ptr %result_at
  ret void
}}

define internal void @run_others(ptr %batch) {{
entry:
  %count_at = getelementptr i64, ptr %batch, i64 {COUNT}
  %count = load i64, ptr %count_at
  %calls = getelementptr i64, ptr %batch, i64 {BATCH_WORDS}
  br label %next
next:
  %number = atomicrmw add ptr %batch, i64 1 seq_cst
  %more = icmp slt i64 %number, %count
  br i1 %more, label %one, label %end
one:
  %offset = mul i64 %number, {CALL_WORDS}
  %call = getelementptr i64, ptr %calls, i64 %offset
  call void @run_call(ptr %call)
  br label %next
end:
  ret void
}}

define void @serve(ptr %slot) {{
entry:
  %done = getelementptr i64, ptr %slot, i64 {FINISHED_AT}
  %at = getelementptr i64, ptr %slot, i64 {BATCH_AT}
  br label %next
next:
  call void @wait(ptr %slot)
  %batch = load ptr, ptr %at
  %stopped = icmp eq ptr %batch, null
  br i1 %stopped, label %end, label %work
work:
  call void @run_others(ptr %batch)
  call i32 @sem_post(ptr %done)
  br label %next
end:
  ret void
}}

; Does not wait for a worker that has not started: its thread may be waiting for a CPU, or may not exist.
define internal void @wait_for(ptr %slot, ptr %batch) {{
entry:
  %not_started = call i32 @sem_trywait(ptr %slot)
  %taken_back = icmp eq i32 %not_started, 0
  %done = getelementptr i64, ptr %slot, i64 {FINISHED_AT}
  br i1 %taken_back, label %end, label %poll
poll:
  %spins = phi i64 [ 0, %entry ], [ %more_spins, %pause ]
  %busy = call i32 @sem_trywait(ptr %done)
  %is_finished = icmp eq i32 %busy, 0
  br i1 %is_finished, label %end, label %pause
pause:
  call void {_PAUSES[machine]}
  %more_spins = add i64 %spins, 1
  %spin_again = icmp slt i64 %more_spins, {MAX_SPINS}
  br i1 %spin_again, label %poll, label %sleep
sleep:
  call void @wait(ptr %done)
  br label %end
end:
  ret void
}}

define internal void @each(ptr %slots, i64 %count, ptr %function, ptr %batch) {{
entry:
  br label %next
next:
  %number = phi i64 [ 0, %entry ], [ %done, %one ]
  %more = icmp slt i64 %number, %count
  br i1 %more, label %one, label %end
one:
  %slot_at = getelementptr ptr, ptr %slots, i64 %number
  %slot = load ptr, ptr %slot_at
  call void %function(ptr %slot, ptr %batch)
  %done = add i64 %number, 1
  br label %next
end:
  ret void
}}

define void @run(ptr %batch, ptr %slots, i64 %count) {{
  store i64 1, ptr %batch
  call void @each(ptr %slots, i64 %count, ptr @assign, ptr %batch)
  %first = getelementptr i64, ptr %batch, i64 {BATCH_WORDS}
  call void @run_call(ptr %first)
  call void @run_others(ptr %batch)
  call void @each(ptr %slots, i64 %count, ptr @wait_for, ptr %batch)
  ret void
}}
"""
