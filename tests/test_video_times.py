"""Presentation times: videos that do not begin at 0, and containers with decode times only."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.upscaler import Upscaler
from subpixel.video.media.decoder import DisplayOrder
from subpixel.video.media.source import Source, is_packet, open_source
from subpixel.video.media.timeline import Timeline
from subpixel.video.pipeline import encode, fingerprint, run
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, make_frames, packets, times, write, write_broadcast

EXACT = Fraction(1, 2000)
"""Half of a millisecond, the unit of Matroska's times."""
LATE = 41_747
"""Seconds: half a day, as in TV recordings."""
STEP = Fraction(1, 25)


@pytest.fixture
def upscale(monkeypatch):
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", 10)
    monkeypatch.setattr(run, "SEGMENT_FRAMES", 10)
    upscaler = Upscaler(bicubic_model(2), "numpy", threads=1)

    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


def read(path):
    """Return the times of a video's frames in seconds, and its warnings."""
    source = open_source(path)
    found = [event.pts * event.time_base for event in source.events() if not is_packet(event)]
    source.close()
    return found, source.decode_errors.warnings


def close(found, expected, within=EXACT):
    """Return whether two lists of times are equal, to half a millisecond."""
    return len(found) == len(expected) and all(
        abs(one - other) <= within for one, other in zip(found, expected, strict=True)
    )


# Videos that do not begin at 0


@pytest.fixture
def late(tmp_path):
    """Write a transport stream of 40 frames that begins at half a day, its sound before its frames."""
    return write_broadcast(
        tmp_path / "late.ts",
        make_frames(40),
        options={"g": "5"},
        container_options={"output_ts_offset": f"{LATE}.5"},
    )


def beginning(path):
    """Return the least time of a packet in a file."""
    with av.open(f"file:{path}") as file:
        return min(packet.pts * packet.time_base for packet in file.demux() if packet.pts is not None)


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
def test_the_result_of_a_late_video_begins_at_0(upscale, late, tmp_path, extension):
    output = tmp_path / f"out.{extension}"
    report = upscale(late, output)
    start = beginning(late)
    assert start > LATE
    assert any(f"begins at {LATE}." in warning and "begins at 0" in warning for warning in report.warnings)
    within = EXACT if extension == "mkv" else 2 * EXACT  # MP4 counts where a stream begins in milliseconds
    assert close(times(output), [time - start for time in times(late)], within)
    (before,), (after,) = packets(late), packets(output)
    assert [data for data, _ in after] == [data for data, _ in before]
    assert close([time for _, time in after], [time - start for _, time in before], within)
    assert min(after[0][1], times(output)[0]) == 0
    with av.open(str(output)) as file:
        assert file.duration < 3_000_000


def test_a_time_range_counts_from_the_beginning_of_a_late_video(upscale, late, tmp_path):
    upscale(late, tmp_path / "whole.mkv")
    upscale(late, tmp_path / "part.mkv", start=1, end=Fraction("1.4"))
    upscale(late, tmp_path / "first.mkv", end=Fraction("0.4"))
    whole, sound = times(tmp_path / "whole.mkv"), [time for _, time in packets(tmp_path / "whole.mkv")[0]]
    assert times(tmp_path / "first.mkv") == [time for time in whole if time < 0.4]
    part = [time + 1 for time in times(tmp_path / "part.mkv")]
    assert part == [time for time in whole if 1 <= time < 1.4]
    heard = [time + 1 for _, time in packets(tmp_path / "part.mkv")[0]]
    assert close(heard, [time for time in sound if 1 <= time < 1.4])
    number = whole.index(part[0])
    large, small = luma(decoded(tmp_path / "part.mkv")[0]), luma(decoded(late)[number])
    assert np.abs(large[::2, ::2].astype(float) - small).mean() < 6


def test_sound_before_0_does_not_shift_a_time_range(upscale, tmp_path):
    """In MP4, AAC begins a little before 0."""
    source = write(tmp_path / "in.mp4", make_frames(30), sound="aac")
    upscale(source, tmp_path / "whole.mp4")
    upscale(source, tmp_path / "part.mp4", end=1)
    assert times(tmp_path / "part.mp4") == times(tmp_path / "whole.mp4")[:25]
    sound = packets(tmp_path / "whole.mp4")[0]
    assert packets(tmp_path / "part.mp4")[0] == [packet for packet in sound if packet[1] < 1]


def test_a_late_video_is_read_once(upscale, late, tmp_path):
    """Its beginning is known before its first frame is passed on, as a pipe requires."""
    found, _ = read(late)
    whole = [time - beginning(late) for time in times(late)]
    assert close(found, whole)


def test_the_earliest_stream_begins_at_0(upscale, tmp_path):
    """Here it is the subtitles. Chapters are shifted, too."""
    source = write(
        tmp_path / "in.mkv",
        make_frames(10),
        times=[5120 + 512 * number for number in range(10)],
        subtitles="subrip",
        chapters=True,
    )
    upscale(source, tmp_path / "out.mkv")
    assert times(source)[0] == Fraction("0.4")
    assert times(tmp_path / "out.mkv") == [Fraction("0.2") + STEP * number for number in range(10)]
    assert [time for _, time in packets(tmp_path / "out.mkv")[0]] == [0, Fraction("0.5")]
    with av.open(str(tmp_path / "out.mkv")) as file:
        edges = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"])
            for chapter in file.chapters()
        ]
    assert edges == [(0, Fraction("0.3")), (Fraction("0.3"), Fraction("0.8"))]


def test_the_duration_of_a_late_video_and_a_chapter_before_it(upscale, tmp_path):
    """Matroska's duration counts from 0. A chapter that ends before the video begins gives a warning."""
    late = [12800 * 3 // 4 + 512 * number for number in range(10)]
    source = write(tmp_path / "in.mkv", make_frames(10), times=late, chapters=True)
    opened = open_source(source)
    assert opened.timeline.expected_frames == 10
    opened.close()
    report = upscale(source, tmp_path / "out.mkv")
    assert "1 chapters end before the video begins, and are dropped" in report.warnings
    with av.open(str(tmp_path / "out.mkv")) as file:
        (chapter,) = file.chapters()
        assert (chapter["start"], chapter["end"] * chapter["time_base"]) == (0, Fraction(1, 4))


class Killed(BaseException):
    """Ends a job in a test, as a kill would."""


def kill(upscale, monkeypatch, source, output):
    """Start a job and end it after 25 frames."""
    count = 0

    def upscale_frame(self, frame, *link, upscale_frame=FrameUpscaler.__call__):
        nonlocal count
        count += 1
        if count > 25:
            raise Killed
        return upscale_frame(self, frame, *link)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(Killed):
            upscale(source, output)


def test_a_resumed_late_video_has_the_same_times(upscale, monkeypatch, late, tmp_path):
    upscale(late, tmp_path / "whole.mkv")
    kill(upscale, monkeypatch, late, tmp_path / "out.mkv")
    assert upscale(late, tmp_path / "out.mkv").resumed_frames >= 10
    assert times(tmp_path / "out.mkv") == times(tmp_path / "whole.mkv")
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")


def test_segments_with_times_of_an_earlier_version_are_not_resumed(upscale, monkeypatch, late, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_TIMESTAMPS_VERSION", 1)
        kill(upscale, monkeypatch, late, tmp_path / "out.mkv")
    report = upscale(late, tmp_path / "out.mkv")
    assert report.resumed_frames == 0
    assert any("an earlier run had another times" in warning for warning in report.warnings)


# Containers with decode times only


def rewrite(path, template, change):
    """Write a video stream anew; ``change`` makes the data of the new packets from those of the old."""
    with av.open(f"file:{template}") as source, av.open(f"file:{path}", "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        data = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        for number, content in enumerate(change(data)):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, STEP
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            output.mux(packet)
    return path


def pack_b_frames(data):
    """Pack MPEG-4 like DivX: a B-frame is in the packet of the frame before it, and its own is empty."""
    kinds = [content[content.index(b"\0\0\1\xb6") + 4] >> 6 for content in data]
    empty = b"\0\0\1\xb6\x51\0"
    yield b"\0\0\1\xb2DivX503b1393p" + data[0]
    index = 1
    while index < len(data):
        if index + 1 < len(data) and kinds[index + 1] == 2:
            yield data[index] + data[index + 1]
            yield empty
            index += 2
        else:
            yield data[index]
            index += 1


def write_vfw(path, template):
    """Write H.264 to Matroska with a BITMAPINFOHEADER and decode times only, as copied from AVI."""
    with av.open(f"file:{template}") as source, av.open(f"file:{path}", "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.codec_context.extradata = struct.pack(
            "<IiiHH4sIiiII", 40, 64, 48, 1, 24, b"H264", 0, 0, 0, 0, 0
        )
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            copy = av.Packet(bytes(packet))
            copy.stream, copy.time_base, copy.pts, copy.dts = stream, STEP, number, number
            copy.is_keyframe = packet.is_keyframe
            output.mux(copy)
    content = path.read_bytes()
    assert content.count(b"V_MPEG4/ISO/AVC") == 1
    path.write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_MS/VFW/FOURCC"))
    return path


B_FRAMES = {"bf": "3", "preset": "medium", "b_strategy": "0", "g": "20"}


def write_b_frames(path, count=50, **metadata):
    return write(path, make_frames(count), time_base=STEP, options=B_FRAMES, **metadata)


def write_kind(kind, folder):
    """Write a video of 50 frames with B-frames, 25 per second."""
    path = folder / f"in.{kind.rpartition('.')[2]}"
    if kind == "packed.avi":
        plain = write(
            folder / "plain.avi", make_frames(50), codec="mpeg4", time_base=STEP, options={"bf": "1"}
        )
        return rewrite(path, plain, pack_b_frames)
    if kind == "vfw.mkv":
        return write_vfw(path, write_b_frames(folder / "plain.ts"))
    codec = {"mpeg4.avi": "mpeg4", "mpeg2.vob": "mpeg2video", **BARE_MPEG}.get(kind, "libx264")
    if codec == "libx264":
        return write_b_frames(path, sound="mp2" if kind == "sound.avi" else None)
    return write(path, make_frames(50), codec=codec, time_base=STEP, options={"bf": "2"})


BARE_MPEG = {"bare.m1v": "mpeg1video", "bare.m2v": "mpeg2video"}
KINDS = ["h264.avi", "sound.avi", "mpeg4.avi", "packed.avi", "vfw.mkv", "h264.asf", "h264.vob", "mpeg2.vob"]


@pytest.mark.parametrize("kind", [*KINDS, "bare.h264", "h264.ts", "bare.m1v", "bare.m2v"])
def test_frames_are_evenly_spaced(tmp_path, kind):
    source = write_kind(kind, tmp_path)
    found, warnings = read(source)
    assert close(found, [STEP * number for number in range(50)])
    assert warnings == []


@pytest.mark.parametrize("kind", ["h264.avi", "packed.avi"])
def test_the_last_frame_is_as_long_as_the_others(upscale, tmp_path, kind):
    upscale(write_kind(kind, tmp_path), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [STEP * number for number in range(50)]
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].duration * file.streams.video[0].time_base == 2
        assert file.streams.video[0].average_rate == 25


@pytest.mark.parametrize("kind", ["h264.avi", "mpeg4.avi", "packed.avi", "vfw.mkv", "h264.asf", "bare.h264"])
@pytest.mark.parametrize("start", [Fraction("0.4"), 1, Fraction("1.76")])
def test_a_time_range_has_the_frames_of_the_whole_video(upscale, tmp_path, kind, start):
    source = write_kind(kind, tmp_path)
    upscale(source, tmp_path / "whole.mkv", codec="ffv1")
    upscale(source, tmp_path / "part.mkv", codec="ffv1", start=start)
    whole = [luma(frame) for frame in decoded(tmp_path / "whole.mkv")]
    part = [luma(frame) for frame in decoded(tmp_path / "part.mkv")]
    assert len(part) == 50 - start / STEP
    assert times(tmp_path / "part.mkv") == [STEP * number for number in range(len(part))]
    for ours, theirs in zip(part, whole[-len(part) :], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_frames_are_in_display_order(tmp_path):
    """H.264 in AVI gives the same frames as in Matroska."""
    plain = write_b_frames(tmp_path / "plain.mkv", 20)
    with av.open(str(write_kind("h264.avi", tmp_path))) as file:
        shown = [luma(frame) for frame in file.decode(video=0)][:20]
    source = open_source(tmp_path / "in.avi")
    ours = [luma(event) for event in source.events() if not is_packet(event)][:20]
    source.close()
    for one, other, third in zip(ours, shown, decoded(plain), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.abs(one.astype(float) - luma(third)).mean() < 3


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(50)])
def test_a_bare_stream_has_the_frame_rate_in_its_header(tmp_path, codec, rate):
    path = tmp_path / f"in.{'h264' if codec == 'libx264' else 'hevc'}"
    options = {"x265-params": "log-level=error"} if codec == "libx265" else B_FRAMES
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate, width=64, height=48, pix_fmt="yuv420p", options=options)
        for frame in make_frames(20):
            frame.time_base, frame.pts = 1 / rate, frame.pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    found, _ = read(path)
    assert close(found, [number / rate for number in range(20)])


def test_a_lost_packet_does_not_shift_other_frames(tmp_path):
    """AVI has decode times only."""
    source = write_b_frames(tmp_path / "in.avi")

    def without(data):
        content = list(data)
        content[5] = content[5][:5] + b"\xff" * (len(content[5]) - 5)  # no slice of it can be decoded
        return content

    with av.open(str(source)) as file:
        data = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    content = source.read_bytes()
    assert content.count(data[5]) == 1
    source.write_bytes(content.replace(data[5], without(data)[5]))
    found, _ = read(source)
    assert set(found) <= {STEP * number for number in range(50)}
    assert found[-25:] == [STEP * number for number in range(25, 50)]


def test_display_order():
    """I P B B P B B. The fourth packet gives no frame; from the next P-frame on, all times are right."""
    order = DisplayOrder()
    for number in range(7):
        order.add_packet(number, 10 * number)
    shown = [(0, False), (2, True), (1, False), (5, True), (6, True), (4, False)]
    assert [order.next_time(number, is_b=is_b) for number, is_b in shown] == [0, 10, 20, 30, 40, 60]
    assert order.next_time(9, is_b=False) is None


class BlockingContainer:
    """A container that sometimes has nothing to read yet."""

    def __init__(self, container):
        self._container = container
        self._calls = 0

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self):
        self._calls += 1
        for number, packet in enumerate(self._container.demux()):
            yield packet
            if number == 4 and self._calls < 4:
                raise av.error.BlockingIOError(11, "Resource temporarily unavailable")


def test_a_blocking_read_is_not_the_end(tmp_path):
    """FFmpeg reports one in the middle of some files."""
    source = write(tmp_path / "in.mkv", make_frames(30))
    whole = open_source(source)
    stream = whole.stream
    others = [other for other in whole.container.streams if other.index != stream.index]
    whole.container.seek(0)
    container = BlockingContainer(whole.container)
    blocking = Source(
        "in.mkv",
        container,
        stream,
        others,
        Timeline(container, stream, whole.timeline.time_range),
        seekable=True,
    )
    found = [event.pts for event in blocking.events() if not is_packet(event)]
    whole.close()
    assert len(found) == 30
    assert blocking.decode_errors.warnings == []
