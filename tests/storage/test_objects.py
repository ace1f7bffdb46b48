"""Objects of buckets: files that are read by ranges, paths, and errors that say what to do."""

import io
import random
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from s3_server import S3Server
from subpixel.storage import bucket as buckets
from subpixel.storage.paths import ObjectPath, locate
from subpixel.storage.select import open_storage

MIB = 1 << 20


def put(path: ObjectPath, data: bytes) -> ObjectPath:
    with path.client() as store:
        store.put(path.key, data)
    return path


@pytest.fixture
def folder(s3: S3Server) -> ObjectPath:
    return ObjectPath(s3.bucket(), "films")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two retries only."""
    monkeypatch.setattr(buckets, "_RETRIES", 2)
    buckets._store.cache_clear()
    monkeypatch.setattr(buckets, "_store", buckets._store.__wrapped__)


def test_a_name_is_a_local_path_or_an_object():
    assert locate("films/a.mp4") == Path("films/a.mp4")
    assert locate("s3-films/a.mp4") == Path("s3-films/a.mp4")
    path = ObjectPath("bucket", "films/a b.mp4")
    assert locate("s3://bucket/films/a b.mp4") == locate(Path("s3://bucket/films/a b.mp4")) == path
    assert str(locate("S3://bucket/films/")) == "s3://bucket/films"
    assert str(locate("s3://bucket")) == "s3://bucket/"
    assert (path.name, path.suffix, str(path.parent)) == ("a b.mp4", ".mp4", "s3://bucket/films")
    assert path.parent / "x/y.png" == ObjectPath("bucket", "films/x/y.png")
    assert ObjectPath("bucket", "") / "y.png" == ObjectPath("bucket", "y.png")
    assert path.relative_to(locate("s3://bucket")) == PurePosixPath("films/a b.mp4")


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 17])
def test_ranges_give_the_bytes_of_the_object(folder, size):
    data = random.Random(size).randbytes(size)
    path = put(folder / "film.mp4", data)
    same = io.BytesIO(data)
    choose = random.Random(1)
    with path.open() as file:
        assert file.read() == same.read()
        for _ in range(200):
            position, length = choose.randrange(size + 10), choose.choice([1, 100, 70_000])
            if choose.random() < 0.5:
                file.seek(position)
                same.seek(position)
            assert file.read(length) == same.read(length)
            assert file.tell() == same.tell()
        assert file.seek(-1, io.SEEK_END) == size - 1 if size else True


def test_little_more_is_read_than_is_needed(folder, s3):
    path = put(folder / "film.mp4", bytes(20 * MIB))
    with path.open() as file:
        for start in (0, 19 * MIB, 10 * MIB):  # the header, the index, a key frame
            file.seek(start)
            file.read(1000)
    assert s3.bytes_read <= MIB
    s3.bytes_read = 0
    s3.requests.clear()
    with path.open() as file:
        while file.read(50_000):
            pass
    assert s3.bytes_read <= 20 * MIB + 1
    assert len(s3.requests) <= 10


def test_a_file_is_read_from_one_version(folder):
    path = put(folder / "film.mp4", bytes(MIB))
    with path.open() as file:
        put(path, bytes([1]) * MIB)
        with pytest.raises(OSError, match="was replaced or removed while it was read"):
            file.read(10)


def test_names_with_unusual_characters(folder, s3):
    for name in ("a b.mp4", "ü#%41?*[1].png", "plus+and&.png", "tilde~'\"<>.png"):
        path = put(folder / name, name.encode())
        assert bytes(path.read(0, 100)) == name.encode()
        assert path in [found for found, _ in folder.walk()]
    for name in ("a//b", "/a"):
        with pytest.raises(OSError, match="names with empty parts"):
            ObjectPath(folder.bucket, name).is_file()


def test_folders(folder):
    assert not folder.is_dir()
    for name in ("b.png", "a/c.png", "a/.hidden/d.png", ".hidden.png"):
        put(folder / name, b"x")
    assert folder.is_dir() and not folder.is_file()
    assert ObjectPath(folder.bucket, "").is_dir()
    assert not ObjectPath(folder.bucket, "fil").is_dir()
    names = [str(path.relative_to(folder)) for path, _ in folder.walk()]
    assert names == ["a/c.png", "b.png"]
    assert [path.name for path, _ in folder.walk(recursive=False)] == ["b.png"]
    assert len([*folder.walk(hidden=True)]) == 4


def test_requests_are_repeated(folder, s3):
    path = put(folder / "film.mp4", b"data")
    failures = iter(["503 Slow Down\n<Code>SlowDown</Code>", "500 Internal Server Error"])
    s3.fault = lambda method, key: next(failures, "")
    assert bytes(path.read(0, 4)) == b"data"


@pytest.mark.parametrize("cuts", [1, 3])
def test_lost_connections_are_made_again(folder, s3, cuts):
    data = random.Random(1).randbytes(MIB)
    path = put(folder / "film.mp4", data)
    with path.open() as file:
        s3.cut_answers = cuts
        assert file.read() == data


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("403 Forbidden\n<Code>AccessDenied</Code>", "no right"),
        ("403 Forbidden", "no right"),
        ("403 Forbidden\n<Code>SignatureDoesNotMatch</Code>", "AWS_SECRET_ACCESS_KEY"),
        ("403 Forbidden\n<Code>InvalidAccessKeyId</Code>", "AWS_ACCESS_KEY_ID"),
        ("400 Bad Request\n<Code>ExpiredToken</Code>", "expired"),
        ("301 Moved Permanently\n<Code>PermanentRedirect</Code>", "set AWS_REGION"),
        (
            "400 Bad Request\n<Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>",
            "set AWS_REGION to eu-west-1",
        ),
        ("503 Slow Down\n<Code>SlowDown</Code>", "503 .*, SlowDown; try again later"),
        ("404 Not Found\n<Code>NoSuchBucket</Code>", "bucket does not exist"),
    ],
)
def test_errors_say_what_to_do(folder, s3, fast, answer, message):
    storage = open_storage(folder)
    s3.fault = lambda method, key: answer
    calls = [lambda: storage.read("a"), lambda: storage.create("a", b"1"), storage.entries]
    for call in calls:
        with pytest.raises(OSError, match=message) as caught:
            call()
        assert not isinstance(caught.value, FileNotFoundError)
        assert "\n" not in caught.value.strerror


def test_a_missing_bucket(s3):
    storage = open_storage("s3://there-is-none/films")
    for call in (lambda: storage.read("a"), lambda: storage.create("a", b"1"), storage.entries):
        with pytest.raises(OSError, match="the bucket does not exist"):
            call()


def test_a_server_that_cannot_be_reached(folder, fast, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="cannot be reached; check the network and AWS_ENDPOINT_URL"):
        folder.is_dir()


@pytest.mark.parametrize("endpoint", ["nonsense", "127.0.0.1:9000", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_no_url(folder, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(OSError, match=r"AWS_ENDPOINT_URL=.* is no URL; write http://HOST:PORT"):
        folder.is_dir()


def test_http_may_be_forbidden(folder, monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(OSError, match="AWS_ALLOW_HTTP"):
        folder.is_dir()


def test_credentials_of_a_profile(folder, s3, monkeypatch, tmp_path):
    pytest.importorskip("boto3", reason="reads profiles")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[films]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "films")
    put(folder / "a", b"x")
    assert folder.is_dir()


def test_without_the_package(tmp_path):
    (tmp_path / "obstore.py").write_text("raise ImportError('not there')")
    code = "from subpixel.storage.paths import locate; locate('s3://bucket/a').is_file()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install 'subpixel[s3]'" in done.stderr
