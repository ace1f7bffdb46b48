"""Compiled kernels on disk, so that each is compiled once on a machine.

An entry's name is a digest of everything that decides the code, and its content begins with a digest of the
rest. So an entry is never stale, and a damaged one is noticed, and built anew. Entries appear whole (they are
renamed into place), so any number of processes may build the same one at once: the last one wins, and all are
equal. The digest guards against damage, not against malice: who may write to the folder may run code.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from subpixel import __version__
from subpixel.engines.halide.plan import Plan
from subpixel.errors import OutputError
from subpixel.files import write_atomically

FOLDER_VARIABLE = "SUBPIXEL_CACHE"
"""Environment variable that says where kernels are kept; "off" keeps none."""

_SOURCES = (
    "algorithm.py",
    "schedule.py",
    "plan.py",
    "kernel.py",
    "../machine_code.py",
    "../../models/quantization.py",
)
_MATRIX_SOURCES = ("layout.py", "program.py", "products.py", "values.py", "assembler.py", "kernel.py")
_DIGEST_BYTES = 32

log = logging.getLogger(__name__)


def kept(plan: Plan, samples: str, build: Callable[[], bytes]) -> bytes:
    """The object file for a plan: from the cache, or else built, and kept if the folder can be written to."""
    place = path(plan, samples)
    if place is None:
        return build()
    code = _read(place)
    if code is None:
        code = build()
        try:
            with write_atomically(place, overwrite=True) as part:
                part.write_bytes(hashlib.sha256(code).digest() + code)
        except OutputError as error:
            log.info("a compiled network could not be kept: %s", error)
    return code


def holds(plan: Plan, samples: str) -> bool:
    """Whether there is an entry for a plan, though perhaps a damaged one."""
    place = path(plan, samples)
    return place is not None and place.exists()


def path(plan: Plan, samples: str) -> Path | None:
    """Where a plan's object file is or would be kept; None where none is."""
    place = folder()
    return None if place is None else place / f"{_key(plan, samples)}.kernel"


def folder() -> Path | None:
    """Where kernels are kept."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given == "off":
        return None
    if given:
        return Path(given)
    from platformdirs import user_cache_path

    place = user_cache_path("subpixel", appauthor=False) / "kernels"
    # A user without a home gets a relative path. Code from whatever folder this runs in is not to be trusted.
    return place if place.is_absolute() else None


def _read(place: Path) -> bytes | None:
    try:
        content = place.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        log.info("%s is damaged, and is built anew", place)
        return None
    return code


def _key(plan: Plan, samples: str) -> str:
    decisive = [
        plan.spec.to_json(),
        plan.products,
        plan.machine.kind,
        plan.machine.target,
        samples,
        *_versions(),
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:40]


@cache
def _versions() -> tuple[str, ...]:
    """Of the compilers, and of what is written here for them."""
    here = Path(__file__).parent
    sources = [
        *(here / name for name in _SOURCES),
        *(here.parent / "matrices" / name for name in _MATRIX_SOURCES),
    ]
    try:
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    except OSError:  # an installation without sources
        digest = __version__
    return _version("halide"), _version("llvmlite"), digest


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
