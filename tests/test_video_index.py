"""Frames that are decoded from the middle of a video equal those of a decode from its start."""

import contextlib
import hashlib
import random
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest

from interlaced_files import interlaced, marked, render
from subpixel.video.media.access_points import Access
from subpixel.video.media.frame_index import NoRandomAccess, OtherFrames, frame_index
from subpixel.video.media.index import PacketIndex, read_index
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.window import read_window
from video_files import ffmpeg, make_frames, write

COUNT = 120
RANDOM = random.Random(30)


def digest(frame):
    """What distinguishes a frame from another: its times and its samples."""
    samples = hashlib.sha256()
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
        samples.update(np.ascontiguousarray(rows[:, : plane.width]).tobytes())
    return frame.pts, frame.duration, frame.time_base, frame.interlaced_frame, samples.hexdigest()


class Video:
    """An opened video with its index."""

    def __init__(self, path, time_range=TimeRange()):  # noqa: B008 - it is frozen
        self.path, self.time_range = path, time_range
        self.source = open_source(path, time_range)
        self.packets = read_index(self.source)

    @property
    def frames(self):
        return frame_index(self.packets, self.source)

    def whole(self):
        source = open_source(self.path, self.time_range)
        found = [digest(event) for event in source.events() if not is_packet(event)]
        source.close()
        return found, source.decode_errors

    def window(self, first, count):
        """The frames from a position of the time range on."""
        position = self.frames.first + first
        frames = read_window(self.source, self.packets, self.frames, position)
        found = [digest(frame) for frame in islice(frames, count)]
        frames.close()
        return found


@pytest.fixture
def video():
    opened = []

    def open_video(path, *time_range):
        opened.append(Video(path, TimeRange(*time_range)))
        return opened[-1]

    yield open_video
    for each in opened:
        each.source.close()


def assert_same(video, count=COUNT):
    """Assert that windows at random positions have the frames of a decode from the start."""
    whole, errors = video.whole()
    assert len(whole) == len(video.frames) == count == errors.frames
    for first in [count - 1, 0, *(RANDOM.randrange(count) for _ in range(5))]:
        length = RANDOM.randrange(1, 30)
        assert video.window(first, length) == whole[first : first + length]


# Containers and codecs

H264 = {"preset": "medium", "g": "30", "bf": "3", "b_strategy": "0"}
HEVC = {"x265-params": "log-level=error:keyint=30"}
VPX = {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "12", "b": "200k", "cpu-used": "5"}
SEEKABLE = {
    "h264.mp4": ("libx264", H264),
    "h264.mkv": ("libx264", H264),
    "h264.ts": ("libx264", H264),
    "h264.flv": ("libx264", H264),
    "h264.avi": ("libx264", H264),
    "open.mkv": ("libx264", H264 | {"x264-params": "open-gop=1"}),
    "open.ts": ("libx264", H264 | {"x264-params": "open-gop=1"}),
    "hevc.mp4": ("libx265", HEVC),
    "hevc.ts": ("libx265", HEVC),
    "mpeg2.vob": ("mpeg2video", {"g": "15", "bf": "2"}),
    "mpeg2.ts": ("mpeg2video", {"g": "15", "bf": "2"}),
    "mpeg1.mkv": ("mpeg1video", {"g": "15", "bf": "2"}),
    "mpeg4.mov": ("mpeg4", {"g": "20", "bf": "2"}),
    "mpeg4.avi": ("mpeg4", {"g": "20"}),
    "mpeg4-b.avi": ("mpeg4", {"g": "20", "bf": "2"}),
    "mpeg2.asf": ("mpeg2video", {"g": "15", "bf": "2"}),
    "msmpeg4.asf": ("msmpeg4", {"g": "20"}),
    "wmv2.asf": ("wmv2", {"g": "20"}),
    "flv1.flv": ("flv", {"g": "20"}),
    "vp8.webm": ("libvpx", VPX),
    "vp9.mkv": ("libvpx-vp9", VPX),
    "av1.mp4": ("libsvtav1", {"g": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "ffv1.mkv": ("ffv1", {"g": "10"}),
    "mjpeg.avi": ("mjpeg", {}),
    "prores.mov": ("prores_ks", {}),
    "huffyuv.avi": ("huffyuv", {}),
}
FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "huffyuv": "yuv422p"}


def write_kind(path, kind):
    codec, options = SEEKABLE[kind]
    frames = make_frames(COUNT, format=FORMATS.get(codec, "yuv420p"))
    sound = "mp2" if path.suffix in (".ts", ".vob", ".mpg", ".avi") else None
    return write(path, frames, codec=codec, options=options, time_base=Fraction(1, 25), sound=sound)


@pytest.mark.parametrize("kind", SEEKABLE)
def test_windows_have_the_frames_of_the_whole(video, tmp_path, kind):
    opened = video(write_kind(tmp_path / f"in.{kind.split('.')[1]}", kind))
    assert_same(opened)
    last = opened.frames.packets[-1]
    assert last - opened.frames.entry(COUNT - 1) < 62  # one group before the last one, at most


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("refresh.mkv", "libx264", {"x264-params": "intra-refresh=1", "g": "30"}),
        ("refresh.ts", "libx264", {"x264-params": "intra-refresh=1", "g": "30"}),
        ("one.mp4", "libx264", {"g": "1000"}),
        ("open.avi", "libx264", H264 | {"x264-params": "open-gop=1"}),  # AVI has decode times only
    ],
)
def test_without_a_safe_key_frame_decoding_begins_at_the_start(video, tmp_path, kind, codec, options):
    """Where frames are refreshed column by column, some packets are marked as key frames, and are none."""
    path = write(tmp_path / f"in.{kind.split('.')[1]}", make_frames(COUNT), codec=codec, options=options)
    opened = video(path)
    assert_same(opened)
    assert opened.frames.entry(COUNT - 1) == 0


@pytest.mark.parametrize("options", [H264, H264 | {"x264-params": "open-gop=1"}])
def test_an_mp4_that_marks_all_packets_as_key_frames(video, tmp_path, options):
    path = write(tmp_path / "in.mp4", make_frames(COUNT), options=options)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    opened = video(path)
    assert_same(opened)
    assert opened.frames.entry(COUNT - 1) >= 89


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize("start", ["1.28", "2.52"])
def test_an_edit_list_that_hides_frames(video, tmp_path, extension, start):
    whole = write(tmp_path / "whole.mp4", make_frames(COUNT), options=H264)
    path = tmp_path / f"in.{extension}"
    ffmpeg("-ss", start, "-i", whole, "-c", "copy", path)
    assert_same(video(path), COUNT - round(25 * float(start)))


def test_times_below_0(video, tmp_path):
    path = write(tmp_path / "in.mov", make_frames(COUNT), options=H264, times=range(-3072, 58368, 512))
    opened = video(path)
    assert_same(opened, len(opened.whole()[0]))


@pytest.mark.parametrize("extension", ["ts", "mkv", "mp4"])
def test_a_late_video_with_a_variable_frame_rate(video, tmp_path, extension):
    steps = [RANDOM.choice([1, 1, 2, 5]) for _ in range(COUNT)]
    times = [12800 * 50 + 512 * int(time) for time in np.cumsum(steps)]
    path = write(tmp_path / f"in.{extension}", make_frames(COUNT), options=H264, times=times)
    assert_same(video(path))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_in_the_middle(video, tmp_path, codec):
    options = H264 if codec == "libx264" else {"g": "15", "bf": "2"}
    step = Fraction(1, 25)
    path = write(tmp_path / "in.ts", make_frames(COUNT), codec=codec, options=options, time_base=step)
    content = path.read_bytes()
    path.write_bytes(content[188 * (len(content) // 188 // 6) :])
    opened = video(path)
    assert_same(opened, len(opened.whole()[0]))


@pytest.mark.parametrize(("start", "end"), [("1.2", "3.6"), ("0", "2.02"), ("2.51", None), ("4.78", "4.79")])
@pytest.mark.parametrize("kind", ["h264.ts", "open.mkv", "mpeg2.ts"])
def test_a_time_range(video, tmp_path, kind, start, end):
    path = write_kind(tmp_path / f"in.{kind.split('.')[1]}", kind)
    opened = video(path, Fraction(start), None if end is None else Fraction(end))
    assert_same(opened, len(opened.whole()[0]))


@pytest.mark.parametrize("extension", ["ts", "mkv"])
@pytest.mark.parametrize("repeated", [True, False])
def test_parameters_that_change(video, tmp_path, extension, repeated):
    """Of two parts, the second may have its parameters at its beginning only: decoding must begin there."""
    path = tmp_path / "in.ts"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", 25, width=64, height=48, pix_fmt="yuv420p")
        stream.options = H264 | {"x264-params": "cabac=1"}
        stream.codec_context.flags &= ~av.codec.context.Flags.global_header
        for number, packet in enumerate([*encoded("cabac=1", 0), *encoded("cabac=0", 60)]):
            data = bytes(packet)
            if number > 60 and not repeated:
                data = without_parameters(data)
            copy = av.Packet(data)
            copy.stream, copy.time_base, copy.is_keyframe = stream, Fraction(1, 25), packet.is_keyframe
            copy.pts, copy.dts = packet.pts, packet.dts
            output.mux(copy)
    if extension == "mkv":
        path = copied(path, tmp_path / "in.mkv")
    opened = video(path)
    assert_same(opened)
    assert opened.frames.entry(COUNT - 1) == (100 if repeated else 60)


def copied(source, target):
    """Copy a video to another container by PyAV: this FFmpeg program crashes with the file."""
    with av.open(str(source)) as file, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return target


def encoded(parameters, start):
    """The packets of 60 frames of H.264, the first one at a time in frames."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "yuv420p", Fraction(1, 25)
    codec.options = {"preset": "medium", "g": "20", "bf": "0", "x264-params": parameters}
    for frame in make_frames(60):
        frame.pts += start
        yield from codec.encode(frame)
    yield from codec.encode(None)


def without_parameters(data):
    units = [unit for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    return b"".join(b"\0\0\1" + unit for unit in units if unit[0] & 31 not in (7, 8))


def test_fields(video, tmp_path):
    frames = marked(interlaced(render(2 * COUNT)))
    options = H264 | {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    assert_same(video(write(tmp_path / "in.ts", frames, options=options)))


# What needs a decode from the start


@pytest.mark.parametrize(
    ("name", "codec", "reason"),
    [
        ("in.h264", "libx264", "have no times"),
        ("in.m2v", "mpeg2video", "have no times"),
        ("in.mov", "qtrle", "how frames of qtrle depend on each other"),
        ("in.mpg", "libx264", "have no time in the file"),
    ],
)
def test_refused_streams(video, tmp_path, name, codec, reason):
    frames = make_frames(20, format="yuv420p") if codec != "qtrle" else make_frames(20, format="rgb24")
    options = {"bf": "2"} if codec != "qtrle" else {}
    step = Fraction(1, 25)
    opened = video(write(tmp_path / name, frames, codec=codec, options=options, time_base=step))
    with pytest.raises(NoRandomAccess, match=reason):
        _ = opened.frames


def test_times_that_jump(video, tmp_path):
    times = [512 * number + (12800 * 20 if number > 60 else 0) for number in range(COUNT)]
    opened = video(write(tmp_path / "in.ts", make_frames(COUNT), options=H264, times=times))
    with pytest.raises(NoRandomAccess, match="times jump"):
        _ = opened.frames


def test_repeated_times(video, tmp_path):
    opened = video(write(tmp_path / "in.mkv", make_frames(20)))
    times = opened.packets.pts.copy()
    times[4] = times[3]
    with pytest.raises(NoRandomAccess, match="the same time"):
        frame_index(replace(opened.packets, pts=times), opened.source)


def test_decode_times_in_place_of_times(video, tmp_path):
    """As FFmpeg reads H.264 in MXF: its frames are in another order, and their times have to be repaired."""
    step = Fraction(1, 25)
    path = write(tmp_path / "in.mxf", make_frames(COUNT), options=H264, time_base=step, rate=25)
    opened = video(path)
    assert opened.whole()[1].retimed
    with pytest.raises(OtherFrames):
        opened.window(0, 20)


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.ts", "mpeg4.mov"])
def test_damage_is_found(video, tmp_path, kind):
    """Frames before it and after the next key frame are right."""
    path = write_kind(tmp_path / f"in.{kind.split('.')[1]}", kind)
    opened = video(path)
    content = bytearray(path.read_bytes())
    first = opened.packets.positions[61]
    if path.suffix == ".ts":
        content[first : first + 188] = b"\x55" * 188
    else:
        content[first : first + opened.packets.sizes[61]] = b"\xff" * opened.packets.sizes[61]
    path.write_bytes(content)
    opened = video(path)
    whole, errors = opened.whole()
    assert errors.damaged or errors.lost
    assert opened.window(5, 10) == whole[5:15]
    assert opened.window(len(opened.frames) - 5, 5) == whole[-5:]
    with pytest.raises(NoRandomAccess):
        opened.window(0, COUNT + 1)


@pytest.mark.parametrize(
    ("damaged", "content", "first", "last_time"),
    [
        (60, b"\x55" * 270, 70, None),
        (61, random.Random(0).randbytes(36), 62, None),
        (61, random.Random(0).randbytes(36), 62, "2.56"),
    ],
    ids=["before", "shown later", "after the time range"],
)
def test_a_damaged_frame_that_others_refer_to(video, tmp_path, damaged, content, first, last_time):
    """What a decoder puts in the place of a damaged part may come from frames before the key frame."""
    path = write_kind(tmp_path / "in.mkv", "h264.mkv")
    packets = video(path).packets
    end = packets.positions[damaged] + packets.sizes[damaged]
    whole = bytearray(path.read_bytes())
    whole[end - len(content) : end] = content
    path.write_bytes(whole)
    opened = video(path, 0, last_time and Fraction(last_time))
    assert opened.whole()[1].damaged or last_time
    with pytest.raises(NoRandomAccess, match="it is damaged"):
        opened.window(first, 1)
    opened = video(path)
    assert opened.window(95, 5) == opened.whole()[0][95:100]


def test_packets_that_are_missing_before_an_open_group(video, tmp_path):
    """A decoder that comes from before the gap drops frames after it, and does not call them damaged."""
    whole = write_kind(tmp_path / "whole.mkv", "open.mkv")
    entry = int(np.flatnonzero(video(whole).packets.flags & Access.OPEN)[-2])
    path = tmp_path / "in.mkv"
    with av.open(str(whole)) as file, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(file.demux(video=0)):
            if packet.size and not entry - 20 < number < entry:
                packet.stream = stream
                output.mux(packet)
    opened = video(path)
    expected = {frame[0]: frame for frame in opened.whole()[0]}
    assert len(expected) < len(opened.frames)
    for first in range(40, len(opened.frames), 3):
        with contextlib.suppress(NoRandomAccess):
            for frame in opened.window(first, 2):
                assert expected[frame[0]][-1] == frame[-1]


def test_a_file_that_was_replaced(video, tmp_path):
    path = write(tmp_path / "in.mkv", make_frames(COUNT), options=H264)
    opened = video(path)
    frames = opened.frames
    write(path, make_frames(COUNT), options=H264 | {"crf": "35"})
    with pytest.raises(NoRandomAccess):
        list(read_window(opened.source, opened.packets, frames, 60))


# The file of an index


def test_the_file_of_an_index(video, tmp_path):
    opened = video(write(tmp_path / "in.ts", make_frames(COUNT), options=H264))
    content = opened.packets.to_bytes()
    assert len(content) < 16 * COUNT
    again = PacketIndex.from_bytes(content)
    for name in ("pts", "dts", "sizes", "positions", "flags"):
        np.testing.assert_array_equal(getattr(again, name), getattr(opened.packets, name))
    assert again.refusal == opened.packets.refusal
    for damaged in (b"", content[:-1], content[:50], content.replace(b'"version": 1', b'"version": 0')):
        with pytest.raises(ValueError, match="not a packet index"):
            PacketIndex.from_bytes(damaged)
