"""Segments on disk that outlive an interrupted job, and video sources."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from subpixel.errors import OutputError, UnreadableVideo, UnsupportedVideo
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.pipeline.segments import Journal
from video_files import pictures, write

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
