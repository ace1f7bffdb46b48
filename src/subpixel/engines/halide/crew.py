"""Compiled code in which threads wait for work, do it, and tell that it is done, without Python.

A *place* is where one helper waits: two semaphores, one to wake it and one that says that it is done, and the
job. A *job* is a number of calls; whoever has time takes the next one.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from subpixel.engines.machine_code import MOST_WORDS, target_machine

PLACE_WORDS, DONE_AT, JOB_AT = 24, 8, 16
"""Of a place, in words of 64 bits: the semaphore to wake it comes first. No two parts share a cache line."""

COUNT, JOB_WORDS = 1, 2
"""A job begins with the number of calls taken and the number of all, which are followed by the calls."""

RESULT, BEGAN, ENDED, CALL_WORDS = (1 + MOST_WORDS + more for more in range(4))
"""A call: the function and its words, what it returned, and when it began and ended, in nanoseconds."""

PATIENCE = 2000
"""So often a caller looks whether a helper is done before it goes to sleep: thirty microseconds or less."""

_MONOTONIC = 1
"""The clock."""


class Code(NamedTuple):
    """The functions; addresses are of places and jobs. None needs the interpreter's lock."""

    prepare: Callable[[int], None]
    """Make a place."""
    serve: Callable[[int], None]
    """Do all jobs that come to a place, until it is dismissed."""
    dismiss: Callable[[int], None]
    """Let the helper of an idle place end."""
    lead: Callable[[int, int, int], None]
    """Do a job: make the first call, and take others, until all are done. After the job comes the address of
    an array with the addresses of idle places, and their number; they are idle again afterwards."""


@cache
def code() -> Code:
    """Compile it, at first use."""
    from llvmlite import binding

    module = binding.parse_assembly(_assembly())
    module.verify()
    # Quickly compiled, for it does next to nothing itself.
    loader = binding.create_mcjit_compiler(module, target_machine(optimized=False))
    loader.finalize_object()
    pointer, number = ctypes.c_void_p, ctypes.c_int64

    def function(name: str, *kinds: Any) -> Any:
        return ctypes.CFUNCTYPE(None, *kinds)(loader.get_function_address(name))

    code = Code(
        prepare=function("prepare", pointer),
        serve=function("serve", pointer),
        dismiss=function("dismiss", pointer),
        lead=function("lead", pointer, pointer, number),
    )
    loader.detach()  # as long as the process lives there may be threads in it
    return code


def _assembly() -> str:
    words = range(MOST_WORDS)
    loads = "\n".join(
        f"  %at{n} = getelementptr i64, ptr %call, i64 {1 + n}\n  %word{n} = load i64, ptr %at{n}"
        for n in words
    )
    return f"""
declare i32 @sem_init(ptr, i32, i32)
declare i32 @sem_post(ptr)
declare i32 @sem_wait(ptr)
declare i32 @sem_trywait(ptr)
declare i32 @clock_gettime(i32, ptr)
declare void @llvm.x86.sse2.pause()

define void @prepare(ptr %place) {{
  %done = getelementptr i64, ptr %place, i64 {DONE_AT}
  call i32 @sem_init(ptr %place, i32 0, i32 0)
  call i32 @sem_init(ptr %done, i32 0, i32 0)
  ret void
}}

define internal void @give(ptr %place, ptr %job) {{
  %at = getelementptr i64, ptr %place, i64 {JOB_AT}
  store ptr %job, ptr %at
  call i32 @sem_post(ptr %place)
  ret void
}}

define void @dismiss(ptr %place) {{
  call void @give(ptr %place, ptr null)
  ret void
}}

; A signal may end it early.
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

define internal void @note_time(ptr %place) {{
  %time = alloca [2 x i64]
  call i32 @clock_gettime(i32 {_MONOTONIC}, ptr %time)
  %seconds = load i64, ptr %time
  %rest_at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest_at
  %whole = mul i64 %seconds, 1000000000
  %all = add i64 %whole, %rest
  store i64 %all, ptr %place
  ret void
}}

define internal void @make(ptr %call) {{
  %began = getelementptr i64, ptr %call, i64 {BEGAN}
  call void @note_time(ptr %began)
  %function = load ptr, ptr %call
{loads}
  %code = call i32 %function({", ".join(f"i64 %word{n}" for n in words)})
  %result = sext i32 %code to i64
  %place = getelementptr i64, ptr %call, i64 {RESULT}
  store i64 %result, ptr %place
  %ended = getelementptr i64, ptr %call, i64 {ENDED}
  call void @note_time(ptr %ended)
  ret void
}}

define internal void @make_others(ptr %job) {{
entry:
  %count_at = getelementptr i64, ptr %job, i64 {COUNT}
  %count = load i64, ptr %count_at
  %calls = getelementptr i64, ptr %job, i64 {JOB_WORDS}
  br label %next
next:
  %number = atomicrmw add ptr %job, i64 1 seq_cst
  %more = icmp slt i64 %number, %count
  br i1 %more, label %one, label %end
one:
  %offset = mul i64 %number, {CALL_WORDS}
  %call = getelementptr i64, ptr %calls, i64 %offset
  call void @make(ptr %call)
  br label %next
end:
  ret void
}}

define void @serve(ptr %place) {{
entry:
  %done = getelementptr i64, ptr %place, i64 {DONE_AT}
  %at = getelementptr i64, ptr %place, i64 {JOB_AT}
  br label %next
next:
  call void @wait(ptr %place)
  %job = load ptr, ptr %at
  %dismissed = icmp eq ptr %job, null
  br i1 %dismissed, label %end, label %work
work:
  call void @make_others(ptr %job)
  call i32 @sem_post(ptr %done)
  br label %next
end:
  ret void
}}

; A helper that has not begun is not waited for: others may keep its thread waiting, or it has none.
define internal void @finish(ptr %place, ptr %job) {{
entry:
  %not_begun = call i32 @sem_trywait(ptr %place)
  %taken_back = icmp eq i32 %not_begun, 0
  %done = getelementptr i64, ptr %place, i64 {DONE_AT}
  br i1 %taken_back, label %end, label %look
look:
  %looks = phi i64 [ 0, %entry ], [ %more_looks, %pause ]
  %busy = call i32 @sem_trywait(ptr %done)
  %is_done = icmp eq i32 %busy, 0
  br i1 %is_done, label %end, label %pause
pause:
  call void @llvm.x86.sse2.pause()
  %more_looks = add i64 %looks, 1
  %patient = icmp slt i64 %more_looks, {PATIENCE}
  br i1 %patient, label %look, label %sleep
sleep:
  call void @wait(ptr %done)
  br label %end
end:
  ret void
}}

define internal void @each(ptr %places, i64 %count, ptr %function, ptr %job) {{
entry:
  br label %next
next:
  %number = phi i64 [ 0, %entry ], [ %done, %one ]
  %more = icmp slt i64 %number, %count
  br i1 %more, label %one, label %end
one:
  %place_at = getelementptr ptr, ptr %places, i64 %number
  %place = load ptr, ptr %place_at
  call void %function(ptr %place, ptr %job)
  %done = add i64 %number, 1
  br label %next
end:
  ret void
}}

define void @lead(ptr %job, ptr %places, i64 %count) {{
  store i64 1, ptr %job
  call void @each(ptr %places, i64 %count, ptr @give, ptr %job)
  %first = getelementptr i64, ptr %job, i64 {JOB_WORDS}
  call void @make(ptr %first)
  call void @make_others(ptr %job)
  call void @each(ptr %places, i64 %count, ptr @finish, ptr %job)
  ret void
}}
"""
