"""One video by several workers: planned, encoded and joined by a scheduler, or by shards."""

import errno
import hashlib
import os
import shutil
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

import subpixel
from subpixel.errors import InputError, OtherJob, OutputError, OutputExists
from subpixel.results import VideoResult
from subpixel.storage.claims import Claims
from subpixel.storage.local import LocalStorage
from subpixel.storage.outputs import identity
from subpixel.video.distributed import encode_segments, join_segments, plan_segments
from subpixel.video.job import OpenedJob
from subpixel.video.media.codecs import CODECS, Codec
from subpixel.video.pipeline import encode, run
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.segments import SegmentFolder
from video_files import make_frames, write
from video_jobs import SEGMENT, hidden

FRAMES = 45  # five segments, the last one short


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "in.mkv", make_frames(FRAMES), sound="aac")


@pytest.fixture
def whole(upscale, source, tmp_path):
    """The bytes of the output of one machine."""
    upscale(source, tmp_path / "whole.mkv")
    return (tmp_path / "whole.mkv").read_bytes()


@pytest.fixture
def shard(upscale, source, tmp_path):
    def run_shard(number, count, **options) -> VideoResult:
        return upscale(source, tmp_path / "out.mkv", shard=(number, count), **options)

    return run_shard


def segments(tmp_path: Path) -> list[int]:
    return sorted(int(path.stem) for path in tmp_path.glob(".out.mkv.subpixel/*/*.segment"))


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("where", ["segments", "join"])
@pytest.mark.parametrize("replace", [True, False], ids=["replaced", "written"])
def test_an_input_that_is_changed_meanwhile(upscaler, monkeypatch, tmp_path, where, replace):
    """Packets of raw video are the same but for their content, which must not get into the old job."""
    frames = list(make_frames(FRAMES))
    source, other, output = (tmp_path / name for name in ("in.avi", "other.avi", "out.mkv"))
    write(source, frames, codec="rawvideo", time_base=Fraction(1, 25), sound="pcm_s16le")
    content = source.read_bytes().replace(bytes(frames[42].planes[0]), bytes(frames[20].planes[0]))
    assert content != source.read_bytes()
    other.write_bytes(content)

    def change():
        if replace:
            other.replace(source)
        else:
            source.write_bytes(content)

    if where == "join":
        encode_segments(source, output, upscaler=upscaler)
        original = run.joined_frames
        with monkeypatch.context() as patch:
            patch.setattr(run, "joined_frames", lambda folder: (change(), original(folder))[1])
            with pytest.raises(InputError, match=r"in\.avi: was changed while it was read"):
                join_segments(source, output, upscaler=upscaler)
    else:
        with pytest.raises(InputError, match=r"in\.avi: was changed while it was read"):
            encode_segments(source, output, [0, 4], upscaler=upscaler, on_segment=lambda number: change())
        assert segments(tmp_path) == [0]
    assert not output.exists()
    encode_segments(source, output, upscaler=upscaler)
    join_segments(source, output, upscaler=upscaler)
    subpixel.upscale_video(source, tmp_path / "whole.mkv", upscaler=upscaler)
    assert output.read_bytes() == (tmp_path / "whole.mkv").read_bytes()


# A scheduler


@pytest.mark.usefixtures("short_segments")
def test_planned_encoded_and_joined(upscaler, whole, source, tmp_path):
    output = tmp_path / "out.mkv"
    plan = plan_segments(source, output, upscaler=upscaler)
    assert (plan.expected_count, plan.missing, plan.is_written) == (5, (0, 1, 2, 3, 4), False)
    encoded = encode_segments(source, output, [1, 2], upscaler=upscaler, digest=plan.digest)
    assert (encoded.done, encoded.present, encoded.held, encoded.frames) == ((1, 2), (), (), 20)
    assert plan_segments(source, output, upscaler=upscaler).missing == (0, 3, 4)
    with pytest.raises(OutputError, match=r"out\.mkv: 3 of 5 segments are missing \(0, 3, 4\)"):
        join_segments(source, output, upscaler=upscaler)
    encoded = encode_segments(source, output, [0, 1, 4, 5, 9], upscaler=upscaler)
    assert (encoded.done, encoded.present, encoded.held) == ((0, 4), (1,), ())
    assert encode_segments(source, output, None, upscaler=upscaler).done == (3,)
    result = join_segments(source, output, upscaler=upscaler)
    assert (result.frames, result.missing_segments) == (FRAMES, 0)
    assert output.read_bytes() == whole
    assert hidden(tmp_path) == []


@pytest.mark.usefixtures("short_segments")
def test_workers_that_are_asked_for_the_same_segments(upscaler, whole, source, tmp_path):
    output, counts = tmp_path / "out.mkv", []

    def work() -> None:
        counts.append(encode_segments(source, output, range(5), upscaler=upscaler).frames)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == FRAMES
    join_segments(source, output, upscaler=upscaler)
    assert output.read_bytes() == whole


@pytest.mark.usefixtures("short_segments")
def test_a_worker_that_comes_late(upscaler, source, tmp_path, monkeypatch):
    """Its segment is asked for again, or the joined output was not yet reported."""
    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr("subpixel.video.distributed.remove_job", lambda folder: None)
        encode_segments(source, output, upscaler=upscaler)
        join_segments(source, output, upscaler=upscaler)
    assert plan_segments(source, output, upscaler=upscaler).is_written
    assert encode_segments(source, output, [0], upscaler=upscaler).done == ()
    assert join_segments(source, output, upscaler=upscaler).frames == FRAMES


@pytest.mark.usefixtures("short_segments")
def test_segments_that_others_hold(upscaler, source, tmp_path):
    output = tmp_path / "out.mkv"
    plan = plan_segments(source, output, upscaler=upscaler)
    with Claims(LocalStorage(tmp_path / ".out.mkv.subpixel"), group="a scheduler") as other:
        assert other.take(f"{plan.digest}/000001.claim") is not None
        encoded = encode_segments(source, output, [0, 1], upscaler=upscaler)
        assert (encoded.done, encoded.held) == ((0,), (1,))
        again = encode_segments(source, output, [0, 1], owner="a scheduler", upscaler=upscaler)
        assert (again.done, again.present) == ((1,), (0,))


@pytest.mark.usefixtures("short_segments")
def test_the_planner_chooses_the_threads_and_workers_with_other_frames_are_refused(
    upscaler, source, tmp_path
):
    output = tmp_path / "out.mkv"
    plan = plan_segments(source, output, encoder_threads=3, upscaler=upscaler)
    assert b'"threads":3' in (tmp_path / ".out.mkv.subpixel" / plan.digest / "choices").read_bytes()
    with pytest.raises(OtherJob, match="would make other frames"):
        encode_segments(source, output, [0], digest=plan.digest, crf=30, upscaler=upscaler)
    assert plan_segments(source, output, encoder_threads=1, upscaler=upscaler).digest == plan.digest


# Shards


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_shards_together_give_the_output_of_one_machine(shard, whole, tmp_path, count):
    """Also if there are more shards than segments, whose share is empty."""
    for number in range(1, count):
        result = shard(number, count)
        own = [each for each in range(5) if each % count == number - 1]
        assert segments(tmp_path) == [each for each in range(5) if each % count < number] or count > 5
        assert result.missing_segments == max(0, 5 - sum(each % count < number for each in range(5)))
        assert result.frames == FRAMES and len(own) <= 5
    result = shard(count, count)
    assert result.missing_segments == 0
    assert (tmp_path / "out.mkv").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_the_last_shards_do_not_replace_the_output(shard, whole, tmp_path):
    """Five segments and eight shards: the fifth joins, and the others see that."""
    output = tmp_path / "out.mkv"
    output.write_bytes(b"an earlier result")
    for number in range(1, 6):
        shard(number, 8, overwrite=True)
    before = identity(output)
    assert output.read_bytes() == whole
    for number in (6, 3, 7):
        assert shard(number, 8, overwrite=True).missing_segments == 0
        assert shard(number, 8).frames == FRAMES
    assert hidden(tmp_path) == [".out.mkv.subpixel"]
    shard(8, 8, overwrite=True)
    assert identity(output) == before
    assert hidden(tmp_path) == []


def test_a_shard_that_ends_just_when_another_removes_the_folder(shard, tmp_path, monkeypatch):
    """Such as the last of the shards, which was started twice."""
    for number in range(1, 6):
        shard(number, 8)
    folder = tmp_path / ".out.mkv.subpixel"

    def exists_until_then(self, original=SegmentFolder.exists):
        existed = original(self)
        shutil.rmtree(folder, ignore_errors=True)
        return existed

    monkeypatch.setattr(SegmentFolder, "exists", exists_until_then)
    assert shard(6, 8).missing_segments == 0
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("moment", ["before the folder is opened", "before a claim"])
def test_another_process_writes_the_output_and_removes_the_folder(
    upscaler, short_segments, whole, source, tmp_path, monkeypatch, moment
):
    """Nothing is encoded again, and nothing is left."""
    output = tmp_path / "out.mkv"
    plan_segments(source, output, upscaler=upscaler)

    def finish():
        monkeypatch.undo()
        for module in (encode, run):
            monkeypatch.setattr(module, "SEGMENT_FRAMES", SEGMENT)
        encode_segments(source, output, upscaler=upscaler)
        join_segments(source, output, upscaler=upscaler)

    if moment == "before a claim":
        take = Claims.take
        monkeypatch.setattr(Claims, "take", lambda claims, name: (finish(), take(claims, name))[1])
        encoded = encode_segments(source, output, [0, 1], upscaler=upscaler)
        assert (encoded.done, encoded.frames) == ((), 0)
    else:
        open_folder = OpenedJob.open_folder
        monkeypatch.setattr(
            OpenedJob, "open_folder", lambda *given, **options: (finish(), open_folder(*given, **options))[1]
        )
        with pytest.raises(OutputExists):
            encode_segments(source, output, [0, 1], upscaler=upscaler)
    assert output.read_bytes() == whole
    assert hidden(tmp_path) == []


def test_an_existing_output_is_refused(shard, tmp_path):
    (tmp_path / "out.mkv").write_bytes(b"mine")
    with pytest.raises(OutputExists):
        shard(1, 2)
    assert hidden(tmp_path) == []


def test_an_output_that_was_removed_is_made_again(shard, whole, tmp_path):
    for number in range(1, 6):
        shard(number, 8)
    (tmp_path / "out.mkv").unlink()
    for number in range(1, 9):
        shard(number, 8)
    assert (tmp_path / "out.mkv").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_shards_with_other_options_do_not_mix(shard, whole, tmp_path):
    shard(1, 2)
    other = shard(2, 2, crf=30)
    assert any("had another encoder" in warning for warning in other.warnings)
    assert other.missing_segments == 3
    shard(2, 2)
    assert (tmp_path / "out.mkv").read_bytes() == whole


def test_encoders_whose_packets_depend_on_the_machine_are_told(shard, upscale, source, tmp_path, monkeypatch):
    """Such as those of graphics cards, which tests have not: libx264 stands for them."""
    assert all(bool(codec.differs) == codec.hardware for codec in CODECS)
    [device] = {codec.differs for codec in CODECS if codec.hardware}
    assert not any("libx264" in warning for warning in shard(1, 2).warnings)
    monkeypatch.setattr(Codec, "differs", device)
    told = f"libx264 on several machines: {device}"
    assert told in shard(2, 2).warnings
    assert "all machines need the same ones" in told
    assert told not in upscale(source, tmp_path / "alone.mkv").warnings


def test_a_run_on_one_machine_resumes_from_shards(shard, upscale, whole, source, tmp_path):
    shard(2, 2)
    result = upscale(source, tmp_path / "out.mkv")
    assert result.resumed_frames == 20
    assert (tmp_path / "out.mkv").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_shards_finish_what_one_machine_began(shard, upscale, whole, source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "join", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upscale(source, tmp_path / "out.mkv")
    assert shard(1, 4).resumed_frames == 15
    assert (tmp_path / "out.mkv").read_bytes() == whole


def test_a_damaged_segment_is_encoded_again(shard, whole, tmp_path):
    shard(1, 2)
    file = next(tmp_path.glob(".out.mkv.subpixel/*/000002.segment"))
    file.write_bytes(file.read_bytes()[:-1])
    assert shard(2, 2).missing_segments == 1
    shard(1, 2)
    assert (tmp_path / "out.mkv").read_bytes() == whole


def test_a_segment_of_an_ended_shard_that_is_damaged(shard, whole, tmp_path):
    """Only the shard that joins reads it; that one encodes it again."""
    shard(1, 2)
    file = next(tmp_path.glob(".out.mkv.subpixel/*/000002.segment"))
    damaged = bytearray(file.read_bytes())
    damaged[5] ^= 1
    file.write_bytes(damaged)
    result = shard(2, 2)
    assert result.missing_segments == 0
    assert (tmp_path / "out.mkv").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_a_full_disk_keeps_the_finished_segments(shard, whole, tmp_path, monkeypatch):
    def create(self, name, data, original=LocalStorage.create, **options):
        if name.endswith("000002.segment"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, name, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "create", create)
        with pytest.raises(OutputError, match=r"No space left on device\); 2 finished segments are kept"):
            shard(1, 1)
    assert segments(tmp_path) == [0, 1]
    assert not list(tmp_path.glob(".out.mkv.subpixel/**/*.claim"))
    assert not list(tmp_path.glob(".out.mkv.subpixel/**/.*.part"))
    assert shard(1, 1).resumed_frames == 20
    assert (tmp_path / "out.mkv").read_bytes() == whole


def test_a_failed_shard_releases_its_claim_and_keeps_its_segments(shard, whole, tmp_path, monkeypatch):
    frames = iter(range(FRAMES))

    def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
        if next(frames) < 15:
            return original(self, frame, *link)
        while not segments(tmp_path):
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(KeyboardInterrupt):
            shard(1, 1)
    assert segments(tmp_path) == [0]
    assert not list(tmp_path.glob(".out.mkv.subpixel/*/*.claim"))
    shard(1, 1)
    assert (tmp_path / "out.mkv").read_bytes() == whole


def test_another_engine_does_not_mix(source, tmp_path):
    """Floats differ between processors; the first machine determines the precision of all."""
    options = {"model": "fast", "engine": "numpy", "threads": 1, "end": 0.2}
    subpixel.upscale_video(source, tmp_path / "out.mkv", shard=(2, 2), precision="fp32", **options)
    choices = next(tmp_path.glob(".out.mkv.subpixel/*/choices"))
    storage = LocalStorage(choices.parent)
    pinned = storage.read("choices").data.partition(b" ")[2].replace(b'"numpy"', b'"onnxruntime"')
    choices.write_bytes(hashlib.sha256(pinned.strip()).hexdigest()[:32].encode() + b" " + pinned)
    with pytest.raises(OutputError, match="were made by the engine onnxruntime fp32"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", shard=(1, 2), precision="fp32", **options)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ((0, 2), ValueError),
        ((3, 2), ValueError),
        ((1, 2, 3), TypeError),
        ("1/2", TypeError),
        ((1.0, 2), TypeError),
    ],
)
def test_a_wrong_shard(source, tmp_path, wrong, error):
    with pytest.raises(error, match="shard"):
        subpixel.upscale_video(source, tmp_path / "out.mkv", shard=wrong)


def test_pipes_and_objects_have_no_shards(source, tmp_path):
    with pytest.raises(ValueError, match="pass a path as input"):
        subpixel.upscale_video(source.read_bytes(), tmp_path / "out.mkv", shard=(1, 2))
    with pytest.raises(ValueError, match="the output is a pipe"):
        subpixel.upscale_video(source, "-", shard=(1, 2))


# Claims


def test_a_segment_that_another_process_works_on_is_left_to_it(shard, tmp_path):
    shard(2, 2)
    prefix = next(tmp_path.glob(".out.mkv.subpixel/*/fingerprint")).parent.name
    with Claims(LocalStorage(tmp_path / ".out.mkv.subpixel")) as other:
        assert other.take(f"{prefix}/000002.claim") is not None
        result = shard(1, 2)
        assert (result.missing_segments, segments(tmp_path)) == (1, [0, 1, 3, 4])
    assert shard(1, 2).missing_segments == 0


@pytest.mark.parametrize("stuck", [False, True])
def test_a_dead_claim_of_another_machine_delays_only_its_segment(shard, whole, tmp_path, monkeypatch, stuck):
    """Also if that machine was lost just when it replaced the file of the claim."""
    monkeypatch.setenv("SUBPIXEL_CLAIM_SECONDS", "1")
    shard(2, 2)
    prefix = next(tmp_path.glob(".out.mkv.subpixel/*/fingerprint")).parent.name
    with monkeypatch.context() as patch:
        patch.setattr("subpixel.storage.claims._machine", lambda: "another machine")
        dead = Claims(LocalStorage(tmp_path / ".out.mkv.subpixel"))
    monkeypatch.setattr(dead, "_start", lambda: None)
    claim = dead.take(f"{prefix}/000002.claim")
    assert claim is not None
    if stuck:
        file = tmp_path / ".out.mkv.subpixel" / claim.name
        file.with_name(f".{file.name}.{claim.version}.next").write_bytes(file.read_bytes() + b" ")
    assert shard(1, 2).missing_segments == 0
    assert (tmp_path / "out.mkv").read_bytes() == whole
