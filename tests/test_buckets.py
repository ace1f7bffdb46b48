"""Images and folders in buckets, by the command and the library."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

import subpixel
from image_files import smooth_image
from subpixel.cli import app
from subpixel.errors import InputError, OutputError, OutputExists
from video_files import make_frames, write


@pytest.fixture
def bucket(s3):
    return f"s3://{s3.bucket()}"


@pytest.fixture
def command(model):
    return lambda *arguments: CliRunner().invoke(
        app, ["upscale", "-m", model, "--engine", "numpy", *map(str, arguments)]
    )


@pytest.fixture
def small(tmp_path):
    """The bytes of a PNG of 24 x 20 pixels."""
    Image.fromarray(smooth_image(20, 24)).save(tmp_path / "small.png")
    return (tmp_path / "small.png").read_bytes()


def lines(process):
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_an_image_in_a_bucket(s3, bucket, small, model, tmp_path):
    source = s3.put(f"{bucket}/photos/ü b.png", small)
    subpixel.upscale_image(tmp_path / "small.png", tmp_path / "large.png", model=model)
    result = subpixel.upscale_image(source, f"{bucket}/large.png", model=model)
    assert (result.input, result.output) == (source, f"{bucket}/large.png")
    assert s3.get(result.output) == (tmp_path / "large.png").read_bytes()
    with pytest.raises(OutputExists, match=f"^{bucket}/large.png: exists already"):
        subpixel.upscale_image(source, f"{bucket}/large.png", model=model)
    subpixel.upscale_image(source, f"{bucket}/large.png", model=model, overwrite=True)
    subpixel.upscale_image(source, tmp_path / "mixed.png", model=model)
    assert (tmp_path / "mixed.png").read_bytes() == (tmp_path / "large.png").read_bytes()
    with pytest.raises(InputError, match=f"^{bucket}/none.png: could not be read .No such file"):
        subpixel.upscale_image(f"{bucket}/none.png", tmp_path / "none.png", model=model)
    with pytest.raises(InputError, match=f"^{bucket}/text.png: is not an image"):
        subpixel.upscale_image(s3.put(f"{bucket}/text.png", b"text"), tmp_path / "none.png", model=model)


def test_an_object_that_appears_while_an_image_is_upscaled(s3, bucket, small, model):
    def create_first(method, path):
        if method == "PUT" and path.endswith("/large.png"):
            s3.fault = lambda method, path: ""
            s3.put(f"{bucket}/large.png", b"other")
        return ""

    source = s3.put(f"{bucket}/small.png", small)
    s3.fault = create_first
    with pytest.raises(OutputExists, match="another process created it meanwhile"):
        subpixel.upscale_image(source, f"{bucket}/large.png", model=model)
    assert s3.get(f"{bucket}/large.png") == b"other"


def test_other_urls_are_refused(small, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is a URL, and only local files and s3:// are read"):
        subpixel.upscale_image("http://127.0.0.1/a.png", tmp_path / "large.png")
    monkeypatch.chdir(tmp_path)
    for name in ("http://127.0.0.1/a.png", "gs://bucket/a.png"):
        with pytest.raises(
            OutputError, match=f"^{name}: is a URL, and only local files and s3:// are written"
        ):
            subpixel.upscale_image(tmp_path / "small.png", name)
    assert os.listdir() == ["small.png"]  # noqa: PTH208


def test_the_input_is_not_replaced(command, s3, bucket, small):
    source = s3.put(f"{bucket}/small.png", small)
    done = command(source, "-o", source, "--overwrite")
    assert done.exit_code == 1 and "is the input; name another output" in done.stderr
    assert s3.get(source) == small


def test_a_folder_in_a_bucket(command, s3, bucket, small, tmp_path):
    write(tmp_path / "clip.mp4", make_frames(3))
    for name in ("photos/a.png", "photos/sub/b.png", "photos/.hidden/c.png", "photos/notes.txt"):
        s3.put(f"{bucket}/{name}", small)
    s3.put(f"{bucket}/photos/clip.mp4", (tmp_path / "clip.mp4").read_bytes())
    there = f"{bucket}/large/"
    done = command(f"{bucket}/photos/", "-o", there, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [(line["input"], line["output"]) for line in lines(done)] == [
        (f"{bucket}/photos/a.png", f"{there}a.png"),
        (f"{bucket}/photos/clip.mp4", f"{there}clip.mp4"),
    ]
    assert "large/sub/b.png" not in s3.names(bucket[5:])
    again = command(f"{bucket}/photos", "-o", there, "--json", "--recursive", "--skip-existing")
    assert [line.get("skipped") for line in lines(again)] == ["the output exists"] * 2 + [None]
    assert lines(again)[2]["output"] == f"{there}sub/b.png"
    refused = command(f"{bucket}/photos", "-o", there, "--json")
    assert refused.exit_code == 1
    assert "exists already" in lines(refused)[0]["error"]


def test_names_with_empty_parts_are_refused(command, s3, bucket, small):
    """S3 takes them for other objects than those without; none of those must be read or written."""
    for name in ("a/b.png", "a.png"):
        s3.put(f"{bucket}/{name}", small)
    for name in ("a//b.png", "/a.png", "//a.png"):
        done = command(f"{bucket}/{name}", "-o", f"{bucket}/large.png")
        assert done.exit_code == 1 and "names with empty parts (//) are not supported" in done.stderr
    for name in ("out//", "out//large.png", "/large.png"):
        done = command(f"{bucket}/a.png", "-o", f"{bucket}/{name}")
        assert done.exit_code == 1 and "names with empty parts (//) are not supported" in done.stderr
    assert s3.names(bucket[5:]) == ["a.png", "a/b.png"]
    assert command(f"{bucket}/a/", "-o", f"{bucket}/out/").exit_code == 0
    assert s3.names(bucket[5:]) == ["a.png", "a/b.png", "out/b.png"]


def test_only_newer_inputs(command, s3, bucket, small):
    source = s3.put(f"{bucket}/photos/a.png", small)
    assert command(source, "-o", f"{bucket}/large/").exit_code == 0
    assert "skipped" in lines(command(source, "-o", f"{bucket}/large/", "--newer", "--json"))[0]
    time.sleep(1.1)  # LastModified has whole seconds
    s3.put(source, small)
    assert "skipped" not in lines(command(source, "-o", f"{bucket}/large/", "--newer", "--json"))[0]


def test_buckets_and_local_files_together(command, s3, bucket, small, tmp_path):
    source = s3.put(f"{bucket}/a.png", small)
    (tmp_path / "b.png").write_bytes(small)
    done = command(source, tmp_path / "b.png", "-o", tmp_path / "large", "--json")
    assert done.exit_code == 0
    assert sorted(os.listdir(tmp_path / "large")) == ["a.png", "b.png"]  # noqa: PTH208
    up = command(tmp_path / "b.png", "-o", f"{bucket}/large/", "--suffix", "-x2", "--json")
    assert lines(up)[0]["output"] == f"{bucket}/large/b-x2.png"
    beside = command(source, "--suffix=-large", "--json")
    assert lines(beside)[0]["output"] == f"{bucket}/a-large.png"


def test_a_dry_run_writes_nothing(command, s3, bucket, small, tmp_path):
    write(tmp_path / "clip.mp4", make_frames(3))
    s3.put(f"{bucket}/in/a.png", small)
    s3.put(f"{bucket}/in/clip.mp4", (tmp_path / "clip.mp4").read_bytes())
    before = s3.names(bucket[5:])
    done = command(f"{bucket}/in", "-o", f"{bucket}/out", "--dry-run", "--json")
    assert done.exit_code == 0
    assert [(line["input"], line["width"]) for line in lines(done)] == [
        (f"{bucket}/in/a.png", 48),
        (f"{bucket}/in/clip.mp4", 128),
    ]
    assert s3.names(bucket[5:]) == before


def test_shards_of_a_folder(command, s3, bucket, small):
    for name in "abcde":
        s3.put(f"{bucket}/in/{name}.png", small)
    shares = [
        {
            line["input"]
            for line in lines(
                command(f"{bucket}/in", "-o", f"{bucket}/out", "--shard", f"{number}/2", "--json")
            )
        }
        for number in (1, 2)
    ]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == 5
    assert [name for name in s3.names(bucket[5:]) if name.startswith("out/")] == [
        f"out/{name}.png" for name in "abcde"
    ]


@pytest.mark.parametrize("name", ["a.png", "film.mp4"])
def test_errors_of_the_command(command, s3, bucket, small, tmp_path, name):
    for source, output, message in [
        (
            f"s3://there-is-none/{name}",
            tmp_path / name,
            f"s3://there-is-none/{name}: .*the bucket does not exist",
        ),
        (f"{bucket}/{name}", tmp_path / name, f"{bucket}/{name}: .*No such file"),
    ]:
        done = command(source, "-o", output, "--json")
        assert done.exit_code == 1
        (line,) = lines(done)
        assert line["input"] == source
        assert len(done.stderr.splitlines()) == 1
        assert re.match(message, line["error"]), line
    assert os.listdir(tmp_path) in (["small.png"], [])  # noqa: PTH208


@pytest.mark.slow  # starts the command twice
def test_a_killed_command_resumes(s3, bucket, model, tmp_path):
    film = write(tmp_path / "film.mkv", make_frames(600), sound="aac")
    source, output = s3.put(f"{bucket}/film.mkv", film.read_bytes()), f"{bucket}/large.mkv"
    arguments = [sys.executable, "-m", "subpixel", "upscale", source, "-o", output, "-m", model, "--json"]
    with subprocess.Popen(arguments) as process:
        while not any(name.endswith(".segment") for name in s3.names(bucket[5:])):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert "large.mkv" not in s3.names(bucket[5:])
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    (line,) = lines(done)
    assert line["frames"] == 600 and line["resumed_frames"] >= 240
    assert s3.names(bucket[5:]) == ["film.mkv", "large.mkv"]
    subpixel.upscale_video(film, tmp_path / "large.mkv", model=model)
    assert s3.get(output) == (tmp_path / "large.mkv").read_bytes()


def test_an_image_is_read_once_and_not_at_all_if_its_output_exists(command, s3, bucket, small):
    for name in ("a.png", "b.png"):
        s3.put(f"{bucket}/in/{name}", small)
    s3.requests.clear()
    assert command(f"{bucket}/in", "-o", f"{bucket}/out", "--jobs", "2").exit_code == 0
    assert [path for method, path in s3.requests if path.endswith("/in/b.png")] == [f"/{bucket[5:]}/in/b.png"]
    s3.requests.clear()
    assert command(f"{bucket}/in", "-o", f"{bucket}/out", "--jobs", "2").exit_code == 1
    assert not [path for method, path in s3.requests if path.endswith("/in/b.png")]
