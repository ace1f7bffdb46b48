"""The entry point of ``python -m subpixel``."""

import os
import sys
from pathlib import Path

from subpixel.cli import app
from subpixel.cli.display import report_full_stdout


def main() -> None:
    """Run the command; the console script `subpixel` calls this."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends
    with report_full_stdout():
        app(prog_name="subpixel")


if __name__ == "__main__":
    main()
