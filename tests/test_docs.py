"""The documentation: its commands and examples run, its links work, its tables are the stored results."""

import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from subpixel.cli import app
from subpixel.models import catalog as packaged

ROOT = Path(__file__).parents[1]
RESEARCH = ROOT / "docs" / "research"
USER_PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "src").rglob("*.md"),
    ]
)
PAGES = [*USER_PAGES, ROOT / "CHANGELOG.md", *sorted(RESEARCH.glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

NOT_RUN = ("train", "calibrate", "bench", "figures", "serve")
"""Commands that are slow, need optional packages, or do not end; other tests run them."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def console_lines(page: Path) -> list[str]:
    """The lines `subpixel ...` in the console blocks of a page, without comments."""
    lines = [
        line.partition("  #")[0].strip().removeprefix("$ ")
        for block in blocks(page, "console")
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("subpixel ")]


def options(command: str) -> set[str]:
    """The long and short options of a command."""
    return {option for parameter in COMMANDS[command].params for option in (*parameter.opts, "--help")}


@pytest.mark.parametrize("page", USER_PAGES, ids=name_of)
def test_commands_on_the_pages_exist(page: Path) -> None:
    for line in console_lines(page):
        _, name, *words = shlex.split(line.partition(" | ")[0])
        assert name in COMMANDS, line
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= options(name), line


def test_extras_on_the_pages_exist() -> None:
    """In pages, docstrings and messages."""
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    folders = ("src", "benchmarks", "examples")
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    for page in (*PAGES, *sources, ROOT / "Makefile"):
        for names in re.findall(r"(?:'\.|subpixel)\[([\w, -]+)\]'", page.read_text(encoding="utf-8")):
            assert set(map(str.strip, names.split(","))) <= known, (page.name, names)


def test_every_command_is_on_the_front_page() -> None:
    shown = {line.split()[1] for line in console_lines(ROOT / "README.md")}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command: str) -> None:
    """On at least one page for users."""
    pages = "\n".join(map(text_of, USER_PAGES))
    spellings = [
        parameter.opts for parameter in COMMANDS[command].params if parameter.opts[0].startswith("-")
    ]
    shown = [any(re.search(rf"(?<!\w){one}(?![\w-])", pages) for one in names) for names in spellings]
    assert not [names for names, found in zip(spellings, shown, strict=True) if not found]


def photo(width: int = 120, height: int = 100, seed: int = 0) -> Image.Image:
    """A small smooth image with a sharp edge."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    samples = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()
    samples[height // 3 :, width // 2 :] //= 2
    return Image.fromarray(samples)


def write_clip(path: Path, codec: str = "libx264", rate: Fraction = Fraction(1, 40)) -> None:
    """Write a video of three frames, by default two minutes long."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate)
        stream.width, stream.height, stream.pix_fmt = 120, 100, "yuv420p"
        for seed in range(3):
            output.mux(stream.encode(av.VideoFrame.from_image(photo(seed=seed)).reformat(format="yuv420p")))
        output.mux(stream.encode())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the files that the pages name. Networks are not compiled."""
    images = (
        "small.png",
        "old.jpg",
        "bricks.png",
        "panorama.jpg",
        "sprite.png",
        "photos/one.png",
        "photos/inside/two.jpg",
    )
    for name in images:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        photo().save(tmp_path / name)
    for name in ("sticker.gif", "sticker.webp", "stickers/one.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        photo().save(tmp_path / name, save_all=True, append_images=[photo(seed=1)])
    for name in ("Set5", "Set14", "my-images"):
        (tmp_path / name).mkdir()
        for seed in range(2):
            photo(144, 96, seed).save(tmp_path / name / f"{seed}.png")
    (tmp_path / "clips").mkdir()
    for name in ("film.mp4", "clips/one.mp4", "clips/two.mkv"):
        write_clip(tmp_path / name)
    photo(360, 300).save(tmp_path / "original.png")
    write_clip(tmp_path / "clip.y4m", "wrapped_avframe", Fraction(25))
    (tmp_path / "runs" / "mine-x2").mkdir(parents=True)
    for name in ("mine", "runs/mine-x2/mine-x2"):
        packaged.find("default-x2").save(tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["export", "default-x2", "-o", "model.onnx"])
    monkeypatch.setattr("subpixel.engines.select.ENGINES", ("numpy",))
    yield tmp_path
    importlib.import_module("subpixel.selection")._load_cached.cache_clear()


@pytest.mark.parametrize("page", [page for page in USER_PAGES if console_lines(page)], ids=name_of)
def test_console_blocks_run(page: Path, workspace: Path) -> None:
    for line in console_lines(page):
        _, name, *words = shlex.split(line)
        if name in NOT_RUN or "|" in words:
            continue
        output = Path(words[words.index("-o") + 1]) if "-o" in words else None
        if output and output.is_file():
            output.unlink()
        result = CliRunner().invoke(app, [name, *words])
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("page", [page for page in USER_PAGES if blocks(page, "python")], ids=name_of)
def test_python_blocks_run(page: Path, workspace: Path) -> None:
    """In order, in one namespace with the variables that the pages assume."""
    hr = np.asarray(photo().convert("L"))
    names: dict[str, Any] = {"image": photo(), "frames": [photo()], "show": print, "hr": hr, "sr": hr, "s": 3}
    for block in blocks(page, "python"):
        if not block.startswith(">>>"):  # a doctest, which another test runs
            with np.errstate(divide="ignore"):
                exec(compile(block, str(page), "exec"), names)
            for path in workspace.glob("*large.*"):
                path.unlink()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE
    )
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_work(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_instruction_sets_are_listed() -> None:
    """Those for users in the table, those for tests in the text."""
    targets = pytest.importorskip("subpixel.engines.native.targets")
    page = text_of(ROOT / "docs/engine.md")
    section = page.partition("## Instruction sets")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == targets.NAMES
    others = {*targets.TARGETS, *targets.OLD_NAMES}.difference(targets.NAMES)
    assert not [name for name in others if f"`{name}`" not in page]


def test_all_research_pages_are_listed() -> None:
    pages = {page.name for page in RESEARCH.glob("*.md")} - {"README.md"}
    assert all(re.match(r"\d{4}-\d\d-\d\d-", name) for name in pages)
    assert pages == set(re.findall(r"\]\((2[\w-]+\.md)\)", text_of(RESEARCH / "README.md")))


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the benchmarks share."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("shared")


def test_tables_equal_the_stored_results(benchmarks: ModuleType) -> None:
    """`make tables` changes nothing."""
    tables = importlib.import_module("tables")
    drifted = [name_of(page) for page, text in tables.pages().items() if text != text_of(page)]
    assert not drifted, "run `make tables`"


def test_every_measured_table_is_generated(benchmarks: ModuleType) -> None:
    """A table row with a decimal fraction is inside a table that `make tables` writes."""
    tables = importlib.import_module("tables").TABLES
    for page in [*USER_PAGES, *RESEARCH.glob("*.md")]:
        text, known = text_of(page), tables.get(name_of(page), {})
        marks = set(re.findall(r"<!-- (?!end of )(.+?) -->", text))
        assert marks == set(known), page
        for mark in marks:
            text = re.sub(f"<!-- {mark} -->.*?<!-- end of {mark} -->", "", text, flags=re.DOTALL)
        if page.name != "2026-11-27-model-cards.md":  # a copy of older model cards
            assert not re.findall(r"^\|.*\| *[+-]?\d+\.\d+ .*$", text, re.MULTILINE), page


def test_results_are_of_the_packaged_models(benchmarks: ModuleType) -> None:
    """A model that has changed must be measured again."""
    for result in ("paper", "paper-video", "content"):
        for name, measured in benchmarks.load(result).items():
            if not name.startswith("bicubic"):
                assert measured["digest"] == benchmarks.digest(name), (
                    f"{name} has changed, and {result}.json is out of date"
                )
    precision = benchmarks.load("precision")
    assert set(precision) == set(packaged.names())
    for name, of in precision.items():
        assert all(of["fp32"][key] - of["int8"][key] <= 0.05 for key in of["fp32"]), name
    deep = benchmarks.load("deep_samples")
    assert set(deep) == set(packaged.names())
    for key in ("Set5", "Set14"):
        lost_db = max(of["fp32"][key] - of["int8"][key] for of in deep.values())
        assert f"{lost_db:.3f}" in text_of(ROOT / "docs/engine.md"), key


def test_results_state_machine_and_versions(
    benchmarks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmarks, "ROOT", tmp_path)
    benchmarks.store("one", {"threads": 2, "x": 1})
    stored = json.loads((tmp_path / "one.json").read_text())["measured"]
    assert {"machine", "date", "commit", "versions"} <= stored.keys()
    assert stored["versions"]["numpy"] == np.__version__
    assert benchmarks.load("one") == {"threads": 2, "x": 1}
    assert benchmarks.provenance("one").startswith(f"{stored['machine']}, 2 threads, {stored['date']}")


def test_no_file_contains_a_local_path() -> None:
    """No absolute path of the machine on which a file was written."""
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
