"""Upscaled videos: what the result keeps of the input besides its frames."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from subpixel.errors import EncoderError
from subpixel.video.media.hdr import frame_side_data
from video_files import FONT, SUBTITLES, chroma, decoded, luma, make_frames, packets, streams, write
from video_jobs import assert_same_packets, hidden


def test_assert_same_packets_can_fail(tmp_path, rich_video):
    other = write(tmp_path / "other.mkv", make_frames(25), sound="aac", sound_start=0.1, subtitles="subrip")
    with pytest.raises(AssertionError):
        assert_same_packets(rich_video, other)


# Other streams and metadata


def test_matroska_keeps_streams_and_metadata(upscale, rich_video, tmp_path):
    output = tmp_path / "out.mkv"
    report = upscale(rich_video, output)
    assert streams(output) == [
        ("video", "h264"),
        ("audio", "aac"),
        ("subtitle", "srt"),
        ("attachment", "font.ttf"),
    ]
    assert_same_packets(rich_video, output)
    assert report.warnings == ()
    assert hidden(tmp_path) == []
    with av.open(str(output)) as file, av.open(str(rich_video)) as before:
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


def test_mp4_keeps_streams_and_metadata(upscale, tmp_path):
    source = write(
        tmp_path / "in.mp4",
        make_frames(25),
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


def test_a_cover_in_quicktime_is_refused(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(3), cover="png")
    with pytest.raises(EncoderError, match=r"QuickTime cannot hold stream 1 \(cover, png\); write \.mp4"):
        upscale(source, tmp_path / "out.mov")


def test_a_cover_becomes_an_attachment_in_matroska(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(5), cover="png")
    ((data, _),) = packets(source)[0]
    upscale(source, tmp_path / "out.mkv")
    ((kept, _),) = packets(tmp_path / "out.mkv")[0]  # FFmpeg presents it as an attached picture again
    assert kept == data
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams[1].metadata["mimetype"] == "image/png"


def test_further_videos_are_copied(upscale, tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        both = [output.add_stream("libx264", 25, width=64, height=48, pix_fmt="yuv420p") for _ in range(2)]
        for frame in make_frames(6):
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
    """Insert closed captions (ATSC A/53) into each access unit of a raw H.264 stream."""
    words = (
        bytes([0xB5, 0x00, 0x31]) + b"GA94" + bytes([3, 0x40 | len(CAPTIONS) // 3, 0xFF]) + CAPTIONS + b"\xff"
    )
    unit = bytes([6, 4, len(words)]) + words + b"\x80"
    units = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return b"".join(
        b"\0\0\0\1" + (unit + b"\0\0\0\1" if old[0] & 31 in (1, 5) else b"") + old for old in units
    )


def captions(path):
    """The closed captions of each frame."""
    return [
        [bytes(side) for side in frame_side_data(frame) if side.type == Type.A53_CC]
        for frame in decoded(path)
    ]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_closed_captions(upscale, tmp_path, codec):
    source = write(tmp_path / "in.h264", make_frames(6), options={"slices": "1"})
    source.write_bytes(with_captions(source.read_bytes()))
    assert captions(source) == [[CAPTIONS]] * 6
    upscale(source, tmp_path / "out.mkv", codec=codec)
    assert captions(tmp_path / "out.mkv") == [[CAPTIONS]] * 6


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, [[CAPTIONS]] * 6),
        ({"deinterlace": "fields"}, [[CAPTIONS], []] * 6),
        ({"inverse_telecine": True}, [[]] * 5),
    ],
    ids=["frames", "fields", "inverse telecine"],
)
def test_closed_captions_of_interlaced_frames(upscale, tmp_path, options, found):
    """They are not repeated for the second field. Where frames are dropped, their rest would be garbled."""
    interlaced = {"slices": "1", "x264-params": "tff=1", "flags": "+ildct+ilme"}
    source = write(tmp_path / "in.h264", make_frames(6), options=interlaced)
    source.write_bytes(with_captions(source.read_bytes()))
    result = upscale(source, tmp_path / "out.mkv", **options)
    assert captions(tmp_path / "out.mkv") == found
    assert any("captions" in warning for warning in result.warnings) == ("inverse_telecine" in options)


def test_streams_that_a_container_cannot_hold_are_refused_or_dropped(upscale, rich_video, tmp_path):
    words = (
        r"film\.mkv: MP4 cannot hold stream 2 \(subtitles, srt\), stream 3 \(attachment, font\.ttf\); "
        r"write \.mkv, or pass --drop-unsupported"
    )
    with pytest.raises(EncoderError, match=words):
        upscale(rich_video, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert hidden(tmp_path) == []
    report = upscale(rich_video, tmp_path / "out.mp4", drop_unsupported=True)
    assert report.warnings == (
        "dropped, because MP4 cannot hold it: stream 2 (subtitles, srt), stream 3 (attachment, font.ttf)",
    )
    assert streams(tmp_path / "out.mp4")[:2] == [("video", "h264"), ("audio", "aac")]


def test_webm(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(5), sound="libopus")
    report = upscale(source, tmp_path / "out.webm")
    assert report.codec == "libsvtav1"
    assert_same_packets(source, tmp_path / "out.webm")
    with pytest.raises(ValueError, match="WebM cannot be written with libx264; choose libsvtav1"):
        upscale(source, tmp_path / "out2.webm", codec="libx264")


def test_y4m(upscale, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(12), codec="ffv1", sound="aac")
    report = upscale(source, tmp_path / "out.y4m")
    assert report.warnings == ("YUV4MPEG2 contains only frames: sound and all other streams are dropped",)
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    for ours, theirs in zip(decoded(tmp_path / "out.y4m"), decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))
        np.testing.assert_array_equal(chroma(ours), chroma(theirs))
    upscale(tmp_path / "out.y4m", tmp_path / "again.mp4")
    assert len(decoded(tmp_path / "again.mp4")) == 12


@pytest.mark.parametrize("format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gray10le", "gray16le"])
def test_deep_y4m(upscale, tmp_path, format):
    source = write(tmp_path / "in.mkv", make_frames(3, format=format), codec="ffv1")
    upscale(source, tmp_path / "out.y4m")
    upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert decoded(tmp_path / "out.y4m")[0].format.name == format
    for ours, theirs in zip(decoded(tmp_path / "out.y4m"), decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(luma(ours), luma(theirs))


def test_y4m_warns_about_irregular_times_and_rotation(upscale, tmp_path):
    irregular = write(tmp_path / "irregular.mp4", make_frames(4), times=[0, 512, 1024, 38400])
    assert "has one frame rate" in upscale(irregular, tmp_path / "irregular.y4m").warnings[0]
    rotated = write(tmp_path / "rotated.mp4", make_frames(4), rotation=90)
    assert "does not store a rotation" in upscale(rotated, tmp_path / "rotated.y4m").warnings[0]
    plain = write(tmp_path / "plain.mp4", make_frames(4), rotation=0)
    assert upscale(plain, tmp_path / "plain.y4m").warnings == ()


def test_a_container_that_contradicts_the_extension(upscale, rich_video, tmp_path):
    with pytest.raises(ValueError, match=r"the extension means MP4, not Matroska"):
        upscale(rich_video, tmp_path / "out.mp4", container="mkv")
    assert not (tmp_path / "out.mp4").exists()
    upscale(rich_video, tmp_path / "out.mkv", container="mkv")


@pytest.mark.parametrize("codec", ["libsvtav1", "ffv1"])
def test_a_codec_that_a_container_cannot_hold(upscale, tmp_path, codec):
    source = write(tmp_path / "in.mkv", make_frames(3))
    with pytest.raises(EncoderError, match=rf"QuickTime does not support video by {codec}; write \.m"):
        upscale(source, tmp_path / "out.mov", codec=codec)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_the_navigation_of_a_dvd_is_dropped(upscale, tmp_path, extension):
    source = tmp_path / "in.mpg"
    with av.open(source, "w", format="dvd") as file:
        stream = file.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in make_frames(12):
            frame.pts = None
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(source) as file:
        assert [stream.type for stream in file.streams] == ["data", "video"]
    report = upscale(source, tmp_path / f"out.{extension}")
    assert report.frames == 12
    assert "the navigation data of a DVD's menus is dropped" in report.warnings
