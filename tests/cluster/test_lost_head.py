"""A cluster whose head node is lost: the command ends with an error, and goes on with another cluster."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cluster_process import running_cluster, workers_of
from subpixel.video.pipeline.encode import SEGMENT_FRAMES
from video_jobs import hidden


@pytest.mark.slow
@pytest.mark.parametrize("address", ["address", "client_address"])
def test_a_lost_head_node_is_an_error_within_a_minute(film, expected_film, tmp_path, address):
    """On a machine of the cluster the driver's calls block; outside it, they raise."""
    output = tmp_path / "large" / "film.mkv"

    def command(cluster):
        arguments = ["upscale", film, "-o", output, "--json", "--cluster", getattr(cluster, address)]
        return [sys.executable, "-m", "subpixel", *map(str, arguments)]

    with running_cluster(tmp_path / "first.log") as cluster:
        driver = subprocess.Popen(command(cluster), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not list(output.parent.glob(".film.mkv.subpixel/*/*.segment")):
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.02)
        cluster.kill_head()
        for process in workers_of(cluster.head):
            os.kill(process, signal.SIGSTOP)  # else it might finish the film before the error
        lost = time.monotonic()
        shown, errors = driver.communicate(timeout=120)
        seconds = time.monotonic() - lost
    assert (driver.returncode, shown) == (1, "")
    assert "error: the head node of the cluster has not answered for 4" in errors
    assert "run the same command again: what is finished stays" in errors
    assert seconds < 75  # the error comes before; the rest is what Ray takes to end, and a busy machine
    assert not output.exists()
    with running_cluster(tmp_path / "second.log") as cluster:
        again = subprocess.run(command(cluster), capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_frames"] >= SEGMENT_FRAMES
    assert output.read_bytes() == expected_film
    assert hidden(output.parent) == []
