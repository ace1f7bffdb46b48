"""What will be made of a video, decided from its streams and its first frame before any work starts."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from subpixel.engines.base import Engine
from subpixel.engines.select import CompiledModel
from subpixel.errors import EncoderError, UnsupportedVideo
from subpixel.video.media.alpha import see_through
from subpixel.video.media.codecs import Codec, Encoder, Encoding, find_codec, options_for, pixel_format
from subpixel.video.media.containers import MKV, WEBM, Y4M, Container
from subpixel.video.media.hdr import (
    Hdr,
    attached,
    display_matrix,
    encoder_options,
    hdr,
    unknown,
    with_parameters,
)
from subpixel.video.media.immersive import immersive
from subpixel.video.media.mux import Track, chapters, describe
from subpixel.video.media.source import Source
from subpixel.video.media.trial import refusals
from subpixel.video.pipeline.encode import sample
from subpixel.video.pipeline.frames import (
    FrameUpscaler,
    bits,
    chroma_location,
    color,
    planar,
    says_where_chroma_lies,
)

_DEEPEST_X264 = 10
"""Bits; deeper sources go to libx265, which takes 12, where no codec is asked for."""

_AT_ONCE_SECONDS = 0.1
"""A film that begins no later than this begins at 0 without a word."""

_HEARD_SECONDS = 0.1
"""Of sound before the picture begins; an encoder's own delay is shorter."""


@dataclass
class Plan:
    """How one video becomes another."""

    source: Source
    compiled: CompiledModel
    container: Container
    encoder: Encoder
    hdr: Hdr
    notices: list[str] = field(default_factory=list)
    """What had to be changed or left out, in words for people."""

    @property
    def engine(self) -> Engine:
        """What runs the model on the video's samples."""
        return self.compiled.engine_for(np.uint8 if bits(self.source.first.format) <= 8 else np.uint16)

    def frame_upscaler(self) -> FrameUpscaler:
        """What makes the encoder's frames of the decoder's."""
        return FrameUpscaler(
            self.compiled, self.encoder.format, even=_even(self.encoder.codec, self.encoder.format)
        )

    @cached_property
    def track(self) -> Track:
        """What the container is told of the picture. Opens the encoder once, to ask for its extradata, and
        for a picture.
        """
        first, scale = self.source.first, self.compiled.scale
        context = self.encoder.open()
        extradata = context.extradata
        return Track(
            encoder=self.encoder,
            extradata=extradata,
            hdr=self.hdr,
            matrix=display_matrix(first, scale),
            immersive=immersive(first, scale),
            sample=b"" if self.container is Y4M else sample(context, self.frame_upscaler().blank(first)),
        )


def make_plan(
    source: Source,
    compiled: CompiledModel,
    container: Container,
    encoding: Encoding,
    *,
    threads: int,
    drop_unsupported: bool = False,
    to_pipe: bool = False,
) -> Plan:
    """Decide.

    Args:
        source: the input. Streams that are left out are taken off its ``others``.
        compiled: the model and its engines.
        container: of the output.
        encoding: what is asked of the encoder.
        threads: of the encoder.
        drop_unsupported: whether streams that the container cannot hold are left out, instead of refused.
        to_pipe: whether the output goes to stdout, where nothing can be mended later.

    Raises:
        EncoderError: the container cannot hold a stream.
        ValueError: the encoder is unknown, or does not know what is asked of it, or not fit for the
        container.
    """
    notices = [*_left_out(source, container, to_pipe, drop_unsupported), *_about_input(source, container)]
    first = source.first
    codec = _codec(encoding.codec, container, bits(first.format))
    wanted = planar(first.format)
    format = pixel_format(codec, wanted)
    if format != wanted:
        notices.append(f"{wanted} becomes {format}, the nearest that {codec.name} takes")
    sides = FrameUpscaler(compiled, format, even=_even(codec, format)).size(first.width, first.height)
    if sides != (first.width * compiled.scale, first.height * compiled.scale):
        notices.append(
            f"made even for {codec.name}, {sides[0]}x{sides[1]}: the last row or column is repeated"
        )
    light = hdr(first)
    options = with_parameters(options_for(codec, encoding), encoder_options(light, codec.name))
    location = chroma_location(first)
    if location == "center" and not says_where_chroma_lies(source.stream):
        location = None
    if location is not None:
        options.setdefault("chroma_sample_location", location)
    encoder = Encoder(
        codec=codec,
        width=sides[0],
        height=sides[1],
        format=format,
        time_base=source.time_base,
        rate=source.rate,
        aspect=Fraction(source.stream.sample_aspect_ratio or 0),
        color=color(first),
        threads=threads,
        options=options,
    )
    return Plan(source, compiled, container, encoder, light, notices)


def _codec(name: str, container: Container, depth: int) -> Codec:
    if name == "auto":
        name = "libx265" if container.codec == "libx264" and depth > _DEEPEST_X264 else container.codec
    codec = find_codec(name)
    if container.codecs and codec.name not in container.codecs:
        raise ValueError(
            f"{container.name} is not written with {codec.name}, only with {', '.join(container.codecs)}"
        )
    return codec


def _even(codec: Codec, format: str) -> bool:
    subsampled = not format.startswith(("gray", "yuv444"))
    return subsampled and not codec.odd_sides


def _left_out(source: Source, container: Container, to_pipe: bool, drop: bool) -> list[str]:
    """Refuse streams that the container cannot hold, or leave them out and say so."""
    if container is Y4M:
        source.others = []
        return []
    notices = _without_sealed(source, drop)
    refused = refusals(container, source, to_pipe=to_pipe)
    if not refused:
        return notices
    what = ", ".join(refusal.what for refusal in refused)
    if drop:
        gone = {refusal.stream.index for refusal in refused}
        source.others = [stream for stream in source.others if stream.index not in gone]
        return [*notices, f"left out, as {container.name} cannot hold it: {what}"]
    holders = [kind for kind in refused[0].holders if all(kind in refusal.holders for refusal in refused)]
    cure = f"write {' or '.join(kind.extensions[0] for kind in holders)}, or " if holders else ""
    raise EncoderError(
        f"{source.name}: {container.name} cannot hold {what}; "
        f"{cure}pass --drop-unsupported (drop_unsupported=True) to leave that out"
    )


def _without_sealed(source: Source, drop: bool) -> list[str]:
    """Refuse streams of which a copy would be unreadable, or leave them out and say so."""
    sealed = {stream.index: why for stream in source.others if (why := source.sealed(stream))}
    words = [
        f"{describe(stream)} {sealed[stream.index]}" for stream in source.others if stream.index in sealed
    ]
    if words and not drop:
        raise UnsupportedVideo(
            f"{source.name}: {', '.join(words)}, "
            "or pass --drop-unsupported (drop_unsupported=True) to leave that out"
        )
    source.others = [stream for stream in source.others if stream.index not in sealed]
    return [f"left out: {each.partition(';')[0]}" for each in words]


def _about_input(source: Source, container: Container) -> list[str]:
    from av.sidedata.sidedata import Type

    notices = []
    first = source.first
    kinds = {side.type for side in attached(first)}
    if container is Y4M and len(source.container.streams) > 1:
        notices.append("YUV4MPEG2 holds the picture alone: sound and all else are left out")
    if container is Y4M and display_matrix(first) is not None:
        notices.append("players turn it, as it says; YUV4MPEG2 cannot say so, and shows it as it lies")
    if first.interlaced_frame:
        notices.append(
            "interlaced: its lines belong to two moments, and the result is marked as progressive; "
            "deinterlace it first for a good result"
        )
    if see_through(first) or source.alpha_beside or source.stream.metadata.get("alpha_mode") == "1":
        notices.append("its transparency is left out")
    if Type.DOVI_METADATA in kinds or Type.DOVI_RPU_BUFFER in kinds:
        notices.append("Dolby Vision's data is left out: it belongs to the small picture")
    if left_out := unknown(kind.name for kind in kinds):
        notices.append(f"left out, as it cannot be passed on: {', '.join(left_out)}")
    if source.origin < 0 and not source.time_range:
        notices.append(f"begins before 0: all is moved by {float(-source.origin):g} s, so that all is shown")
    if source.origin > _AT_ONCE_SECONDS:
        notices.append(
            f"begins at {round(float(source.origin), 3):.12g} s: all is moved to begin at 0, "
            "and a part is counted from there"
        )
    if not source.time_range and (early := len(source.container.chapters()) - len(chapters(source))):
        notices.append(f"{early} chapters end before the film begins, and are left out")
    if "mpegts" in source.container.format.name and len(source.container.streams.video) > 1:
        notices.append("which stream belongs to which program of MPEG-TS is not kept")
    if (
        container in (MKV, WEBM)
        and not source.time_range
        and (seconds := source.hidden_seconds) > _HEARD_SECONDS
    ):
        notices.append(f"{container.name} plays {seconds:.2f} s of sound that the input's edit list hides")
    per_millisecond = source.time_base * 1000
    if container in (MKV, WEBM) and per_millisecond.denominator != 1:
        notices.append(f"{container.name} keeps times to the millisecond")
    if container is WEBM and source.stream.sample_aspect_ratio not in (None, 0, 1):
        notices.append("WebM does not keep the shape of samples that are not square")
    return notices
