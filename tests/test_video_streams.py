"""The order of streams in a file: all frames are read, whichever streams come first."""

import subprocess
import sys
from fractions import Fraction

import av
import pytest

import subpixel
from interpolating import bicubic_model
from subpixel.evaluation.video import ClipSetup, evaluate_clip
from subpixel.upscaler import Upscaler
from subpixel.video.media.source import Source, is_packet, open_source
from video_files import decoded, make_frames, remux, write

FRAMES = 30
CODECS = {"avi": {"codec": "mpeg4", "options": {"bf": "2"}, "sound": "mp2"}}
OF_MPEG = {"codec": "libx264", "options": {"bf": "3"}, "sound": "aac"}


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(bicubic_model(2), "numpy", threads=1)


def write_video(folder, extension, index):
    """Write a video with B-frames, whose video stream comes after ``index`` streams of sound."""
    metadata = CODECS.get(extension, OF_MPEG)
    start = write(folder / f"start.{'avi' if extension == 'avi' else 'mkv'}", make_frames(FRAMES), **metadata)
    maps = [part for stream in ["0:a"] * index + ["0:v"] + ["0:a"] * (not index) for part in ("-map", stream)]
    path = remux(start, folder / f"in.{extension}", *maps)
    with av.open(str(path)) as file:
        assert file.streams.video[0].index == index
    return path


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "mov", "avi"])
@pytest.mark.parametrize("index", [0, 1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_every_frame_is_read(monkeypatch, tmp_path, extension, index, threads):
    source = write_video(tmp_path, extension, index)
    began = Source.__post_init__

    def begin(self):
        self.stream.thread_count = threads
        began(self)

    monkeypatch.setattr(Source, "__post_init__", begin)
    opened = open_source(source)
    frames = [event for event in opened.events() if not is_packet(event)]
    opened.close()
    assert len(frames) == len(decoded(source)) == FRAMES


@pytest.mark.parametrize("index", [0, 1, 3])
def test_every_frame_is_upscaled(upscaler, tmp_path, index):
    """Of a whole file, of a time range, and in evaluation."""
    source = write_video(tmp_path, "mp4", index)
    output = tmp_path / "out.mp4"
    report = subpixel.upscale_video(source, output, upscaler=upscaler)
    assert report.frames == len(decoded(output)) == FRAMES
    part = subpixel.upscale_video(source, tmp_path / "part.mp4", upscaler=upscaler, start=Fraction(20, 25))
    assert part.frames == len(decoded(tmp_path / "part.mp4")) == FRAMES - 20
    scores = evaluate_clip(source, lambda luma: luma.repeat(2, 0).repeat(2, 1), ClipSetup(2))
    assert scores.frames == FRAMES


@pytest.mark.parametrize("index", [0, 1, 3])
def test_every_frame_goes_through_pipes(model, tmp_path, index):
    source = write_video(tmp_path, "mkv", index)
    command = [sys.executable, "-m", "subpixel", "upscale", "-", "-o", "-", "--container", "mkv"]
    options = ["--model", model, "--engine", "numpy", "--threads", "1"]
    done = subprocess.run([*command, *options], input=source.read_bytes(), capture_output=True, check=True)
    (tmp_path / "out.mkv").write_bytes(done.stdout)
    assert len(decoded(tmp_path / "out.mkv")) == FRAMES


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_frames_lost_in_decoder_threads_are_counted(monkeypatch, tmp_path, threads):
    """If the last packet is truncated, PyAV loses the frames in the threads of the decoder."""
    complete = write(
        tmp_path / "complete.mp4", make_frames(FRAMES), **OF_MPEG, container_options={"movflags": "faststart"}
    )
    with av.open(str(complete)) as file:
        packet_ends = [packet.pos + packet.size for packet in file.demux(video=0) if packet.size]
    source = tmp_path / "in.mp4"
    source.write_bytes(complete.read_bytes()[: packet_ends[14] - 20])
    began = Source.__post_init__

    def begin(self):
        self.stream.thread_count = threads
        began(self)

    monkeypatch.setattr(Source, "__post_init__", begin)
    opened = open_source(source)
    frames = [event for event in opened.events() if not is_packet(event)]
    opened.close()
    assert len(frames) + opened.decode_errors.lost + opened.decode_errors.missing == FRAMES
