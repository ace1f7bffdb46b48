"""Moving stills: sequences of frames made of pictures, as a moving camera would see them.

A camera moves smoothly over a picture: it shifts by fractions of a pixel, zooms and rotates. In some
sequences a part of a second picture, with a random outline, moves in front at another speed, so that it
covers and uncovers what is behind it.

Frames are sampled at twice their size, with bicubic interpolation, and then halved with antialiasing. Detail
beyond what a frame can show is removed after the motion, as in a camera, and equally in all frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from subpixel.engines.base import from_float
from subpixel.evaluation.protocol import read_image
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

SUPERSAMPLING = 2
"""Samples along each axis from which a pixel of a frame is made."""

STATIC_SHARE = 0.1
"""Share of sequences in which the camera does not move."""

LAYERED_SHARE = 0.4
"""Share of sequences with a second picture in front."""

MAX_SPEED_PX = 8.0
"""Fastest shift of the camera, in HR pixels a frame."""

MIN_SPEED_PX = 0.1
"""Slowest shift of a camera that moves; speeds are uniform in their logarithm."""

MAX_ZOOM = 0.01
"""Largest change of the size from a frame to the next, as a fraction."""

MAX_ROTATION = 0.01
"""Largest rotation from a frame to the next, in radians."""

MASK_CELLS = 4
"""Cells along a side of the noise whose zero crossings are the outline of the picture in front."""


@dataclass(frozen=True)
class CameraPath:
    """Smooth motion of a camera. ``time`` is the number of the frame less that of the middle one."""

    speed: NDArray[np.float64]
    """Shift ``(rows, columns)`` a frame, in HR pixels."""
    acceleration: NDArray[np.float64]
    """Change of the speed a frame."""
    zoom: float
    """Logarithm of the size a frame."""
    rotation: float
    """Radians a frame."""

    def at(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The matrix and shift that map positions in a frame, from its center, to those in the picture."""
        size, angle = math.exp(self.zoom * time), self.rotation * time
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return size * turn, self.speed * time + self.acceleration * time * abs(time) / 2


def random_path(rng: np.random.Generator) -> CameraPath:
    """Draw a path: none, or one with a shift, and in half of the cases each with zoom and rotation."""
    if rng.random() < STATIC_SHARE:
        return CameraPath(np.zeros(2), np.zeros(2), 0.0, 0.0)
    speed = math.exp(rng.uniform(math.log(MIN_SPEED_PX), math.log(MAX_SPEED_PX)))
    direction = rng.uniform(0, 2 * math.pi)
    velocity = speed * np.array([math.sin(direction), math.cos(direction)])
    zoom, rotation = rng.uniform(-1, 1, 2) * (MAX_ZOOM, MAX_ROTATION) * (rng.random(2) < 0.5)
    return CameraPath(velocity, velocity * rng.uniform(-0.1, 0.1), float(zoom), float(rotation))


def moving_still(
    pictures: Sequence[NDArray[np.uint8]], frames: int, side_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make one sequence, ``(frames, side_px, side_px)`` uint8, from luma planes that ``rng`` chooses."""
    layers = [_layer(pictures, frames, side_px, random_path(rng), rng)]
    if rng.random() < LAYERED_SHARE:
        path = random_path(rng)
        front = _layer(pictures, frames, side_px, path, rng)
        outline = _outline(frames, side_px, path, rng)
        layers = [outline * front + (1 - outline) * layers[0]]
    return np.stack([from_float(imresize(one, 1 / SUPERSAMPLING), np.dtype(np.uint8)) for one in layers[0]])


def moving_stills(
    paths: Sequence[Path], count: int, frames: int, side_px: int, seed: int
) -> list[NDArray[np.uint8]]:
    """Make sequences of the pictures in these files; the same seed gives the same sequences.

    Raises:
        DatasetError: a file cannot be read.
    """
    rng = np.random.default_rng([seed, 1])
    chosen = rng.choice(len(paths), min(len(paths), 2 * count), replace=False)
    pictures = [luma_8bit(read_image(paths[index])) for index in sorted(chosen)]
    return [moving_still(pictures, frames, side_px, rng) for _ in range(count)]


def _layer(
    pictures: Sequence[NDArray[np.uint8]],
    frames: int,
    side_px: int,
    path: CameraPath,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Sample a picture along a path; beyond the picture it is mirrored. In [0, 1], at twice the size."""
    picture = pictures[int(rng.integers(len(pictures)))] / 255
    size = np.array(picture.shape)
    room = np.maximum(size - SUPERSAMPLING * side_px, 0) / 2
    center = (size - 1) / 2 + rng.uniform(-1, 1, 2) * room
    return _sampled(picture, center, frames, side_px, path)


def _outline(frames: int, side_px: int, path: CameraPath, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sample a mask of the picture in front, which moves with it: 1 inside and 0 outside."""
    side = 4 * SUPERSAMPLING * side_px
    noise = rng.normal(size=(MASK_CELLS * 4, MASK_CELLS * 4))
    smooth = nn.functional.interpolate(
        torch.from_numpy(noise)[None, None], (side, side), mode="bicubic", align_corners=False
    )[0, 0].numpy()
    steepness = side / (4 * MASK_CELLS)  # an edge of about one sample
    mask = np.clip(smooth * steepness + 0.5, 0, 1)
    center = (side - 1) / 2 + rng.uniform(-1, 1, 2) * side / 4
    return _sampled(mask, center, frames, side_px, path)


def _sampled(
    plane: NDArray[np.float64], center: NDArray[np.float64], frames: int, side_px: int, path: CameraPath
) -> NDArray[np.float32]:
    """Sample a plane in a grid of twice ``side_px``, whose center moves along the path from ``center``."""
    side = SUPERSAMPLING * side_px
    offsets = (np.arange(side) - (side - 1) / 2).astype(np.float32)
    grid = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1)
    positions = []
    for frame in range(frames):
        matrix, shift = path.at(frame - (frames - 1) / 2)
        shift = center + SUPERSAMPLING * shift
        positions.append(grid @ matrix.T.astype(np.float32) + shift.astype(np.float32))
    height, width = plane.shape
    scaled = np.stack(positions)[..., ::-1] * np.array([2 / (width - 1), 2 / (height - 1)], np.float32) - 1
    samples = nn.functional.grid_sample(
        torch.from_numpy(plane.astype(np.float32))[None, None].expand(frames, -1, -1, -1),
        torch.from_numpy(scaled),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    seen: NDArray[np.float32] = samples[:, 0].clamp(0, 1).numpy()
    return seen
