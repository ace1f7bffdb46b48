"""Upscaled videos: all that is carried over from the input beside the picture."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from subpixel.errors import EncoderError
from subpixel.video.media.hdr import attached
from video_files import FONT, SUBTITLES, chroma, decoded, luma, packets, pictures, streams, write
from video_jobs import assert_same_packets, hidden


def test_the_comparison_can_fail(tmp_path, film):
    other = write(tmp_path / "other.mkv", pictures(25), sound="aac", sound_start=0.1, subtitles="subrip")
    with pytest.raises(AssertionError):
        assert_same_packets(film, other)


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
