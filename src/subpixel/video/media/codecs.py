"""The encoders: which there are, how each is told about quality and speed, and what may be asked of them."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subpixel.errors import EncoderError
from subpixel.video.pipeline.frames import bits

if TYPE_CHECKING:
    from av import VideoFormat
    from av.video.codeccontext import VideoCodecContext

X264_PRESETS = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
]
NVENC_PRESETS = [f"p{number}" for number in range(1, 8)]
QSV_PRESETS = ["veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg's, as we use it."""

    name: str
    """FFmpeg's, such as ``libx264``."""
    matroska_id: str
    """What Matroska calls the format that it writes."""
    quality: str | None = None
    """FFmpeg's option that ``crf`` sets; None where there is no loss to choose."""
    best: float = 0
    worst: float = 51
    default: float = 18
    """Of ``crf``: smaller is better and larger."""
    speed: str = "preset"
    """FFmpeg's option that ``preset`` sets."""
    presets: Sequence[str] = ()
    """The fastest first, or in the encoder's own order."""
    preset: str | None = None
    """The default one."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options that are always given."""
    odd_sides: bool = False
    """Whether it takes odd sides with subsampled chroma."""
    hardware: bool = False


def _repeatable_x264() -> dict[str, str]:
    """What makes x264 give the same for the same frames, which a job that goes on after a kill relies on.

    Its AVX-512 code does not: about one segment in a hundred comes out otherwise. Its AVX2 code always did,
    and is as fast.
    """
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    present = (*simd.get("baseline", ()), *simd.get("found", ()))
    wide = any(name.startswith(("AVX512", "X86_V4")) for name in present)
    return {"x264-params": "asm=avx2"} if wide else {}


_LOSSLESS_FFV1 = {"level": "3", "g": "1", "slicecrc": "1", "coder": "range_tab"}

CODECS = (
    # The presets are those that keep real time on two cores at 1080p beside the network.
    Codec(
        "libx264",
        "V_MPEG4/ISO/AVC",
        "crf",
        presets=X264_PRESETS,
        preset="veryfast",
        options=_repeatable_x264(),
    ),
    Codec(
        "libx265",
        "V_MPEGH/ISO/HEVC",
        "crf",
        default=20,
        presets=X264_PRESETS,
        preset="superfast",
        options={"x265-params": "log-level=error", "a53cc": "1"},
    ),
    Codec(
        "libsvtav1",
        "V_AV1",
        "crf",
        best=1,
        worst=63,
        default=28,
        presets=[str(number) for number in range(13, -1, -1)],
        preset="9",
    ),
    Codec(
        "libvpx-vp9",
        "V_VP9",
        "crf",
        worst=63,
        default=24,
        speed="cpu-used",
        presets=[str(number) for number in range(8, -1, -1)],
        preset="7",
        options={"b": "0", "deadline": "realtime", "row-mt": "1"},
        odd_sides=True,
    ),
    Codec("ffv1", "V_FFV1", options=_LOSSLESS_FFV1, odd_sides=True),
    Codec("prores_ks", "V_PRORES"),
    Codec("rawvideo", "V_UNCOMPRESSED", odd_sides=True),
    *(
        Codec(
            f"{format}_{maker}",
            matroska_id,
            quality,
            presets=presets,
            preset=preset,
            options=options,
            hardware=True,
        )
        for format, matroska_id in (
            ("h264", "V_MPEG4/ISO/AVC"),
            ("hevc", "V_MPEGH/ISO/HEVC"),
            ("av1", "V_AV1"),
        )
        for maker, quality, presets, preset, options in (
            ("nvenc", "cq", NVENC_PRESETS, "p4", {"rc": "vbr", "b": "0"}),
            ("qsv", "global_quality", QSV_PRESETS, "veryfast", {}),
            ("amf", "qp_i", ("speed", "balanced", "quality"), "balanced", {"rc": "cqp"}),
        )
    ),
    Codec("h264_videotoolbox", "V_MPEG4/ISO/AVC", hardware=True),
    Codec("hevc_videotoolbox", "V_MPEGH/ISO/HEVC", hardware=True),
)
"""Every encoder that we know how to use."""


@dataclass(frozen=True)
class Encoding:
    """What a user asks of the encoder; what is left out is chosen.

    Attributes:
        codec: a name in `known_codecs`, or "auto": what suits container and depth.
        crf: the quality, smaller is better; on the codec's own scale.
        preset: how much time the encoder may take; the codec's own names.
        options: any other option of FFmpeg's encoder by name, such as ``{"tune": "film"}``.
    """

    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """Everything that decides what an encoder makes of given frames."""

    codec: Codec
    width: int
    height: int
    format: str
    """FFmpeg's name of the pixel format."""
    time_base: Fraction
    rate: Fraction
    """Frames a second, for rate control only: frames carry their own times."""
    aspect: Fraction
    """Of a sample, width over height; 0 where it is not known."""
    color: tuple[int, int, int, int]
    """Primaries, transfer, matrix and range, in the numbers of ITU-T H.273; the range in FFmpeg's."""
    threads: int
    options: Mapping[str, str]

    def open(self) -> "VideoCodecContext":
        """Start the encoder. Frames go in with times in ``time_base``.

        Raises `EncoderError` with the encoder's own words where it refuses.
        """
        import av

        context: Any = av.CodecContext.create(self.codec.name, "w")
        context.width, context.height, context.pix_fmt = self.width, self.height, self.format
        context.time_base, context.framerate = self.time_base, self.rate
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        primaries, transfer, matrix, range = self.color
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, range
        context.thread_count = self.threads
        context.flags |= av.codec.context.Flags.global_header
        context.options = dict(self.options)
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would tell all about itself on stderr
        try:
            with _usual_scheduling():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            asked = ", ".join(f"{name}={value}" for name, value in self.options.items()) or "no options"
            cure = "; it needs hardware that is not here" if self.codec.hardware else ""
            raise EncoderError(
                f"{self.codec.name} does not start with {asked} for {self.width}x{self.height} {self.format}"
                f" ({getattr(error, 'strerror', error)}){cure}"
            ) from error
        result: VideoCodecContext = context
        return result


@contextlib.contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Give every thread that is started within, and the one that starts it, the usual scheduling back.

    Where it runs as root, SVT-AV1 takes real-time priority for itself, for its caller, and for whatever that
    starts later: on few cores everything else would stand still.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before = _policies()
    usual = os.sched_getscheduler(0)
    try:
        yield
    finally:
        for thread, policy in _policies().items():
            if policy != before.get(thread, usual):
                with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                    os.sched_setscheduler(thread, before.get(thread, usual), os.sched_param(0))


def _policies() -> dict[int, int]:
    """How each thread of this process is scheduled, by its number."""
    policies = {}
    tasks = Path("/proc/self/task")
    for thread in [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]:
        with contextlib.suppress(OSError):
            policies[thread] = os.sched_getscheduler(thread)
    return policies


def known_codecs() -> list[str]:
    """The names of the encoders that this FFmpeg has and we know how to use. Hardware may still be
    missing.
    """
    return [codec.name for codec in CODECS if _is_there(codec.name)]


def find_codec(name: str) -> Codec:
    """An encoder by name; ValueError with the known ones for any other."""
    for codec in CODECS:
        if codec.name == name and _is_there(name):
            return codec
    raise ValueError(f"unknown codec {name!r}; known here: auto, {', '.join(known_codecs())}")


@cache
def _is_there(name: str) -> bool:
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def options_for(codec: Codec, encoding: Encoding) -> dict[str, str]:
    """FFmpeg's options for what is asked.

    Raises ValueError for a crf, a preset or an option that the codec does not know, with those that it does.
    """
    options = dict(codec.options)
    if encoding.crf is not None:
        if codec.quality is None:
            raise ValueError(f"{codec.name} has no crf; leave it out")
        if not codec.best <= encoding.crf <= codec.worst:
            raise ValueError(
                f"crf of {codec.name} must be {codec.best:g} to {codec.worst:g}, not {encoding.crf:g}"
            )
    if codec.quality is not None:
        options[codec.quality] = f"{codec.default if encoding.crf is None else encoding.crf:g}"
    if encoding.preset is not None and encoding.preset not in codec.presets:
        known = ", ".join(codec.presets)
        raise ValueError(
            f"unknown preset {encoding.preset!r} of {codec.name}; known: {known}"
            if known
            else f"{codec.name} has no presets; leave it out"
        )
    if (preset := encoding.preset or codec.preset) is not None:
        options[codec.speed] = preset
    known_options = _known_options(codec.name)
    for name, value in encoding.options.items():
        if name not in known_options:
            raise ValueError(
                f"{codec.name} has no option {name!r}; it has {', '.join(sorted(known_options))}"
            )
        both = name in options and name.endswith("-params")  # lists of their own, joined
        options[name] = f"{options[name]}:{value}" if both else value
    return options


@cache
def _known_options(codec: str) -> frozenset[str]:
    import av
    from av.codec.context import OptionFlags

    wanted = OptionFlags.ENCODING_PARAM | OptionFlags.VIDEO_PARAM
    known = av.CodecContext.create(codec, "w").supported_options
    return frozenset(
        option.name for option in (*known.generic, *known.private) if option.flags & wanted == wanted
    )


def pixel_format(codec: Codec, wanted: str) -> str:
    """The pixel format closest to ``wanted`` that an encoder takes: the same, or one that loses least.

    First comes what keeps the depth and the chroma, then the depth, then the chroma.
    """
    import av

    formats = av.Codec(codec.name, "w").video_formats
    if formats is None:
        return wanted
    source = av.VideoFormat(wanted, 64, 64)

    def distance(name: str) -> tuple[int, ...]:
        target = av.VideoFormat(name, 64, 64)
        depths = (bits(source), bits(target))
        sides = list(zip(_chroma(source), _chroma(target), strict=True))
        lost = sum(max(0, there - here) for there, here in sides)
        more = sum(max(0, here - there) for there, here in sides)
        return (max(0, depths[0] - depths[1]), lost, more, max(0, depths[1] - depths[0]))

    planar = [
        format.name
        for format in formats
        if (format.name.endswith(("p", "le")) and format.name.startswith("yuv") and "a4" not in format.name)
        or format.name.startswith("gray")
    ]
    usable = [name for name in planar if not name.startswith("yuvj") and not name.endswith("be")]
    if wanted in usable:
        return wanted
    if not usable:
        raise EncoderError(f"{codec.name} takes no planar Y'CbCr; choose another codec")
    return min(usable, key=distance)


def _chroma(format: "VideoFormat") -> tuple[int, int]:
    """How many samples of chroma there are to 64 of luma, across and down."""
    if len(format.components) < 3:
        return (0, 0)
    return (format.components[1].width, format.components[1].height)
