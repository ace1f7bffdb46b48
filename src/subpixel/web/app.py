"""The application: routes, errors and the page."""

import contextlib
import logging
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from subpixel.web import routes_documents, routes_jobs, routes_uploads, routes_upscale
from subpixel.web.errors import RequestError
from subpixel.web.guard import Guard
from subpixel.web.queue import describe
from subpixel.web.service import Service
from subpixel.web.settings import Settings

_STATIC = Path(__file__).parent / "static"

_STAGE = Path(str(files("subpixel.comparison"))) / "stage.js"
"""The viewer, which pages of `compare` contain too."""

_LOG = logging.getLogger("subpixel.web")


def create_app(settings: Settings, service: Service) -> ASGIApp:
    """Return the ASGI application of a server."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/health", show_health),
            *routes_documents.ROUTES,
            *routes_upscale.ROUTES,
            *routes_uploads.ROUTES,
            *routes_jobs.ROUTES,
            Route("/static/stage.js", show_stage),
            Mount("/static", PageFiles(directory=_STATIC)),
        ],
        exception_handlers={
            RequestError: _answer_refusal,  # type: ignore[dict-item]
            HTTPException: _answer_http_error,  # type: ignore[dict-item]
            ClientDisconnect: _answer_disconnect,  # type: ignore[dict-item]
            Exception: _answer_internal_error,
        },
        lifespan=lifespan,
    )
    app.state.service = service
    return Guard(app, settings)


class PageFiles(StaticFiles):
    """The files of the page, which a browser asks for again after an update."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        """See `StaticFiles.file_response`."""
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


async def show_page(request: Request) -> Response:
    """GET /."""
    return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def show_stage(request: Request) -> Response:
    """GET /static/stage.js."""
    return FileResponse(_STAGE, headers={"Cache-Control": "no-cache"})


async def show_health(request: Request) -> Response:
    """GET /health."""
    return JSONResponse({"status": "ok"})


async def _answer_refusal(request: Request, error: RequestError) -> Response:
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    messages = {404: "there is nothing at this address", 405: "this address does not take this method"}
    message = messages.get(error.status_code, error.detail)
    return JSONResponse({"error": message}, error.status_code, error.headers)


async def _answer_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return JSONResponse({"error": "the connection broke"}, 400)


async def _answer_internal_error(request: Request, error: Exception) -> Response:
    _LOG.error("internal error: %s", describe(error))
    return JSONResponse({"error": "an internal error of the server"}, 500)
