"""Films on a cluster: the file of one machine, encoded by several, whatever happens to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import subpixel.cluster
from subpixel import ClusterError, UnreadableVideo, upscale_video
from subpixel.video.pipeline.encode import SEGMENT_FRAMES
from video_files import make_frames, write
from video_jobs import hidden


def segments(film, log):
    return sorted(int(line.removeprefix(f"{film} segment ")) for line in log.done)


def test_processors_of_two_kinds_encode_the_segments_of_one_file(
    cluster, film, expected_film, tmp_path, run_log
):
    output = tmp_path / "large" / "film.mkv"
    shown = []
    [result] = subpixel.cluster.upscale(film, output, address=cluster.address, progress=shown.append)
    assert output.read_bytes() == expected_film
    assert segments(film, run_log) == [0, 1, 2, 3, 4]
    assert (result.input, result.output) == (str(film), str(output))
    assert (result.frames, result.resumed_frames) == (4 * SEGMENT_FRAMES + 40, 0)
    assert {"decode", "upscale", "encode", "write"} <= result.stages.keys()
    assert hidden(output.parent) == []
    assert shown[-1].fraction == 1


def test_a_process_that_is_killed_in_a_segment_costs_this_segment(
    cluster, film, expected_film, tmp_path, run_log
):
    run_log.kill_process_of(r"\(segment [12]", times=1)
    output = tmp_path / "film.mkv"
    subpixel.cluster.upscale(film, output, address=cluster.address)
    assert output.read_bytes() == expected_film
    assert run_log.killed == 1
    assert segments(film, run_log) == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.copies_slow_tasks
def test_a_process_that_hangs_in_a_segment_holds_nothing_up(cluster, film, expected_film, tmp_path, run_log):
    """The last segment, when other CPUs are idle: one of them does it too, and its result counts."""
    run_log.kill_process_of(r"\(segment 4", times=1, signal=signal.SIGSTOP)
    output = tmp_path / "film.mkv"
    subpixel.cluster.upscale(film, output, address=cluster.address)
    assert output.read_bytes() == expected_film
    assert run_log.killed == 1
    assert run_log.copied >= 1


@pytest.mark.slow
def test_a_segment_that_kills_its_process_sets_the_film_aside(cluster, film, photos, tmp_path, run_log):
    run_log.kill_process_of(r"\(segment 2", times=10)
    failed, *others = subpixel.cluster.upscale(
        [film, *sorted(photos.iterdir())[:3]], tmp_path / "large", address=cluster.address
    )
    assert isinstance(failed, ClusterError)
    assert str(failed).startswith(f"{film}: set aside after 3 failures, the last one: segment 2: its process")
    assert not any(isinstance(result, Exception) for result in others)
    assert run_log.killed == 3
    run_log.stop()
    run_log.done.clear()
    [result] = subpixel.cluster.upscale([film], tmp_path / "large/", address=cluster.address)
    assert result.resumed_frames > 0  # what others had encoded


@pytest.mark.slow
def test_a_killed_driver_goes_on_with_the_same_command(cluster, film, expected_film, tmp_path, run_log):
    output = tmp_path / "film.mkv"
    command = [sys.executable, "-m", "subpixel", "upscale", film, "-o", output, "--json"]
    command = [*map(str, command), "--cluster", cluster.address]
    with subprocess.Popen(command) as process:
        while not list(tmp_path.glob(".film.mkv.subpixel/*/*.segment")):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)  # until Ray has ended the processes of the tasks
    finished = len(list(tmp_path.glob(".film.mkv.subpixel/*/*.segment")))
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert output.read_bytes() == expected_film
    assert json.loads(run.stdout)["resumed_frames"] >= (finished - 1) * SEGMENT_FRAMES + 40
    assert hidden(tmp_path) == []


@pytest.mark.slow
def test_processors_of_two_kinds_do_not_mix_in_fp32(cluster, film, tmp_path):
    output = tmp_path / "film.mkv"
    [result] = subpixel.cluster.upscale(film, output, address=cluster.address, precision="fp32")
    assert result.precision == "fp32" and result.frames == 4 * SEGMENT_FRAMES + 40
    kinds = {}
    for target in ("avx2", ""):
        alone = tmp_path / f"alone{target}.mkv"
        environment = os.environ | ({"SUBPIXEL_TARGET": target} if target else {})
        command = [sys.executable, "-m", "subpixel", "upscale", film, "-o", alone, "--precision", "fp32"]
        subprocess.run([*map(str, command)], check=True, env=environment)
        kinds[alone.read_bytes()] = target
    assert output.read_bytes() in kinds


@pytest.mark.slow
def test_films_of_unknown_length_and_damaged_ones(cluster, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    write(folder / "raw.h264", make_frames(300), container_options={}, codec="libx264")
    write(folder / "short.mp4", make_frames(3))
    (folder / "damaged.mp4").write_bytes(b"no film")
    damaged, raw, short = subpixel.cluster.upscale(folder, tmp_path / "large", address=cluster.address)
    assert isinstance(damaged, UnreadableVideo) and str(damaged).startswith(f"{folder / 'damaged.mp4'}: ")
    assert (raw.frames, short.frames) == (300, 3)
    for result in (raw, short):
        alone = tmp_path / "alone" / Path(result.output).name
        upscale_video(result.input, alone)
        assert alone.read_bytes() == (tmp_path / "large" / alone.name).read_bytes()
