"""When frames are shown: films that begin late, and containers that tell only when frames are decoded."""

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
from subpixel.video.pipeline import encode, work
from subpixel.video.pipeline.frames import FrameUpscaler
from video_files import decoded, luma, packets, pictures, times, write, write_broadcast

EXACT = Fraction(1, 2000)
"""Half of a millisecond, in which Matroska counts."""
LATE = 41_747
"""Seconds: half a day, as recordings of television have."""
STEP = Fraction(1, 25)


@pytest.fixture
def upscale(monkeypatch):
    monkeypatch.setattr(encode, "SEGMENT_FRAMES", 10)
    monkeypatch.setattr(work, "SEGMENT_FRAMES", 10)
    upscaler = Upscaler(bicubic_model(2), "numpy", threads=1)

    def upscale(source, output, **options):
        return subpixel.upscale_video(source, output, upscaler=upscaler, **options)

    return upscale


def read(path):
    """The times of a film's frames, in seconds, and what is told of it, without making anything of it."""
    source = open_source(path)
    found = [event.pts * event.time_base for event in source.events() if not is_packet(event)]
    source.close()
    return found, source.decode_errors.notices


def close(found, expected, within=EXACT):
    """Whether two lists of times are the same, to half a millisecond."""
    return len(found) == len(expected) and all(
        abs(one - other) <= within for one, other in zip(found, expected, strict=True)
    )


# Films that begin late


@pytest.fixture
def late(tmp_path):
    """A transport stream of 40 frames that begins half a day late, its sound before its picture."""
    return write_broadcast(
        tmp_path / "late.ts",
        pictures(40),
        options={"g": "5"},
        container_options={"output_ts_offset": f"{LATE}.5"},
    )


def beginning(path):
    """The smallest time in a file, by its packets."""
    with av.open(f"file:{path}") as file:
        return min(packet.pts * packet.time_base for packet in file.demux() if packet.pts is not None)


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
def test_a_film_that_begins_late_begins_at_0(upscale, late, tmp_path, extension):
    output = tmp_path / f"out.{extension}"
    report = upscale(late, output)
    start = beginning(late)
    assert start > LATE
    assert any(f"begins at {LATE}." in notice and "moved" in notice for notice in report.warnings)
    within = EXACT if extension == "mkv" else 2 * EXACT  # MP4 counts where a stream begins in milliseconds
    assert close(times(output), [time - start for time in times(late)], within)
    (before,), (after,) = packets(late), packets(output)
    assert [data for data, _ in after] == [data for data, _ in before]
    assert close([time for _, time in after], [time - start for _, time in before], within)
    assert min(after[0][1], times(output)[0]) == 0
    with av.open(str(output)) as file:
        assert file.duration < 3_000_000


def test_a_part_is_counted_from_where_a_late_film_begins(upscale, late, tmp_path):
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


def test_sound_before_0_stays_where_it_is_in_a_part_from_the_start(upscale, tmp_path):
    """AAC begins a little before 0 in MP4, and 0 stays 0 for that."""
    source = write(tmp_path / "in.mp4", pictures(30), sound="aac")
    upscale(source, tmp_path / "whole.mp4")
    upscale(source, tmp_path / "part.mp4", end=1)
    assert times(tmp_path / "part.mp4") == times(tmp_path / "whole.mp4")[:25]
    sound = packets(tmp_path / "whole.mp4")[0]
    assert packets(tmp_path / "part.mp4")[0] == [packet for packet in sound if packet[1] < 1]


def test_a_film_that_begins_late_through_a_pipe(upscale, late, tmp_path):
    """Where it begins is known before its first frame is written."""
    found, _ = read(late)
    whole = [time - beginning(late) for time in times(late)]
    assert close(found, whole)


def test_the_earliest_stream_begins_at_0_be_it_subtitles(upscale, tmp_path):
    """And chapters are moved with the rest."""
    source = write(
        tmp_path / "in.mkv",
        pictures(10),
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


def test_how_long_a_late_film_is_and_what_lies_before_it(upscale, tmp_path):
    """Matroska counts its length from 0. A chapter that ends before the film begins is told."""
    late = [12800 * 3 // 4 + 512 * number for number in range(10)]
    source = write(tmp_path / "in.mkv", pictures(10), times=late, chapters=True)
    film = open_source(source)
    assert film.expected_frames == 10
    film.close()
    report = upscale(source, tmp_path / "out.mkv")
    assert "1 chapters end before the film begins, and are left out" in report.warnings
    with av.open(str(tmp_path / "out.mkv")) as file:
        (chapter,) = file.chapters()
        assert (chapter["start"], chapter["end"] * chapter["time_base"]) == (0, Fraction(1, 4))


class Killed(BaseException):
    """What a test puts in the place of a kill."""


def killed(upscale, monkeypatch, source, output):
    """Start a job and end it after 25 frames."""
    made = 0

    def enlarge(self, frame, enlarge=FrameUpscaler.__call__):
        nonlocal made
        made += 1
        if made > 25:
            raise Killed
        return enlarge(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", enlarge)
        with pytest.raises(Killed):
            upscale(source, output)


def test_a_late_film_is_resumed_at_the_same_times(upscale, monkeypatch, late, tmp_path):
    upscale(late, tmp_path / "whole.mkv")
    killed(upscale, monkeypatch, late, tmp_path / "out.mkv")
    assert upscale(late, tmp_path / "out.mkv").resumed_frames >= 10
    assert times(tmp_path / "out.mkv") == times(tmp_path / "whole.mkv")
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "whole.mkv")


def test_frames_that_an_earlier_version_gave_other_times_are_made_again(upscale, monkeypatch, late, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(work, "_TIMES", 1)
        killed(upscale, monkeypatch, late, tmp_path / "out.mkv")
    report = upscale(late, tmp_path / "out.mkv")
    assert report.resumed_frames == 0
    assert any("an earlier run had another times" in notice for notice in report.warnings)


# Containers that tell only when frames are decoded


def remade(path, template, change):
    """Write a stream anew: ``change`` gives the new packets' bytes by those of the old."""
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


def packed(data):
    """MPEG-4 as DivX packs it: a B-frame lies with the frame before it, and nothing in its place."""
    kinds = [content[content.index(b"\0\0\1\xb6") + 4] >> 6 for content in data]
    nothing = b"\0\0\1\xb6\x51\0"
    yield b"\0\0\1\xb2DivX503b1393p" + data[0]
    place = 1
    while place < len(data):
        if place + 1 < len(data) and kinds[place + 1] == 2:
            yield data[place] + data[place + 1]
            yield nothing
            place += 2
        else:
            yield data[place]
            place += 1


def vfw(path, template):
    """H.264 in Matroska as it is taken over from AVI, by a BITMAPINFOHEADER, with times of decoding alone."""
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


def with_b_frames(path, count=50, **metadata):
    return write(path, pictures(count), time_base=STEP, options=B_FRAMES, **metadata)


def made(kind, folder):
    """A film of 50 frames, 25 a second, with B-frames."""
    path = folder / f"in.{kind.rpartition('.')[2]}"
    if kind == "packed.avi":
        plain = write(folder / "plain.avi", pictures(50), codec="mpeg4", time_base=STEP, options={"bf": "1"})
        return remade(path, plain, packed)
    if kind == "vfw.mkv":
        return vfw(path, with_b_frames(folder / "plain.ts"))
    codec = {"mpeg4.avi": "mpeg4", "mpeg2.vob": "mpeg2video", **BARE_MPEG}.get(kind, "libx264")
    if codec == "libx264":
        return with_b_frames(path, sound="mp2" if kind == "sound.avi" else None)
    return write(path, pictures(50), codec=codec, time_base=STEP, options={"bf": "2"})


BARE_MPEG = {"bare.m1v": "mpeg1video", "bare.m2v": "mpeg2video"}
KINDS = ["h264.avi", "sound.avi", "mpeg4.avi", "packed.avi", "vfw.mkv", "h264.asf", "h264.vob", "mpeg2.vob"]


@pytest.mark.parametrize("kind", [*KINDS, "bare.h264", "h264.ts", "bare.m1v", "bare.m2v"])
def test_frames_are_shown_evenly(tmp_path, kind):
    source = made(kind, tmp_path)
    found, notices = read(source)
    assert close(found, [STEP * number for number in range(50)])
    assert notices == []


@pytest.mark.parametrize("kind", ["h264.avi", "packed.avi"])
def test_the_last_frame_is_shown_as_long(upscale, tmp_path, kind):
    upscale(made(kind, tmp_path), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [STEP * number for number in range(50)]
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].duration * file.streams.video[0].time_base == 2
        assert file.streams.video[0].average_rate == 25


@pytest.mark.parametrize("kind", ["h264.avi", "mpeg4.avi", "packed.avi", "vfw.mkv", "h264.asf", "bare.h264"])
@pytest.mark.parametrize("start", [Fraction("0.4"), 1, Fraction("1.76")])
def test_a_part_has_the_frames_of_the_whole(upscale, tmp_path, kind, start):
    source = made(kind, tmp_path)
    upscale(source, tmp_path / "whole.mkv", codec="ffv1")
    upscale(source, tmp_path / "part.mkv", codec="ffv1", start=start)
    whole = [luma(frame) for frame in decoded(tmp_path / "whole.mkv")]
    part = [luma(frame) for frame in decoded(tmp_path / "part.mkv")]
    assert len(part) == 50 - start / STEP
    assert times(tmp_path / "part.mkv") == [STEP * number for number in range(len(part))]
    for ours, theirs in zip(part, whole[-len(part) :], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pictures_come_in_their_order(tmp_path):
    """The frames of H.264 in AVI are those of the same stream in Matroska."""
    plain = with_b_frames(tmp_path / "plain.mkv", 20)
    with av.open(str(made("h264.avi", tmp_path))) as file:
        shown = [luma(frame) for frame in file.decode(video=0)][:20]
    source = open_source(tmp_path / "in.avi")
    ours = [luma(event) for event in source.events() if not is_packet(event)][:20]
    source.close()
    for one, other, third in zip(ours, shown, decoded(plain), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.abs(one.astype(float) - luma(third)).mean() < 3


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(50)])
def test_a_bare_stream_has_the_rate_that_it_tells(tmp_path, codec, rate):
    path = tmp_path / f"in.{'h264' if codec == 'libx264' else 'hevc'}"
    options = {"x265-params": "log-level=error"} if codec == "libx265" else B_FRAMES
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate, width=64, height=48, pix_fmt="yuv420p", options=options)
        for frame in pictures(20):
            frame.time_base, frame.pts = 1 / rate, frame.pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    found, _ = read(path)
    assert close(found, [number / rate for number in range(20)])


def test_a_lost_packet_moves_no_other_frame(tmp_path):
    """In AVI, of which the times are those of decoding."""
    source = with_b_frames(tmp_path / "in.avi")

    def without(data):
        content = list(data)
        content[5] = content[5][:5] + b"\xff" * (len(content[5]) - 5)  # no slice can be read of it
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
    """I P B B P B B, of which the fourth gives no frame: with the next P-frame all is in its place again."""
    order = DisplayOrder()
    for number in range(7):
        order.sent(number, 10 * number)
    shown = [(0, False), (2, True), (1, False), (5, True), (6, True), (4, False)]
    assert [order.time_of(number, is_b=is_b) for number, is_b in shown] == [0, 10, 20, 30, 40, 60]
    assert order.time_of(9, is_b=False) is None


class Hesitating:
    """A container that has nothing to read yet, now and then."""

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


def test_nothing_yet_is_no_end(tmp_path):
    """FFmpeg says so of some containers in the middle of a file."""
    source = write(tmp_path / "in.mkv", pictures(30))
    whole = open_source(source)
    stream = whole.stream
    others = [other for other in whole.container.streams if other.index != stream.index]
    whole.container.seek(0)
    hesitating = Source(
        "in.mkv", Hesitating(whole.container), stream, others, whole.time_range, seekable=True
    )
    found = [event.pts for event in hesitating.events() if not is_packet(event)]
    whole.close()
    assert len(found) == 30
    assert hesitating.decode_errors.notices == []
