"""POST /upscale: an image in, the upscaled image out."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from subpixel.images.formats import recognize
from subpixel.web.bodies import FileWriter, MultipartForm, is_multipart, refuse_long, save_body
from subpixel.web.errors import RequestError
from subpixel.web.jobs import clean_name, known_extension, media_type, new_id
from subpixel.web.options import COMMON_OPTIONS, IMAGE_OPTIONS, check_options
from subpixel.web.processes import TaskFailed
from subpixel.web.routes_jobs import attachment, service_of
from subpixel.web.service import Service

_FORM_BYTES = 2**20
_UPLOAD = "upload"
_RETRY_SECONDS = 1
_FLOATS, _INTEGERS = ("scale", "sharpness"), ("width", "height", "quality")


async def upscale(request: Request) -> Response:
    """POST /upscale."""
    service = service_of(request)
    options = _options(request)
    form = is_multipart(request)
    limit = service.settings.limits.image_bytes
    refuse_long(request, limit + (_FORM_BYTES if form else 0))
    if service.synchronous >= service.settings.limits.synchronous:
        raise RequestError(503, "too many images are being upscaled; try again", retry_after=_RETRY_SECONDS)
    service.synchronous += 1
    folder = service.scratch / new_id()
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700)
        name = await _receive(request, service, folder, limit)
        task = await asyncio.to_thread(_task, service, folder, name, options)
        try:
            outcome = await service.queue.ask(task)
        except TaskFailed as failure:
            raise RequestError(422, str(failure)) from None
        result = outcome["result"]
        path = folder / result["file"]
        headers = {
            "Content-Disposition": attachment(result["name"]),
            "X-Subpixel-Model": result["model"],
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        return FileResponse(
            path,
            headers=headers,
            media_type=media_type(path.suffix),
            background=BackgroundTask(_remove, folder),
        )
    except BaseException:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        raise
    finally:
        service.synchronous -= 1


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


async def _receive(request: Request, service: Service, folder: Path, limit: int) -> str:
    """Write the image of a request to a file; return its name for users."""
    name = request.query_params.get("name", "")
    writer = FileWriter(folder / _UPLOAD, 0, limit, lambda size: service.disk.check())
    try:
        if is_multipart(request):
            parts = MultipartForm(request, writer)
            await parts.read()
            name = parts.filename or name
        elif not await save_body(request, writer, sync=False):
            raise RequestError(400, "the connection broke")
    finally:
        writer.close()
    if not writer.size:
        raise RequestError(422, "the body is empty; send an image")
    return clean_name(name) if name else "image"


def _task(service: Service, folder: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The task for a worker; raises `RequestError` if the file is no image."""
    source = folder / f"input{known_extension(name)}"
    (folder / _UPLOAD).rename(source)
    with source.open("rb") as file:
        if isinstance(found := recognize(file.read(64)), str | None):
            kind = found or "not an image that can be read"
            raise RequestError(415, f"the body is {kind}; send an image, and videos as jobs")
    limits = service.settings.limits
    return {
        "task": "synchronous",
        "name": name,
        "input": str(source),
        "folder": str(folder),
        "options": options,
        "paths": [str(source), str(folder)],
        "limits": {"output_pixels": limits.output_pixels, "memory_mib": limits.memory_mib},
    }


def _options(request: Request) -> dict[str, Any]:
    """The options of a job from the query."""
    options: dict[str, Any] = {"image": {}}
    for name, text in request.query_params.multi_items():
        if name in ("name", "token"):
            continue
        if name not in (*COMMON_OPTIONS, *IMAGE_OPTIONS):
            known = ", ".join((*COMMON_OPTIONS, *IMAGE_OPTIONS))
            raise RequestError(422, f"unknown option {name!r} in the query; known: {known}")
        value: Any = text
        try:
            value = float(text) if name in _FLOATS else int(text) if name in _INTEGERS else text
        except ValueError:
            raise RequestError(422, f"{name} must be a number, not {text!r}") from None
        (options["image"] if name in IMAGE_OPTIONS else options)[name] = value
    return check_options(options)


ROUTES = [Route("/upscale", upscale, methods=["POST"])]
