"""`subpixel upscale --shard I/N`, from several shells at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from image_files import smooth_image
from subpixel.batch import Job
from subpixel.cli import app
from subpixel.cli.upscale_shard import ClaimedFiles, Shard
from subpixel.storage.claims import Claims
from subpixel.storage.local import LocalStorage
from subpixel.storage.select import open_storage
from subpixel.video.pipeline import encode
from subpixel.video.pipeline import run as video_run
from video_files import make_frames, write

SEGMENT = 10
PATCHED = f"""
import sys
from subpixel.video.pipeline import encode, run
encode.SEGMENT_FRAMES = run.SEGMENT_FRAMES = {SEGMENT}
from subpixel.__main__ import main
sys.argv[0] = "subpixel"
main()
"""


@pytest.fixture
def start(model, tmp_path, monkeypatch):
    """Starts the command in a process."""
    monkeypatch.chdir(tmp_path)
    running = []

    def start_process(*arguments, before="", **variables):
        options = ["--model", model, "--engine", "numpy", "--threads", "1", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-c", before + PATCHED, "upscale", *map(str, arguments), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        running.append(process)
        return process

    yield start_process
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(
        app, ["upscale", "--model", model, "--engine", "numpy", *map(str, arguments)]
    )


@pytest.fixture
def pictures(tmp_path):
    for number in range(12):
        path = tmp_path / "in" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(smooth_image()[:, :, ::-1] if number % 2 else smooth_image()).rotate(number).save(
            path
        )
    return tmp_path


def finished(processes):
    """Return the lines of JSON of processes that succeed."""
    lines = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        lines.append([json.loads(line) for line in out.splitlines()])
    return lines


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def segments(folder: Path = Path()) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(".out.mkv.subpixel/*/*.segment"))


def hidden(folder: Path = Path()) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


# One film


@pytest.fixture
def whole(run, monkeypatch):
    """Makes ``in.mkv``, and returns the bytes of the output of one machine."""

    def make(*size):
        write("in.mkv", make_frames(150, *size), sound="aac")
        with monkeypatch.context() as patch:
            for module in (encode, video_run):
                patch.setattr(module, "SEGMENT_FRAMES", SEGMENT)
            assert run("in.mkv", "-o", "whole.mkv", "--threads", 1).exit_code == 0
        return Path("whole.mkv").read_bytes()

    return make


@pytest.mark.slow  # four processes; the tests in video_upscale/test_distributed.py have shards in one
def test_four_shells_give_the_film_of_one(start, whole):
    expected = whole()
    processes = [start("in.mkv", "-o", "out.mkv", "--shard", f"{number}/4") for number in (1, 2, 3, 4)]
    results = [line for (line,) in finished(processes)]
    assert Path("out.mkv").read_bytes() == expected
    assert any(result["missing_segments"] == 0 for result in results)
    assert all(result["frames"] == 150 for result in results)
    assert hidden() == []


@pytest.mark.slow  # four processes, two of which are killed at work
def test_a_shard_that_is_killed_in_a_segment_goes_on(start, whole):
    """The next one takes over the claim at once, since the process has ended."""
    expected = whole(160, 120)
    for count in (1, 3):
        process = start("in.mkv", "-o", "out.mkv", "--shard", "1/2")
        while len(segments()) < count or not list(Path().glob(".out.mkv.subpixel/*/*.claim")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(Path().glob(".out.mkv.subpixel/*/*.claim"))
    (first,), (second,) = finished(
        [start("in.mkv", "-o", "out.mkv", "--shard", shard) for shard in ("1/2", "2/2")]
    )
    assert first["resumed_frames"] >= 30
    assert 0 in (first["missing_segments"], second["missing_segments"])
    assert Path("out.mkv").read_bytes() == expected
    assert hidden() == []


def test_two_processes_of_one_shard_share_it(start, whole):
    expected = whole()
    results = finished([start("in.mkv", "-o", "out.mkv", "--shard", "1/2") for _ in range(2)])
    assert [line["frames"] for (line,) in results] == [150, 150]
    assert segments() == list(range(0, 15, 2))
    finished([start("in.mkv", "-o", "out.mkv", "--shard", "2/2")])
    assert Path("out.mkv").read_bytes() == expected
    assert hidden() == []


@pytest.mark.slow  # two processes, one of which waits for the claim of the other to expire
def test_a_shard_that_was_cut_off_comes_back(start, whole):
    """Its claim expired, and another process has done its work, joined the film and removed the folder."""
    expected = whole(160, 120)
    first = start("in.mkv", "-o", "out.mkv", "--shard", "1/1", SUBPIXEL_CLAIM_SECONDS="1")
    while len(segments()) < 2 or not list(Path().glob(".out.mkv.subpixel/*/*.claim")):
        assert first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    elsewhere = "from subpixel.storage import claims; claims._machine = lambda: 'another machine'\n"
    arguments = ("in.mkv", "-o", "out.mkv", "--shard", "1/1")
    (second,) = finished([start(*arguments, before=elsewhere, SUBPIXEL_CLAIM_SECONDS="1")])
    assert second[0]["missing_segments"] == 0
    first.send_signal(signal.SIGCONT)
    (again,) = finished([first])
    assert (again[0]["missing_segments"], again[0]["frames"]) == (0, 150)
    assert Path("out.mkv").read_bytes() == expected
    assert hidden() == []


def test_a_missing_segment_is_reported(run):
    write("in.mkv", make_frames(250))
    first = run("in.mkv", "-o", "out.mkv", "--shard", "1/2", "--json")
    assert (first.exit_code, lines(first)[0]["missing_segments"]) == (0, 1)
    assert "1 segment is missing, which other calls encode, now or when they are started" in first.stderr
    assert "the one that finishes the last writes out.mkv" in first.stderr
    assert not Path("out.mkv").exists()
    second = run("in.mkv", "-o", "out.mkv", "--shard", "2/2")
    assert (second.exit_code, "missing" in second.stderr) == (0, False)
    assert Path("out.mkv").exists()


def test_shards_with_other_options_are_told(run):
    write("in.mkv", make_frames(250))
    run("in.mkv", "-o", "out.mkv", "--shard", "1/2")
    other = run("in.mkv", "-o", "out.mkv", "--shard", "2/2", "--crf", "30")
    assert other.exit_code == 0
    assert "note: in.mkv: another call for the same output had another encoder" in other.stderr
    assert "pass the same options to all calls" in other.stderr
    assert not Path("out.mkv").exists()


# Many files


@pytest.mark.slow  # three processes; the test of positions has the shares in one
def test_a_folder_in_three_shards(start, run, pictures):
    assert run("in", "-o", "whole").exit_code == 0
    done = finished([start("in", "-o", "out", "--shard", f"{number}/3") for number in (1, 2, 3)])
    shares = [[Path(line["input"]).name for line in share] for share in done]
    assert shares == [[f"{number:02}.png" for number in range(first, 12, 3)] for first in range(3)]
    for path in sorted((pictures / "whole").iterdir()):
        assert (pictures / "out" / path.name).read_bytes() == path.read_bytes()
    assert hidden() == []


def test_positions_do_not_depend_on_what_exists(run, pictures):
    run("in", "-o", "out", "--shard", "1/3")
    Path("out/00.png").unlink()
    Path("out/05.png").write_bytes(b"mine")
    again = run("in", "-o", "out", "--shard", "1/3", "--skip-existing", "--json")
    shown = [(Path(line["input"]).name, line.get("skipped", "done")) for line in lines(again)]
    exists = "the output exists"
    assert shown == [("00.png", "done"), ("03.png", exists), ("06.png", exists), ("09.png", exists)]
    third = run("in", "-o", "out", "--shard", "3/3", "--json")
    assert [line.get("error", "done")[:24] for line in lines(third)] == [
        "done",
        "out/05.png: exists alrea",
        "done",
        "done",
    ]
    assert third.exit_code == 1


def test_results_beside_their_inputs_do_not_shift_positions(run, pictures):
    done = []
    for number in (1, 2, 3):
        result = run("in", "--suffix", "-large", "--shard", f"{number}/3", "--json")
        done += [Path(line["input"]).name for line in lines(result)]
    assert sorted(done) == [f"{number:02}.png" for number in range(12)]


def test_two_processes_of_one_shard_of_files(start, run, pictures):
    """None does a file that the other works on or has done, and both succeed."""
    assert run("in", "-o", "whole").exit_code == 0
    both = finished([start("in", "-o", "out", "--shard", "1/1", "--skip-existing") for _ in range(2)])
    shown = [line for share in both for line in share]
    assert len(shown) == 24
    skipped = {line["skipped"].split(" by ")[0] for line in shown if "skipped" in line}
    assert skipped <= {"the output exists", "another process has written it", "it is in work"}
    assert sum("skipped" not in line for line in shown) == 12
    for path in (pictures / "whole").iterdir():
        assert (pictures / "out" / path.name).read_bytes() == path.read_bytes()
    assert hidden() == []


def test_claims_that_others_make_meanwhile_stay(pictures, monkeypatch):
    """A process that has no more claims removes their folder, and another one takes one at that moment."""
    job = Job(pictures / "in" / "00.png", pictures / "out" / "00.png")
    folder = pictures / "out" / ".subpixel-claims"
    others = Claims(open_storage(folder))
    listed = LocalStorage.entries

    taken = []

    def entries(storage, *arguments):
        found = listed(storage, *arguments)
        if not found and not taken:
            taken.append(others.take("01.png.claim"))
        return found

    with closing(ClaimedFiles([job])) as claimed, claimed.claim(job) as left:
        assert left == ""
        monkeypatch.setattr(LocalStorage, "entries", entries)
    assert taken and (folder / "01.png.claim").is_file()
    others.close()


def test_a_dead_claim_on_a_file_is_waited_for_at_the_end(run, pictures, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CLAIM_SECONDS", "1")
    Path("out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("subpixel.storage.claims._machine", lambda: "another machine")
        dead = Claims(open_storage("out/.subpixel-claims"))
    monkeypatch.setattr(dead, "_start", lambda: None)
    assert dead.take("03.png.claim") is not None
    result = run("in", "-o", "out", "--shard", "1/3", "--json")
    assert [Path(line["input"]).name for line in lines(result)] == ["00.png", "06.png", "09.png", "03.png"]
    assert result.exit_code == 0
    assert hidden() == []


def test_the_claim_of_a_killed_process_on_a_finished_file_is_removed(start, run, pictures):
    run("in", "-o", "out", "--shard", "1/3")
    with Claims(open_storage("out/.subpixel-claims")) as claims:
        claim = claims.take("03.png.claim")
        content = open_storage("out/.subpixel-claims").read("03.png.claim").data
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    content = content.replace(b'"pid": %d' % os.getpid(), b'"pid": %d' % ended.pid)
    open_storage("out/.subpixel-claims").create(claim.name, content)
    result = run("in", "-o", "out", "--shard", "1/3", "--skip-existing")
    assert result.exit_code == 0
    assert hidden() == []


def test_a_folder_that_cannot_be_read_would_shift_positions(run, pictures, monkeypatch):
    (pictures / "in" / "deep").mkdir()
    listed = os.walk

    def walk(folder, onerror=None, **options):
        onerror(PermissionError(13, "Permission denied", "in/deep"))
        return listed(folder, onerror=onerror, **options)

    monkeypatch.setattr("os.walk", walk)
    result = run("in", "-o", "out", "--recursive", "--shard", "1/3")
    assert result.exit_code == 2
    assert (
        "in/deep: the folder cannot be read (Permission denied); all shards must see the same"
        in result.stderr
    )


def test_films_of_a_folder_are_shared_by_files(run, pictures):
    for number in range(3):
        write(f"in/film{number}.mkv", make_frames(3))
    result = run("in", "-o", "out", "--shard", "2/2", "--json")
    assert [Path(line["output"]).name for line in lines(result)][-1] == "film1.mkv"
    assert all(line.get("missing_segments", 0) == 0 for line in lines(result))
    assert sorted(path.name for path in Path("out").iterdir())[-1] == "film1.mkv"


def test_more_shards_than_files(run, pictures):
    result = run("in/00.png", "-o", "out.png", "--shard", "2/2")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "note: shard 2/2 has nothing to do, as there is only 1 file\n" in result.stderr
    assert not Path("out.png").exists()
    result = run("in/00.png", "in/01.png", "-o", "out", "--shard", "3/3")
    assert "note: shard 3/3 has nothing to do, as there are only 2 files\n" in result.stderr


# The option


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.5/2"])
def test_wrong_shards(run, pictures, text):
    result = run("in", "-o", "out", f"--shard={text}")
    assert result.exit_code == 2
    assert "--shard" in result.stderr


def test_pipes_have_no_shards(run, tmp_path):
    write(tmp_path / "in.mkv", make_frames(2))
    for arguments in (["-", "-o", "out.mkv"], ["in.mkv", "-o", "-"]):
        result = run(*arguments, "--shard", "1/2")
        assert result.exit_code == 2
        assert "--shard is for files, which all shards see, and - is a pipe" in result.stderr


def test_a_dry_run_shows_the_share(run, pictures):
    result = run("in", "-o", "out", "--shard", "2/3", "--dry-run", "--json")
    assert [(Path(line["input"]).name, line["shard"]) for line in lines(result)] == [
        (f"{number:02}.png", "2/3") for number in (1, 4, 7, 10)
    ]
    shutil.rmtree("in")
    write("film.mkv", make_frames(3))
    result = run("film.mkv", "-o", "out.mkv", "--shard", "1/3", "--dry-run")
    assert result.stdout.splitlines()[0].endswith(", shard 1/3 of its segments")
    assert not Path(".out.mkv.subpixel").exists()


def test_a_dry_run_tells_the_time_of_the_share(run, monkeypatch):
    """Of three segments, the first of two shards has two, and the fourth of four has none."""
    write("film.mkv", make_frames(500))
    monkeypatch.setattr("subpixel.cli.upscale_rates.Rates.estimate", lambda self, work: 60.0)
    seconds = []
    for shard in ("1/2", "2/2", "4/4"):
        result = run("film.mkv", "-o", "out.mkv", "--shard", shard, "--dry-run", "--json")
        seconds.append(lines(result)[0]["seconds"])
    assert seconds == [40, 20, 0]
    result = run("film.mkv", "-o", "out.mkv", "--shard", "4/4", "--dry-run")
    assert "shard 4/4 of its segments, of which it has none" in result.stdout


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_shares_are_disjoint_and_complete(count):
    jobs = [Job(Path(f"{number}.png"), Path(f"out/{number}.png")) for number in range(12)]
    shares = [Shard(number, count).share_of(jobs) for number in range(1, count + 1)]
    assert sorted(job for share in shares for job in share) == sorted(jobs)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# The examples


EXAMPLES = Path(__file__).parents[1] / "examples"


def program(name: str, text: str) -> None:
    path = Path("bin", name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_slurm(tmp_path, monkeypatch):
    """Each task of the array calls its shard."""
    monkeypatch.chdir(tmp_path)
    program("srun", 'exec "$@"')
    program("subpixel", 'echo "$@"')
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "8",
        "SLURM_CPUS_PER_TASK": "4",
    }
    result = subprocess.run(
        ["bash", EXAMPLES / "slurm.sh", "a b.mp4", "out.mkv"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("upscale a b.mp4 -o out.mkv --shard 3/8 --threads 4 ")
    command = ["bash", EXAMPLES / "slurm.sh", "a b.mp4"]
    wrong = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (wrong.returncode != 0, wrong.stdout) == (True, "")
    assert "usage: sbatch slurm.sh INPUT OUTPUT" in wrong.stderr
    del environment["SLURM_ARRAY_TASK_COUNT"]
    wrong = subprocess.run([*command, "out.mkv"], env=environment, capture_output=True, text=True)
    assert (wrong.returncode != 0, wrong.stdout) == (True, "")
    assert "--array=1-8" in wrong.stderr


def test_kubernetes(tmp_path, monkeypatch):
    """The indexes of an Indexed Job, which begin at 0, are shards, which begin at 1."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    program("subpixel", 'echo "$@"')
    shards = []
    for index in range(job["spec"]["completions"]):
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index)}
        command = [*container["command"], *container["args"]]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        shards.append(shown.partition("--shard ")[2].split()[0])
    assert shards == [f"{number}/8" for number in range(1, 9)]
