"""A thin layer over `ir`, which emits LLVM assembly: what `program` and `hidden` are written in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from subpixel.engines import ir

BOOL, BYTE, SHORT, INT, LONG = (ir.integer(bits) for bits in (1, 8, 16, 32, 64))
FLOAT, POINTER, NOTHING = ir.FLOAT, ir.POINTER, ir.NOTHING

Value = Any
"""A value or a type of LLVM."""

Step = Callable[[], None]
"""Something to be emitted later: so that two things that run at once can be mixed."""

Repeated = Callable[[Value, list[Value]], list[Value]]
"""The body of a loop that carries values: from the turn's number and the values, the new values."""


def integer(bits: int) -> Value:
    """The type of an integer."""
    return ir.integer(bits)


def vector(kind: Value, lanes: int) -> Value:
    """The type of so many lanes."""
    return ir.vector(kind, lanes)


class Assembler:
    """Emits instructions into one function. Pointers are to bytes, sizes and places are LONG."""

    def __init__(
        self,
        name: str,
        parameters: dict[str, Value],
        module: Value = None,
        *,
        internal: bool = False,
        optimized: bool = True,
        triple: str = "",
    ) -> None:
        """Begin a function, which returns an int, in a module; by default in a new one.

        An ``internal`` function can be called only from its module. One that is not ``optimized`` compiles in
        a fifth of the time. ``triple`` names the machine of a new module, by default this one.
        """
        if module is None:
            module = ir.Module(triple or default_triple())
        self.module = module
        self.function = ir.Function(module, name, INT, [*parameters.values()], "internal" if internal else "")
        if not optimized:
            self.function.attributes = "noinline optnone"
        self.given = dict(zip(parameters, self.function.args, strict=True))
        self.build: Any = ir.Builder(self.function)
        self._locals: dict[str, Value] = {}

    def succeed(self) -> None:
        """Return 0."""
        self.build.ret(ir.constant(INT, 0))

    def call(self, name: str, result: Value, *arguments: Value) -> Value:
        """Call an intrinsic of LLVM."""
        if name not in self.module.globals:
            ir.Function(self.module, name, result, [argument.type for argument in arguments])
        return self.build.call(self.module.globals[name], arguments)

    def local(self, name: str, size: int) -> Value:
        """A pointer to memory of this function, at a cache line; one piece for each name."""
        if name not in self._locals:
            self._locals[name] = self.build.alloca(name, size)
        return self._locals[name]

    # Numbers

    def number(self, value: int) -> Value:
        """A size or a place."""
        return ir.constant(LONG, value)

    def boolean(self, value: bool) -> Value:
        """A constant that is true or false."""
        return ir.constant(BOOL, value)

    def byte(self, value: int) -> Value:
        """A constant byte."""
        return ir.constant(BYTE, value)

    def add(self, one: Value, *others: Value | int) -> Value:
        """A sum of sizes or places."""
        for other in others:
            one = self.build.add(one, self._long(other))
        return one

    def minus(self, one: Value, other: Value | int) -> Value:
        """A difference."""
        return self.build.sub(one, self._long(other))

    def times(self, one: Value, other: Value | int) -> Value:
        """A product."""
        return self.build.mul(one, self._long(other))

    def least(self, one: Value, other: Value) -> Value:
        """The smaller of two, signed; also of vectors."""
        return self.build.select(self.build.icmp_signed("<", one, other), one, other)

    def most(self, one: Value, other: Value) -> Value:
        """The larger of two."""
        return self.build.select(self.build.icmp_signed(">", one, other), one, other)

    def _long(self, value: Value | int) -> Value:
        return self.number(value) if isinstance(value, int) else value

    # Memory

    def at(self, pointer: Value, *offsets: Value | int) -> Value:
        """A pointer so many bytes further on."""
        for offset in offsets:
            pointer = self.build.gep(pointer, self._long(offset))
        return pointer

    def load(self, pointer: Value, kind: Value, align: int = 1) -> Value:
        """Read a value."""
        return self.build.load(pointer, kind, align)

    def store(self, value: Value, pointer: Value, align: int = 1) -> None:
        """Write a value."""
        self.build.store(value, pointer, align)

    def prepare_store(self, pointer: Value) -> None:
        """Fetch the cache line that a pointer is to, for writing; it may be to anywhere."""
        for_writing, near, data = (ir.constant(INT, n) for n in (1, 3, 1))
        self.call("llvm.prefetch.p0", NOTHING, pointer, for_writing, near, data)

    def clear(self, pointer: Value, size: Value) -> None:
        """Fill with zeros."""
        self.call("llvm.memset.p0.i64", NOTHING, pointer, ir.constant(BYTE, 0), size, ir.constant(BOOL, 0))

    def copy(self, target: Value, source: Value, size: Value) -> None:
        """Copy bytes that do not overlap."""
        self.call("llvm.memcpy.p0.p0.i64", NOTHING, target, source, size, ir.constant(BOOL, 0))

    def constant(self, name: str, content: bytes) -> Value:
        """A pointer to bytes that never change, at the beginning of a cache line."""
        return ir.Constant(self.module, name, content)

    # Vectors

    def lanes(self, kind: Value, values: Sequence[float]) -> Value:
        """A constant vector."""
        return ir.constant_vector(kind, tuple(values))

    def all(self, value: Value, lanes: int) -> Value:
        """One value in every lane."""
        single = ir.undefined(vector(value.type, lanes))
        single = self.build.insert_element(single, value, ir.constant(INT, 0))
        return self.pick(single, [0] * lanes)

    def pick(self, source: Value, lanes: Sequence[int]) -> Value:
        """The named lanes of a vector."""
        return self.build.shuffle_vector(source, source, self.lanes(INT, lanes))

    def woven(self, even: Value, odd: Value) -> Value:
        """The even lanes of one vector, with the odd ones of another between them."""
        count = even.type.count
        lanes = [place + count * (place % 2) for place in range(count)]
        return self.build.shuffle_vector(even, odd, self.lanes(INT, lanes))

    # Control

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """Emit what follows once for each place from ``start``, below ``stop``."""
        with self._changing(
            start,
            while_=lambda place: self.build.icmp_signed("<", place, stop),
            after=lambda place: self.add(place, step),
        ) as place:
            yield place

    @contextmanager
    def turns(self, count: int) -> Iterator[Value]:
        """Emit what follows once, to run ``count`` times, with the number of the turn from 0 on."""
        if count == 1:
            yield self.number(0)
            return
        with self.loop(self.number(0), self.number(count)) as turn:
            yield turn

    @contextmanager
    def each_bit(self, bits: Value) -> Iterator[Value]:
        """Emit what follows once for the number of each set bit of a LONG."""
        with self._changing(
            bits,
            while_=lambda left: self.build.icmp_unsigned("!=", left, self.number(0)),
            after=lambda left: self.build.and_(left, self.minus(left, 1)),
        ) as left:
            yield self.call("llvm.cttz.i64", LONG, left, self.boolean(True))

    @contextmanager
    def _changing(
        self, first: Value, *, while_: Callable[[Value], Value], after: Callable[[Value], Value]
    ) -> Iterator[Value]:
        """Emit what follows for a LONG that changes after each turn, as long as a condition holds."""
        build = self.build
        head, body, end = (build.append_basic_block() for _ in range(3))
        before = build.block
        build.branch(head)
        build.position_at_end(head)
        value = build.phi(LONG)
        value.add_incoming(first, before)
        build.cbranch(while_(value), body, end)
        build.position_at_end(body)
        yield value
        value.add_incoming(after(value), build.block)
        build.branch(head)
        build.position_at_end(end)

    def repeat(self, count: int, values: list[Value], body: Repeated) -> list[Value]:
        """Emit ``body`` once, to run ``count`` times from 0 on; it makes new values of the values before.

        The values stay in registers. ``body`` gets the number of the turn and the values.
        """
        if count <= 1:
            return body(self.number(0), values) if count else values
        build, before = self.build, self.build.block
        head, end = (build.append_basic_block() for _ in range(2))
        build.branch(head)
        build.position_at_end(head)
        turn, *carried = (build.phi(kind) for kind in (LONG, *(value.type for value in values)))
        results = body(turn, list(carried))
        following = self.add(turn, 1)
        for phi, start, result in zip(
            [turn, *carried], [self.number(0), *values], [following, *results], strict=True
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(result, build.block)
        build.cbranch(build.icmp_signed("<", following, self.number(count)), head, end)
        build.position_at_end(end)
        return results


def default_triple() -> str:
    """Return LLVM's name of this platform."""
    from llvmlite import binding

    triple: str = binding.get_default_triple()
    return triple


def emit(steps: Sequence[Step], others: Sequence[Step] = ()) -> None:
    """Emit two sequences, evenly mixed: a processor looks only some hundred instructions ahead."""
    done = 0
    for count, step in enumerate(steps, 1):
        step()
        until = count * len(others) // len(steps)
        for other in others[done:until]:
            other()
        done = until
    for other in others[done:]:
        other()
