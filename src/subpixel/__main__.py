"""Run the command with ``python -m subpixel``."""

from subpixel.cli import app


def main() -> None:
    """Run the command line; the console script `subpixel` starts here."""
    app(prog_name="subpixel")


if __name__ == "__main__":
    main()
