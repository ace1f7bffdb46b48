"""Connections to clusters, without a cluster."""

import socket

import pytest
import ray

from subpixel import ClusterError
from subpixel.cluster.connection import connect

FAILURE = """Initialization failure from server:
Traceback (most recent call last):
  File "proxier.py", line 773, in Datapath
RuntimeError: Starting Ray client server failed."""


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"ray://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def failures(monkeypatch):
    """What `ray.init` raises, one call after the other, until it connects."""
    left = []

    def init(address, **options):
        if left:
            raise left.pop(0)

    monkeypatch.setattr(ray, "init", init)
    return left


def test_a_head_node_that_could_not_start_its_process_is_asked_again(address, failures):
    failures += [ConnectionAbortedError(FAILURE)] * 2
    with connect(address):
        assert not failures


def test_a_failure_is_one_line(address, failures):
    failures += [ConnectionAbortedError(FAILURE)] * 9
    with pytest.raises(ClusterError) as error, connect(address):
        pass
    assert str(error.value).endswith("(RuntimeError: Starting Ray client server failed.)")
    assert "\n" not in str(error.value)
    assert len(failures) == 6
