"""Check that the base dependencies have wheels for every platform and Python: `python .ci/wheels.py`.

Prints, for each platform and version of CPython, the dependencies that pip cannot install without building
them. The exit code is 1 if there are any. Without a package index, nothing is checked.
Some indexes make pip download what it would install, up to 200 MB for each line.

Markers of our own dependencies are evaluated for the platform. pip evaluates those of the dependencies'
dependencies for this machine.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PLATFORMS = {
    # Python's names of the system and the architecture, and pip's names of what a wheel may be made for
    "linux-x86_64": ("linux", "x86_64", [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)]),
    "linux-aarch64": ("linux", "aarch64", [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 24, 17)]),
    "macos-arm64": ("darwin", "arm64", ["macosx_14_0_arm64"]),
    "windows-x86_64": ("win32", "AMD64", ["win_amd64"]),
}
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", nargs="+", default=["linux-aarch64", "macos-arm64"], choices=PLATFORMS)
    parser.add_argument("--python", nargs="+", default=VERSIONS, metavar="X.Y")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="check only these dependencies, on every platform"
    )
    given = parser.parse_args()
    if not resolves([Requirement("pip")], given.platform[0], given.python[0]):
        print("the package index cannot be reached: not checked whether dependencies have wheels")
        return 0
    complete = True
    for platform in given.platform:
        for version in given.python:
            if given.only:
                needed = [each for each in dependencies() if each.name in given.only]
            else:
                needed = [each for each in dependencies() if applies(each, platform, version)]
            missing = find_missing(needed, platform, version)
            complete = complete and not missing
            result = "no " + ", ".join(missing) if missing else "complete"
            print(f"{platform} {version}: {result}", flush=True)
    return 0 if complete else 1


def dependencies() -> list[Requirement]:
    """Return the base dependencies."""
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    return [Requirement(each) for each in tomllib.loads(text)["project"]["dependencies"]]


def applies(requirement: Requirement, platform: str, version: str) -> bool:
    """Whether a dependency is one on this platform."""
    system, machine, _ = PLATFORMS[platform]
    environment = {
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": machine,
        "python_version": version,
        "python_full_version": f"{version}.0",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def find_missing(requirements: list[Requirement], platform: str, version: str) -> list[str]:
    """Return the names of the dependencies that cannot be installed from wheels."""
    if resolves(requirements, platform, version):
        return []
    alone = [each.name for each in requirements if not resolves([each], platform, version)]
    return alone or ["versions that fit together"]


def resolves(requirements: list[Requirement], platform: str, version: str) -> bool:
    """Whether pip finds wheels for some dependencies and for all that these need."""
    tags = [f"--platform={tag}" for tag in PLATFORMS[platform][2]]
    texts = [f"{each.name}{each.specifier}" for each in requirements]
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", f"--python-version={version}", f"--target={target}", *tags, *texts]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" not in done.stderr:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


sys.exit(main())
