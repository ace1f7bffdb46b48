"""Plan a job from the streams and the first frame of a video: encoder, container, streams and warnings."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import AnyUpsampling, PixelArtFamily
from subpixel.engines.select import count_at_once
from subpixel.errors import EncoderError, InputError, UnsupportedVideo
from subpixel.sizes import PixelGeometry, TargetSize
from subpixel.video.media.alpha import has_transparent_pixels
from subpixel.video.media.codecs import (
    Codec,
    Encoder,
    Encoding,
    find_codec,
    nearest_pixel_format,
    options_for,
)
from subpixel.video.media.containers import MKV, WEBM, Y4M, Container
from subpixel.video.media.hdr import (
    Hdr,
    describe_unknown,
    display_matrix,
    frame_side_data,
    hdr_options,
    is_quarter_turn,
    prepend_parameters,
    read_hdr,
)
from subpixel.video.media.header import VideoTrack, trimmed_chapters
from subpixel.video.media.immersive import immersive_elements
from subpixel.video.media.pixel_formats import (
    bit_depth,
    chroma_location,
    color_tags,
    has_chroma_location,
    planar_format,
)
from subpixel.video.media.source import Source
from subpixel.video.media.streams import codec_name, describe
from subpixel.video.media.trial import refusals
from subpixel.video.pipeline.deinterlace import Deinterlacing
from subpixel.video.pipeline.encode import encode_one
from subpixel.video.pipeline.frames import FrameUpscaler, can_have_grain
from subpixel.video.pipeline.history import has_history, missing_history

_MAX_BITS_X264 = 10
"""Bits. With ``codec="auto"`` deeper sources go to libx265, which takes 12."""

_SILENT_START_SECONDS = 0.1
"""A video that begins no later than this is shifted to begin at 0 without a warning."""

_SILENT_SOUND_SECONDS = 0.1
"""Hidden sound before the first frame that gives no warning; the delay of a sound encoder is shorter."""

_AUTO = Deinterlacing()


@dataclass
class VideoPlan:
    """Everything that is decided before the first frame is encoded."""

    source: Source
    family: ModelFamily | PixelArtFamily
    target: TargetSize
    container: Container
    encoder: Encoder
    hdr: Hdr
    square_pixels: bool = False
    """Whether anamorphic frames become frames with square pixels."""
    deinterlacing: Deinterlacing = _AUTO
    """What happens to interlaced frames."""
    grain: float = 0.0
    """How much of the noise that the network removes is given back, 0 to 1."""
    warnings: list[str] = field(default_factory=list)
    """What had to be changed or dropped, for users."""

    @cached_property
    def upsampling(self) -> AnyUpsampling:
        """What upsamples the luma of frames."""
        first = self.source.first_frame
        return self.frame_upscaler().upsampling(first.width, first.height)

    def frame_upscaler(self) -> FrameUpscaler:
        """Return what turns decoded frames into frames for the encoder."""
        return FrameUpscaler(
            self.family,
            self.target,
            self.encoder.format,
            _geometry(self.source, self.encoder.codec, self.encoder.format, square=self.square_pixels),
            grain=self.grain,
        )

    @property
    def has_history(self) -> bool:
        """Whether the frames before help to upscale a frame."""
        return has_history(self.upsampling)

    @property
    def frames_at_once(self) -> int:
        """How many frames to upscale at once."""
        return count_at_once(self.upsampling.threads)

    @cached_property
    def track(self) -> VideoTrack:
        """What the container stores about the video stream.

        Opens the encoder once, for its extradata and an encoded gray frame.
        """
        first = self.source.first_frame
        factors = self.encoder.width / first.width, self.encoder.height / first.height
        context = self.encoder.open()
        extradata = context.extradata
        return VideoTrack(
            encoder=self.encoder,
            extradata=extradata,
            hdr=self.hdr,
            matrix=display_matrix(first, *factors),
            immersive=immersive_elements(first, factors[0]),
            sample=b""
            if self.container is Y4M
            else encode_one(context, self.frame_upscaler().gray_frame(first)),
        )


def plan_video(
    source: Source,
    family: ModelFamily | PixelArtFamily,
    target: TargetSize,
    container: Container,
    encoding: Encoding,
    *,
    threads: int,
    square_pixels: bool = False,
    deinterlacing: Deinterlacing = _AUTO,
    grain: float = 0.0,
    drop_unsupported: bool = False,
    to_pipe: bool = False,
) -> VideoPlan:
    """Plan a job.

    Args:
        source: the input. Streams that are dropped are removed from its ``others``.
        family: the models and their engines.
        target: the size of the output.
        container: of the output.
        encoding: the options of the encoder.
        threads: of the encoder.
        square_pixels: whether anamorphic frames become frames with square pixels.
        deinterlacing: what happens to interlaced frames.
        grain: how much of the noise that the network removes is given back, 0 to 1.
        drop_unsupported: whether streams that the container cannot hold are dropped instead of refused.
        to_pipe: whether the output goes to stdout, so that the container's header cannot be updated later.

    Raises:
        EncoderError: the container cannot hold a stream.
        UnsupportedVideo: a copy of a stream would be unreadable, because it is encrypted or compressed.
        ValueError: the codec is unknown, does not fit the container, or does not have an option.
    """
    warnings = [
        *_drop_unsupported(source, container, to_pipe, drop_unsupported),
        *_stream_warnings(source, container),
        *_time_warnings(source, container),
    ]
    first = source.first_frame
    codec = _select_codec(encoding.codec, container, bit_depth(first.format))
    wanted = planar_format(first.format)
    format = nearest_pixel_format(codec, wanted)
    if format != wanted:
        warnings.append(f"the pixel format {wanted} becomes {format}, the closest that {codec.name} supports")
    geometry = _geometry(source, codec, format, square=square_pixels)
    sides = target.for_source(first.width, first.height, geometry)
    wanted_sides = target.for_source(first.width, first.height, replace(geometry, even=False))
    _check_reachable(source, family, target, geometry)
    if sides != wanted_sides:
        warnings.append("{}x{} becomes {}x{}: {} needs even sides".format(*wanted_sides, *sides, codec.name))
    hdr_metadata = read_hdr(first)
    encoder = Encoder(
        codec=codec,
        width=sides[0],
        height=sides[1],
        format=format,
        time_base=source.timeline.time_base / deinterlacing.ticks,
        rate=source.timeline.frame_rate * deinterlacing.rate_factor,
        aspect=Fraction(1) if square_pixels else Fraction(source.stream.sample_aspect_ratio or 0),
        color=color_tags(first),
        threads=threads,
        options=_encoder_options(source, codec, encoding, hdr_metadata),
    )
    plan = VideoPlan(
        source,
        family,
        target,
        container,
        encoder,
        hdr_metadata,
        square_pixels,
        deinterlacing,
        grain,
        warnings,
    )
    if grain and not can_have_grain(plan.upsampling):
        plan.warnings.append("it gets no grain, because no network makes it larger")
    plan.warnings += plan.upsampling.warnings
    plan.warnings += missing_history(family, plan.upsampling)
    return plan


def _check_reachable(
    source: Source, family: ModelFamily | PixelArtFamily, target: TargetSize, geometry: PixelGeometry
) -> None:
    first = source.first_frame
    try:
        FrameUpscaler(family, target, geometry=geometry).upsampling(first.width, first.height)
    except ValueError as error:
        raise InputError(f"{source.name}: {first.width}x{first.height} pixels: {error}") from error


def _geometry(source: Source, codec: Codec, format: str, *, square: bool) -> PixelGeometry:
    return PixelGeometry(
        aspect=Fraction(source.stream.sample_aspect_ratio or 1),
        square=square,
        quarter_turn=is_quarter_turn(display_matrix(source.first_frame)),
        even=_needs_even_sides(codec, format),
    )


def _encoder_options(source: Source, codec: Codec, encoding: Encoding, hdr_metadata: Hdr) -> dict[str, str]:
    """Return FFmpeg's options for the encoder: those of the user, HDR metadata, and the chroma siting."""
    options = prepend_parameters(options_for(codec, encoding), hdr_options(hdr_metadata, codec.name))
    location = chroma_location(source.first_frame)
    is_stated = location != "center" or has_chroma_location(source.stream)
    if location is not None and is_stated:
        options.setdefault("chroma_sample_location", location)
    return options


def _select_codec(name: str, container: Container, depth: int) -> Codec:
    if name == "auto":
        name = (
            "libx265"
            if container.default_codec == "libx264" and depth > _MAX_BITS_X264
            else container.default_codec
        )
    codec = find_codec(name)
    if container.codecs and codec.name not in container.codecs:
        raise ValueError(
            f"{container.name} cannot be written with {codec.name}; choose {' or '.join(container.codecs)}"
        )
    return codec


def _needs_even_sides(codec: Codec, format: str) -> bool:
    subsampled = not format.startswith(("gray", "yuv444"))
    return subsampled and not codec.odd_sides


def _drop_unsupported(source: Source, container: Container, to_pipe: bool, drop: bool) -> list[str]:
    """Refuse the streams that the container cannot hold, or drop them and return warnings."""
    if container is Y4M:
        source.others = []
        return []
    warnings = [*_drop_dvd_navigation(source), *_drop_unreadable(source, drop)]
    refused = refusals(container, source, to_pipe=to_pipe)
    if not refused:
        return warnings
    what = ", ".join(refusal.description for refusal in refused)
    if drop:
        dropped = {refusal.stream.index for refusal in refused}
        source.others = [stream for stream in source.others if stream.index not in dropped]
        return [*warnings, f"dropped, because {container.name} cannot hold it: {what}"]
    holders = [
        each for each in refused[0].alternatives if all(each in refusal.alternatives for refusal in refused)
    ]
    cure = f"write {' or '.join(each.extensions[0] for each in holders)}, or " if holders else ""
    raise EncoderError(
        f"{source.name}: {container.name} cannot hold {what}; "
        f"{cure}pass --drop-unsupported (drop_unsupported=True) to drop it"
    )


def _drop_dvd_navigation(source: Source) -> list[str]:
    """Drop what only a DVD player uses: no other container holds it, and every file from a DVD has it."""
    kept = [stream for stream in source.others if codec_name(stream) != "dvd_nav_packet"]
    if len(kept) == len(source.others):
        return []
    source.others = kept
    return ["the navigation data of a DVD's menus is dropped"]


def _drop_unreadable(source: Source, drop: bool) -> list[str]:
    """Refuse the streams of which a copy would be unreadable, or drop them and return warnings."""
    unreadable = {stream.index: why for stream in source.others if (why := source.why_unreadable(stream))}
    reasons = [
        f"{describe(stream)} {unreadable[stream.index]}"
        for stream in source.others
        if stream.index in unreadable
    ]
    if reasons and not drop:
        raise UnsupportedVideo(
            f"{source.name}: {', '.join(reasons)}, "
            "or pass --drop-unsupported (drop_unsupported=True) to drop it"
        )
    source.others = [stream for stream in source.others if stream.index not in unreadable]
    return [f"dropped: {reason.partition(';')[0]}" for reason in reasons]


def _stream_warnings(source: Source, container: Container) -> list[str]:
    """Return warnings about streams and properties of frames that the result does not keep."""
    from av.sidedata.sidedata import Type

    warnings = []
    first = source.first_frame
    side_data = {side.type for side in frame_side_data(first)}
    if container is Y4M and len(source.container.streams) > 1:
        warnings.append("YUV4MPEG2 contains only frames: sound and all other streams are dropped")
    if container is Y4M and display_matrix(first) is not None:
        warnings.append("YUV4MPEG2 does not store a rotation: players show the result unrotated")
    if (
        has_transparent_pixels(first)
        or source.has_alpha_blocks
        or source.stream.metadata.get("alpha_mode") == "1"
    ):
        warnings.append("its transparency is dropped")
    if Type.DOVI_METADATA in side_data or Type.DOVI_RPU_BUFFER in side_data:
        warnings.append("its Dolby Vision data is dropped, because it describes the frames of the input")
    if dropped := describe_unknown(each.name for each in side_data):
        warnings.append(f"dropped, because PyAV cannot copy it: {', '.join(dropped)}")
    if "mpegts" in source.container.format.name and len(source.container.streams.video) > 1:
        warnings.append("the programs of MPEG-TS are not kept, only their streams")
    if container is WEBM and source.stream.sample_aspect_ratio not in (None, 0, 1):
        warnings.append("WebM does not store the pixel aspect ratio")
    return warnings


def _time_warnings(source: Source, container: Container) -> list[str]:
    """Return warnings about changes of the times."""
    warnings = []
    timeline = source.timeline
    if timeline.origin < 0 and not timeline.time_range:
        warnings.append(f"begins before 0: all times are shifted by {float(-timeline.origin):g} s")
    if timeline.origin > _SILENT_START_SECONDS:
        warnings.append(
            f"begins at {round(float(timeline.origin), 3):.12g} s: the result begins at 0, "
            "and --start and --end count from there"
        )
    if not timeline.time_range and (
        early := len(source.container.chapters()) - len(trimmed_chapters(source))
    ):
        warnings.append(f"{early} chapters end before the video begins, and are dropped")
    if (
        container in (MKV, WEBM)
        and not timeline.time_range
        and (seconds := source.hidden_sound_seconds) > _SILENT_SOUND_SECONDS
    ):
        warnings.append(f"{container.name} plays {seconds:.2f} s of sound that the input's edit list hides")
    per_millisecond = timeline.time_base * 1000
    # FFmpeg reads delays of an APNG in a unit of its own; few are finer than a millisecond.
    is_animation = source.container.format.name == "apng"
    if container in (MKV, WEBM) and per_millisecond.denominator != 1 and not is_animation:
        warnings.append(f"{container.name} stores times in milliseconds")
    return warnings
