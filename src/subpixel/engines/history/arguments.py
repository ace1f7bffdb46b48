"""What all programs of this package share: arguments and arrays in memory, and constants in each lane."""

from collections.abc import Mapping

from subpixel.engines.assembler import BOOL, POINTER, Value
from subpixel.engines.color.vectors import VectorAssembler


class ArgumentAssembler(VectorAssembler):
    """An assembler of a function whose only parameter points to its arguments, 64 bits each."""

    def __init__(self, name: str, arguments: Mapping[str, Value], triple: str) -> None:
        """Begin the function."""
        super().__init__(name, {"arguments": POINTER}, triple=triple)
        pointer = self.given["arguments"]
        self.given = {
            each: self.load(self.at(pointer, 8 * index), kind, 8)
            for index, (each, kind) in enumerate(arguments.items())
        }

    def in_row(self, name: str, row: Value, offset: Value) -> Value:
        """A pointer to so many bytes after the beginning of a row: ``NAME_row`` is from row to row."""
        return self.at(self.given[name], self.times(self.given[f"{name}_row"], row), offset)

    def each(self, kind: Value, number: int) -> Value:
        """A constant in each lane of a vector."""
        return self.lanes(kind.element, [number] * kind.count)

    def is_set(self, mask: Value) -> Value:
        """Where the lanes of a mask are not 0."""
        return self.build.icmp_unsigned("!=", mask, self.each(mask.type, 0))

    def any(self, lanes: Value) -> Value:
        """Whether one of the lanes is true."""
        return self.call(f"llvm.vector.reduce.or.v{lanes.type.count}i1", BOOL, lanes)

    def plus(self, values: Value, number: int) -> Value:
        """Add a constant to each lane."""
        return self.build.add(values, self.each(values.type, number))

    def shifted(self, values: Value, bits: int) -> Value:
        """Shift each lane to the left."""
        return self.build.shl(values, self.each(values.type, bits))

    def clipped(self, values: Value, largest: int) -> Value:
        """Clip each lane to 0 and the largest value."""
        return self.least(self.most(values, self.each(values.type, 0)), self.each(values.type, largest))

    def binary(self, name: str, one: Value, other: Value) -> Value:
        """Call an intrinsic for two vectors of integers, such as ``umin``."""
        kind = one.type
        return self.call(f"llvm.{name}.v{kind.count}i{kind.element.width}", kind, one, other)

    def clamped(self, value: Value, low: Value | int, high: Value | int) -> Value:
        """A size or place, moved into a range."""
        return self.least(self.most(value, self._long(low)), self._long(high))

    def fill(self, byte: Value, pointer: Value, count: int) -> None:
        """Write a byte so many times."""
        self.store(self.all(byte, count), pointer)

    def indexed(self, pointer: Value, *indices: tuple[Value | int, Value | int]) -> Value:
        """A pointer to an element: places, each with the bytes from one to the next."""
        return self.at(pointer, *(self.times(self._long(place), size) for place, size in indices))
