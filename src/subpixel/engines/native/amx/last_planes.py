"""Code of a last layer of scale 1 with AMX: the channels of its pixels become planes."""

from collections.abc import Sequence
from functools import partial

from subpixel.engines.assembler import INT, Assembler, Step, Value
from subpixel.engines.native.amx.instructions import LINE, SIDE, Amx
from subpixel.engines.native.amx.last import RESULT, LastRows, Target
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.amx.rows import AT_ONCE


def emit_planes(module: Value, name: str, layer: AmxLayer, instructions: Amx, shift: int) -> Assembler:
    """Emit the function of the last layer, see `last.emit_last`."""
    rows = _PlaneRows(module, name, layer, instructions, RESULT)
    rows.emit(shift)
    return rows.code


class _PlaneRows(LastRows):
    """Emits the function. 16 pixels and 16 channels are transposed at once."""

    def results(self, row: int, block: Value, sums: Value) -> list[Step]:
        """See `Rows.results`."""
        code, target = self.code, self._target(row, block)
        return [
            step
            for group in range(self.layer.pixels // SIDE)
            for channels in range(self.layer.channel_blocks)
            for step in self._group(code.number(group), channels, sums, target)
        ]

    def last_results(self, row: int, block: Value, sums: Value) -> None:
        """See `Rows.last_results`."""
        code, target = self.code, self._target(row, block)
        with code.loop(code.number(0), code.number(self.layer.pixels // SIDE)) as group:
            for channels in range(self.layer.channel_blocks):
                for step in self._group(group, channels, sums, target):
                    step()

    def _group(self, group: Value, channels: int, sums: Value, target: Target) -> list[Step]:
        """Steps that make samples of a block of channels of 16 pixels."""
        code, step_bytes = self.code, self.layer.channel_blocks * LINE
        sums = code.at(sums, code.times(group, SIDE * step_bytes), channels * LINE)
        fours: list[Value] = []

        def narrow(first: int) -> None:
            fours.append(self._four(code.at(sums, first * step_bytes), channels))

        def store() -> None:
            self._store(fours, channels, code.at(target.first, code.times(group, SIDE)), target.line_bytes)

        return [*(partial(narrow, first) for first in range(0, SIDE, AT_ONCE)), store]

    def _four(self, sums: Value, channels: int) -> Value:
        """Return four pixels as words, one for each channel."""
        code, step_bytes, addend = self.code, self.layer.channel_blocks * LINE, self._addend(None, 0)
        ints = [
            self._int(code.at(sums, pixel * step_bytes), self._factors[channels], addend)
            for pixel in range(AT_ONCE)
        ]
        places = [
            first + 4 * pixel + channel
            for first in range(0, LINE, 16)
            for channel in range(4)
            for pixel in range(4)
        ]
        return code.build.bitcast(code.pick(self._by_fours(ints), places), self.instructions.ints)

    def _store(self, fours: Sequence[Value], channels: int, out: Value, plane_bytes: Value) -> None:
        """Bring the words of each channel together, and store them in its plane."""
        code = self.code
        for half in ((0, 4, 1, 5), (2, 6, 3, 7)):
            pairs = [self._within(half, *fours[first : first + 2]) for first in (0, 2)]
            for part in ((0, 1, 4, 5), (2, 3, 6, 7)):
                samples = code.build.bitcast(self._within(part, *pairs), self.instructions.bytes)
                of_four = half[0] + part[0] // 2
                for first in range(0, SIDE, 4):
                    channel = channels * SIDE + first + of_four
                    if channel < self.layer.outputs:
                        plane = code.at(out, code.times(plane_bytes, channel))
                        code.store(code.pick(samples, range(4 * first, 4 * first + 16)), plane)

    def _within(self, places: Sequence[int], one: Value, other: Value) -> Value:
        """Take words of two vectors within each 128 bits; those of the other are numbered from 4 on."""
        numbers = [first + place % 4 + place // 4 * SIDE for first in range(0, SIDE, 4) for place in places]
        return self.code.build.shuffle_vector(one, other, self.code.lanes(INT, numbers))
