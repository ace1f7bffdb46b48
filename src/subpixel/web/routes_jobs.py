"""Requests on jobs: submit, state, result, cancel, retry, remove."""

import asyncio
from typing import Any, get_args
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from subpixel import __version__
from subpixel.files import is_file
from subpixel.options import ImageFormat
from subpixel.web.archive import stream_archive
from subpixel.web.bodies import (
    FileWriter,
    MultipartForm,
    content_length,
    is_multipart,
    read_json,
    refuse_long,
    save_body,
)
from subpixel.web.errors import RequestError
from subpixel.web.jobs import VIEWS, Job, clean_name, media_type
from subpixel.web.options import (
    WEB_CONTAINERS,
    check_options,
    networks,
    parse_options,
)
from subpixel.web.service import Service

_FORM_BYTES = 2**20
"""That a form may have besides its file."""

_FILE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cache-Control": "private, no-cache",
}
"""Of files that users gave: no browser runs anything in them."""


def service_of(request: Request) -> Service:
    """Return the state of the server."""
    service: Service = request.app.state.service
    return service


async def show_server(request: Request) -> Response:
    """GET /api/server."""
    service = service_of(request)
    limits = service.settings.limits
    return JSONResponse(
        {
            "version": __version__,
            "models": networks(),
            "formats": get_args(ImageFormat),
            "containers": WEB_CONTAINERS,
            "codecs": await asyncio.to_thread(_codecs),
            "limits": {
                "upload_bytes": limits.upload_bytes,
                "output_pixels": limits.output_pixels,
                "frames": limits.frames,
                "jobs": limits.jobs,
                "keep_seconds": limits.keep_seconds,
            },
            "free_bytes": max(0, service.disk.free_bytes()),
            "allow_path": bool(service.settings.allow_paths),
        }
    )


def _codecs() -> list[dict[str, Any]]:
    from subpixel.video.media.codecs import CODECS, available_codecs

    available = set(available_codecs())
    return [
        {
            "name": codec.name,
            "crf": None
            if codec.quality is None
            else {"best": codec.best, "worst": codec.worst, "default": codec.default},
            "presets": list(codec.presets),
            "preset": codec.preset,
        }
        for codec in CODECS
        if codec.name in available and not codec.hardware and codec.name != "rawvideo"
    ]


async def list_jobs(request: Request) -> Response:
    """GET /api/jobs."""
    return JSONResponse({"jobs": [job.to_json() for job in service_of(request).store]})


async def create_job(request: Request) -> Response:
    """POST /api/jobs."""
    service = service_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        body = await read_json(request)
        if not isinstance(body, dict) or set(body) - {"path", "options"}:
            raise RequestError(422, 'the body must be {"path": "...", "options": {...}}')
        options = check_options(body.get("options") or {})
        path = service.source_path(body.get("path"))
        job = service.create(path.name, path.stat().st_size, options, str(path))
    else:
        job = await _receive(request, service)
    service.submit(job)
    return JSONResponse(job.to_json(), 201, {"Location": f"/api/jobs/{job.id}"})


async def _receive(request: Request, service: Service) -> Job:
    """Create a job from the body of a request."""
    form = is_multipart(request)
    limit = service.settings.limits.upload_bytes
    refuse_long(request, limit + (_FORM_BYTES if form else 0))
    options = parse_options(request.query_params.get("options", ""))
    name = request.query_params.get("name", "")
    job = service.create(name, content_length(request) or 0, options)
    file = job.folder / "input"

    def check_wanted() -> None:
        if job.state != "uploading":
            raise RequestError(409, "the job was cancelled or removed while its file arrived; send it again")

    def on_write(size: int) -> None:
        check_wanted()
        service.disk.check()
        job.offset, job.length = size, max(size, job.length)
        service.hub.publish(job.id)

    try:
        writer = FileWriter(file, 0, limit, on_write)
        try:
            if form:
                parts = MultipartForm(request, writer)
                await parts.read()
                await writer.sync()
                job.name = clean_name(parts.filename or name)
                if "options" in parts.fields:
                    job.options = parse_options(parts.fields["options"])
            elif not await save_body(request, writer):
                raise RequestError(400, "the connection broke")
        finally:
            writer.close()
        if not writer.size:
            raise RequestError(422, "the file is empty")
        check_wanted()
        file.rename(job.input)
        job.length = writer.size
    except BaseException:
        await asyncio.shield(service.remove(job))
        raise
    return job


async def show_job(request: Request) -> Response:
    """GET /api/jobs/ID."""
    return JSONResponse(service_of(request).job(request.path_params["id"]).to_json())


async def remove_job(request: Request) -> Response:
    """DELETE /api/jobs/ID."""
    service = service_of(request)
    await service.remove(service.job(request.path_params["id"]))
    return Response(status_code=204)


async def cancel_job(request: Request) -> Response:
    """POST /api/jobs/ID/cancel."""
    service = service_of(request)
    job = service.job(request.path_params["id"])
    await service.cancel(job)
    return JSONResponse(job.to_json())


async def retry_job(request: Request) -> Response:
    """POST /api/jobs/ID/retry."""
    service = service_of(request)
    body = await read_json(request)
    if body is not None and (not isinstance(body, dict) or set(body) - {"options"}):
        raise RequestError(422, 'the body must be {"options": {...}}, or empty')
    options = None if body is None or body.get("options") is None else check_options(body["options"])
    job = service.job(request.path_params["id"])
    await service.retry(job, options)
    return JSONResponse(job.to_json())


async def send_result(request: Request) -> Response:
    """GET /api/jobs/ID/result."""
    job = service_of(request).job(request.path_params["id"])
    if job.state != "done" or job.result is None or job.output is None or not is_file(job.output):
        raise RequestError(404, f"the job is {job.state}, and has no result")
    headers = {**_FILE_HEADERS, "Content-Disposition": attachment(job.result["name"])}
    return FileResponse(job.output, headers=headers, media_type=media_type(job.output.suffix))


async def send_file(request: Request) -> Response:
    """GET /api/jobs/ID/NAME."""
    service = service_of(request)
    job = service.job(request.path_params["id"])
    link = request.path_params["link"]
    if link not in job.links():
        raise RequestError(404, f"the job is {job.state}, and has no {link!r} now; see its links")
    file = await service.view(job, link) if link in VIEWS else job.file(link)
    return FileResponse(file, headers=_FILE_HEADERS, media_type=media_type(file.suffix))


def attachment(name: str) -> str:
    """Return the header Content-Disposition of a download (RFC 6266)."""
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._- ") else "_" for each in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def send_archive(request: Request) -> Response:
    """GET /api/results.zip."""
    service = service_of(request)
    wanted = request.query_params.get("jobs")
    ids = None if wanted is None else set(wanted.split(","))
    jobs = [job for job in service.store if job.state == "done" and (ids is None or job.id in ids)]
    files = [
        (job.result["name"], job.output)
        for job in jobs
        if job.result is not None and job.output is not None and is_file(job.output)
    ]
    if not files:
        raise RequestError(404, "no job is done")
    headers = {**_FILE_HEADERS, "Content-Disposition": attachment("subpixel-results.zip")}
    return StreamingResponse(stream_archive(files), headers=headers, media_type="application/zip")


async def send_events(request: Request) -> Response:
    """GET /api/events."""
    service = service_of(request)
    if service.hub.count >= service.settings.limits.streams:
        raise RequestError(503, "too many streams of events are open; close some", retry_after=10)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(service.hub.stream(), headers=headers, media_type="text/event-stream")


ROUTES = [
    Route("/api/server", show_server),
    Route("/api/jobs", list_jobs, methods=["GET"]),
    Route("/api/jobs", create_job, methods=["POST"]),
    Route("/api/jobs/{id}", show_job, methods=["GET"]),
    Route("/api/jobs/{id}", remove_job, methods=["DELETE"]),
    Route("/api/jobs/{id}/cancel", cancel_job, methods=["POST"]),
    Route("/api/jobs/{id}/retry", retry_job, methods=["POST"]),
    Route("/api/jobs/{id}/result", send_result),
    Route("/api/jobs/{id}/{link}", send_file),
    Route("/api/results.zip", send_archive),
    Route("/api/events", send_events),
]
