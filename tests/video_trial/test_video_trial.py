"""A trial finds, before frames are upscaled, which streams a container supports."""

import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from interpolating import bicubic_model
from subpixel.errors import EncoderError
from subpixel.video.pipeline import run
from video_files import decoded, ffmpeg, make_frames, packets, streams, write, write_with_data

DATA = ("data", "bin_data")


@pytest.fixture
def no_work(monkeypatch):
    """Fail if the job encodes frames."""
    monkeypatch.setattr(
        run, "encode_segments", lambda *_: pytest.fail("frames were encoded before the error")
    )


def data_of(path):
    """Return the data of the packets of each stream except the video stream."""
    return [[data for data, _ in stream] for stream in packets(path)]


# Streams without a codec


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_sensor_data_is_kept(upscale, tmp_path, extension):
    source = write_with_data(tmp_path / "in.mp4", "bin_data")
    report = upscale(source, tmp_path / f"out.{extension}")
    assert streams(tmp_path / f"out.{extension}")[2] == DATA
    assert packets(tmp_path / f"out.{extension}")[1] == packets(source)[1]
    assert report.warnings == ()


def test_sensor_data_is_kept_through_a_pipe(tmp_path):
    source = write_with_data(tmp_path / "in.mp4", "bin_data")
    model = tmp_path / "model.safetensors"
    bicubic_model(2).save(model)
    command = [sys.executable, "-m", "subpixel", "upscale", source, "-o", "-", "--container", "mp4"]
    done = subprocess.run(
        [*command, "--model", model, "--engine", "numpy"], capture_output=True, check=True, text=False
    )
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert data_of(tmp_path / "out.mp4") == data_of(source)


@pytest.mark.parametrize(
    ("name", "codec", "tag", "named"),
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
def test_data_that_no_container_supports(
    upscale, no_work, monkeypatch, tmp_path, name, codec, tag, named, extension
):
    """FFmpeg would write some of it as another type of stream, or not at all."""
    source = write_with_data(tmp_path / name, codec, tag)
    output = tmp_path / f"out.{extension}"
    with pytest.raises(EncoderError, match=rf"cannot hold stream 2 \(data, {named}\); pass --drop-unsup"):
        upscale(source, output)
    assert not list(tmp_path.glob("*out*")), "a file remains"
    monkeypatch.undo()
    report = upscale(source, output, drop_unsupported=True)
    assert f"stream 2 (data, {named})" in report.warnings[0]
    assert [kind for kind, _ in streams(output)] == ["video", "audio"]
    assert data_of(output)[0], "the sound"


def test_an_error_names_data_by_its_code(upscale, no_work, tmp_path):
    source = write_with_data(tmp_path / "in.mp4", "bin_data")
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 2 \(data, gpmd\); write .mp4 or .mov"
    ):
        upscale(source, tmp_path / "out.mkv")


# Streams that a muxer refuses late


@pytest.mark.parametrize("extension", ["avi", "mkv"])
def test_sound_that_a_muxer_refuses_at_the_end(upscale, no_work, tmp_path, extension):
    """MP4 needs the channel layout of PCM, which neither AVI nor Matroska has."""
    source = tmp_path / f"in.{extension}"
    base = write(tmp_path / "base.avi", make_frames(8), codec="mpeg4")
    tone = ["-f", "lavfi", "-i", "sine=d=0.3"]
    ffmpeg("-i", base, *tone, "-c:v", "copy", "-ac", "2", "-c:a", "pcm_s16le", source)
    message = r"MP4 cannot hold stream 1 \(audio, pcm_s16le\); write .mkv or .mov"
    with pytest.raises(EncoderError, match=message):
        upscale(source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_the_containers_that_the_error_names_support_it(upscale, tmp_path):
    base = write(tmp_path / "base.avi", make_frames(8), codec="mpeg4")
    source = tmp_path / "in.mkv"
    ffmpeg(
        "-i", base, "-f", "lavfi", "-i", "sine=d=0.3", "-c:v", "copy", "-ac", "2", "-c:a", "pcm_s16le", source
    )
    for extension in ("mkv", "mov"):
        upscale(source, tmp_path / f"out.{extension}")
        assert b"".join(data_of(tmp_path / f"out.{extension}")[0]) == b"".join(data_of(source)[0])


def test_sound_of_a_tv_recording(upscale, tmp_path):
    """FFmpeg writes the configuration of AAC into Matroska's header at the end."""
    source = write(tmp_path / "in.ts", make_frames(12), sound="aac", time_base=Fraction(1, 90_000))
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv") == [("video", "h264"), ("audio", "aac")]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        sounds = [[frame.to_ndarray() for frame in file.decode(audio=0)] for file in (before, after)]
    np.testing.assert_array_equal(*sounds)


@pytest.mark.parametrize(("codec", "container"), [("alac", "mkv"), ("sonic", "mkv"), ("libvorbis", "ogv")])
def test_packets_without_duration(upscale, tmp_path, codec, container):
    """Matroska has none, and Ogg's last one is negative. In MP4 the last packet must be played, too."""
    base = write(tmp_path / "base.mkv", make_frames(12), sound="aac")
    source = tmp_path / f"in.{container}"
    video = "libtheora" if container == "ogv" else "copy"
    ffmpeg("-i", base, "-c:v", video, "-c:a", codec, "-strict", "-2", source)
    for extension in ("mkv", "mov" if codec == "sonic" else "mp4"):
        upscale(source, tmp_path / f"out.{extension}")
        assert data_of(tmp_path / f"out.{extension}") == data_of(source)


def test_a_stream_of_unknown_type(upscale, tmp_path):
    """FFmpeg does not find TrueHD in a transport stream without the marks of a Blu-ray disc."""
    base = write(tmp_path / "base.mkv", make_frames(12), sound="aac")
    source = tmp_path / "in.ts"
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", "truehd", "-ac", "2", "-ar", "48000", "-strict", "-2", source)
    assert streams(source)[1] == ("unknown", None)
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 1 \(unknown\); pass --drop-unsupported"
    ):
        upscale(source, tmp_path / "out.mkv")
    upscale(source, tmp_path / "out.mkv", drop_unsupported=True)
    assert streams(tmp_path / "out.mkv") == [("video", "h264")]


# Streams that Matroska copies from AVI and Windows Media


def sound_of(path):
    """Return the decoded sound of a video."""
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
def test_sound_that_matroska_supports(upscale, no_work, monkeypatch, tmp_path, codec, extension):
    source = tmp_path / f"in.{extension}"
    base = write(tmp_path / "base.avi", make_frames(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", codec, source)
    with pytest.raises(EncoderError, match=rf"stream 1 \(audio, {codec}\); write .mkv"):
        upscale(source, tmp_path / "out.mp4")
    monkeypatch.undo()
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv")[1] == ("audio", codec)
    assert data_of(tmp_path / "out.mkv") == data_of(source)
    np.testing.assert_array_equal(sound_of(tmp_path / "out.mkv"), sound_of(source))


@pytest.mark.parametrize(("tag", "codec"), [(0x162, "wmapro"), (0xA, "wmavoice"), (0x163, "wmalossless")])
def test_other_sound_of_windows_media(upscale, tmp_path, tag, codec):
    """FFmpeg has no encoder for these. The tag is enough, as sound is not decoded."""
    source = tmp_path / "in.wmv"
    base = write(tmp_path / "base.avi", make_frames(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", "wmav2", source)
    before, after = (struct.pack("<HHI", kind, 1, 44100) for kind in (0x161, tag))
    assert source.read_bytes().count(before) == 1
    source.write_bytes(source.read_bytes().replace(before, after))
    upscale(source, tmp_path / "out.mkv")
    assert streams(tmp_path / "out.mkv")[1] == ("audio", codec)
    assert data_of(tmp_path / "out.mkv") == data_of(source)


def test_a_second_video_stream_that_matroska_supports(upscale, tmp_path):
    base = write(tmp_path / "base.avi", make_frames(12))
    other = tmp_path / "other.avi"
    ffmpeg("-i", base, "-c:v", "cinepak", other)
    source = tmp_path / "in.avi"
    ffmpeg("-i", base, "-i", other, "-map", "0:v", "-map", "1:v", "-c", "copy", source)
    upscale(source, tmp_path / "out.mkv")
    assert [name for _, name in streams(tmp_path / "out.mkv")] == ["h264", "cinepak"]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        small = [[frame.to_ndarray() for frame in file.decode(video=1)] for file in (before, after)]
        assert after.streams[1].average_rate == before.streams[1].average_rate
    assert len(small[0]) == 12
    np.testing.assert_array_equal(*small)


def test_sound_that_matroska_does_not_support(upscale, no_work, tmp_path):
    source = tmp_path / "in.mov"
    base = write(tmp_path / "base.avi", make_frames(12), codec="mpeg4", sound="mp2")
    ffmpeg("-i", base, "-c:v", "copy", "-c:a", "adpcm_ima_qt", source)
    with pytest.raises(
        EncoderError, match=r"Matroska cannot hold stream 1 \(audio, adpcm_ima_qt\); write .mov"
    ):
        upscale(source, tmp_path / "out.mkv")


def test_a_trial_loses_no_packets(upscale, tmp_path):
    """The packets that the trial reads are also in the output."""
    source = write(tmp_path / "in.mp4", make_frames(12), sound="aac", cover="png")
    assert upscale(source, tmp_path / "out.mkv").frames == len(decoded(tmp_path / "out.mkv")) == 12
    assert data_of(tmp_path / "out.mkv") == data_of(source)
