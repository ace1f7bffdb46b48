"""Fuzz the parsers in `tests/parsers.py` with atheris, which is guided by the branches of the code.

    python fuzz/fuzz.py                     fuzz all parsers, for a minute in all
    python fuzz/fuzz.py --seconds 600 exif  fuzz one parser for longer
    python fuzz/fuzz.py exif CRASH_FILE     run one parser on an input that made it fail

A parser must accept an input, or raise one of its own errors. An input for which it does neither is saved in
``out/fuzz``, and the exit code is 1.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "out" / "fuzz"
TOTAL_SECONDS = 60
MAX_SECONDS_PER_INPUT, MAX_MEMORY_MIB, MAX_INPUT_BYTES = 10, 2048, 1 << 16
MAX_REPORT_CHARACTERS = 3000


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz one parser in this process, with arguments for libFuzzer. Does not return."""
    import atheris

    sys.path.insert(0, str(ROOT / "tests"))
    with atheris.instrument_imports(include=["subpixel"]):
        from parsers import PARSERS
        from subpixel.images import codecs

        for codec in iter_modules(codecs.__path__):  # else imported on first use
            import_module(f"{codecs.__name__}.{codec.name}")

    parser = PARSERS[name]
    atheris.Setup([sys.argv[0], *arguments], lambda data: parser.accepts(data) and None)
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """Fuzz one parser in another process. Returns whether it passed."""
    sys.path.insert(0, str(ROOT / "tests"))
    from parsers import PARSERS

    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(PARSERS[name].seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = [
            f"-max_total_time={seconds}",
            f"-timeout={MAX_SECONDS_PER_INPUT}",
            f"-rss_limit_mb={MAX_MEMORY_MIB}",
        ]
        files = [f"-max_len={MAX_INPUT_BYTES}", f"-artifact_prefix={FOUND}/{name}-"]
        command = [sys.executable, __file__, "--inside", name, corpus, *limits, *files]
        result = subprocess.run(command, capture_output=True, text=True)
    *_, last = [line for line in result.stderr.splitlines() if line.strip()] or ["no output"]
    print(f"{name}: {last}", flush=True)
    if result.returncode:
        print(result.stdout[-MAX_REPORT_CHARACTERS:], result.stderr[-MAX_REPORT_CHARACTERS:], sep="\n")
    return result.returncode == 0


def main() -> None:
    """Parse the arguments, and fuzz the parsers that they name."""
    if sys.argv[1:2] == ["--inside"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, help="time for each parser")
    parser.add_argument("name", nargs="?", help="a parser; all by default")
    parser.add_argument("file", nargs="?", type=Path, help="an input, on which the parser is run once")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from parsers import PARSERS

    if arguments.file:
        print("accepted" if PARSERS[arguments.name].accepts(arguments.file.read_bytes()) else "rejected")
        return
    if find_spec("atheris") is None:
        print("fuzz: skipped, because atheris is not installed; it has wheels only for CPython on Linux")
        return
    names = [arguments.name] if arguments.name else list(PARSERS)
    seconds = arguments.seconds or max(1, TOTAL_SECONDS // len(names))
    failed = [name for name in names if not run(name, seconds)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; the inputs are in {FOUND}")


if __name__ == "__main__":
    main()
