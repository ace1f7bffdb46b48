"""Videos in buckets: the same results as with files, and no more is read than is needed."""

from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest

from subpixel.errors import InputError, OutputError, OutputExists, OutputIsInput, UnreadableVideo
from subpixel.storage import ranged
from subpixel.storage.claims import Claims
from subpixel.storage.select import open_storage
from subpixel.video.distributed import encode_segments
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.segments import SegmentFolder
from video_files import make_frames, packets, write
from video_jobs import SEGMENT, hidden


@pytest.fixture
def bucket(s3):
    return f"s3://{s3.bucket()}"


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "webm", "ts", "avi", "y4m"])
def test_a_video_in_a_bucket_gives_the_same_result(upscale, s3, bucket, tmp_path, container):
    codecs = {"webm": "libvpx-vp9", "avi": "mpeg4"}
    codec = "wrapped_avframe" if container == "y4m" else codecs.get(container, "libx264")
    sound = "libopus" if container == "webm" else "aac"
    source = tmp_path / f"in.{container}"
    write(source, make_frames(25), codec=codec, sound=None if container == "y4m" else sound)
    upscale(source, tmp_path / "file.mkv")
    url = s3.put(f"{bucket}/films/a b.{container}", source.read_bytes())
    result = upscale(url, tmp_path / "object.mkv")
    assert result.input == url and result.frames == 25
    assert packets(tmp_path / "object.mkv") == packets(tmp_path / "file.mkv")
    assert hidden(tmp_path) == []


def test_a_part_of_a_video_in_a_bucket(upscale, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(50), sound="aac", options={"g": "10"})
    url = s3.put(f"{bucket}/in.mp4", source.read_bytes())
    upscale(source, tmp_path / "file.mkv", start=1, end=1.6)
    upscale(url, tmp_path / "object.mkv", start=1, end=1.6)
    assert packets(tmp_path / "object.mkv") == packets(tmp_path / "file.mkv")


def test_a_video_that_is_not_there(upscale, s3, bucket, tmp_path):
    for url, message in [
        (f"{bucket}/in.mp4", "cannot be read .No such file"),
        ("s3://there-is-none/in.mp4", "the bucket does not exist"),
        (s3.put(f"{bucket}/text.mp4", b"not a video"), "cannot be read .Invalid data"),
        (s3.put(f"{bucket}/empty.mp4", b""), "cannot be read"),
    ]:
        with pytest.raises(UnreadableVideo, match=f"^{url}: .*{message}"):
            upscale(url, tmp_path / "out.mkv")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_fails_in_the_middle_is_no_end_of_the_video(upscale, s3, bucket, tmp_path, capfd):
    source = write(tmp_path / "in.mkv", make_frames(120, 160, 120), codec="rawvideo")
    url = s3.put(f"{bucket}/in.mkv", source.read_bytes())
    upscale(source, tmp_path / "file.mkv")

    def fail_later(method, path):
        return "403 Forbidden\n<Code>ExpiredToken</Code>" if s3.bytes_read > 1_000_000 else ""

    s3.fault = fail_later
    with pytest.raises(InputError, match="the credentials have expired; get new ones"):
        upscale(url, tmp_path / "object.mkv")
    assert capfd.readouterr().err == ""
    s3.fault = lambda method, path: ""
    upscale(url, tmp_path / "object.mkv")
    assert packets(tmp_path / "object.mkv") == packets(tmp_path / "file.mkv")


class Killed(BaseException):
    """Raised to simulate a kill."""


def interrupt(upscale, monkeypatch, source, output, after=35, **options):
    """Run a job until some segments are stored, and interrupt it."""
    count = 0

    def upscale_frame(self, frame, *link, original=FrameUpscaler.__call__):
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return original(self, frame, *link)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", upscale_frame)
        with pytest.raises(Killed):
            upscale(source, output, **options)


@pytest.mark.parametrize("container", ["mkv", "mp4", "webm"])
def test_the_output_may_be_in_a_bucket(upscale, s3, bucket, tmp_path, container):
    source = write(tmp_path / "in.mkv", make_frames(25), sound="libopus")
    upscale(source, tmp_path / f"file.{container}")
    result = upscale(source, f"{bucket}/films/out.{container}")
    assert result.output == f"{bucket}/films/out.{container}"
    (tmp_path / f"object.{container}").write_bytes(s3.get(result.output))
    assert packets(tmp_path / f"object.{container}") == packets(tmp_path / f"file.{container}")
    assert s3.names(bucket[5:]) == [f"films/out.{container}"]


def test_an_object_is_not_replaced_unless_that_is_asked_for(upscale, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(5))
    url = s3.put(f"{bucket}/out.mkv", b"old")
    with pytest.raises(OutputExists, match=f"^{url}: exists already; pass --overwrite"):
        upscale(source, url)
    assert s3.get(url) == b"old"
    upscale(source, url, overwrite=True)
    assert s3.get(url)[:4] == b"\x1a\x45\xdf\xa3"
    film = s3.put(f"{bucket}/film.mkv", source.read_bytes())
    with pytest.raises(OutputIsInput):
        upscale(film, film, overwrite=True)


def test_an_object_that_another_process_created_meanwhile(upscale, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(15))
    url = f"{bucket}/out.mkv"

    def create_first(method, path):
        if method == "PUT" and path.endswith("/out.mkv"):
            s3.fault = lambda method, path: ""
            s3.put(url, b"other")
        return ""

    s3.fault = create_first
    with pytest.raises(OutputExists, match=f"^{url}: another process created it meanwhile"):
        upscale(source, url)
    assert s3.get(url) == b"other"


def test_an_interrupted_job_in_a_bucket_resumes(upscale, monkeypatch, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(60), sound="aac")
    upscale(source, tmp_path / "uninterrupted.mkv")
    film, url = s3.put(f"{bucket}/in.mp4", source.read_bytes()), f"{bucket}/a/out.mkv"
    interrupt(upscale, monkeypatch, film, url)
    names = s3.names(bucket[5:])
    assert "a/out.mkv" not in names
    assert [name for name in names if name.endswith(".segment")]
    result = upscale(film, url)
    assert result.resumed_frames >= SEGMENT
    (tmp_path / "out.mkv").write_bytes(s3.get(url))
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "uninterrupted.mkv")
    assert s3.names(bucket[5:]) == ["a/out.mkv", "in.mp4"]


def test_a_job_that_sent_its_output_and_was_killed_is_done(upscale, monkeypatch, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(25))
    url = f"{bucket}/out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(SegmentFolder, "remove", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            upscale(source, url)
    data = s3.get(url)
    s3.requests.clear()
    result = upscale(source, url)
    assert (result.frames, result.resumed_frames) == (25, 25)
    assert s3.get(url) == data
    assert not [path for method, path in s3.requests if method == "PUT" and path.endswith("out.mkv")]
    assert s3.names(bucket[5:]) == ["out.mkv"]
    with pytest.raises(OutputExists):
        upscale(source, url)


def test_segments_are_kept_when_the_bucket_refuses_them(upscale, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mkv", make_frames(60))
    url = f"{bucket}/out.mkv"

    def refuse(method, path):
        full = method == "PUT" and path.endswith("000003.segment")
        return "403 Forbidden\n<Code>QuotaExceeded</Code>" if full else ""

    s3.fault = refuse
    with pytest.raises(OutputError, match=r"the bucket is full\); [1-9]+ finished segments are kept"):
        upscale(source, url)
    s3.fault = lambda method, path: ""
    assert upscale(source, url).resumed_frames >= 2 * SEGMENT


def test_shards_fill_a_bucket_together(upscale, s3, bucket, tmp_path):
    source = write(tmp_path / "in.mp4", make_frames(60), sound="aac")
    upscale(source, tmp_path / "alone.mkv")
    film, url = s3.put(f"{bucket}/in.mp4", source.read_bytes()), f"{bucket}/out.mkv"
    first = upscale(film, url, shard=(1, 3))
    assert first.missing_segments == 4
    with ThreadPoolExecutor(2) as threads:
        results = [*threads.map(lambda number: upscale(film, url, shard=(number, 3)), (2, 3))]
    assert 0 in [result.missing_segments for result in results]
    (tmp_path / "out.mkv").write_bytes(s3.get(url))
    assert packets(tmp_path / "out.mkv") == packets(tmp_path / "alone.mkv")
    assert s3.names(bucket[5:]) == ["in.mp4", "out.mkv"]


def test_a_server_that_fails_while_sound_is_copied(upscale, s3, bucket, tmp_path, capfd):
    source = write(tmp_path / "in.mkv", make_frames(25), sound="aac")
    url = s3.put(f"{bucket}/in.mkv", source.read_bytes())

    def fail_later(method, path):
        done = any(put == "PUT" and name.endswith("outcome") for put, name in s3.requests)
        return "403 Forbidden\n<Code>ExpiredToken</Code>" if done and path.endswith("in.mkv") else ""

    s3.fault = fail_later
    with pytest.raises(InputError, match=f"^{url}: .*the credentials have expired"):
        upscale(url, f"{bucket}/out.mkv")
    s3.fault = lambda method, path: ""
    assert upscale(url, f"{bucket}/out.mkv").resumed_frames == 25
    assert capfd.readouterr().err == ""


def test_a_segment_is_read_without_the_rest_of_the_film(
    upscaler, short_segments, monkeypatch, s3, bucket, tmp_path
):
    monkeypatch.setattr(ranged, "_FIRST_BYTES", 32 << 10)
    monkeypatch.setattr(ranged, "_MOST_BYTES", 128 << 10)
    noise = np.random.default_rng(0).integers(0, 256, (200, 120, 160), np.uint8)
    frames = [av.VideoFrame.from_ndarray(each, "gray") for each in noise]
    source = write(tmp_path / "in.mkv", frames, codec="ffv1", options={"g": "1"}, pix_fmt="gray")
    url = s3.put(f"{bucket}/in.mkv", source.read_bytes())
    assert encode_segments(url, f"{bucket}/out.mkv", [0], upscaler=upscaler).done == (0,)
    s3.bytes_read = 0
    assert encode_segments(url, f"{bucket}/out.mkv", [15], upscaler=upscaler).done == (15,)
    assert s3.bytes_read < source.stat().st_size / 4


def another_machine(monkeypatch, url):
    """The claims of a process on another machine, on the folder of an output."""
    folder = url.replace("out.mkv", ".out.mkv.subpixel")
    with monkeypatch.context() as patch:
        patch.setattr("subpixel.storage.claims._machine", lambda: "another boot 4026531836")
        return Claims(open_storage(folder))


@pytest.mark.parametrize("shard", [None, (1, 1)])
def test_a_machine_that_was_lost_delays_its_job_only(upscale, monkeypatch, s3, bucket, tmp_path, shard):
    monkeypatch.setenv("SUBPIXEL_CLAIM_SECONDS", "1")
    source, url = write(tmp_path / "in.mkv", make_frames(5)), f"{bucket}/out.mkv"
    lost = another_machine(monkeypatch, url)
    monkeypatch.setattr(lost, "_start", lambda: None)  # it shows no sign of life
    assert lost.take("lock")
    assert upscale(source, url, shard=shard).frames == 5
    assert s3.names(bucket[5:]) == ["out.mkv"]


@pytest.mark.parametrize("shard", [None, (1, 1)])
def test_a_job_that_another_machine_does_is_left_to_it(upscale, monkeypatch, s3, bucket, tmp_path, shard):
    monkeypatch.setenv("SUBPIXEL_CLAIM_SECONDS", "3")
    source, url = write(tmp_path / "in.mkv", make_frames(5)), f"{bucket}/out.mkv"
    with another_machine(monkeypatch, url) as other:
        assert other.take("lock")
        with pytest.raises(OutputError, match="another process is writing the same output"):
            upscale(source, url, shard=shard)
    assert upscale(source, url, shard=shard).frames == 5
