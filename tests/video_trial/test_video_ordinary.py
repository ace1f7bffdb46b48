"""Videos of common recorders, players and programs are upscaled without warnings, at their times."""

import subprocess
import sys

import av
import pytest

from interpolating import bicubic_model
from video_files import decoded, ffmpeg, make_frames, packets, streams, write


def write_with_sound(path, codec, *options, delay=0):
    """Write a video with sound of a codec that begins ``delay`` seconds later."""
    base = write(path.with_name("base.mkv"), make_frames(12), options={"bf": "0"}, sound="aac")
    inputs = ["-i", base, "-itsoffset", delay, "-i", base, "-map", "0:v", "-map", "1:a", "-c:v", "copy"]
    return ffmpeg(*inputs, "-c:a", codec, "-ar", "48000", *options, path)


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize("near", [True, False])
def test_sound_that_a_muxer_must_parse(upscale, monkeypatch, tmp_path, codec, extension, near):
    """Its first packet comes after the first frames, as in TV recordings, and may be too far to be found."""
    source, output = tmp_path / "in.mkv", tmp_path / f"out.{extension}"
    write_with_sound(source, codec, delay=0.2)
    if not near:
        monkeypatch.setattr("subpixel.video.media.source._MAX_READ_AHEAD", 0)
    upscale(source, output)
    assert streams(output)[1] == ("audio", codec)
    assert [data for data, _ in packets(output)[0]] == [data for data, _ in packets(source)[0]]


def test_packets_of_the_same_millisecond(upscale, tmp_path):
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_with_sound(source, "truehd", "-strict", "-2")
    upscale(source, output)
    assert packets(output)[0] == packets(source)[0]


def test_a_bare_stream_whose_frame_rate_counts_ticks(upscale, tmp_path):
    """FFmpeg gives DV 60,000 frames per second, for which MP4 has no timecode."""
    base = write(tmp_path / "base.mkv", make_frames(3, 720, 576, "yuv420p"))
    ffmpeg("-i", base, "-c:v", "dvvideo", tmp_path / "in.dv")
    for extension in ("mp4", "mkv"):
        output = tmp_path / f"out.{extension}"
        upscale(tmp_path / "in.dv", output)
        with av.open(str(output)) as file:
            assert file.streams.video[0].average_rate == 25
        assert len(decoded(output)) == 3


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_titles_of_streams(upscale, tmp_path, extension):
    """MP4 stores them as names of its streams."""
    base = write(tmp_path / "base.mkv", make_frames(4), sound="aac")
    titles = ["-metadata:s:v", "title=The video", "-metadata:s:a", "title=The sound"]
    for source in (tmp_path / "in.mkv", tmp_path / "in.mp4"):
        output = tmp_path / f"{source.suffix[1:]}.{extension}"
        ffmpeg("-i", base, "-c", "copy", *titles, source)
        assert not [warning for warning in upscale(source, output).warnings if "tag" in warning]
        with av.open(str(output)) as file:
            found = [stream.metadata.get("title") or stream.metadata.get("name") for stream in file.streams]
        assert found == ["The video", "The sound"]


def test_the_program_that_wrote_an_avi_is_not_reported_as_lost(upscale, tmp_path):
    write(tmp_path / "in.avi", make_frames(4), codec="mpeg4", sound="mp2")
    assert upscale(tmp_path / "in.avi", tmp_path / "out.mp4").warnings == ()


@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_a_time_range_has_the_sound_before_the_first_frame(upscale, tmp_path, extension):
    base = write(tmp_path / "base.mkv", make_frames(25), sound="mp2")
    late = ["-itsoffset", 3, "-i", base, "-i", base, "-map", "0:v", "-map", "1:a", "-c", "copy"]
    ffmpeg(*late, tmp_path / f"in.{extension}")
    upscale(tmp_path / f"in.{extension}", tmp_path / "out.mkv", start=0.3)
    expected = [data for data, time in packets(tmp_path / f"in.{extension}")[0] if time >= 0.3]
    assert [data for data, _ in packets(tmp_path / "out.mkv")[0]] == expected


def test_an_opaque_gif_is_not_transparent(upscale, tmp_path):
    """FFmpeg decodes all GIFs to a format with alpha."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x32:d=0.2:r=25", tmp_path / "in.gif")
    assert decoded(tmp_path / "in.gif")[0].format.name == "bgra"
    for extension in ("mp4", "mkv"):
        (warning,) = upscale(tmp_path / "in.gif", tmp_path / f"out.{extension}").warnings
        assert "repeats without an end" in warning


def write_transparent(path, format):
    """Write a video of PNGs of which only later frames have transparent pixels."""
    later = f"color=red:s=32x32:d=0.2:r=25,format=rgba,geq=r=255:g=0:b=0:a='if(lt(N,2),255,120)',{format}"
    return ffmpeg("-f", "lavfi", "-i", later, "-c:v", "png", path)


@pytest.mark.parametrize("format", ["format=rgba", "split[a][b];[a]palettegen[p];[b][p]paletteuse"])
def test_transparency_of_later_frames(upscale, tmp_path, format):
    """With alpha in the pixels, and in a palette."""
    write_transparent(tmp_path / "in.mov", format)
    warnings = upscale(tmp_path / "in.mov", tmp_path / "out.mkv").warnings
    assert "the transparency of later frames is dropped" in warnings
    warnings = upscale(tmp_path / "in.mov", tmp_path / "part.mkv", start=0.08).warnings
    assert "its transparency is dropped" in warnings


def test_sound_that_a_muxer_must_parse_through_pipes(tmp_path):
    source, model = tmp_path / "in.ts", tmp_path / "model.safetensors"
    write_with_sound(source, "ac3", delay=0.2)
    bicubic_model(2).save(model)
    command = [sys.executable, "-m", "subpixel", "upscale", "-", "-o", "-", "--container", "mp4"]
    with source.open("rb") as stdin:
        done = subprocess.run(
            [*command, "--model", model, "--engine", "numpy"], stdin=stdin, stdout=subprocess.PIPE, check=True
        )
    (tmp_path / "out.mp4").write_bytes(done.stdout)
    assert streams(tmp_path / "out.mp4")[1] == ("audio", "ac3")
    assert [data for data, _ in packets(tmp_path / "out.mp4")[0]] == [data for data, _ in packets(source)[0]]
