"""Fuzz the parsers of `tests/parsers.py` with atheris, which follows the branches of our code.

    python fuzz/fuzz.py                     each parser for some seconds, a minute together
    python fuzz/fuzz.py --seconds 600 exif  one parser, for longer
    python fuzz/fuzz.py exif CRASH_FILE     one parser on what made it fail

An input that a parser neither takes nor refuses ends the run with exit code 1. It is kept in ``out/fuzz``.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "out" / "fuzz"
TOTAL_SECONDS = 60
SLOWEST_SECONDS, MOST_MIB, LONGEST_BYTES = 10, 2048, 1 << 16
LONGEST_REPORT = 3000


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz one parser in this process, with libFuzzer's arguments; does not return."""
    import atheris

    sys.path.insert(0, str(ROOT / "tests"))
    with atheris.instrument_imports(include=["subpixel"]):
        from parsers import PARSERS

        for codec in ("bmp", "jpeg", "png", "tiff", "webp"):  # which are imported at their first use
            import_module(f"subpixel.images.codecs.{codec}")

    parser = PARSERS[name]
    atheris.Setup([sys.argv[0], *arguments], lambda data: parser.accepts(data) and None)
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """Fuzz one parser in a process of its own; whether it found nothing."""
    sys.path.insert(0, str(ROOT / "tests"))
    from parsers import PARSERS

    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(PARSERS[name].seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MOST_MIB}"]
        place = [f"-max_len={LONGEST_BYTES}", f"-artifact_prefix={FOUND}/{name}-"]
        command = [sys.executable, __file__, "--inside", name, corpus, *limits, *place]
        done = subprocess.run(command, capture_output=True, text=True)
    *_, last = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
    print(f"{name}: {last}", flush=True)
    if done.returncode:
        print(done.stdout[-LONGEST_REPORT:], done.stderr[-LONGEST_REPORT:], sep="\n")
    return done.returncode == 0


def main() -> None:
    """Read the arguments, and fuzz what they name."""
    if sys.argv[1:2] == ["--inside"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, help="for each parser")
    parser.add_argument("name", nargs="?", help="the parser; all by default")
    parser.add_argument("file", nargs="?", type=Path, help="an input, to be tried once")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from parsers import PARSERS

    if given.file:
        print("taken" if PARSERS[given.name].accepts(given.file.read_bytes()) else "refused")
        return
    if find_spec("atheris") is None:
        print("fuzz: skipped, as atheris is not installed; it has wheels for CPython under Linux alone")
        return
    names = [given.name] if given.name else list(PARSERS)
    seconds = given.seconds or max(1, TOTAL_SECONDS // len(names))
    failed = [name for name in names if not run(name, seconds)]
    if failed:
        raise SystemExit(f"faults in: {', '.join(failed)}; inputs are kept in {FOUND}")


if __name__ == "__main__":
    main()
