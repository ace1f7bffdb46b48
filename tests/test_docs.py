"""The pages say what the code does: commands, options, links, and numbers against their stored sources."""

import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

from subpixel.cli import app
from subpixel.networks import packaged

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def console_lines(page: Path) -> list[str]:
    """The `subpixel ...` lines of a page's console blocks, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [
        line.partition("  #")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("subpixel ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page: Path) -> None:
    for line in console_lines(page):
        _, name, *words = shlex.split(line)
        assert name in COMMANDS, line
        known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, "--help")}
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= known, line


def test_extras_on_the_pages_exist() -> None:
    """Wherever a page, a docstring or an error says what to install."""
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    folders = ("src", "benchmarks", "examples")
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    for page in (*PAGES, *sources, ROOT / "Makefile"):
        for names in re.findall(r"(?:'\.|subpixel)\[([\w, -]+)\]'", page.read_text(encoding="utf-8")):
            assert set(map(str.strip, names.split(","))) <= known, (page.name, names)


def test_every_command_is_on_the_front_page() -> None:
    shown = {line.split()[1] for line in console_lines(ROOT / "README.md")}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not broken


def test_the_model_tables_are_the_models_facts() -> None:
    """README.md and the model card print, for each model, what its file says."""
    for page in (ROOT / "README.md", ROOT / "src" / "subpixel" / "weights" / "README.md"):
        rows = re.findall(r"^\| `([\w-]+-x\d)` \|(.*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(name for name, _ in rows) == packaged.names(), page
        for name, cells in rows:
            numbers = [cell.strip() for cell in cells.split("|")]
            facts = packaged.find(name).facts
            for dataset in ("Set5", "Set14", "BSD100"):
                assert f"{facts.psnr_db[dataset]:.2f}" in numbers, (page.name, name, dataset)


def test_the_tables_of_the_video_page_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "video-vnni.json").read_text())
    page = " ".join((ROOT / "docs" / "video.md").read_text(encoding="utf-8").split())
    older = json.loads((ROOT / "benchmarks" / "results" / "video-avx2.json").read_text())
    amx = json.loads((ROOT / "benchmarks" / "results" / "video-amx.json").read_text())
    assert f"{amx['ratio']} times the bicubic job, by default {amx['ratio of default']} times" in page
    assert f"takes {amx['network_ms']} ms of a frame's {amx['frame_ms']}, with both cores; all else" in page
    assert f"is {amx['chroma_and_conversion_share_of_job']:.0%} of the whole job's time" in page
    assert amx["machine"] in page
    for name, job in [*measured["jobs"].items(), *older["jobs"].items(), *amx["jobs"].items()]:
        row = f"| {name} | {job['seconds']:.2f} | {job['frames_per_second']} | {job['peak_memory_mb']} |"
        assert row in page
    for words in (
        f"{measured['ratio']} times the bicubic job",
        f"{measured['network_ms']} ms of a frame's {measured['frame_ms']}",
        f"{measured['chroma_and_conversion_share']:.0%} of its time",
        measured["machine"],
        f"{max(measured['memory_over_time']['peak_mb_by_quarter'])} MB at most",
    ):
        assert words in page


def test_the_costs_of_training_steps_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "training-step.json").read_text())
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert measured["machine"] in page
    for row in measured["rows"]:
        assert (
            f"| {row['scale']} | {row['sub-pixel ms']} ms "
            f"| {row['transposed ms']} ms, x{row['transposed / sub-pixel']} "
            f"| {row['behind bicubic ms']} ms, x{row['behind bicubic / sub-pixel']} |"
        ) in page


def test_the_paces_of_training_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "training-gpu.json").read_text())
    page = " ".join((ROOT / "docs" / "training.md").read_text(encoding="utf-8").split())
    for one in measured["alone"]:
        compiled = f"{one['compiled_ms']:.1f}" if "compiled_ms" in one else ""
        row = f"| {one['network']} | {one['batch']} | {one['replayed_ms']:.1f} | {compiled}"
        assert row.strip() in page
    cpu = measured["one thread of an Intel Xeon with AMX (PyTorch 2.13.0), default-x3, T91 alone"]
    assert f"take {cpu['compiled_ms_a_step']:.0f} ms instead of {cpu['ms_a_step']:.0f}" in page
    step, cholesky, qr = measured[
        "best-x2 alone on an NVIDIA H200, 48 patches of 40x40, compiled, ms"
    ].values()
    assert f"one after another: {qr:.0f} ms for `best-x2` on an NVIDIA H200" in page
    assert f"where a step alone takes {step:.1f}." in page
    assert f"By Cholesky, in double precision, it is {cholesky:.0f} (" in page
    changes = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    assert f"instead of QR, which took {qr:.0f} ms where it now takes {cholesky:.0f} (`best-x2`" in changes


def test_the_times_of_a_first_run_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "cold-start-vnni.json").read_text())
    page = " ".join((ROOT / "docs" / "engine.md").read_text(encoding="utf-8").split())
    usual, least = measured["median_seconds"], measured["min_seconds"]
    for words in (
        f"Compiling takes {usual['compile']:.2f} s (at least {least['compile']:.2f})",
        f"loads it in {usual['load']:.2f} s",
        f"{usual['first']:.2f} s the first time and {usual['afterwards']:.2f} afterwards "
        f"(at least {least['first']:.2f} and {least['afterwards']:.2f})",
        measured["machine"],
    ):
        assert words in page
    amx = json.loads((ROOT / "benchmarks" / "results" / "cold-start-amx.json").read_text())["median_seconds"]
    assert f"`default` is, compiles for {amx['compile default']:.1f} s" in page


def test_the_engines_tables_are_the_measured_ones() -> None:
    """docs/engine.md and README.md print what `benchmarks/` stored."""
    results = ROOT / "benchmarks" / "results"
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    for name, precisions in json.loads((results / "precision.json").read_text()).items():
        cells = (
            f"{precisions['fp32'][dataset]:.2f} / {precisions['int8'][dataset]:.2f}"
            for dataset in ("Set5", "Set14", "BSD100")
        )
        assert f"| `{name}` | {' | '.join(cells)} |" in page
        assert all(precisions["fp32"][key] - precisions["int8"][key] <= 0.05 for key in precisions["fp32"])
    for one in json.loads((results / "engine-avx2.json").read_text())["beside"]:
        cells = (f"{timing['median_ms']:.1f}" for timing in one["results"])
        assert f"| x{one['scale']} | {' | '.join(cells)} |" in page
    stored = json.loads((results / "engine-vnni.json").read_text())
    assert f"{stored['beside'][0]['machine']} (Zen 5, with VNNI): 640x360" in page
    for one in stored["beside"]:
        cells = (f"{timing['median_ms']:.1f}" for timing in one["results"])
        assert f"| x{one['scale']} | {' | '.join(cells)} |" in page
    amx = json.loads((results / "engine-amx.json").read_text())
    assert amx["beside"][0]["machine"] in page
    for one in amx["beside"]:
        cells = (f"{timing['median_ms']:.1f}" for timing in one["results"])
        assert f"| x{one['scale']} | {' | '.join(cells)} |" in page
    for one in stored["sizes"]:
        width, height = map(int, one["size"].split("x"))
        int8, fp32 = (timing["median_ms"] for timing in one["results"])
        sides = f"| {width}x{height} | {3 * width}x{3 * height} |"
        assert f"{sides} {int8:.1f} | {fp32:.1f} | {int8 * 1e6 / width / height:.0f} |" in page
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    for timing in stored["beside"][1]["results"]:
        assert f"| {timing['runner']} {timing['precision']} | {timing['median_ms']:.1f} |" in front


def test_the_models_table_is_the_measured_one() -> None:
    results = ROOT / "benchmarks" / "results"
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    precision = json.loads((results / "precision.json").read_text())
    stored = json.loads((results / "models-amx.json").read_text())
    assert stored["machine"] in page
    for row in json.loads((results / "models-vnni.json").read_text())["640x360"]:
        if row["model"].startswith("fast"):
            assert f"{row['ms']:.2f} ms ({row['of_espcn']:.2f})" in page
    assert {row["model"] for row in stored["640x360"]} == set(packaged.names())
    for row in stored["640x360"]:
        of_model = precision[row["model"]]
        cells = (
            f"{of_model['int8'][name]:.2f} ({of_model['fp32'][name]:.2f})"
            for name in ("Set5", "Set14", "BSD100")
        )
        assert f"| `{row['model']}` | {' | '.join(cells)} | {row['ms']:.2f} | {row['of_espcn']:.2f} |" in page
    for name, rate in stored["frames_per_second_to_3840x2160"].items():
        assert f"`{name}` {rate} " in page


def test_the_tables_of_how_they_were_made_are_the_measured_ones() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "stack_runs.json").read_text())
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for name, psnr_db in stored["recipe"].items():
        assert f"| {name} | {psnr_db:.2f} |" in page
    for row in stored["rounding"]:
        assert f"| {row['network']} | {row['training']} | {row['fp32']:.2f} | {row['int8']:.2f} |" in page


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program of ``benchmarks/`` as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def test_the_table_of_compressed_sources_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    content = benchmark("content", monkeypatch)
    assert content.table() in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for name, measured in json.loads(content.RESULT.read_text()).items():
        assert measured["digest"] == content.digest(name), f"{name} has changed: measure it anew"


def test_the_table_of_times_to_a_psnr_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    training_to_psnr = benchmark("training_to_psnr", monkeypatch)
    assert training_to_psnr.table() in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_sweeps_table_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = benchmark("sweep", monkeypatch)
    assert sweep.table() in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_single_runs_of_training_are_the_measured_ones() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "training_runs.json").read_text())
    models, paper, training = (
        " ".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").split())
        for page in ("models", "paper", "training")
    )
    changelog = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    known = stored[
        "mean luma PSNR on 60 pictures of BSDS500/train that are trained on, and on the 40 that are not"
    ]
    for row, best, default in (
        ("x2, version 3", "best-x2 (version 3)", "default-x2"),
        ("x2", "best-x2", "default-x2"),
        ("x3, version 3", "best-x3 (version 3)", "default-x3 (version 3)"),
        ("x3", "best-x3", "default-x3"),
        ("x4, version 3", "best-x4 (version 3)", "default-x4 (version 2)"),
        ("x4", "best-x4", "default-x4"),
    ):
        gains = (f"{ours - usual:.2f}" for ours, usual in zip(known[best], known[default], strict=True))
        assert f"| {row} | {' | '.join(gains)} |" in models
    then, fast = known["default-x3 (version 3)"], known["fast-x3"]
    over_fast = [usual - less for usual, less in zip(then, fast, strict=True)]
    assert abs(over_fast[0] - over_fast[1]) < 0.01, "as much on the one as on the other"
    strong, share = stored[
        "JPEGs of ImageNet1000 whose quality is below 90, and the others' share of all pixels"
    ]
    assert f"only the {strong} pictures are halved whose JPEG quality is below 90" in models
    assert round(share, 2) == 0.74 and "Three quarters of ImageNet's pixels" in models
    on_gpu = stored[
        "one stage on an NVIDIA H200, six networks side by side, 500 steps of 32 patches an epoch, in fp32"
    ]
    longer = stored[
        "one stage on an NVIDIA H200, four networks side by side, 500 steps of 32 patches an epoch, in fp32"
    ]
    alike = stored[
        "one stage on an NVIDIA H200, four networks side by side, pictures drawn all alike, "
        "500 steps an epoch, in fp32"
    ]
    shipped = {"best-x4": on_gpu, "default-x4": alike}
    shipped |= dict.fromkeys(("best-x2", "best-x3", "default-x3"), longer)
    for name, runs in shipped.items():
        facts = packaged.find(name.partition("-")[0], scale=int(name[-1])).facts
        assert facts.psnr_db == {key: runs[name][key] for key in facts.psnr_db}
    worse = [f"{on_gpu[name]['Set5']:.2f}" for name in ("best-x2", "default-x2")]
    assert f"came out at {' and '.join(worse)} dB on Set5 in fp32" in models
    assert f"gave `best-x2` {longer['best-x2']['Set5']:.2f}, where" in models
    assert f"gave `default-x3` {longer['default-x3']['Set5']:.2f} instead of" in models
    assert f"came out of that at {longer['default-x2']['Set5']:.2f}," in models
    more = [longer["best-x3"][key] - on_gpu["best-x3"][key] for key in ("Set5", "Set14", "BSD100")]
    assert f"gave `best-x3` up to {max(more):.2f} more" in models
    for words, runs, count in (("three", on_gpu, 3), ("two", longer, 2), ("two", alike, 2)):
        paces = [1000 * run["seconds"] / run["epochs"] / 500 for run in runs.values()]
        best, usual = paces[:count], paces[count:]
        assert f"{min(best):.1f} to {max(best):.1f} ms a step for the {words} `best`" in training
        assert f"{min(usual):.1f} to {max(usual):.1f} for the {words} `default`" in training
    reached = (
        " / ".join(f"{alike[name][key]:.2f}" for key in ("Set5", "Set14", "BSD100"))
        for name in ("best-x2", "best-x3")
    )
    assert f"drawn all alike gave {' and '.join(reached)} dB on the three sets" in models
    more = stored[
        "45000 steps more, on copies without their first rows and columns, which are not kept, in fp32"
    ]
    changes = (after - before for before, after in (run["40 pictures"] for run in more.values()))
    assert f"changed the 40 pictures by {next(changes):.3f} and {next(changes):.3f} dB" in models
    stages = stored["default-x4 (version 2) in fp32, by stages of 40000 and 18000 steps"]
    two, one = (" / ".join(f"{run[key]:.2f}" for key in stages) for run in (stages, alike["default-x4"]))
    assert f"`default-x4` had {two} dB on the three sets by two stages" in models
    assert f"{one} by one of 165 500 on a GPU" in models
    versions = stored["Set5 in fp32, of the versions before"]
    for family, version, words in (
        ("default", "version 1", "On Set5 `default` gains {} dB over version 1"),
        ("best", "version 1", "`best` {}, `default-compressed`"),
        ("default-compressed", "version 1", "`default-compressed` {}. `best` has two more layers"),
        ("fast", "version 2", "for {} dB less than version 2 had"),
    ):
        changes = []
        for scale in (2, 3, 4):
            facts = packaged.find(family, scale=scale).facts
            changes.append(abs(facts.psnr_db["Set5"] - versions[version][f"{family}-x{scale}"]))
        assert words.format(f"{min(changes):.2f} to {max(changes):.2f}") in changelog
    before = stored["before that, as it shipped, in fp32"]["default-x2"]
    lost, gained = (alike["default-x2"][key] - before[key] for key in ("40 pictures", "5 photographs"))
    assert f"`default-x2` lost {-lost:.3f} on the one and gained {gained:.3f} on the other" in models
    by_area, all_alike, *_ = stored[
        "seven layers of 16 for x2, 9000 steps of 16 patches of 40x40 of pictures at six sizes, "
        "without rounding, in fp32"
    ].values()
    gains = (all_alike[key] - by_area[key] for key in ("40 pictures", "5 photographs"))
    assert "gained {:.3f} dB on the 40 pictures and {:.3f} on the five photographs".format(*gains) in models
    alone = stored["default-x3 trained on for CRF 18 alone, in fp32, dB over default on 14 clips"]
    assert f"12 000 steps, the same network gains {alone['CRF 18']} dB at x3" in models
    first = stored["default-compressed after its first stage, in int8, dB over default on 14 clips"]
    lost = {scale: -gains["clean"] for scale, gains in first.items()}
    assert f"clean clips lost {lost['x2']:.2f} dB at x2 and {lost['x3']:.2f} at x3" in models
    mixed = stored["default-compressed-x2, and 19 parts of it with one of default-x2, in fp32"]
    on_clips, on_pictures = mixed.values()
    before, after = on_clips["clean"]
    assert f"clean clips then lose {-after:.2f} dB instead of {-before:.2f}" in models
    before, after = on_clips["CRF 18"]
    assert f"gain {after:.2f} behind CRF 18 instead of {before:.2f}" in models
    clean, compressed = (before - after for before, after in on_pictures.values())
    assert f"40 pictures lose {clean:.2f} dB clean and {compressed:.2f} compressed" in models
    usual, mixed = zip(
        *stored[
            "default-compressed-x4, and 19 parts with one of default-x4, in fp32, dB over default on clips"
        ].values(),
        strict=True,
    )
    assert all(less < gain for less, gain in zip(mixed, usual, strict=True))
    assert "At x4 films, clean and compressed, lose by it" in models
    jpeg = " / ".join(f"{gain:.2f}" for gain in first["x4"]["BSD100 behind JPEG 90, 70, 50 and 30"])
    assert f"BSD100 gained {jpeg} dB behind quality" in models
    behind = json.loads((ROOT / "benchmarks" / "results" / "content.json").read_text())
    clean, compressed = (behind[f"{name}-x4"]["jpeg"]["BSD100"] for name in ("default", "default-compressed"))
    jpeg = " / ".join(f"{compressed[quality] - clean[quality]:.2f}" for quality in ("90", "70", "50", "30"))
    assert f"which is the longer one, {jpeg}." in models
    before, after = zip(
        *stored["default-x2 (version 4) and 165000 steps more, which is not kept, in fp32"].values(),
        strict=True,
    )
    set5, set14, bsd100, held_out = (now - then for then, now in zip(before, after, strict=True))
    assert set5 < -0.01 and abs(set14) < 0.005
    assert f"gave `default-x2` {bsd100:.3f} dB on BSD100 and {held_out:.3f} on the 40 pictures" in models
    assert f"took {-set5:.3f} from Set5" in models
    recipe = "which are not kept: the 40 pictures, in fp32"
    as_it_is, to_the_last, on_squares = stored[
        f"6000 steps of 16 patches of 48x48 by the recipe of default-x2, {recipe}"
    ].values()
    assert f"seven of them end at {on_squares:.2f} dB instead of {as_it_is:.2f}" in models
    assert f"they end at {to_the_last:.2f}, and" in models
    as_it_is, to_the_last, relu, *finer = stored[
        f"6000 steps more of default-x2 (version 4), from a rate of 0.002, {recipe}"
    ].values()
    assert f"only {to_the_last - as_it_is:.3f} dB higher than without" in models
    assert f"PReLU costs {as_it_is - relu:.3f} dB there" in models
    _, as_in_fp32, *in_int8 = stored["the same after calibration, in int8"].values()
    words = (
        "256 and 512 give it {:.3f} and {:.3f} dB more on the 40 pictures in fp32, "
        "but {:.3f} and {:.3f} in int8"
    )
    gains = [psnr_db - as_it_is for psnr_db in finer]
    gains += [levels["40 pictures"] - as_in_fp32["40 pictures"] for levels in in_int8]
    losses = (as_in_fp32["Set5"] - levels["Set5"] for levels in in_int8)
    assert f"{words.format(*gains)}, where Set5 loses {next(losses):.3f} and {next(losses):.3f}" in models
    coarse, fine = stored["fast-x4 with ReLU, 55000 steps of a run: the 40 pictures, in fp32"].values()
    assert f"it came to {fine} dB on the 40 pictures in 55 000 steps" in models
    assert f"and with 128, in a shorter schedule, to {coarse}." in models
    whole16, whole32, squares32, squares64 = stored[
        "int8 with AMX, two threads, ms for each layer of so many channels, "
        "of the whole picture and of squares of 2x2 pixels"
    ].values()
    assert (
        f"in {squares32 / whole16:.2f} of their time (layers of 64 in {squares64 / whole32:.2f} of" in models
    )
    seconds = stored["second stages for the mean of PSNR, seconds"].values()
    assert f"took {round(min(seconds) / 60)} to {round(max(seconds) / 60)} minutes of one core" in models
    attempts = (
        ("espcn-large-x3, centred start, BSDS500 at full size, 70000 steps", "ended at {}"),
        (
            "espcn-large-x3, second stage for the mean of PSNR with smaller copies, 12000 steps",
            "at {}, where it began",
        ),
        (
            "espcn-large-x4, second stage with padding at patch borders in the loss, 12000 steps",
            "a small picture is border for a good part, at {};",
        ),
        ("espcn-large-x4, second stage in fp32, 12000 steps", "in fp32 instead of bf16 at {}."),
    )
    for attempt, words in attempts:
        assert words.format(" / ".join(f"{psnr_db:.2f}" for psnr_db in stored[attempt].values())) in paper
    two, one, short, long, x2 = stored["Set5 in fp32, by steps"].values()
    assert f"`default-x3` had {two} dB on Set5 (fp32)" in models
    assert f"and {one} by one of 140 000" in models
    assert f"gained {long - short:.2f} dB there" in models
    assert f"and {x2 - long:.2f} more by one stage of 140 000" in models
    both = stored["best-x2 in fp32, second stage of 12000 and 30000 steps"].values()
    assert f"gained {max(after - before for before, after in both):.2f} dB at most" in models
    tenth = stored["best-x3 with a tenth layer, 45000 steps more, in fp32"].values()
    assert f"gave `best-x3` nothing: {' / '.join(f'{psnr_db:.2f}' for psnr_db in tenth)} on" in models
    silenced = stored["srcnn-955-large-x3, fitted start at 0.003, 7500 steps"]
    assert f"had {silenced['silent']} of the {silenced['units of the second layer']} units" in training


def span(values: list[float], form: str = ".0%") -> str:
    """The least and the most of them in words, or one where both are the same."""
    return " to ".join(dict.fromkeys((f"{min(values):{form}}", f"{max(values):{form}}")))


def test_single_experiments_are_the_measured_ones() -> None:
    (
        _,
        memory,
        contrast,
        vectors,
        held,
        before,
        alone,
        beside,
        larger,
        mixed,
        lost,
        compiled,
        shared,
        changed,
        until_begun,
    ) = json.loads((ROOT / "benchmarks" / "results" / "single_experiments.json").read_text()).values()
    engine, changes, models = (
        " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for page in ("docs/engine.md", "CHANGELOG.md", "docs/models.md")
    )
    assert f"takes {held['vnni'][0]:.1f} ms for x3: its vector loads" in engine
    (wide512, onnxruntime512), (wide2, onnxruntime2) = held["avx512"], held["avx2"]
    assert f"without VNNI it takes {wide512:.1f} ms, to AVX2 {wide2:.1f}, where" in engine
    assert f"takes {onnxruntime512:.1f} and {onnxruntime2:.1f} in the same runs" in engine
    seven, nine = (vectors[shape].values() for shape in ("7 x 32", "9 x 32"))
    assert f"needs {min(seven):.1f} to {max(seven):.1f} times ESPCN's time for seven layers" in models
    assert f"{min(nine):.1f} to {max(nine):.1f} times for nine" in models
    assert all(now < earlier / 2 for earlier, now in before.values())
    longer = [unmixed / ours for unmixed, ours in mixed.values()]
    share = f"take {min(longer):.1f} to {max(longer):.1f} times as long"
    assert f"unmixed the three networks above {share}" in engine
    (at_once, later), (two, one) = lost
    assert f"`default-x3` took {at_once / later - 1:.0%} longer" in engine
    assert round(two / one, 1) == 1.5
    assert "`best-x3` took half as long again" in engine
    *others, by_amx = compiled.values()
    assert all(seconds >= 2 * by_amx for seconds in others)
    assert all(now < earlier / 2 for earlier, now in shared.values())
    assert "as `default` and `best`, compile in less than half of the time" in changes
    espcn_ms = larger["espcn-t91"]
    shares = {
        name: [larger[name][scale] / espcn_ms[scale] for scale in espcn_ms] for name in ("default", "fast")
    }
    default_share, fast_share = (span(of, ".2f") for of in shares.values())
    assert f"`default` takes {default_share} of ESPCN's time, `fast` {fast_share}" in models
    head_start, fetched, short, strips, everything, copied, own_threads, turns, crew, mixed_all = (
        changed.values()
    )
    for name, words in (
        ("default", "`default` took {} longer"),
        ("fast", "`fast` {}, `best`"),
        ("best", "`best` {} and ESPCN"),
        ("espcn-t91", "and ESPCN {}, on one thread"),
    ):
        longer = [before / after - 1 for before, after in mixed_all[name].values()]
        assert words.format(span(longer)) in engine
    for name, words in (
        ("default", "on one thread `default` takes {} less time"),
        ("fast", "`fast` {} less, `best`"),
        ("best", "`best` {} less and ESPCN"),
        ("espcn-t91", "and ESPCN {} less."),
    ):
        gains = [1 - after / before for before, after in mixed_all[name].values()]
        assert words.format(span(gains)) in changes
    gains = [1 - after / earlier for earlier, after in head_start.values()]
    assert f"takes {100 * min(gains):.0f} to {max(gains):.0%} less" in engine
    assert f"`fast-x3` {head_start['fast'][1]:.2f} ms instead of {head_start['fast'][0]:.2f}" in engine
    espcn_gain, default_gain, fast_gain = (
        f"{1 - after / earlier:.0%}" for earlier, after in fetched.values()
    )
    assert f"worth {espcn_gain} to ESPCN, {default_gain} to `default` and {fast_gain} to `fast`" in engine
    gains = [1 - after / earlier for earlier, after in short.values()]
    assert 0.01 < min(gains) < max(gains) < 0.03 and "1 to 3% of the time of `default`" in engine
    assert all(after < 0.97 * earlier for earlier, after in strips.values())
    gains = [1 - after / earlier for earlier, after in own_threads.values()]
    assert f"up to {max(gains):.0%} less for 640x360" in engine
    for name, of_sizes in crew.items():
        cells = (f"{earlier:.2f} / {after:.2f}" for earlier, after in of_sizes.values())
        assert f"| `{name}` | {' | '.join(cells)} |" in engine
    for size, words in (
        ("64x48", "64x48 takes {} less time"),
        ("320x180", "320x180 {} less"),
        ("640x360", "640x360 {} less"),
    ):
        gains = [1 - after / earlier for earlier, after in (of[size] for of in crew.values())]
        assert words.format(span(gains)) in changes
    by_executor, compiled = until_begun
    assert f"A helper begins after {round(compiled, -1)} microseconds so, not {by_executor}." in engine
    *others, best = turns.values()
    for size, words in (
        ("320x180", "less for 320x180 by ESPCN"),
        ("640x360", "for 640x360, none for 854x480"),
    ):
        gains = [1 - of[size][1] / of[size][0] for of in others]
        assert f"{100 * min(gains):.0f} to {max(gains):.0%} {words}" in engine
    assert f"`best` up to {max(after / earlier for earlier, after in best.values()) - 1:.0%} more" in engine
    with_copies, without = copied["fast"]
    assert 0.2 < 1 - without / with_copies < 0.3 and "took a quarter of the time of `fast-x4`" in engine
    gains = {name: [1 - after / earlier for earlier, after in of.values()] for name, of in everything.items()}
    for name, words in (("fast", "`fast`"), ("default", "`default`"), ("espcn-t91", "ESPCN")):
        assert f"{words} takes {min(gains[name]):.0%} to {max(gains[name]):.0%} less" in changes
    assert f"`best-x4` takes {gains['best'][2]:.0%} less" in changes
    small, wide = memory.values()
    espcn, default, best = before.values()
    assert (
        f"ESPCN x3 {espcn[0]:.1f} ms and {espcn[1]:.1f}, `default-x3` {default[0]:.1f} and {default[1]:.1f}"
        in engine
    )
    assert f"`best-x3` {best[0]:.1f} and {best[1]:.1f}" in engine
    product, load, half, crossing, store, configure = alone.values()
    assert (
        f"a product {product:.0f}, whatever its depth; a load of 16 rows {load:.0f}, {half:.0f} where"
        in engine
    )
    assert f"and {crossing:.0f} where all do; a store {store:.0f}; `ldtilecfg` {configure}" in engine
    nothing, *others = (round(cycles) for cycles in beside.values())
    assert f"32 additions, {nothing} cycles alone, take {others[0]} with a load, {others[1]} with a" in engine
    assert f"product and {others[2]} with a store" in engine
    assert f"32x32 takes {small[1]:.1f} ms instead of {small[0]:.0f}" in changes
    assert f"160x90 {wide[1]:.0f} instead of {wide[0]:.1f}" in changes
    blocks, shapes = (list(lost.values()) for lost in contrast.values())
    slide, set14, page, pictures = blocks
    assert (
        f"lost {slide:.2f} dB on the slide in Set14, and so {set14:.3f} on the set, and {page:.2f}" in engine
    )
    slide, set14, page, with_shapes = shapes
    assert f"it loses {slide:.2f}, {set14:.3f} and {page:.2f};" in engine
    assert f"{with_shapes} on the mean instead of {pictures}." in engine


def test_the_table_of_what_is_trained_for_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = benchmark("losses", monkeypatch)
    assert losses.table() in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert list(json.loads(losses.RESULTS.read_text())["runs"]) == list(losses.CHANGES)


def test_the_papers_page_is_written_from_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = benchmark("paper", monkeypatch)
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert paper.written(page) == page
    for results in ("paper.json", "paper-video.json"):
        stored = json.loads((ROOT / "benchmarks" / "results" / results).read_text())
        for name, measured in stored.items():
            if not name.startswith("bicubic"):
                assert measured["digest"] == paper.digest(name), f"{name} has changed: measure it anew"


def test_what_the_forms_of_the_network_take_is_measured() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "torch-cpu.json").read_text())
    page = " ".join((ROOT / "docs" / "paper.md").read_text(encoding="utf-8").split())
    frames = [stored["milliseconds"]["fp32"][f"1920x1080 x{scale}"] for scale in (3, 4)]
    first = [frame["espcn-enlarged-first"] / frame["espcn"] for frame in frames]
    merged = [frame["espcn-deconvolution"] / frame["espcn"] for frame in frames]
    assert f"takes {first[0]:.0f} times ESPCN's time at x3 and {first[1]:.0f} times at x4" in page
    assert f"the deconvolution {merged[0]:.1f} and {merged[1]:.1f} times." in page


def test_the_recipes_table_is_the_measured_one() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "recipe.json").read_text())
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for name, result in stored["results"].items():
        assert f"| {name} | {result['start_psnr_db']:.2f} | {result['psnr_db']:.2f} |" in page
    assert f"{stored['steps']} steps" in page


def test_nothing_names_a_machine() -> None:
    """No absolute path of the machine where a page, a recipe or a source was written."""
    files = [
        path
        for folder in ("src", "docs", "configs", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*")
    ]
    suffixes = {".py", ".md", ".toml", ".json", ".csv"}
    texts = [path for path in [*files, *ROOT.glob("*.*")] if path.suffix in suffixes]
    home = re.compile(r"/(?:work|home|root|Users)/\w")
    assert texts
    assert not [path.name for path in texts if home.search(path.read_text(encoding="utf-8"))]
