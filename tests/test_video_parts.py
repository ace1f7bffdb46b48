"""The parts of the video pipeline, each on its own."""

import hashlib
import os
import random
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from subpixel.errors import EncoderError, OutputError, UnreadableVideo, UnsupportedVideo
from subpixel.video.media import codecs
from subpixel.video.media.codecs import (
    CODECS,
    Encoder,
    Encoding,
    find_codec,
    known_codecs,
    options_for,
    pixel_format,
)
from subpixel.video.media.containers import container_named, container_of
from subpixel.video.media.hdr import Hdr, MasteringDisplay, encoder_options, with_parameters
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.timestamps import Clock
from subpixel.video.pipeline.encode import decoding_times
from subpixel.video.pipeline.segments import Journal
from subpixel.video.pipeline.stages import Closed, Line, Overlapped, Parallel
from video_files import pictures, write

# Codecs


def test_software_encoders_are_known():
    assert {"libx264", "libx265", "libsvtav1", "ffv1", "rawvideo"} <= set(known_codecs())


def test_an_unknown_codec():
    with pytest.raises(ValueError, match=r"unknown codec 'x264'; known here: auto, libx264, libx265"):
        find_codec("x264")


def test_options_by_default():
    assert options_for(find_codec("libx265"), Encoding()) == {
        "crf": "20",
        "preset": "superfast",
        "x265-params": "log-level=error",
        "a53cc": "1",
    }


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ({"found": ["X86_V3"]}, {}),
        ({"found": ["X86_V3", "X86_V4"]}, {"x264-params": "asm=avx2"}),
        ({"baseline": ["AVX512F"]}, {"x264-params": "asm=avx2"}),
        ({}, {}),
    ],
)
def test_x264_is_kept_from_code_that_does_not_repeat_itself(monkeypatch, found, options):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": found})
    assert codecs._repeatable_x264() == options


def test_options_that_are_asked_for():
    wanted = Encoding(crf=23.5, preset="slow", options={"tune": "film"})
    options = options_for(find_codec("libx264"), wanted)
    assert options.items() >= {"crf": "23.5", "preset": "slow", "tune": "film"}.items()


def test_lists_of_parameters_are_joined():
    wanted = Encoding(options={"x265-params": "aq-mode=3"})
    assert options_for(find_codec("libx265"), wanted)["x265-params"] == "log-level=error:aq-mode=3"


@pytest.mark.parametrize(
    ("codec", "encoding", "words"),
    [
        ("libx264", Encoding(crf=60), "crf of libx264 must be 0 to 51, not 60"),
        ("ffv1", Encoding(crf=10), "ffv1 has no crf"),
        (
            "libx264",
            Encoding(preset="quick"),
            "unknown preset 'quick' of libx264; known: ultrafast, .*placebo",
        ),
        ("libsvtav1", Encoding(preset="fast"), "known: 13, 12"),
        ("ffv1", Encoding(preset="fast"), "ffv1 has no presets"),
        ("libx264", Encoding(options={"tunes": "film"}), "libx264 has no option 'tunes'; it has .*tune"),
    ],
)
def test_what_a_codec_does_not_know(codec, encoding, words):
    with pytest.raises(ValueError, match=words):
        options_for(find_codec(codec), encoding)


@pytest.mark.parametrize(
    ("codec", "wanted", "found"),
    [
        ("libx264", "yuv420p10le", "yuv420p10le"),
        ("libx264", "yuv422p12le", "yuv422p10le"),
        ("libx265", "yuv422p12le", "yuv422p12le"),
        ("libsvtav1", "yuv444p", "yuv420p"),
        ("libsvtav1", "gray10le", "yuv420p10le"),
        ("libx264", "yuv440p", "yuv444p"),
        ("libx264", "yuv411p", "yuv422p"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
        ("ffv1", "gray12le", "gray12le"),
        ("rawvideo", "yuv410p", "yuv410p"),
    ],
)
def test_the_nearest_pixel_format(codec, wanted, found):
    assert pixel_format(find_codec(codec), wanted) == found


def encoder(codec="libx264", **changes):
    metadata = {
        "codec": find_codec(codec),
        "width": 64,
        "height": 48,
        "format": pixel_format(find_codec(codec), "yuv420p"),
        "time_base": Fraction(1, 12800),
        "rate": Fraction(25),
        "aspect": Fraction(1),
        "color": (1, 1, 1, 1),
        "threads": 1,
        "options": options_for(find_codec(codec), Encoding()),
    }
    return Encoder(**metadata | changes)


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS if not codec.hardware])
def test_every_software_codec_works_as_we_use_it(codec, capfd):
    context = encoder(codec).open()
    made = []
    for frame in pictures(3, format=context.pix_fmt):
        made += context.encode(frame)
    made += context.encode(None)
    assert len(made) == 3
    assert "x265 [info]" not in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="schedules threads in another way")
def test_no_encoder_takes_the_machine_for_itself():
    """SVT-AV1 would, as root: it makes itself and its caller threads of real time."""
    context = encoder("libsvtav1").open()
    policies = [os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()]
    assert len(policies) > 5
    assert set(policies) == {os.SCHED_OTHER}
    del context


def test_an_encoder_that_refuses():
    with pytest.raises(EncoderError, match=r"libx264 does not start with .*crf=18.* for 63x48"):
        encoder(width=63).open()


# HDR

DISPLAY = MasteringDisplay(
    red=(Fraction(708, 1000), Fraction(292, 1000)),
    green=(Fraction(170, 1000), Fraction(797, 1000)),
    blue=(Fraction(131, 1000), Fraction(46, 1000)),
    white=(Fraction(3127, 10000), Fraction(3290, 10000)),
    luminance=(Fraction(5, 1000), Fraction(1000)),
)


def test_hdr_as_encoders_take_it():
    """The words of x265's and SVT-AV1's documentation."""
    whole = Hdr(DISPLAY, (1000, 400))
    expected = (
        "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    )
    assert encoder_options(whole, "libx265") == {"x265-params": expected}
    assert encoder_options(whole, "libsvtav1") == {
        "svtav1-params": "mastering-display=G(0.17000,0.79700)B(0.13100,0.04600)R(0.70800,0.29200)"
        "WP(0.31270,0.32900)L(1000.00000,0.00500):content-light=1000,400"
    }
    assert encoder_options(Hdr(None, (1000, 400)), "libx264") == {"x264-params": "cll=1000,400"}
    assert encoder_options(whole, "ffv1") == encoder_options(Hdr(), "libx265") == {}


def test_hdr_comes_before_what_the_user_says():
    joined = with_parameters({"x265-params": "aq-mode=3"}, {"x265-params": "max-cll=1,1"})
    assert joined == {"x265-params": "max-cll=1,1:aq-mode=3"}


# Containers


def test_containers_by_name(tmp_path):
    assert container_of(tmp_path / "A.MKV") is container_named("mkv")
    with pytest.raises(OutputError, match=r"\.avi'; known: \.mp4"):
        container_of(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="unknown container 'avi'; known: mp4, mkv, mov, webm, y4m"):
        container_named("avi")


# Times


def mended(times, **metadata):
    clock = Clock(second=1000, step=40, **metadata)
    return [clock.mend(time) for time in times], clock.mended


@pytest.mark.parametrize("jumps", [False, True])
def test_times_that_rise_are_left_alone(jumps):
    times = [-40, 0, 1, 40, 9_000, 15_000]
    assert mended(times, jumps=jumps) == (times, 0)


def test_missing_times():
    assert mended([None, None, 90, None]) == ([0, 40, 90, 130], 2)


def test_times_out_of_order():
    assert mended([0, 40, 40, 39, 80]) == ([0, 40, 41, 42, 80], 2)


def test_a_clock_that_starts_anew():
    assert mended([90_000, 90_040, 0, 40]) == ([90_000, 90_040, 90_080, 90_120], 2)


def test_a_single_time_far_ahead_is_damage():
    assert mended([0, 40, 10**9, 120, 160], jumps=True) == ([0, 40, 80, 120, 160], 1)


def test_many_times_far_ahead_are_believed():
    later = [10**6 + 40 * number for number in range(8)]
    assert mended([0, 40, *later], jumps=True)[0][-3:] == later[-3:]


@pytest.mark.parametrize("seed", range(20))
def test_decoding_times(seed):
    """Strictly rising, never behind the times shown, and what x264 itself gives for even steps."""
    rng = random.Random(seed)
    shown = np.cumsum([rng.randint(1, 50) for _ in range(40)])
    order = sorted(range(40), key=lambda place: place + rng.choice([0, 0, 2.5, 3.5]))
    times = shown[order]
    decoding = decoding_times(times)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= times).all()


@pytest.mark.parametrize("leap", [10**4, 10**9])
def test_decoding_times_across_a_leap(leap):
    """A picture is not decoded ages before it is shown, which MP4 cannot say."""
    times = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8]) * 512
    times = np.concatenate([times, times + leap * 512])
    decoding = decoding_times(times)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= times).all()
    assert (times - decoding).max() <= 70 * 512
    np.testing.assert_array_equal(decoding[:9], decoding_times(times[:10])[:9])


def test_decoding_times_without_reordering():
    np.testing.assert_array_equal(decoding_times(np.array([5, 6, 9])), [5, 6, 9])
    assert decoding_times(np.array([], np.int64)).size == 0
    assert decoding_times(np.array([7])).tolist() == [7]


def test_decoding_times_are_those_of_one_encoder():
    context = encoder(options={"bf": "2", "preset": "medium", "b-pyramid": "none"}).open()
    packets = []
    for frame in pictures(30):
        frame.pts *= 512
        frame.time_base = Fraction(1, 12800)
        packets += context.encode(frame)
    packets += context.encode(None)
    times = np.array([packet.pts for packet in packets])
    assert (np.diff(times) < 0).any(), "there should be pictures out of order"
    np.testing.assert_array_equal(decoding_times(times), [packet.dts for packet in packets])


# Stages


def test_stages_overlap():
    """Each waits until the other has begun: alone, neither would end."""
    first, second = threading.Event(), threading.Event()

    def produce():
        yield 1
        first.set()
        assert second.wait(10)
        yield 2

    def pass_on(items):
        for item in items:
            assert first.wait(10)
            second.set()
            yield item * 10

    line = Line()
    assert list(line.add("b", pass_on, line.add("a", produce))) == [10, 20]
    line.close()


def test_a_stage_goes_ahead_only_so_far():
    taken = []

    def count():
        for number in range(100):
            taken.append(number)
            yield number

    stage = Overlapped(count(), depth=3)
    assert next(stage) == 0
    time.sleep(0.3)
    assert len(taken) <= 6
    stage.close()


def test_an_error_comes_behind_what_was_before_it():
    def fail():
        yield 1
        raise KeyError("gone")

    line = Line()
    last = line.add("b", lambda items: (item for item in items), line.add("a", fail))
    assert next(last) == 1
    with pytest.raises(KeyError, match="gone"):
        next(last)
    line.close()


def test_a_closed_line_is_no_end_of_the_input():
    """Who waits must not take it for one, and finish a file that is not whole."""
    ends = []
    waiting = threading.Event()

    def source():
        yield 1
        waiting.set()
        while not line._stages["a"]._stopped.is_set():
            time.sleep(0.01)

    def consume(items):
        yield from items
        ends.append("end")

    line = Line()
    last = line.add("b", consume, line.add("a", source))
    assert next(last) == 1
    assert waiting.wait(5)
    line.close()
    assert ends == []
    with pytest.raises(Closed):
        next(last)


def test_calls_at_once_give_results_in_order():
    started = threading.Barrier(2, timeout=10)

    def work(number):
        if number < 2:
            started.wait()  # so the second begins before the first has ended
        time.sleep(0.02 * (number % 2 == 0))
        return number * 10

    line = Line()
    stage = line.add_calls("work", work, iter(range(7)), 2)
    assert list(stage) == [0, 10, 20, 30, 40, 50, 60]
    assert 0.03 < line.seconds()["work"] < 5
    assert line.close()


@pytest.mark.parametrize("error", [KeyError, TimeoutError])
def test_errors_of_calls_come_in_order(error):
    def work(number):
        if number == 1:
            raise error("gone")
        return number

    line = Line()
    stage = line.add_calls("work", work, iter(range(5)), 3)
    assert next(stage) == 0
    with pytest.raises(error, match="gone"):
        next(stage)
    line.close()
    with pytest.raises(Closed):
        next(stage)


def test_calls_go_ahead_only_so_far():
    called = []
    stage = Parallel(called.append, range(100), 2, depth=3)
    next(stage)
    time.sleep(0.3)
    assert len(called) <= 6
    stage.close()
    assert not any(thread.name.startswith("subpixel-stage") for thread in threading.enumerate())


def test_seconds_of_work_leave_waiting_out():
    def slow():
        for _ in range(5):
            time.sleep(0.05)
            yield 0

    line = Line()
    list(line.add("quick", lambda items: items, line.add("slow", slow)))
    seconds = line.seconds()
    line.close()
    assert seconds["slow"] > 5 * seconds["quick"]


# Journal

FACTS = {"input": "abc", "threads": 2}


def fill(journal, numbers=(0, 1, 2)):
    for number in numbers:
        writer = journal.start(number)
        writer.write(f"packet {number}".encode(), 100 * number, 40, True)
        writer.write(b"more", 100 * number + 40, 40, False)
        writer.keep(2)


@pytest.fixture
def folder(tmp_path):
    journal = Journal(tmp_path / ".film.mkv.subpixel", FACTS)
    fill(journal)
    journal.finish({"frames": 6})
    journal.close()
    return journal.folder


def reopened(folder, metadata=FACTS):
    journal = Journal(folder, metadata)
    journal.close()
    return journal


def test_what_is_finished_is_found_again(folder):
    journal = reopened(folder)
    assert (sorted(journal.segments), journal.outcome, journal.discarded) == ([0, 1, 2], {"frames": 6}, "")
    assert [data for _, data in journal.packets()][::2] == [b"packet 0", b"packet 1", b"packet 2"]
    assert [packet.pts for packet, _ in journal.packets()] == [0, 40, 100, 140, 200, 240]


def test_a_segment_in_the_making_does_not_count(folder):
    journal = Journal(folder, FACTS)
    writer = journal.start(3)
    writer.write(b"half", 0, 0, True)
    writer._file.close()
    journal.close()
    assert sorted(reopened(folder).segments) == [0, 1, 2]
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("decode_errors", [b"", b"packet 1mor", b"packet 1mord", b"packet 1more and more"])
def test_a_damaged_segment_is_made_again(folder, decode_errors):
    (folder / "000001.packets").write_bytes(decode_errors)
    journal = reopened(folder)
    assert sorted(journal.segments) == [0, 2]
    assert journal.discarded == "segment 1 is damaged"
    assert journal.outcome is None
    assert not (folder / "000001.packets").exists()


def test_a_missing_segment_is_made_again(folder):
    (folder / "000002.packets").unlink()
    assert sorted(reopened(folder).segments) == [0, 1]


@pytest.mark.parametrize("line", range(5))
@pytest.mark.parametrize("place", [0, 40, -2])
def test_a_damaged_line_costs_its_segment_alone(folder, line, place):
    lines = (folder / "journal").read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[line])
    damaged[place] ^= 1
    lines[line] = bytes(damaged)
    (folder / "journal").write_bytes(b"".join(lines))
    journal = reopened(folder)
    left = [] if line == 0 else [number for number in range(3) if number != line - 1]
    assert sorted(journal.segments) == left
    assert "damaged" in journal.discarded
    # It is written anew: the next one finds no damage.
    assert reopened(folder).discarded == ""


@pytest.mark.parametrize("length", [0, 10, 200, 300, 500])
def test_a_journal_that_was_cut_short(folder, length):
    whole = (folder / "journal").read_bytes()
    (folder / "journal").write_bytes(whole[:length])
    journal = reopened(folder)
    assert len(journal.segments) <= whole[:length].count(b"\n") or length == 0
    fill(Journal(folder, FACTS), set(range(3)) - set(journal.segments))


def test_what_is_no_journal_at_all(folder):
    text = b"no JSON"
    digest = hashlib.sha256(text).hexdigest()[:32].encode()
    with (folder / "journal").open("ab") as journal:
        journal.write(digest + b" " + text + b"\n")
    (folder / "stray").mkdir()
    assert sorted(reopened(folder).segments) == [0, 1, 2]
    assert not (folder / "stray").exists()


def test_another_job_begins_anew(folder):
    journal = reopened(folder, FACTS | {"input": "other"})
    assert (journal.segments, journal.discarded) == ({}, "an earlier run had another input")
    assert not list(folder.glob("*.packets"))


def test_one_process_at_a_time(folder):
    journal = Journal(folder, FACTS)
    with pytest.raises(OutputError, match="another process is at work"):
        Journal(folder, FACTS)
    journal.remove()
    assert not folder.exists()


# Source


def test_a_cut_that_is_none():
    with pytest.raises(ValueError, match="must not be negative"):
        TimeRange(Fraction(-1))
    with pytest.raises(ValueError, match=r"the end, 1 s, must lie behind the start, 2 s"):
        TimeRange(Fraction(2), Fraction(1))


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: cannot be read"):
        open_source(tmp_path / "a.mp4")


def test_a_missing_file(tmp_path):
    with pytest.raises(UnreadableVideo, match=r"none\.mp4: cannot be read \(No such file"):
        open_source(tmp_path / "none.mp4")


def test_sound_alone(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("aac", 44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(UnsupportedVideo, match=r"a\.mkv: holds no video, only audio"):
        open_source(tmp_path / "a.mkv")


def test_a_cut_behind_the_end(tmp_path):
    write(tmp_path / "a.mkv", pictures(5))
    with pytest.raises(UnreadableVideo, match="gives no frame in the part that is wanted"):
        open_source(tmp_path / "a.mkv", TimeRange(Fraction(100)))


def test_frames_and_packets_come_as_they_lie(tmp_path):
    write(tmp_path / "a.mkv", pictures(30), sound="aac")
    source = open_source(tmp_path / "a.mkv")
    kinds = [is_packet(event) for event in source.events()]
    source.close()
    assert kinds.count(False) == 30 == source.decode_errors.frames
    assert kinds.count(True) > 40
    assert source.decode_errors.notices == []
