"""Outputs in buckets: whole or not there, at once or in parts."""

import os
import random

import pytest

from s3_server import S3Server
from subpixel.errors import OutputError, OutputExists
from subpixel.storage import outputs
from subpixel.storage.outputs import identity, write_whole
from subpixel.storage.paths import ObjectPath

MIB = 1 << 20


@pytest.fixture
def path(s3: S3Server) -> ObjectPath:
    return ObjectPath(s3.bucket(), "films/a b.mkv")


@pytest.fixture(params=["at once", "in parts"])
def data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bytes:
    if request.param == "in parts":
        monkeypatch.setattr(outputs, "_MOST_BYTES_AT_ONCE", MIB)
        monkeypatch.setattr(outputs, "_PART_BYTES", 5 * MIB)
    return random.Random(1).randbytes(12 * MIB)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_appears_whole(s3, path, data, overwrite):
    with write_whole(path, overwrite=overwrite) as part:
        part.write_bytes(data)
        written = identity(part)
        assert s3.names(path.bucket) == []
    assert not part.exists()
    assert s3.get(str(path)) == data
    assert identity(path) == written
    assert path.attribute("Content-Type") == "video/x-matroska"


def test_an_output_that_exists_is_kept(s3, path, data):
    s3.put(str(path), b"old")
    with pytest.raises(OutputExists, match="exists already"), write_whole(path) as part:
        raise AssertionError
    with write_whole(path, overwrite=True) as part:
        part.write_bytes(data)
    assert s3.get(str(path)) == data


def test_an_output_that_is_created_meanwhile_is_kept(s3, path, data):
    with pytest.raises(OutputExists, match="another process created it"), write_whole(path) as part:
        part.write_bytes(data)
        s3.put(str(path), b"other")
    assert s3.get(str(path)) == b"other"


def test_nothing_appears_after_an_error(s3, path, data, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(KeyboardInterrupt), write_whole(path) as part:
        part.write_bytes(data)
        raise KeyboardInterrupt
    s3.fault = lambda method, key: "403 Forbidden" if method in ("PUT", "POST") else ""
    with (
        pytest.raises(OutputError, match=f"^{path}: could not be written .*no right"),
        write_whole(path) as part,
    ):
        part.write_bytes(data)
    s3.fault = lambda method, key: ""
    assert s3.names(path.bucket) == []
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_name_of_a_bucket_is_no_output(path):
    with pytest.raises(OutputError, match="is a bucket"), write_whole(ObjectPath(path.bucket, "")):
        raise AssertionError
