"""A cache of compiled code on disk, so that each network is compiled once per machine.

The name of an entry is a digest of everything that determines the code, and its content starts with a digest
of the rest. So an entry is never stale, and a damaged entry is noticed and built again. Entries are renamed
into place when they are complete, so several processes may build the same entry at once: the last one
remains, and all are equal. The digest protects against damage, not against attacks: whoever can write to the
folder can run code.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from subpixel import __version__
from subpixel.errors import OutputError
from subpixel.files import write_atomically

FOLDER_VARIABLE = "SUBPIXEL_CACHE"
"""Environment variable with the folder of the cache; "off" disables it."""

_SOURCES = (
    "engines/native",
    "engines/color",
    "engines/history",
    "engines/assembler.py",
    "engines/ir.py",
    "engines/machine_code.py",
    "models/history.py",
    "models/quantization.py",
    "ops/block_motion.py",
    "ops/resize.py",
)
"""What generates code, beside versions of packages: files and folders in this package."""

_DIGEST_BYTES = 32

log = logging.getLogger(__name__)


def load_or_build(determining: tuple[Any, ...], build: Callable[[], bytes]) -> bytes:
    """Return code from the cache, or build it and store it if the folder is writable.

    ``determining`` is all that determines the code, besides the versions and sources of the compilers, as
    values that JSON can hold.
    """
    file = path(determining)
    if file is None:
        return build()
    code = _read(file)
    if code is None:
        code = build()
        try:
            with write_atomically(file, overwrite=True) as partial_file:
                partial_file.write_bytes(hashlib.sha256(code).digest() + code)
        except OutputError as error:
            log.info("a compiled network could not be stored in the cache: %s", error)
    return code


def path(determining: tuple[Any, ...]) -> Path | None:
    """Return the path of an entry, which need not exist; None if the cache is disabled."""
    cache_folder = folder()
    if cache_folder is None:
        return None
    key = hashlib.sha256(json.dumps([*determining, *_versions()], sort_keys=True).encode()).hexdigest()[:40]
    return cache_folder / f"{key}.kernel"


def folder() -> Path | None:
    """Return the folder of the cache; None if it is disabled or there is none."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given == "off":
        return None
    if given:
        return Path(given)
    from platformdirs import user_cache_path

    default = user_cache_path("subpixel", appauthor=False) / "kernels"
    # Without a home folder, the path is relative. Code in the current folder cannot be trusted.
    return default if default.is_absolute() else None


def _read(file: Path) -> bytes | None:
    try:
        if not file.is_file():  # a named pipe would block
            return None
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        log.info("%s is damaged and is built again", file)
        return None
    return code


@cache
def _versions() -> tuple[str, ...]:
    """Return the version of the compiler, and a digest of the sources that generate code."""
    import llvmlite  # only the package itself, which loads no library

    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    try:
        for name in _SOURCES:
            file = package / name
            for source in sorted(file.rglob("*.py")) if file.is_dir() else [file]:
                digest.update(source.read_bytes())
    except OSError:  # an installation without sources
        return llvmlite.__version__, __version__
    return llvmlite.__version__, digest.hexdigest()
