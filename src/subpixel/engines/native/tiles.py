"""The choice of tiles: how many accumulators are in registers at once, and of what.

A tile needs registers for its accumulators, for the operands that serve several of them, and for products
that are not added in the same instruction. Among the tiles that fit, the one with the fewest loads per
product is best.
"""

import math

from subpixel.engines.native.instructions import InstructionSet
from subpixel.models.spec import Convolution, ModelSpec

CHUNK_PX = 4
"""The largest number of pixels in a chunk. Tiles begin at multiples of it."""

ENOUGH_ACCUMULATORS = 8
"""With fewer accumulators, products wait for each other."""

ALONE, UNIT_REGISTERS = 1.05, 12
"""See `overlaps`: what it costs if tiles do not, and how many registers requantization needs if they do."""

NOMINAL_WIDTH_PX = 640
"""Row width for which tiles of the last layer are chosen."""


def hidden_tile(
    convolution: Convolution, instructions: InstructionSet, *, from_picture: bool
) -> tuple[int, int]:
    """Choose ``(pixels, vectors)``: the tile that fits the registers with the fewest loads per product."""
    kernel = convolution.kernel
    needed = math.ceil(convolution.outputs / instructions.lanes)
    spare = instructions.product_registers
    costs = {}
    for vectors in (1, 2, 4):
        for pixels in range(CHUNK_PX, instructions.most_accumulators + 1, CHUNK_PX):
            accumulators = pixels * vectors
            paired = not from_picture and pairs(convolution, instructions)
            held = (1 if from_picture else 2 if paired else kernel) * vectors
            registers = accumulators + held + (pixels + 2 if paired else 1) + 2 * spare
            if accumulators > instructions.most_accumulators or registers > instructions.registers:
                continue
            if needed % vectors:
                continue
            if from_picture:
                loads, products = pixels + vectors, accumulators
            elif paired:  # what makes pairs costs more than loading the weights
                loads, products = pixels + kernel, accumulators * kernel
            else:
                loads, products = pixels + kernel - 1 + held, accumulators * kernel
            waiting = max(1.0, ENOUGH_ACCUMULATORS / accumulators)
            if not from_picture and not overlaps(convolution, instructions, (pixels, vectors)):
                waiting *= ALONE
            costs[pixels, vectors] = (1 + loads / products) * waiting
    return min(costs, key=costs.__getitem__, default=(CHUNK_PX, 1))


def pairs(convolution: Convolution, instructions: InstructionSet) -> bool:
    """Whether products of a hidden layer are of pairs of pixels."""
    return instructions.pairs and convolution.inputs % 8 == 0


def overlaps(convolution: Convolution, instructions: InstructionSet, tile: tuple[int, int]) -> bool:
    """Whether a tile of a layer is requantized during the products of the next tile, four pixels at a time.

    This needs as many turns of the innermost loop, which goes over groups of 4 or 8 channels, and registers.
    It is faster only where a product is one instruction.
    """
    accumulators = math.prod(tile)
    paired = pairs(convolution, instructions)
    turns = math.ceil(convolution.inputs / (8 if paired else 4))
    enough_registers = accumulators + UNIT_REGISTERS <= instructions.registers
    if paired and convolution.activation == "tanh":
        enough_registers = False
    single = not instructions.product_registers
    return single and accumulators // CHUNK_PX <= turns and enough_registers


def last_tile(spec: ModelSpec, instructions: InstructionSet) -> tuple[int, int, int]:
    """Choose ``(vectors, rows, planes)`` in the same way: see `LastLayer`.

    Every second load of pixels crosses a cache line.
    """
    most = max(instructions.most_accumulators, 9)
    spare = instructions.product_registers
    step = 4 // math.gcd(4, spec.scale) if spec.scale < 3 else 1
    choices = [(vectors, rows, 1) for rows in {1, spec.scale} for vectors in range(step, 9, step)]
    if spec.scale == 1:
        counts = [count for count in range(1, most + 1) if spec.channels % count == 0]
        choices = [(vectors, 1, planes) for planes in counts for vectors in (1, 2, 4, 8)]
    costs = {}
    for vectors, rows, planes in choices:
        outputs = planes * rows * spec.scale
        accumulators = outputs * vectors
        registers = accumulators + (vectors + 1) * instructions.parts + spare
        if accumulators > most or registers > instructions.registers:
            continue
        loads = 1.67 * vectors + outputs
        waiting = max(1.0, ENOUGH_ACCUMULATORS / accumulators)
        wasted = 1 + vectors * instructions.lanes / 2 / NOMINAL_WIDTH_PX
        costs[vectors, rows, planes] = (1 + loads / accumulators) * waiting * wasted
    return min(costs, key=costs.__getitem__, default=(step, 1, 1))
