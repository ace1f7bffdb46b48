"""`subpixel serve`: a page in the browser, and an API for programs."""

import errno
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from subpixel.cli.errors import exit_on_error, handle_signals
from subpixel.errors import SubpixelError
from subpixel.images.formats import MAX_MEMORY_MIB, MAX_OUTPUT_PIXELS

LIMITS = "Limits"
_REQUIRED = ("starlette", "uvicorn", "python_multipart")
_GB = 10**9
_MIN_TOKEN_CHARACTERS = 8


@handle_signals("stopped; jobs that are not finished go on at the next start")
def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0 for a free one.")
    ] = 8765,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where uploads and results are kept. Default: in the user's data folder."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What clients must send. If --host is not this machine alone, one is made and printed.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Another name under which clients reach the server. May be repeated."
        ),
    ] = None,
    allow_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Programs may name files in this folder as input. May be repeated."
        ),
    ] = None,
    keep_days: Annotated[
        float,
        typer.Option(metavar="DAYS", min=0.00001, help="Remove uploads and results after so long."),
    ] = 7.0,
    image_workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Images to upscale at once.")
    ] = 2,
    reserve: Annotated[
        float,
        typer.Option(
            metavar="GB",
            min=0,
            help="Free disk space that uploads and jobs must leave.",
            rich_help_panel=LIMITS,
        ),
    ] = 1.0,
    max_data: Annotated[
        float,
        typer.Option(
            metavar="GB", min=0, help="Largest size of all uploads and results.", rich_help_panel=LIMITS
        ),
    ] = 200.0,
    max_upload: Annotated[
        float, typer.Option(metavar="GB", min=0, help="Largest upload.", rich_help_panel=LIMITS)
    ] = 20.0,
    max_output_pixels: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Most pixels of an upscaled image or frame.", rich_help_panel=LIMITS
        ),
    ] = MAX_OUTPUT_PIXELS,
    max_memory: Annotated[
        int,
        typer.Option(
            metavar="MIB", min=1, help="Most memory that one image may need.", rich_help_panel=LIMITS
        ),
    ] = MAX_MEMORY_MIB,
    max_frames: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most frames of a video.", rich_help_panel=LIMITS)
    ] = 1_000_000,
    max_jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most jobs that are not finished.", rich_help_panel=LIMITS)
    ] = 1000,
    max_waiting: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Most calls of POST /upscale at once.", rich_help_panel=LIMITS),
    ] = 32,
    max_requests: Annotated[
        float,
        typer.Option(
            metavar="N", min=1, help="Most requests a second from one address.", rich_help_panel=LIMITS
        ),
    ] = 200.0,
    client_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="Cut clients that send or take nothing for so long.",
            rich_help_panel=LIMITS,
        ),
    ] = 30.0,
    max_connections: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most connections at once.", rich_help_panel=LIMITS)
    ] = 256,
) -> None:
    """Start a page in the browser that upscales images and videos, and an API for programs.

    Open the address that it prints. Only this machine can reach it, unless --host names another address.
    Jobs survive a restart. Ctrl-C stops the server.
    """
    with exit_on_error(1, SubpixelError):
        if missing := [name for name in _REQUIRED if find_spec(name) is None]:
            raise SubpixelError(f"serve needs {', '.join(missing)}: pip install 'subpixel[web]'")
    import platformdirs

    from subpixel.web.server import is_loopback, new_token, open_socket
    from subpixel.web.server import serve as run_server
    from subpixel.web.settings import DAY_SECONDS, Limits, Settings

    with exit_on_error(2, ValueError, SubpixelError):
        if token is not None and len(token) < _MIN_TOKEN_CHARACTERS:
            raise ValueError(f"--token must have at least {_MIN_TOKEN_CHARACTERS} characters")
        for folder in allow_path or []:
            if not folder.is_dir():
                raise ValueError(f"--allow-path {folder}: there is no such folder")
        if token is None and not is_loopback(host):
            token = new_token()
        settings = Settings(
            data=data or Path(platformdirs.user_data_dir("subpixel", appauthor=False)) / "web",
            host=host,
            port=port,
            token=token,
            allow_hosts=tuple(allow_host or ()),
            allow_paths=tuple(folder.resolve() for folder in allow_path or ()),
            image_workers=image_workers,
            limits=Limits(
                upload_bytes=int(max_upload * _GB),
                output_pixels=max_output_pixels,
                memory_mib=max_memory,
                frames=max_frames,
                jobs=max_jobs,
                synchronous=max_waiting,
                requests_per_second=max_requests,
                connections=max_connections,
                header_seconds=min(client_timeout, Limits.header_seconds),
                stall_seconds=client_timeout,
                keep_seconds=keep_days * DAY_SECONDS,
                reserve_bytes=int(reserve * _GB),
                data_bytes=int(max_data * _GB),
            ),
        )

    def on_start(addresses: list[str]) -> None:
        typer.echo(f"Open {addresses[0]}")
        for address in addresses[1:]:
            typer.echo(f"Or, for devices that do not find this name: {address}")
        typer.echo(f"Files are kept for {keep_days:g} days in {settings.data}. Ctrl-C stops the server.")

    with exit_on_error(1, SubpixelError):
        try:
            listener = open_socket(host, port)
        except OSError as error:
            cure = "stop the other server, or choose another --port"
            if error.errno != errno.EADDRINUSE:
                cure = "choose another --host or --port"
            raise SubpixelError(f"{host}:{port}: cannot listen there ({error.strerror}); {cure}") from None
        with listener:
            run_server(settings, listener, on_start)
