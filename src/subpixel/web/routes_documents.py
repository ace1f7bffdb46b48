"""The description of the API: OpenAPI for tools, and a page for people."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from subpixel.web.openapi import description


async def show_openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(description())


async def show_docs(request: Request) -> Response:
    """GET /docs."""
    return HTMLResponse((files("subpixel.web") / "static" / "docs.html").read_text(encoding="utf-8"))


ROUTES = [Route("/openapi.json", show_openapi), Route("/docs", show_docs)]
