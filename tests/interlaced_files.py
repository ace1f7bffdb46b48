"""Make interlaced and telecined videos of frames that are known, and measure how well they are restored."""

from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from video_files import luma, write

FILM_RATE = Fraction(24000, 1001)
VIDEO_RATE = Fraction(30000, 1001)


def render(count, width=96, height=64, speed=3, format="yuv420p"):
    """Frames of texture that moves over a colored edge, which moves the other way."""
    result = []
    for number in range(count):
        frame = av.VideoFrame(width, height, format)
        bits = frame.format.components[0].bits
        for index, buffer in enumerate(frame.planes):
            rows = np.frombuffer(buffer, np.uint8).reshape(-1, buffer.line_size)
            rows = rows.view(np.uint8 if bits == 8 else np.uint16)[:, : buffer.width]
            y, x = np.mgrid[: buffer.height, : buffer.width] * (width / buffer.width)
            if index == 0:
                values = 120 + 50 * np.sin((x + speed * number) / 5) + 30 * np.cos((y + number) / 6)
            else:
                edge = x + y / 2 > 30 + speed * number
                values = np.where(edge, 200 if index == 1 else 60, 80 if index == 1 else 170)
            rows[...] = values * 2 ** (bits - 8)
        result.append(frame)
    return result


def planes(frame):
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height] for plane in frame.planes
    ]


def woven(first, second, order="top"):
    """A frame with the fields of two frames; the upper lines show the first one if ``order`` is "top"."""
    frame = av.VideoFrame(first.width, first.height, first.format.name)
    upper, lower = (first, second) if order == "top" else (second, first)
    for target, top, bottom in zip(*map(planes, (frame, upper, lower)), strict=True):
        target[0::2], target[1::2] = top[0::2], bottom[1::2]
    return frame


def interlaced(frames, order="top"):
    """Weave each two frames into an interlaced one."""
    return [woven(a, b, order) for a, b in zip(frames[0::2], frames[1::2], strict=True)]


def line_doubled(frame):
    """A frame whose second field is a copy of the first."""
    for samples in planes(frame):
        samples[1::2] = samples[0::2]
    return frame


def telecined(film, order="top"):
    """The 3:2 pulldown: five frames for each four, two of them woven of two."""
    result = []
    for a, b, c, d in zip(*[iter(film)] * 4, strict=True):
        pairs = (a, a), (b, b), (b, c), (c, d), (d, d)
        result += [woven(first, second, order) for first, second in pairs]
    return result


def marked(frames, mode="tff"):
    """The same frames, marked by FFmpeg's filter setfield: as "tff", "bff" or "prog"."""
    graph = Graph()
    first = frames[0]
    args = f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base=1/25"
    graph.link_nodes(graph.add("buffer", args), graph.add("setfield", mode), graph.add("buffersink"))
    graph.configure()
    result = []
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
        graph.vpush(frame)
        result.append(graph.vpull())
    return result


def write_lossless(path, frames, rate=Fraction(25), **options):
    """Write an FFV1 file with a constant frame rate."""
    return write(path, frames, codec="ffv1", rate=rate, time_base=Fraction(1, rate.numerator), **options)


def psnr_db(ours, truth, plane=luma):
    """The mean PSNR of frames."""
    errors = [np.mean((plane(a).astype(float) - plane(b)) ** 2) for a, b in zip(ours, truth, strict=True)]
    return float(np.mean([10 * np.log10(255**2 / max(error, 1e-3)) for error in errors]))


def combing(frames):
    """The energy of what alternates from line to line, per sample."""

    def of(frame):
        lines = luma(frame).astype(float)
        return np.mean((2 * lines[1:-1] - lines[:-2] - lines[2:]) ** 2)

    return float(np.mean([of(frame) for frame in frames]))
