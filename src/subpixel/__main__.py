"""Run the command with ``python -m subpixel``."""

import os
import sys
from pathlib import Path

from subpixel.cli import app
from subpixel.cli.display import full_stdout


def main() -> None:
    """Run the command line; the console script `subpixel` starts here."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # was closed by whoever started this
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lasts
    with full_stdout():
        app(prog_name="subpixel")


if __name__ == "__main__":
    main()
