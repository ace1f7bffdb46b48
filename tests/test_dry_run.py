"""`subpixel upscale --dry-run` against what the run then does."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import subpixel
from image_files import smooth_image
from random_models import native_runs
from subpixel.batch import Job
from subpixel.cli import app
from subpixel.cli.upscale_rates import Compilations, Rates, Work, work_of
from subpixel.storage.local import LocalStorage
from subpixel.video.pipeline.segments import SegmentFolder
from video_files import make_frames, write


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """Runs the command with a cache folder of its own, which is `cache`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path / "cache"))
    return lambda *arguments: CliRunner().invoke(
        app, ["upscale", "--model", model, "--engine", "numpy", *map(str, arguments)]
    )


@pytest.fixture
def folder(tmp_path):
    """Images of all kinds, a video, and files that cannot be read."""
    source = tmp_path / "in"
    source.mkdir()
    image = Image.fromarray(smooth_image())
    image.save(source / "a.png")
    Image.fromarray(smooth_image(dtype=np.uint16, channels=1)).save(source / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(source / "rotated.jpg", exif=exif)
    image.save(source / "still.webp")
    image.save(source / "still.tif")
    image.save(source / "moving.gif", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    write(source / "video.mkv", make_frames(5))
    (source / "bad.png").write_bytes((source / "a.png").read_bytes()[:-30])
    (source / "empty.jpg").touch()
    return tmp_path


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def tree(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


SAME = ("input", "output", "scale", "model", "engine", "precision", "width", "height", "frames", "error")


@pytest.mark.parametrize(
    "options",
    [[], ["-s", "3"], ["--size", "50x50"], ["--size", "100x50", "--fit", "cover"], ["--suffix", "-x"]],
)
def test_the_run_does_what_the_dry_run_says(folder, run, options):
    before = tree(folder)
    preview = run("in", "-o", "out", *options, "--dry-run", "--json")
    assert tree(folder) == before
    done = run("in", "-o", "out", *options, "--json")
    assert preview.exit_code == done.exit_code == 1
    assert len(lines(preview)) == 9
    said, did = ([line.get("error") for line in lines(result)] for result in (preview, done))
    assert said == did
    for said, did in zip(lines(preview), lines(done), strict=True):
        assert {key: said.get(key) for key in SAME} == {key: did.get(key) for key in SAME}


def test_an_image_that_is_only_reduced(folder, run):
    preview, done = (run("in/a.png", "-o", "out.png", "--size", "9x9", *dry) for dry in (["--dry-run"], []))
    assert "note: in/a.png: is larger than the size" in done.stderr
    assert preview.stderr == done.stderr


def test_text(folder, run):
    result = run("in", "-o", "out", "--dry-run")
    shown = result.stdout.splitlines()
    assert (
        shown[0] == "in/a.png -> out/a.png: 28 x 20 to 56 x 40, bicubic-x2, time unknown until the first run"
    )
    assert "in/rotated.jpg -> out/rotated.jpg: 20 x 28 to 40 x 56, bicubic-x2" in result.stdout
    assert "in/moving.gif -> out/moving.gif: 28 x 20 to 56 x 40, 3 frames" in result.stdout
    assert "in/video.mkv -> out/video.mkv: 64 x 48 to 128 x 96, " in result.stdout
    assert shown[-1] == "7 files to do, 2 would fail; nothing was written"
    assert result.stderr.startswith("error: in/bad.png: the file is truncated")
    assert "error: in/empty.jpg: is empty" in result.stderr


def test_the_model_and_why(folder, run):
    """Packaged models, which are chosen by the content of the file."""
    Image.fromarray(smooth_image()).save("in/low.jpg", quality=50)
    result = CliRunner().invoke(
        app, ["upscale", "in/low.jpg", "in/a.png", "-o", "out", "--dry-run", "--engine", "numpy"]
    )
    assert "default-compressed-x2 for compressed sources (JPEG of quality 50)" in result.stdout
    assert "default-x2 for clean sources (no lossy compression)" in result.stdout


@pytest.mark.parametrize("option", ["--skip-existing", "--newer"])
def test_skipped_files(folder, run, option):
    run("in/a.png", "-o", "out/")
    result = run("in/a.png", "in/deep.png", "-o", "out", option, "--dry-run")
    reason = {"--skip-existing": "the output exists", "--newer": "the output is newer"}[option]
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"in/a.png: skipped, {reason}: out/a.png"
    assert result.stdout.splitlines()[-1].endswith("1 skipped; nothing was written")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in/a.png", "-o", "there.png"], "there.png: exists already"),
        (["in/video.mkv", "-o", "there.mkv"], "there.mkv: exists already"),
        (["in/a.png", "-o", "a folder.png/x.png", "--overwrite"], "Not a directory"),
        (["in/video.mkv", "-o", "a folder.png/x.mkv"], "Not a directory"),
        (["in/a.png", "-o", "in/a.png", "--overwrite"], "is the input file"),
        (["in/a.png", "-o", "x/" + "n" * 252 + ".png"], "File name too long"),
        (["in/a.png", "-o", "x.png", "--max-output-pixels", "100"], "more than the limit of 100"),
        (["in/a.png", "-o", "x.png", "--max-memory", "1"], "would need about"),
        (["none.png", "-o", "x.png"], "No such file"),
        (["none.mkv", "-o", "x.mkv"], "No such file"),
        (["in/empty.jpg", "-o", "x.mkv"], "in/empty.jpg"),
    ],
)
def test_what_would_fail(folder, run, arguments, words):
    Path("there.png").touch()
    Path("there.mkv").touch()
    Path("a folder.png").touch()
    before = tree(folder)
    preview = run(*arguments, "--dry-run")
    assert tree(folder) == before
    assert preview.exit_code == 1
    assert words in preview.stderr
    done = run(*arguments)
    assert done.exit_code == 1
    # The system's reasons for not creating a file differ from those for not creating its folder.
    assert preview.stderr.split(" (")[0].split(": ")[:2] == done.stderr.split(" (")[0].split(": ")[:2]


def test_an_interrupted_video_would_resume(folder, run):
    job = folder / ".out.mkv.subpixel"
    job.mkdir()
    segments = SegmentFolder(LocalStorage(job), {"crf": 3})
    segments.close()
    (job / segments.file(0)).touch()
    result = run("in/video.mkv", "-o", "out.mkv", "--dry-run")
    assert result.stdout.splitlines()[0].endswith(", resumes an interrupted run")
    assert job.is_dir()


def test_pipes(folder, run):
    for arguments in (["-", "-o", "x.mkv"], ["in/video.mkv", "-o", "-"]):
        result = run(*arguments, "--dry-run")
        assert result.exit_code == 2
        assert "--dry-run is for files, and - is a pipe" in result.stderr


def test_names_in_one_line(run, tmp_path):
    for name in ("two\nlines.png", "\x1b[31mred.png", "\N{CAT FACE}.png"):
        Image.fromarray(smooth_image()).save(tmp_path / name)
    Path(os.fsdecode(b"\xff.png")).write_bytes((tmp_path / "two\nlines.png").read_bytes())
    shown = run(".", "-o", "out", "--dry-run").stdout.splitlines()
    assert [line.partition(" -> ")[0] for line in shown[:4]] == [
        "\\x1b[31mred.png",
        "two\\nlines.png",
        "\\udcff.png",
        "\N{CAT FACE}.png",
    ]
    assert len(shown) == 5


def test_the_time_of_earlier_runs(folder, run):
    Image.fromarray(smooth_image(300, 400)).save("in/a.png")
    run("in/a.png", "-o", "out.png")  # compiles what is compiled at its first use, whose time is no estimate
    (done,) = lines(run("in/a.png", "-o", "out.png", "--overwrite", "--json"))
    (said,) = lines(run("in/a.png", "-o", "new.png", "--dry-run", "--json"))
    assert said["seconds"] == pytest.approx(done["seconds"], rel=0.3, abs=0.05)
    Image.fromarray(smooth_image(600, 400)).save("in/b.png")
    result = run("in/a.png", "in/b.png", "-o", "new", "--dry-run", "--json")
    assert lines(result)[1]["seconds"] == pytest.approx(2 * said["seconds"], rel=0.1, abs=0.02)
    total = run("in/b.png", "-o", "new.png", "--dry-run").stdout.splitlines()[-1]
    assert re.match(r"1 file to do in (about|less than) \d", total)  # the latter on a fast machine
    # Nothing is known about another format, or about another engine.
    assert lines(run("in/a.png", "-o", "new.jpg", "--dry-run", "--json"))[0]["seconds"] is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": {"b": 1}}', b"\xff", b"null"])
def test_damaged_rates_are_ignored(folder, run, damage):
    Path("cache").mkdir()
    Path("cache/rates.json").write_bytes(damage)
    result = run("in/a.png", "-o", "out.png", "--dry-run")
    assert (result.exit_code, "unknown until the first run" in result.stdout) == (0, True)
    assert run("in/a.png", "-o", "out.png").exit_code == 0
    assert json.loads(Path("cache/rates.json").read_text())


def test_rates_without_a_cache(folder, run, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", "off")
    assert run("in/a.png", "-o", "out.png").exit_code == 0
    assert "unknown" in run("in/a.png", "-o", "new.png", "--dry-run").stdout
    Path("file").touch()
    monkeypatch.setenv("SUBPIXEL_CACHE", "file")
    result = run("in/a.png", "-o", "new.png")
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_time_of_the_compiler_is_not_counted(monkeypatch):
    clock = iter([10.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    compilations = Compilations()
    compilations.begin()  # from 10
    compilations.begin()  # from 12
    compilations.end()  # to 13 and 14
    assert compilations.seconds_in(0, 100) == 4
    assert compilations.seconds_in(11, 12) == 1
    assert compilations.seconds_in(14, 20) == 0


def test_a_dry_run_compiles_nothing(folder, run):
    if not native_runs():
        pytest.skip("the native engine does not run here")
    options = ["in/a.png", "-o", "out.png", "--model", "fast-x2", "--engine", "native"]
    assert run(*options, "--dry-run").exit_code == 0
    assert not Path("cache").exists()


def test_the_nearest_size_tells(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path))
    Path(tmp_path / "rates.json").write_text(json.dumps({"k": {"10": 5.0, "20": 1.0}}))
    rates = Rates()
    assert rates.estimate(Work("k", 1000, 1)) == pytest.approx(0.005)
    assert rates.estimate(Work("k", 1_000_000, 30)) == pytest.approx(30)
    assert rates.estimate(Work("other", 1000, 1)) is None
    assert rates.estimate(None) is None


def test_the_rest_of_a_resumed_video():
    """The frames of an earlier run are not work of this one."""
    result = subpixel.VideoResult(
        **dict.fromkeys(subpixel.VideoResult.__dataclass_fields__, 0)
        | {"frames": 10, "resumed_frames": 10, "codec": "ffv1", "width": 2, "height": 2}
    )
    assert work_of(Job(Path("a.mkv"), Path("b.mkv")), result, None) is None
