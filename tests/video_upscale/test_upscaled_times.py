"""Upscaled videos: times of frames and of other streams."""

from fractions import Fraction

import av
import pytest

from video_files import decoded, make_frames, packets, times, write, write_broadcast
from video_jobs import assert_same_packets

EXACT = {"mp4": Fraction(0), "mov": Fraction(0), "mkv": Fraction(1, 2000)}


@pytest.mark.parametrize("extension", EXACT)
def test_frames_at_irregular_times(upscale, tmp_path, extension):
    irregular = [0, 311, 900, 4000, 4001, 9000, 12345, 12800, 20000, 20512, 33000, 40000, 40001, 41000]
    source = write(tmp_path / "in.mp4", make_frames(14), times=irregular)
    assert times(source) == [Fraction(time, 12800) for time in irregular]
    upscale(source, tmp_path / f"out.{extension}")
    found = times(tmp_path / f"out.{extension}")
    for ours, theirs in zip(found, times(source), strict=True):
        assert abs(ours - theirs) <= EXACT[extension]


@pytest.mark.parametrize("extension", EXACT)
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "ffv1"])
def test_the_last_frame_keeps_its_duration(upscale, tmp_path, codec, extension):
    """It matters in screen recordings and slide shows; no next frame tells when it ends."""
    if (codec, extension) in (("ffv1", "mp4"), ("ffv1", "mov"), ("libsvtav1", "mov")):
        pytest.skip("the container cannot hold it")
    regular = [number * 512 for number in range(13)]
    source = write(tmp_path / "in.mkv", make_frames(13), times=regular, last=5 * 12800)
    expected = duration(source)
    assert abs(expected - 12 * 0.04 - 5) < 0.002
    report = upscale(source, tmp_path / f"out.{extension}", codec=codec)
    assert abs(duration(tmp_path / f"out.{extension}") - expected) < 0.002
    assert report.missing_frames == 0
    assert upscale(source, tmp_path / f"part.{extension}", codec=codec, start=0.2, end=2).frames == 8
    assert abs(duration(tmp_path / f"part.{extension}") - 1.8) < 0.002


@pytest.mark.parametrize("extension", EXACT)
def test_a_jump_in_the_times_keeps_the_duration(upscale, tmp_path, extension):
    """With B-frames, MP4 stores decoding durations, and that before the jump is seconds long."""
    times = [0, 512, *(89600 + 512 * number for number in range(20))]
    source = write(tmp_path / "in.mp4", make_frames(22), times=times)
    upscale(source, tmp_path / f"out.{extension}")
    assert abs(duration(tmp_path / f"out.{extension}") - (times[-1] + 512) / 12800) < 0.002


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_frames_without_durations(upscale, tmp_path, codec):
    """As in transport streams without a rate: the last frame gets the usual duration."""
    options = {"x264-params": "force-cfr=0"}
    source = write(tmp_path / "in.flv", make_frames(12), options=options, time_base=Fraction(1, 1000))
    upscale(source, tmp_path / "out.mp4", codec=codec)
    with av.open(str(tmp_path / "out.mp4")) as file:
        video = file.streams.video[0]
        assert abs(video.duration * video.time_base - Fraction(12, 25)) < 0.001


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
@pytest.mark.parametrize(("start", "end", "frames"), [(3, 4, 1), (3, 12, 3), (21, 24, 1)])
def test_time_ranges_of_slide_shows(upscale, tmp_path, extension, start, end, frames):
    slides = [number * 5 * 12800 for number in range(5)]
    source = write(tmp_path / f"in.{extension}", make_frames(5), times=slides, last=5 * 12800)
    output = tmp_path / f"out.{extension}"
    assert upscale(source, output, start=start, end=end).frames == frames
    assert times(output)[0] == 0
    assert abs(duration(output) - (end - start)) < 0.002


def duration(path):
    """Return the duration of a video in seconds."""
    with av.open(str(path)) as file:
        return file.duration / 1e6


def test_frames_that_an_edit_list_hides_are_not_missing(upscale, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(25), options={"bf": "0"})
    shown, content = 600, source.read_bytes()
    offset = content.index(b"elst") + 12
    assert int.from_bytes(content[offset : offset + 4]) == 1000
    source.write_bytes(content[:offset] + shown.to_bytes(4) + content[offset + 4 :])
    report = upscale(source, tmp_path / "out.mp4")
    assert report.missing_frames == 0
    assert report.frames == len(decoded(source)) < 20


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_the_encoder_chooses_its_own_key_frames(upscale, tmp_path, codec):
    """Decoded frames state their type in the input, here key frames."""
    source = write(tmp_path / "in.mkv", make_frames(8), codec="ffv1")
    upscale(source, tmp_path / "out.mkv", codec=codec)
    with av.open(str(tmp_path / "out.mkv")) as file:
        keys = [packet.is_keyframe for packet in file.demux(video=0) if packet.size]
    assert keys == [True] + [False] * 7


@pytest.mark.parametrize("extension", EXACT)
@pytest.mark.parametrize("sound_start", [0, 1.5])
def test_sound_that_starts_early_or_late(upscale, tmp_path, extension, sound_start):
    """AAC in MP4 begins before 0; other streams must not be shifted for that."""
    source = write(tmp_path / "in.mp4", make_frames(20), sound="aac", sound_start=sound_start)
    assert packets(source)[0][0][1] < sound_start
    upscale(source, tmp_path / f"out.{extension}")
    assert_same_packets(source, tmp_path / f"out.{extension}", EXACT[extension])
    assert times(tmp_path / f"out.{extension}")[0] == 0


def test_a_stream_that_starts_late(upscale, tmp_path):
    """A transport stream that begins at 1.4 s: all streams are shifted alike, to begin at 0."""
    source = write_broadcast(
        tmp_path / "in.ts",
        make_frames(10),
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
    source = write(tmp_path / "in.mp4", make_frames(20), sound="aac", container_options=options)
    upscale(source, tmp_path / "out.mp4")
    assert_same_packets(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(source)
