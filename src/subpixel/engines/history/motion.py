"""Motion compensation of a network for video, on several threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.color import LANES
from subpixel.engines.history import alignment, band, masks, moving, search
from subpixel.engines.history.program import Program
from subpixel.engines.machine_code import Call
from subpixel.engines.native import targets
from subpixel.engines.native.engine import cut
from subpixel.engines.numpy_history import bounded_pixels
from subpixel.engines.thread_pool import ThreadPool
from subpixel.models.spec import History
from subpixel.ops.block_motion import Motion, still_blocks, without_chance

Planes = NDArray[np.uint8]


@dataclass(frozen=True)
class BlockAlignment:
    """How the previous frame explains a frame: `subpixel.ops.block_motion.Alignment`, with fits by block."""

    motion: Motion
    """Of the blocks' quarters."""
    fits: NDArray[np.bool_]
    """``(rows, columns)`` of blocks: whether they fit; after a cut, some do by chance."""
    same: NDArray[np.bool_]
    """Likewise: whether they equal the previous frame."""
    varied: NDArray[np.bool_]
    """Likewise: whether they count where a cut is looked for."""
    detail: NDArray[np.int16]
    """``(H, W)``; its rows, and those of ``residual``, go on in memory up to whole vectors."""
    residual: NDArray[np.int16]

    def explained(self) -> NDArray[np.bool_]:
        """Return whether motion explains each block, ``(rows, columns)``; after a cut, it explains none."""
        return without_chance(self.fits, self.varied)

    def still(self) -> NDArray[np.bool_]:
        """Return the blocks that are the same as before, as are their neighbors, ``(rows, columns)``."""
        return still_blocks(self.same)


class Masks(NamedTuple):
    """What is done with each pixel of a frame, ``(H, W)``."""

    opened: NDArray[np.bool_]
    """Whether it is open to the correction."""
    still: NDArray[np.bool_]
    """Whether the previous result and state stay, see `subpixel.ops.block_motion.still`."""
    held: NDArray[np.bool_] | None = None
    """Whether results are bounded, see `bounded_pixels`; None if all are, or none."""


class MotionCompensation:
    """Finds the motion of blocks, and moves the previous result and the hidden state by it.

    Any number of threads may use it at once.
    """

    def __init__(self, scale: int, history: History, *, threads: int = 1, target: str | None = None) -> None:
        """Compile or load the code.

        Args:
            scale: of the network.
            history: its blocks, and how far they move.
            threads: to use in a call.
            target: name of an instruction set, by default the fastest one that the processor has.

        Raises:
            EngineError: this processor is not supported, or llvmlite is missing.
        """
        self._scale, self._history, self._threads = scale, history, threads
        self._pool = ThreadPool(threads - 1)
        self._instructions = instructions = targets.find(target)
        self._masks: dict[int, Program] = {}  # for each size of samples
        block = history.block_px
        sizes = scale * history.parts, block, history.range_px
        self._search = Program(search.search_motion, search.SEARCH_MOTION, instructions, *sizes)
        self._align = Program(alignment.align, alignment.ALIGN, instructions, *sizes)
        self._move = Program(
            moving.moved_inputs, moving.MOVED_INPUTS, instructions, scale, history.parts, block
        )

    def align(self, frame: Planes, previous: Planes) -> BlockAlignment:
        """Find the motion of a frame's blocks, and how it explains them.

        Args:
            frame, previous: ``(H, W)`` uint8.
        """
        frame, previous = (_with_packed_rows(plane) for plane in (frame, previous))
        (height, width), block = frame.shape, self._history.block_px
        rows, columns = -(-height // block), -(-width // block)
        blocks = np.empty((2, rows, columns), np.int64)
        motion = np.empty((2, 2 * rows, 2 * columns), np.int64)
        fits, same, varied = np.empty((3, rows, columns), np.bool_)
        pitch = band.pitch(columns, block)
        detail, residual = np.empty((2, rows * block, pitch), np.int16)
        size = band.working_bytes(pitch, self._scale * self._history.parts, self._history.range_px)
        planes = {
            "frame": frame,
            "frame_row": frame.strides[0],
            "previous": previous,
            "previous_row": previous.strides[0],
            "height": height,
            "width": width,
            "rows": rows,
            "columns": columns,
            "pitch": pitch,
        }

        def search_call(part: slice, working: Planes) -> Call:
            return self._search.call(
                **planes, first=part.start, stop=part.stop, motion=blocks, working=working
            )

        def align_call(part: slice, working: Planes) -> Call:
            return self._align.call(
                **planes,
                first=part.start,
                stop=part.stop,
                fit_limit=self._history.fit_limit,
                blocks=blocks,
                motion=motion,
                fits=fits,
                same=same,
                varied=varied,
                detail=detail,
                residual=residual,
                out_row=detail.strides[0],
                working=working,
            )

        self._run(rows, size, search_call)
        self._run(rows, size, align_call)  # needs the motion of the rows of blocks around, too
        levels = (each[:height, :width] for each in (detail, residual))
        return BlockAlignment(motion, fits, same, varied, *levels)

    def masks(self, plane: NDArray[Any], aligned: BlockAlignment) -> Masks:
        """Say what is done with each pixel of a frame.

        Args:
            plane: ``(H, W)`` uint8, uint16 or float32.
            aligned: the result of `align` for it.
        """
        plane = _with_packed_rows(plane)
        (height, width), block, size = plane.shape, self._history.block_px, plane.itemsize
        explained, stays = aligned.explained(), aligned.still()
        opened, still = np.empty((2, height, width + -width % masks.FLAT_LANES), np.bool_)
        pitch = masks.pitch(width, size)
        if size not in self._masks:
            self._masks[size] = Program(masks.pixel_masks, masks.PIXEL_MASKS, self._instructions, block, size)

        def call(part: slice, working: Planes) -> Call:
            return self._masks[size].call(
                plane=plane,
                plane_row=plane.strides[0],
                height=height,
                width=width,
                explained=explained,
                stays=stays,
                columns=stays.shape[1],
                first=part.start,
                stop=part.stop,
                opened=opened,
                still=still,
                mask_row=opened.strides[0],
                pitch=pitch,
                working=working,
            )

        self._run(len(stays), masks.working_bytes(pitch, block), call)
        held = None
        if self._history.bounded and not self._history.bounded_in_motion:
            held = bounded_pixels(self._history, aligned.motion, plane.shape)
        return Masks(opened[:, :width], still[:, :width], held)

    def write_inputs(
        self,
        planes: Planes,
        aligned: BlockAlignment,
        opened: NDArray[np.bool_],
        *,
        base: Planes,
        result: Planes,
        hidden: Planes,
    ) -> None:
        """Write the inputs of the correction in int8: see `subpixel.models.history`.

        Args:
            planes: ``(scale**2 + 2 + state, H, W)`` uint8, which are filled: the differences of the results,
                detail, residual, and hidden state. Rows may have a stride.
            aligned: the result of `align`.
            opened: ``(H, W)``: where pixels are open.
            base: ``(scale*H, scale*W)`` uint8, the result without history.
            result: likewise, the previous result.
            hidden: ``(state, H, W)`` uint8, the previous state.
        """
        (height, width), scale, block = opened.shape, self._scale, self._history.block_px
        across = max(width, LANES)
        out = planes
        if width < LANES:  # of each, whole vectors are read and written
            out = np.empty((*planes.shape[:2], LANES), np.uint8)
            base = np.pad(base, [(0, 0), (0, scale * (LANES - width))])
            opened = np.pad(opened, [(0, 0), (0, LANES - width)])
        base, result, hidden, opened = (_with_packed_rows(each) for each in (base, result, hidden, opened))
        rows, columns = aligned.fits.shape
        pitch = moving.pitch(columns, scale, block)

        def call(part: slice, working: Planes) -> Call:
            return self._move.call(
                result=result,
                result_row=result.strides[0],
                base=base,
                base_row=base.strides[0],
                hidden=hidden,
                hidden_row=hidden.strides[1],
                hidden_plane=hidden.strides[0],
                state=len(hidden),
                detail=aligned.detail,
                residual=aligned.residual,
                level_row=aligned.detail.strides[0],
                opened=opened,
                opened_row=opened.strides[0],
                motion=aligned.motion,
                rows=rows,
                columns=columns,
                first=part.start,
                stop=part.stop,
                height=height,
                width=width,
                across=across,
                planes=out,
                plane_row=out.strides[1],
                plane=out.strides[0],
                pitch=pitch,
                working=working,
            )

        self._run(rows, moving.working_bytes(pitch, scale, block), call)
        if out is not planes:
            planes[...] = out[..., :width]

    def _run(self, rows: int, working_bytes: int, call: Callable[[slice, Planes], Call]) -> None:
        """Run calls for parts of the rows of blocks, each with its own working memory."""
        parts = list(cut(rows, min(rows, self._threads)))
        working = np.empty((len(parts), working_bytes), np.uint8)
        self._pool.run([call(*each) for each in zip(parts, working, strict=True)])


def _with_packed_rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array, or a copy of it, whose samples of a row are adjacent."""
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)
