"""How a pipeline is computed: the order of its loops, what is kept where, what goes into registers.

For each row of the small picture, every layer computes the row that has just become possible, from rows
that earlier turns left in the row buffer before it. Within a row, a layer goes from tile to tile of columns,
and for each tile through its output channels; a block of sums stays in registers from the first product to
the activation.
"""

import halide as hl

from subpixel.engines.halide.algorithm import (
    Pipeline,
    Rows,
    Sums,
    channel,
    group,
    of_group,
    x,
    y,
)
from subpixel.engines.halide.plan import MATRIX_ROWS, Plan

MATRIX_REGISTER = hl.MemoryType(8)
"""`Halide::MemoryType::AMXTile`, which the Python module does not name."""


def schedule(pipeline: Pipeline) -> None:
    """Schedule every function of a pipeline."""
    plan = pipeline.plan
    row = _schedule_output(pipeline)
    for index, rows in enumerate([pipeline.picture, *pipeline.layers]):
        rows.func.compute_at(pipeline.output, row)
        if index < len(pipeline.layers):
            rows.func.store_root().fold_storage(y, plan.rows_kept(index))
        channels = rows.sums.layer.outputs if rows.sums else plan.description.channels
        rows.func.bound_extent(of_group, rows.size).bound_extent(group, -(-channels // rows.size))
        for number in range(1, rows.func.num_update_definitions()):
            rows.func.update(number).unscheduled()  # a few pixels beyond the picture
        if rows.sums is None:
            _schedule_picture(rows, plan.machine.lanes)
        else:
            _schedule_layer(plan, rows, rows.sums)


def _schedule_output(pipeline: Pipeline) -> hl.Var:
    """Rows of the small picture outermost; each gives ``scale`` rows of the large one, interleaved."""
    scale = pipeline.plan.description.scale
    left, right = pipeline.parameters[-2:]
    output = pipeline.output
    buffer = output.output_buffer()
    buffer.dim(0).set_min(left * scale).set_extent((right - left) * scale)
    buffer.dim(1).set_min(buffer.dim(1).min() // scale * scale)
    buffer.dim(1).set_extent(buffer.dim(1).extent() // scale * scale)
    buffer.dim(2).set_bounds(0, pipeline.plan.description.channels)
    row, down, across = hl.Var("row"), hl.Var("down"), hl.Var("across")
    output.split(y, row, down, scale, hl.TailStrategy.RoundUp).split(
        x, x, across, scale, hl.TailStrategy.RoundUp
    )
    output.reorder(across, x, down, channel, row).unroll(across)
    output.vectorize(x, 2 * pipeline.plan.machine.lanes, hl.TailStrategy.GuardWithIf)
    # Or else rows at the picture's edges get copies of all the code, which take long to compile.
    output.partition(row, hl.Partition.Never)
    return row


def _schedule_picture(rows: Rows, lanes: int) -> None:
    lane = hl.RVar("lane")
    update = rows.func.update(0)
    update.allow_race_conditions()  # there are none: each column is written once
    update.split(rows.columns.y, rows.columns.y, lane, lanes, hl.TailStrategy.GuardWithIf).vectorize(lane)


def _schedule_layer(plan: Plan, rows: Rows, sums: Sums) -> None:
    layer, lanes = sums.layer, plan.machine.lanes
    vector, of_vector = hl.RVar("vector"), hl.RVar("of_vector")
    lane, block, of_block = hl.Var("lane"), hl.Var("block"), hl.Var("of_block")
    update = rows.func.update(0)
    update.allow_race_conditions()  # there are none: each column is written once
    # What comes after the sums is mostly in 16 bits, of which a register holds twice as many.
    wide = lanes * 2 if plan.products != "float" and layer.vectors % 2 == 0 else lanes
    update.split(rows.columns.x, vector, of_vector, wide).split(
        group, block, of_block, layer.outputs_at_once // rows.size
    )
    update.reorder(of_group, of_vector, vector, of_block, block, rows.columns.y, y)
    update.vectorize(of_vector).unroll(vector).unroll(of_block).unroll(of_group)

    if layer.matrices:
        _schedule_matrices(rows, sums, block)
    else:
        _schedule_products(rows, sums, block, lanes)
    if sums.gathered is None:
        return
    gathered = sums.gathered.reorder(of_group, x, group, y)
    gathered.bound_extent(of_group, plan.group).bound_extent(group, layer.groups)
    if layer.gathered == "taps":
        gathered.compute_at(rows.func, y).unroll(of_group).vectorize(x, lanes, hl.TailStrategy.RoundUp)
    else:
        pixels = hl.Var("pixels")
        gathered.compute_at(rows.func, rows.columns.y).fuse(of_group, x, pixels)
        # Unrolled, or else LLVM calls memcpy, after which AMX must be configured anew.
        gathered.split(pixels, pixels, lane, 4 * lanes, hl.TailStrategy.RoundUp).vectorize(lane).unroll(
            pixels
        )


def _schedule_products(rows: Rows, sums: Sums, block: hl.Var, lanes: int) -> None:
    """A tile of sums in vector registers."""
    func, inner = sums.products, hl.Var("inner")
    func.compute_at(rows.func, block).store_in(hl.MemoryType.Stack)
    func.split(x, x, inner, lanes).reorder(inner, x, channel, y).vectorize(inner).unroll(x).unroll(channel)
    part, step, across, down = (sums.taps[axis] for axis in range(4))
    update = func.update(0)
    update.split(x, x, inner, lanes).reorder(part, inner, x, channel, step, across, down, y)
    update.atomic().vectorize(inner).vectorize(part).unroll(x).unroll(channel)


def _schedule_matrices(rows: Rows, sums: Sums, block: hl.Var) -> None:
    """A tile of sums in memory, matrix by matrix; each stays in a register of AMX until it is complete.

    Halide finds products of matrices by their form: weights are the left one, whose rows are outputs; what is
    gathered, channels by fours, is the right one as it is.
    """
    pixel, output = hl.Var("pixel"), hl.Var("output")
    stored = sums.products.in_()
    for func, consumer, axis in ((stored, rows.func, block), (sums.products, stored, x)):
        func.compute_at(consumer, axis)
        func.split(x, x, pixel, MATRIX_ROWS).split(channel, channel, output, sums.layer.outputs_at_once)
        func.reorder(pixel, output, x, channel, y).vectorize(pixel).vectorize(output)
    stored.store_in(hl.MemoryType.Stack)
    sums.products.store_in(MATRIX_REGISTER)
    part, step, across, down = (sums.taps[axis] for axis in range(4))
    update = sums.products.update(0)
    update.split(x, x, pixel, MATRIX_ROWS).split(channel, channel, output, sums.layer.outputs_at_once)
    update.reorder(part, pixel, output, step, across, down, x, channel, y)
    update.atomic().vectorize(part).vectorize(pixel).vectorize(output)
