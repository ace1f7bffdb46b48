"""The stored segments of a job, and the opening of video sources."""

import hashlib
import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from subpixel.errors import OutputError, UnreadableVideo, UnsupportedVideo
from subpixel.storage.local import LocalStorage
from subpixel.video.media.source import is_packet, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.pipeline.segments import SegmentFolder
from video_files import make_frames, write

# Segments


FINGERPRINT = {"input": "abc", "crf": 2}


def opened(folder, fingerprint=FINGERPRINT, *, alone=True):
    return SegmentFolder(LocalStorage(folder), fingerprint, alone=alone)


def fill(segments, numbers=(0, 1, 2)):
    for number in numbers:
        writer = segments.start_segment(number)
        writer.write(f"packet {number}".encode(), 100 * number, 40, True)
        writer.write(b"more", 100 * number + 40, 40, False)
        writer.commit(2)


@pytest.fixture
def folder(tmp_path):
    segments = opened(tmp_path / ".film.mkv.subpixel")
    fill(segments)
    segments.record_outcome({"frames": 6})
    segments.close()
    return tmp_path / ".film.mkv.subpixel"


def reopened(folder, fingerprint=FINGERPRINT, *, alone=True):
    segments = opened(folder, fingerprint, alone=alone)
    segments.close()
    return segments


def files(folder, pattern="*/*.segment"):
    return sorted(path.name for path in folder.glob(pattern))


def test_an_interrupt_as_a_segment_begins_leaves_no_file(tmp_path, monkeypatch):
    """A signal may arrive after the file was created, and before anyone knows it."""
    segments, opens = opened(tmp_path / "folder"), Path.open

    def interrupted(path, *arguments):
        opens(path, *arguments).close()
        raise KeyboardInterrupt

    writer = None
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "open", interrupted)
            writer = segments.start_segment(0)
            writer.write(b"packet", 0, 40, True)
    finally:
        if writer is not None:  # as `run` does
            writer.discard()
    assert not list(tmp_path.rglob("*.part"))
    fill(segments)
    segments.close()


@pytest.mark.parametrize("alone", [True, False])
def test_finished_segments_are_found_again(folder, alone):
    segments = reopened(folder, alone=alone)
    assert (sorted(segments.segments), segments.outcome, segments.discard_reason) == (
        [0, 1, 2],
        {"frames": 6},
        "",
    )
    assert [data for _, data in segments.packets()][::2] == [b"packet 0", b"packet 1", b"packet 2"]
    assert [packet.pts for packet, _ in segments.packets()] == [0, 40, 100, 140, 200, 240]


def test_a_segment_describes_itself(folder):
    """So that a process on another machine needs no other file."""
    description = next(folder.glob("*/000001.segment")).read_bytes().split(b"\n")[1]
    entry = json.loads(description.partition(b" ")[2])
    assert (entry["number"], entry["frames"], entry["packets"]) == (
        1,
        2,
        [[8, 100, 40, True], [4, 140, 40, False]],
    )
    assert entry["digest"] == hashlib.sha256(b"packet 1more").hexdigest()


def test_an_unfinished_segment_is_removed(folder):
    segments = opened(folder)
    writer = segments.start_segment(3)
    writer.write(b"half", 0, 0, True)
    writer._file._file.close()
    segments.close()
    assert files(folder, "**/.*.part")
    assert sorted(reopened(folder).segments) == [0, 1, 2]
    assert not files(folder, "**/.*.part")


@pytest.mark.parametrize("offset", [0, 9, 12, 13, 40, 80, -2, -1])
def test_a_damaged_segment_is_discarded(folder, offset):
    file = next(folder.glob("*/000001.segment"))
    damaged = bytearray(file.read_bytes())
    damaged[offset] ^= 1
    file.write_bytes(damaged)
    segments = reopened(folder)
    assert sorted(segments.segments) == [0, 2]
    assert segments.discard_reason == "segment 1 is damaged"
    assert files(folder) == ["000000.segment", "000002.segment"]
    # It was removed, so the next run finds no damage.
    assert reopened(folder).discard_reason == ""


@pytest.mark.parametrize("length", [0, 1, 12, 13, 100, -1])
@pytest.mark.parametrize("alone", [True, False])
def test_a_truncated_segment_is_discarded(folder, length, alone):
    file = next(folder.glob("*/000001.segment"))
    file.write_bytes(file.read_bytes()[:length])
    assert sorted(reopened(folder, alone=alone).segments) == [0, 2]


def test_a_segment_of_another_job_or_number_is_discarded(folder):
    """A file that was copied by hand."""
    other = opened(folder.parent / "other", {"input": "other"})
    fill(other, [2])
    other.close()
    shutil.copy(
        next((folder.parent / "other").glob("*/000002.segment")), next(folder.glob("*/000002.segment"))
    )
    shutil.copy(next(folder.glob("*/000000.segment")), next(folder.glob("*/000001.segment")))
    assert sorted(reopened(folder).segments) == [0]


def test_packets_that_are_damaged_while_they_are_joined(folder):
    """A shard does not read all segments at its start."""
    file = next(folder.glob("*/000001.segment"))
    damaged = bytearray(file.read_bytes())
    damaged[0] ^= 1
    file.write_bytes(damaged)
    segments = reopened(folder, alone=False)
    assert sorted(segments.segments) == [0, 1, 2]
    with pytest.raises(OutputError, match="segment 1 is damaged; run the same command again"):
        list(segments.packets())
    assert sorted(reopened(folder, alone=False).segments) == [0, 2]


def test_a_missing_segment_is_discarded(folder):
    next(folder.glob("*/000002.segment")).unlink()
    assert sorted(reopened(folder).segments) == [0, 1]


@pytest.mark.parametrize("name", ["outcome", "fingerprint", "choices"])
@pytest.mark.parametrize("content", [b"", b"{}", b"no digest {}\n"])
def test_a_damaged_file_is_made_again(folder, name, content):
    segments = opened(folder)
    segments.pin({"threads": 1})
    segments.close()
    next(folder.glob(f"*/{name}")).write_bytes(content)
    segments = opened(folder)
    assert sorted(segments.segments) == [0, 1, 2]
    assert segments.pin({"threads": 1}) == {"threads": 1}
    segments.record_outcome({"frames": 6})
    segments.close()
    assert reopened(folder).outcome == {"frames": 6}


def test_an_entry_that_is_not_json(folder):
    text = b"no JSON"
    digest = hashlib.sha256(text).hexdigest()[:32].encode()
    next(folder.glob("*/outcome")).write_bytes(digest + b" " + text + b"\n")
    assert reopened(folder).outcome is None


def test_the_first_process_pins_the_choices(folder):
    one, two = opened(folder, alone=False), opened(folder, alone=False)
    assert one.pin({"threads": 1}) == two.pin({"threads": 2}) == {"threads": 1}
    one.close()
    two.close()


def test_files_of_older_versions_are_removed(folder):
    (folder / "journal").write_bytes(b"...")
    (folder / "000000.packets").write_bytes(b"...")
    reopened(folder)
    assert not files(folder, "journal") and not files(folder, "*.packets")


def test_another_job_starts_again(folder):
    """The segments of the earlier one stay until it ends: perhaps its options were a mistake."""
    other = opened(folder, FINGERPRINT | {"input": "other"})
    assert other.segments == {}
    assert [warning.partition(";")[0] for warning in other.warnings] == ["an earlier run had another input"]
    other.close()
    again = opened(folder)
    assert sorted(again.segments) == [0, 1, 2]
    assert again.warnings == []
    again.remove()
    assert not folder.exists()


def test_shards_with_other_options_do_not_mix(folder):
    other = opened(folder, FINGERPRINT | {"crf": 3}, alone=False)
    assert other.segments == {}
    assert other.warnings == [
        "another call for the same output had another crf; its segments are left, and not used. "
        "To share the work, pass the same options to all calls"
    ]
    fill(other, [1])
    other.close()
    assert sorted(reopened(folder, alone=False).segments) == [0, 1, 2]
    assert len(files(folder)) == 4


def test_one_process_at_a_time(folder):
    segments = opened(folder)
    for alone in (True, False):
        with pytest.raises(OutputError, match="another process is writing"):
            opened(folder, alone=alone)
    segments.remove()
    assert not folder.exists()


def test_shards_keep_a_process_out_that_wants_the_folder_alone(folder):
    shards = [opened(folder, alone=False) for _ in range(2)]
    with pytest.raises(OutputError, match="another process is writing"):
        opened(folder)
    for shard in shards:
        shard.close()
    opened(folder).close()


def test_a_segment_that_another_process_has_stored_meanwhile(folder):
    one, two = opened(folder, alone=False), opened(folder, alone=False)
    writers = [each.start_segment(3) for each in (one, two)]
    for writer in writers:
        writer.write(b"same", 0, 40, True)
    for writer in writers:
        writer.commit(1)
    assert one.segments[3] == two.segments[3]
    assert not files(folder, "**/.*.part")
    one.close()
    two.close()


# Source


def test_invalid_time_ranges():
    with pytest.raises(ValueError, match="must not be negative"):
        TimeRange(Fraction(-1))
    with pytest.raises(ValueError, match=r"the end, 1 s, must be after the start, 2 s"):
        TimeRange(Fraction(2), Fraction(1))


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_a_file_that_is_not_a_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: cannot be read"):
        open_source(tmp_path / "a.mp4")


def test_a_missing_file(tmp_path):
    with pytest.raises(UnreadableVideo, match=r"none\.mp4: cannot be read \(No such file"):
        open_source(tmp_path / "none.mp4")


def test_a_file_with_sound_only(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("aac", 44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(UnsupportedVideo, match=r"a\.mkv: contains no video, only audio"):
        open_source(tmp_path / "a.mkv")


def test_a_time_range_after_the_end(tmp_path):
    write(tmp_path / "a.mkv", make_frames(5))
    with pytest.raises(UnreadableVideo, match="contains no frame in the time range of start and end"):
        open_source(tmp_path / "a.mkv", TimeRange(Fraction(100)))


def test_events_are_frames_and_packets(tmp_path):
    write(tmp_path / "a.mkv", make_frames(30), sound="aac")
    source = open_source(tmp_path / "a.mkv")
    packets = [is_packet(event) for event in source.events()]
    source.close()
    assert packets.count(False) == 30 == source.decode_errors.frames
    assert packets.count(True) > 40
    assert source.decode_errors.warnings == []
