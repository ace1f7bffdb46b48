"""The option ``--cluster``: what it excludes, and the connection."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import typer

from subpixel.cli.errors import exit_on_error
from subpixel.errors import SubpixelError
from subpixel.files import PIPE
from subpixel.storage.paths import Location


def check_cluster(
    address: str, context: typer.Context, inputs: Sequence[Location], output: str | None
) -> None:
    """Raise ValueError for an unknown form of address, or for options that are for one machine."""
    from subpixel.cluster.connection import check_address

    check_address(address)
    source = context.get_parameter_source("jobs")
    if source is not None and source.name == "COMMANDLINE":
        raise ValueError(
            "--jobs is for this machine, and a cluster does as many images as it has CPUs; leave it out"
        )
    if PIPE in (output, *map(str, inputs)):
        raise ValueError("--cluster is for files, which all machines see, and - is a pipe; name files")


@contextmanager
def connection(address: str | None) -> Iterator[None]:
    """Connect to a cluster during the body; do nothing without an address.

    Exits with code 2 if there is no connection, since no work has begun.
    """
    with ExitStack() as stack:
        if address is not None:
            from subpixel.cluster.connection import connect

            with exit_on_error(2, SubpixelError):
                stack.enter_context(connect(address))
        yield
