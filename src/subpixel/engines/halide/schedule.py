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
from subpixel.engines.halide.plan import Plan


def schedule(pipeline: Pipeline) -> None:
    """Schedule every function of a pipeline."""
    plan = pipeline.plan
    row = _schedule_output(pipeline)
    for index, rows in enumerate([pipeline.picture, *pipeline.layers]):
        rows.func.compute_at(pipeline.output, row)
        if index < len(pipeline.layers):
            rows.func.store_root().fold_storage(y, plan.rows_kept(index))
        channels = rows.sums.layer.outputs if rows.sums else plan.spec.channels
        rows.func.bound_extent(of_group, rows.size).bound_extent(group, -(-channels // rows.size))
        for number in range(1, rows.func.num_update_definitions()):
            rows.func.update(number).unscheduled()  # a few pixels beyond the picture
        if rows.sums is None:
            _schedule_picture(rows, plan.machine.lanes)
        else:
            _schedule_layer(plan, rows, rows.sums)


def _schedule_output(pipeline: Pipeline) -> hl.Var:
    """Rows of the small picture outermost; each gives ``scale`` rows of the large one, interleaved."""
    scale = pipeline.plan.spec.scale
    left, right = pipeline.parameters[-2:]
    output = pipeline.output
    buffer = output.output_buffer()
    buffer.dim(0).set_min(left * scale).set_extent((right - left) * scale)
    buffer.dim(1).set_min(buffer.dim(1).min() // scale * scale)
    buffer.dim(1).set_extent(buffer.dim(1).extent() // scale * scale)
    buffer.dim(2).set_bounds(0, pipeline.plan.spec.channels)
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
    vector, lane = hl.RVar("vector"), hl.RVar("lane")
    block, of_block = hl.Var("block"), hl.Var("of_block")
    update = rows.func.update(0)
    update.allow_race_conditions()  # there are none: each column is written once
    # What comes after the sums is mostly in 16 bits, of which a register holds twice as many.
    wide = lanes * 2 if plan.products != "float" and layer.vectors % 2 == 0 else lanes
    update.split(rows.columns.x, vector, lane, wide).split(
        group, block, of_block, layer.outputs_at_once // rows.size
    )
    update.reorder(of_group, lane, vector, of_block, block, rows.columns.y, y)
    update.vectorize(lane).unroll(vector).unroll(of_block).unroll(of_group)

    func = sums.func
    func.compute_at(rows.func, block).store_in(hl.MemoryType.Stack)
    inner = hl.Var("inner")
    func.split(x, x, inner, lanes).reorder(inner, x, channel, y).vectorize(inner).unroll(x).unroll(channel)
    part, of_input, across, down = (sums.taps[axis] for axis in range(4))
    update = func.update(0)
    update.split(x, x, inner, lanes).reorder(part, inner, x, channel, of_input, across, down, y)
    update.atomic().vectorize(inner).vectorize(part).unroll(x).unroll(channel)

    if sums.gathered is not None:
        sums.gathered.compute_at(rows.func, y).reorder(of_group, x, group, y)
        sums.gathered.bound_extent(of_group, plan.group).bound_extent(group, layer.groups)
        sums.gathered.unroll(of_group)
        sums.gathered.vectorize(x, lanes, hl.TailStrategy.RoundUp)
