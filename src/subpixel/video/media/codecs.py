"""The encoders: their options for quality and speed, and the pixel formats that they take."""

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
from subpixel.video.media.pixel_formats import bit_depth

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
    """An encoder of FFmpeg, and how it is used here."""

    name: str
    """FFmpeg's name, such as ``libx264``."""
    matroska_id: str
    """Matroska's name of the format that it writes."""
    quality: str | None = None
    """FFmpeg's option that ``crf`` sets; None if the quality cannot be chosen."""
    best: float = 0
    worst: float = 51
    default: float = 18
    """The range and the default of ``crf``: a smaller value is better quality and a larger file."""
    speed: str = "preset"
    """FFmpeg's option that ``preset`` sets."""
    presets: Sequence[str] = ()
    """Its presets, the fastest first or in the encoder's own order."""
    preset: str | None = None
    """The default preset."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options that are always set."""
    odd_sides: bool = False
    """Whether it takes odd widths and heights with subsampled chroma."""
    hardware: bool = False
    """Whether it needs special hardware."""

    @property
    def differs(self) -> str | None:
        """Why machines encode the same frames to other packets; None if they do not.

        Packets of all other encoders depend on nothing but the frames, the options and the number of
        threads: not on the processor, its instructions, the number of CPUs or the load.
        """
        if self.hardware:
            return "its packets depend on the device and its driver, so all machines need the same ones"
        return None


def _machine_options(codec: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return the options with those that this processor needs, which change no packet.

    With x264's AVX-512 code, about one segment in a hundred differs from the same one encoded again. Its AVX2
    code is repeatable, and as fast.
    """
    if codec != "libx264":
        return dict(options)
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    present = (*simd.get("baseline", ()), *simd.get("found", ()))
    if not any(name.startswith(("AVX512", "X86_V4")) for name in present):
        return dict(options)
    given = options.get("x264-params")
    return {**options, "x264-params": f"asm=avx2:{given}" if given else "asm=avx2"}


_LOSSLESS_FFV1 = {"level": "3", "g": "1", "slicecrc": "1", "coder": "range_tab"}

CODECS = (
    # With the default presets, encoding and the network together keep real time on two cores at 1080p.
    Codec(
        "libx264",
        "V_MPEG4/ISO/AVC",
        "crf",
        presets=X264_PRESETS,
        preset="veryfast",
        options={"x264-params": "cpu-independent=1"},  # else code without SSSE3 gives other packets
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
"""All encoders that are supported."""


@dataclass(frozen=True)
class Encoding:
    """The user's choices for the encoder. What is None gets the codec's default.

    Attributes:
        codec: a name in `available_codecs`; "auto" chooses by container and bit depth.
        crf: the quality on the codec's own scale; smaller is better.
        preset: the codec's own name for a trade-off of speed and compression.
        options: other options of FFmpeg's encoder by name, such as ``{"tune": "film"}``.
    """

    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """Everything that decides the packets an encoder writes for given frames.

    Folders of interrupted jobs contain all fields by name, also those of the codec. If one is renamed, jobs
    of earlier versions start over.
    """

    codec: Codec
    width: int
    height: int
    format: str
    """FFmpeg's name of the pixel format."""
    time_base: Fraction
    rate: Fraction
    """Frames per second, for rate control only: frames have their own times."""
    aspect: Fraction
    """The sample aspect ratio, width over height; 0 if it is not known."""
    color: tuple[int, int, int, int]
    """Primaries, transfer and matrix as numbers of ITU-T H.273, and FFmpeg's number of the range."""
    threads: int
    options: Mapping[str, str]

    def open(self) -> "VideoCodecContext":
        """Start the encoder. The times of its frames are in units of ``time_base``.

        Raises `EncoderError` with FFmpeg's reason if it does not start.
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
        context.options = _machine_options(self.codec.name, self.options)
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would print its settings to stderr
        try:
            with normal_scheduling():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            options = ", ".join(f"{name}={value}" for name, value in self.options.items()) or "no options"
            cure = "; it needs hardware that this machine does not have" if self.codec.hardware else ""
            raise EncoderError(
                f"{self.codec.name} does not start with {options} for {self.width}x{self.height} "
                f"{self.format} ({getattr(error, 'strerror', error)}){cure}"
            ) from error
        result: VideoCodecContext = context
        return result


@contextlib.contextmanager
def normal_scheduling() -> Iterator[None]:
    """Give threads that are started within, and the calling thread, their normal scheduling back at the end.

    If it runs as root, SVT-AV1 takes real-time priority for itself, for its caller, and for whatever the
    caller starts later. With few cores, nothing else would run.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before = _scheduling_policies()
    normal = os.sched_getscheduler(0)
    try:
        yield
    finally:
        for thread, policy in _scheduling_policies().items():
            if policy != before.get(thread, normal):
                with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                    os.sched_setscheduler(thread, before.get(thread, normal), os.sched_param(0))


def _scheduling_policies() -> dict[int, int]:
    """The scheduling policy of each thread of this process, by its id."""
    policies = {}
    tasks = Path("/proc/self/task")
    for thread in [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]:
        with contextlib.suppress(OSError):
            policies[thread] = os.sched_getscheduler(thread)
    return policies


def available_codecs() -> list[str]:
    """The names of the supported encoders that this FFmpeg has. Their hardware may still be missing."""
    return [codec.name for codec in CODECS if _is_available(codec.name)]


def find_codec(name: str) -> Codec:
    """The supported encoder with a name.

    Raises ValueError with the known names if there is none.
    """
    for codec in CODECS:
        if codec.name == name and _is_available(name):
            return codec
    raise ValueError(f"unknown codec {name!r}; known here: auto, {', '.join(available_codecs())}")


@cache
def _is_available(name: str) -> bool:
    import av

    try:
        return av.Codec(name, "w").is_encoder
    except ValueError:
        return False


def options_for(codec: Codec, encoding: Encoding) -> dict[str, str]:
    """FFmpeg's options for the user's choices.

    Raises ValueError for a crf, a preset or an option that the codec does not have, with those that it has.
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
        is_list = name in options and name.endswith("-params")
        options[name] = f"{options[name]}:{value}" if is_list else value
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


def nearest_pixel_format(codec: Codec, wanted: str) -> str:
    """The pixel format closest to ``wanted`` that an encoder takes.

    Formats that lose bit depth come last, and of the rest those that lose chroma. Among equals, the format
    with the least unneeded chroma is taken, then that with the least unneeded depth.

    Raises `EncoderError` if the encoder takes no planar Y'CbCr.
    """
    import av

    formats = av.Codec(codec.name, "w").video_formats
    if formats is None:
        return wanted
    source = av.VideoFormat(wanted, 64, 64)

    def distance(name: str) -> tuple[int, ...]:
        target = av.VideoFormat(name, 64, 64)
        depths = (bit_depth(source), bit_depth(target))
        sides = list(zip(_chroma(source), _chroma(target), strict=True))
        lost = sum(max(0, old - new) for old, new in sides)
        added = sum(max(0, new - old) for old, new in sides)
        return (max(0, depths[0] - depths[1]), lost, added, max(0, depths[1] - depths[0]))

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
    """How many samples of chroma there are for 64 of luma, across and down."""
    if len(format.components) < 3:
        return (0, 0)
    return (format.components[1].width, format.components[1].height)
