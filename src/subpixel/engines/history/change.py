"""Emits `change`: how outputs of the correction change a result, and make the new state.

One pass over the rows, with all phases of some pixels at once: their changes are interleaved to samples of
the result's rows.
"""

from collections.abc import Sequence

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, SHORT, Value, integer, vector
from subpixel.engines.color import LANES
from subpixel.engines.history.arguments import ArgumentAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.models.history import CHANGE_STEPS, CORRECTION_STEPS, MAX_GATE, ZERO
from subpixel.models.quantization import DEEP_STEPS

CHANGE = {
    "inputs": POINTER,  # of the correction: the differences of the results, uint8
    "inputs_row": LONG,  # from row to row, in bytes
    "inputs_plane": LONG,
    "outputs": POINTER,  # of the correction, uint8
    "outputs_row": LONG,
    "outputs_plane": LONG,
    "opened": POINTER,  # a byte for each LR pixel: 1 where it is open, otherwise 0
    "opened_row": LONG,
    "still": POINTER,  # likewise: 1 where the previous result and state stay
    "still_row": LONG,
    "held": POINTER,  # likewise: 1 where results are bounded; only read if not everywhere
    "held_row": LONG,
    "base": POINTER,  # the result without history
    "base_row": LONG,
    "rounded": POINTER,  # the same with 8 bits
    "rounded_row": LONG,
    "previous": POINTER,  # the previous result, uint8
    "previous_row": LONG,
    "result": POINTER,  # to fill; other memory than ``base``
    "result_row": LONG,
    "hidden": POINTER,  # to fill: the planes of the new state, uint8
    "hidden_row": LONG,
    "hidden_plane": LONG,
    "old": POINTER,  # the planes of the previous state
    "old_row": LONG,
    "old_plane": LONG,
    "state": LONG,  # number of these planes
    "shares": POINTER,  # ``scale**2`` 16-bit integers, see `integer_shares`
    "first": LONG,  # rows to compute
    "stop": LONG,
    "columns": LONG,  # LR pixels to compute, at least `LANES`; all arrays have them
}

_BYTES, _SHORTS, _INTS = (vector(kind, LANES) for kind in (BYTE, SHORT, INT))


def change(
    instructions: InstructionSet,
    scale: int,
    sample_bytes: int,
    is_bounded: bool,
    everywhere: bool,
    *,
    triple: str = "",
) -> Value:
    """Emit the function whose arguments are `CHANGE`, for uint8, uint16 or float32; return its module.

    Args:
        instructions: of the processor.
        scale: of the network.
        sample_bytes: of a sample of the result.
        is_bounded: whether results are bounded.
        everywhere: whether all of them are, or only those of a mask.
        triple: of the target.
    """
    code = _Change("change", CHANGE, triple)
    given, squares = code.given, scale**2
    with (
        code.loop(given["first"], given["stop"]) as y,
        code.each_vector(code.number(0), given["columns"]) as x,
    ):
        outputs = code.in_row("outputs", y, x)
        last = code.at(outputs, code.times(given["outputs_plane"], code.add(given["state"], squares)))
        code.open_gate(last, code.in_row("opened", y, x))
        held = None if everywhere else code.is_set(code.load(code.in_row("held", y, x), _BYTES))
        inputs = code.in_row("inputs", y, x)
        for down in range(scale):
            changes = []
            for phase in range(down * scale, (down + 1) * scale):
                correction = code.signed(code.at(outputs, code.times(given["outputs_plane"], phase)))
                difference = code.signed(code.at(inputs, code.times(given["inputs_plane"], phase)))
                changes.append(code.changed(correction, difference, phase))
                if is_bounded:
                    changes[-1] = code.bounded(changes[-1], difference, held)
            row, place = code.add(code.times(y, scale), down), code.times(x, scale * sample_bytes)
            samples = code.sums(code.in_row("base", row, place), code.woven_row(changes), sample_bytes)
            code.store(samples, code.in_row("result", row, place))
        with code.loop(code.number(0), given["state"]) as channel:
            plane = code.add(channel, squares)
            value = code.gated(code.signed(code.at(outputs, code.times(given["outputs_plane"], plane))))
            code.store(code.build.trunc(code.plus(value, ZERO), _BYTES), code.hidden("hidden", channel, y, x))
        code.keep_still_parts(y, x, scale, sample_bytes)
    code.succeed()
    return code.module


class _Change(ArgumentAssembler):
    """The arithmetic of a vector of LR pixels, in 16 bits where that is enough."""

    def open_gate(self, pointer: Value, opened: Value) -> None:
        """Load the gate, which is 0 where a pixel is closed."""
        build = self.build
        gate = build.zext(self.load(pointer, _BYTES), _SHORTS)
        gate = self.least(gate, self.each(_SHORTS, MAX_GATE))
        is_open = build.zext(self.load(opened, _BYTES), _SHORTS)
        gate = build.and_(gate, build.sub(self.each(_SHORTS, 0), is_open))
        self._gate = self.shifted(gate, CHANGE_STEPS.bit_length())

    def signed(self, pointer: Value) -> Value:
        """Load bytes minus their zero point."""
        return self.plus(self.build.zext(self.load(pointer, _BYTES), _SHORTS), -ZERO)

    def changed(self, correction: Value, difference: Value, phase: int) -> Value:
        """The change of a phase, in 1/128 of an 8-bit level."""
        build = self.build
        share = self.all(self.load(self.at(self.given["shares"], 2 * phase), SHORT, 2), LANES)
        steps = self.each(_SHORTS, CHANGE_STEPS // CORRECTION_STEPS)
        return self.gated(build.add(build.mul(correction, steps), build.mul(share, difference)))

    def bounded(self, change: Value, difference: Value, held: Value | None) -> Value:
        """Clip a change to the range from 0 to the difference of the results, perhaps only where ``held``."""
        limit, zero = self.shifted(difference, CHANGE_STEPS.bit_length() - 1), self.each(_SHORTS, 0)
        limited = self.least(self.most(change, self.least(limit, zero)), self.most(limit, zero))
        return limited if held is None else self.build.select(held, limited, change)

    def gated(self, values: Value) -> Value:
        """Multiply by the gate: `quantization.rounded_product`, in the form that LLVM knows."""
        build = self.build
        product = build.mul(build.sext(self._gate, _INTS), build.sext(values, _INTS))
        doubled = build.lshr(product, self.each(_INTS, 14))
        return build.trunc(build.lshr(self.plus(doubled, 1), self.each(_INTS, 1)), _SHORTS)

    def woven_row(self, phases: Sequence[Value]) -> Value:
        """Interleave the phases of a row of the result."""
        if len(phases) == 2:
            return self._woven(*phases)
        pairs = self._woven(*phases[:2]), self._woven(phases[2], phases[-1])
        four = self._woven(*(self.build.bitcast(pair, _INTS) for pair in pairs))
        shorts = self.build.bitcast(four, vector(SHORT, 4 * LANES))
        if len(phases) == 4:
            return shorts
        return self.pick(shorts, [4 * pixel + phase for pixel in range(LANES) for phase in range(3)])

    def _woven(self, one: Value, other: Value) -> Value:
        """Put lanes of two vectors of integers side by side, in the same type: it has twice as many lanes."""
        kind = one.type.element
        wide = vector(integer(2 * kind.width), LANES)
        both = self.build.or_(
            self.build.zext(one, wide), self.shifted(self.build.zext(other, wide), kind.width)
        )
        return self.build.bitcast(both, vector(kind, 2 * LANES))

    def sums(self, base: Value, changes: Value, sample_bytes: int) -> Value:
        """Do `history.changed_samples` for samples of a row of the result."""
        build, count = self.build, changes.type.count
        ints, floats = vector(INT, count), vector(FLOAT, count)
        if sample_bytes == 1:
            samples = build.zext(self.load(base, vector(BYTE, count)), changes.type)
            total = build.add(samples, self.rounded(changes))
            return build.trunc(self.clipped(total, 255), vector(BYTE, count))
        if sample_bytes == 2:
            samples = build.zext(self.load(base, changes.type), ints)
            steps = build.mul(build.sext(changes, ints), self.each(ints, DEEP_STEPS))
            total = build.add(samples, self.rounded(steps))
            return build.trunc(self.clipped(total, 65535), changes.type)
        steps = build.fmul(
            build.sitofp(changes, floats), self.lanes(FLOAT, [1 / (255 * CHANGE_STEPS)] * count)
        )
        return build.fadd(self.load(base, floats), steps)

    def rounded(self, changes: Value) -> Value:
        """Divide by the steps of a change, rounded half up."""
        half = self.plus(changes, CHANGE_STEPS // 2)
        return self.build.ashr(half, self.each(changes.type, CHANGE_STEPS.bit_length() - 1))

    def hidden(self, name: str, channel: Value, y: Value, x: Value) -> Value:
        """A pointer to a channel of a state."""
        return self.at(self.in_row(name, y, x), self.times(self.given[f"{name}_plane"], channel))

    def keep_still_parts(self, y: Value, x: Value, scale: int, sample_bytes: int) -> None:
        """Let the previous result and state stay where nothing changed: in most films, in few places."""
        build, given, count = self.build, self.given, scale * LANES
        still = self.load(self.in_row("still", y, x), _BYTES)
        stays = self.is_set(still)
        with build.if_then(self.any(stays), likely=False):
            with self.loop(self.number(0), given["state"]) as channel:
                new, old = (self.hidden(name, channel, y, x) for name in ("hidden", "old"))
                self.store(build.select(stays, *(self.load(each, _BYTES) for each in (old, new))), new)
            places = [pixel for pixel in range(LANES) for _ in range(scale)]
            wide, shorts = self.pick(still, places), vector(SHORT, count)
            stays = self.is_set(wide)
            for down in range(scale):
                row, place = self.add(self.times(y, scale), down), self.times(x, scale)
                previous, rounded = (
                    build.zext(self.load(self.in_row(name, row, place), wide.type), shorts)
                    for name in ("previous", "rounded")
                )
                place = self.times(place, sample_bytes)
                change = self.shifted(build.sub(previous, rounded), CHANGE_STEPS.bit_length() - 1)
                kept = self.sums(self.in_row("base", row, place), change, sample_bytes)
                result = self.in_row("result", row, place)
                self.store(build.select(stays, kept, self.load(result, kept.type)), result)
