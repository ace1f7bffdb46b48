"""What a container takes of a film is found before the work: kept, or refused by name."""

import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from interpolating import bicubic_model
from subpixel.errors import EncoderError
from subpixel.video.pipeline import work
from video_files import decoded, ffmpeg, packets, pictures, streams, with_data, write

DATA = ("data", "bin_data")


@pytest.fixture
def no_work(monkeypatch):
    """Fail where a frame is made larger."""
    monkeypatch.setattr(work, "encode_segments", lambda *_: pytest.fail("worked before it refused"))


def data_of(path):
    """The packets' data of each stream but the picture."""
    return [[data for data, _ in stream] for stream in packets(path)]


# Streams without a codec


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_what_a_sensor_saw_is_kept(upscale, tmp_path, extension):
    source = with_data(tmp_path / "in.mp4", "bin_data")
    report = upscale(source, tmp_path / f"out.{extension}")
    assert streams(tmp_path / f"out.{extension}")[2] == DATA
    assert packets(tmp_path / f"out.{extension}")[1] == packets(source)[1]
    assert report.warnings == ()


def test_what_a_sensor_saw_is_kept_through_a_pipe(tmp_path):
    source = with_data(tmp_path / "in.mp4", "bin_data")
    model = tmp_path / "model.safetensors"
    bicubic_model(2).save(model)
    command = [sys.executable, "-m", "subpixel", "upscale", source, "-o", "-", "--container", "mp4"]
    done = subprocess.run(
        [*command, "--model", model, "--engine", "numpy"], capture_output=True, check=True, text=False
    )
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert data_of(tmp_path / "out.mp4") == data_of(source)


@pytest.mark.parametrize(
    ("name", "codec", "tag", "told"),
    [
        ("in.mp4", "bin_data", b"mebx", "mebx"),
        ("in.mp4", "bin_data", b"mett", "mett"),
        ("in.mp4", "bin_data", b"mp4s", "mp4s"),
        ("in.mp4", "bin_data", b"camm", "camm"),
        ("in.ts", "timed_id3", None, "timed_id3"),
        ("in.ts", "klv", None, "klv"),
        ("in.ts", "bin_data", None, "bin_data"),
    ],
)
@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_data_that_nothing_holds(upscale, no_work, monkeypatch, tmp_path, name, codec, tag, told, extension):
    """FFmpeg would write some of it as what is no data any more, or nothing."""
    source = with_data(tmp_path / name, codec, tag)
    output = tmp_path / f"out.{extension}"
    with pytest.raises(EncoderError, match=rf"cannot hold stream 2 \(data, {told}\); pass --drop-unsup"):
        upscale(source, output)
    assert not list(tmp_path.glob("*out*")), "something is left behind"
    monkeypatch.undo()
    report = upscale(source, output, drop_unsupported=True)
    assert f"stream 2 (data, {told})" in report.warnings[0]
    assert [kind for kind, _ in streams(output)] == ["video", "audio"]
    assert data_of(output)[0], "the sound"


def test_what_a_sensor_saw_is_named_as_its_maker_does(upscale, no_work, tmp_path):
    source = with_data(tmp_path / "in.mp4", "bin_data")
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 2 \(data, gpmd\); write .mp4 or .mov"
    ):
        upscale(source, tmp_path / "out.mkv")


# What is refused when a file is written


@pytest.mark.parametrize("extension", ["avi", "mkv"])
def test_what_a_muxer_would_refuse_at_the_end(upscale, no_work, tmp_path, extension):
    """MP4 wants to know what the channels of PCM are; neither AVI nor Matroska tells."""
    source = tmp_path / f"in.{extension}"
    made = write(tmp_path / "made.avi", pictures(8), codec="mpeg4")
    tone = ["-f", "lavfi", "-i", "sine=d=0.3"]
    ffmpeg("-i", made, *tone, "-c:v", "copy", "-ac", "2", "-c:a", "pcm_s16le", source)
    told = r"MP4 cannot hold stream 1 \(audio, pcm_s16le\); write .mkv or .mov"
    with pytest.raises(EncoderError, match=told):
        upscale(source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_that_is_held_by_what_is_named(upscale, tmp_path):
    made = write(tmp_path / "made.avi", pictures(8), codec="mpeg4")
    source = tmp_path / "in.mkv"
    ffmpeg(
        "-i", made, "-f", "lavfi", "-i", "sine=d=0.3", "-c:v", "copy", "-ac", "2", "-c:a", "pcm_s16le", source
    )
    for extension in ("mkv", "mov"):
        upscale(source, tmp_path / f"out.{extension}")
        assert b"".join(data_of(tmp_path / f"out.{extension}")[0]) == b"".join(data_of(source)[0])


def test_sound_of_television_in_a_file(upscale, tmp_path):
    """Matroska, written as FFmpeg does it, with its header filled in at the end; one stream, not two."""
    source = write(tmp_path / "in.ts", pictures(12), sound="aac", time_base=Fraction(1, 90_000))
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv") == [("video", "h264"), ("audio", "aac")]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        sounds = [[frame.to_ndarray() for frame in file.decode(audio=0)] for file in (before, after)]
    np.testing.assert_array_equal(*sounds)


@pytest.mark.parametrize(("codec", "container"), [("alac", "mkv"), ("sonic", "mkv"), ("libvorbis", "ogv")])
def test_packets_that_do_not_say_how_long(upscale, tmp_path, codec, container):
    """Matroska has no word on it, and Ogg's last one less than nothing. In MP4 the last is played, too."""
    made = write(tmp_path / "made.mkv", pictures(12), sound="aac")
    source = tmp_path / f"in.{container}"
    picture = "libtheora" if container == "ogv" else "copy"
    ffmpeg("-i", made, "-c:v", picture, "-c:a", codec, "-strict", "-2", source)
    for extension in ("mkv", "mov" if codec == "sonic" else "mp4"):
        upscale(source, tmp_path / f"out.{extension}")
        assert data_of(tmp_path / f"out.{extension}") == data_of(source)


def test_a_stream_that_nobody_knows(upscale, tmp_path):
    """TrueHD in a transport stream that does not say that it is of a Blu-ray disc."""
    made = write(tmp_path / "made.mkv", pictures(12), sound="aac")
    source = tmp_path / "in.ts"
    ffmpeg("-i", made, "-c:v", "copy", "-c:a", "truehd", "-ac", "2", "-ar", "48000", "-strict", "-2", source)
    assert streams(source)[1] == ("unknown", None)
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 1 \(unknown\); pass --drop-unsupported"
    ):
        upscale(source, tmp_path / "out.mkv")
    upscale(source, tmp_path / "out.mkv", drop_unsupported=True)
    assert streams(tmp_path / "out.mkv") == [("video", "h264")]


# What Matroska takes over from AVI and Windows Media


def sound_of(path):
    """What a film's sound decodes to."""
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)


@pytest.mark.parametrize(
    ("codec", "extension"),
    [
        ("wmav1", "wmv"),
        ("wmav2", "wmv"),
        ("adpcm_ms", "avi"),
        ("adpcm_ima_wav", "avi"),
        ("adpcm_yamaha", "avi"),
        ("pcm_alaw", "avi"),
        ("pcm_mulaw", "avi"),
        ("pcm_alaw", "mov"),
        ("pcm_mulaw", "mov"),
    ],
)
def test_sound_that_matroska_takes(upscale, no_work, monkeypatch, tmp_path, codec, extension):
    source = tmp_path / f"in.{extension}"
    made = write(tmp_path / "made.avi", pictures(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", made, "-c:v", "copy", "-c:a", codec, source)
    with pytest.raises(EncoderError, match=rf"stream 1 \(audio, {codec}\); write .mkv"):
        upscale(source, tmp_path / "out.mp4")
    monkeypatch.undo()
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv")[1] == ("audio", codec)
    assert data_of(tmp_path / "out.mkv") == data_of(source)
    np.testing.assert_array_equal(sound_of(tmp_path / "out.mkv"), sound_of(source))


@pytest.mark.parametrize(("tag", "codec"), [(0x162, "wmapro"), (0xA, "wmavoice"), (0x163, "wmalossless")])
def test_more_of_windows_media(upscale, tmp_path, tag, codec):
    """FFmpeg makes none of these; the label decides, as nothing is decoded."""
    source = tmp_path / "in.wmv"
    made = write(tmp_path / "made.avi", pictures(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", made, "-c:v", "copy", "-c:a", "wmav2", source)
    before, after = (struct.pack("<HHI", kind, 1, 44100) for kind in (0x161, tag))
    assert source.read_bytes().count(before) == 1
    source.write_bytes(source.read_bytes().replace(before, after))
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv")[1] == ("audio", codec)
    assert data_of(tmp_path / "out.mkv") == data_of(source)


def test_a_further_video_that_matroska_takes(upscale, tmp_path):
    made = write(tmp_path / "made.avi", pictures(12))
    other = tmp_path / "other.avi"
    ffmpeg("-i", made, "-c:v", "cinepak", other)
    source = tmp_path / "in.avi"
    ffmpeg("-i", made, "-i", other, "-map", "0:v", "-map", "1:v", "-c", "copy", source)
    upscale(source, tmp_path / "out.mkv")
    assert [name for _, name in streams(tmp_path / "out.mkv")] == ["h264", "cinepak"]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        small = [[frame.to_ndarray() for frame in file.decode(video=1)] for file in (before, after)]
        assert after.streams[1].average_rate == before.streams[1].average_rate
    assert len(small[0]) == 12
    np.testing.assert_array_equal(*small)


def test_sound_that_matroska_does_not_take(upscale, no_work, tmp_path):
    source = tmp_path / "in.mov"
    made = write(tmp_path / "made.avi", pictures(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", made, "-c:v", "copy", "-c:a", "adpcm_ima_qt", source)
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 1 \(audio, adpcm_ima_qt\); write .mov"
    ):
        upscale(source, tmp_path / "out.mkv")


def test_the_picture_stays_what_it_was(upscale, tmp_path):
    """A trial takes nothing from the film."""
    source = write(tmp_path / "in.mp4", pictures(12), sound="aac", cover="png")
    assert upscale(source, tmp_path / "out.mkv").frames == len(decoded(tmp_path / "out.mkv")) == 12
    assert data_of(tmp_path / "out.mkv") == data_of(source)
