"""Uploads that resume: the tus protocol 1.0.0 with its extensions creation, termination and expiration."""

import base64
import binascii
import time
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from subpixel.web.bodies import FileWriter, refuse_long, save_body
from subpixel.web.errors import RequestError
from subpixel.web.jobs import Job
from subpixel.web.options import parse_options
from subpixel.web.routes_jobs import service_of
from subpixel.web.service import Service

_VERSION = "1.0.0"
_CONTENT_TYPE = "application/offset+octet-stream"
_MAX_METADATA_CHARACTERS = 16 * 2**10


async def describe(request: Request) -> Response:
    """OPTIONS /api/uploads."""
    return Response(
        status_code=204,
        headers={
            "Tus-Resumable": _VERSION,
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,creation-with-upload,termination,expiration",
            "Tus-Max-Size": str(service_of(request).settings.limits.upload_bytes),
        },
    )


async def create(request: Request) -> Response:
    """POST /api/uploads."""
    service = service_of(request)
    _check_version(request)
    length = _number(request, "upload-length")
    if not length:
        raise RequestError(422, "the file is empty")
    metadata = _metadata(request.headers.get("upload-metadata", ""))
    options = parse_options(metadata.get("options", ""))
    job = service.create(metadata.get("filename", ""), length, options, resumable=True)
    if request.headers.get("content-type") == _CONTENT_TYPE:
        await _receive(request, service, job, 0)
    headers = {**_headers(service, job), "Location": f"/api/uploads/{job.id}"}
    return JSONResponse(job.to_json(), 201, headers)


async def state(request: Request) -> Response:
    """HEAD /api/uploads/ID."""
    service = service_of(request)
    _check_version(request)
    job = _upload(service, request)
    await service.uploads.stop(job)
    return Response(status_code=200, headers=_headers(service, job) | {"Upload-Length": str(job.length)})


async def receive(request: Request) -> Response:
    """PATCH /api/uploads/ID."""
    service = service_of(request)
    _check_version(request)
    job = _upload(service, request)
    if request.headers.get("content-type") != _CONTENT_TYPE:
        raise RequestError(415, f"the Content-Type must be {_CONTENT_TYPE}")
    await _receive(request, service, job, _number(request, "upload-offset"))
    return Response(status_code=204, headers=_headers(service, job))


async def remove(request: Request) -> Response:
    """DELETE /api/uploads/ID."""
    service = service_of(request)
    _check_version(request)
    job = _upload(service, request)
    await service.uploads.stop(job)
    await service.remove(job)
    return Response(status_code=204, headers={"Tus-Resumable": _VERSION})


async def _receive(request: Request, service: Service, job: Job, offset: int) -> None:
    """Write the body of a request to the source of a job, and queue the job with the last byte."""
    # A client that resumes has lost its earlier connection, which the server may not know yet.
    await service.uploads.stop(job)
    if job.state != "uploading" or offset != job.offset:
        raise RequestError(
            409,
            f"the upload has {job.offset} bytes, not {offset}; resume there",
            Upload_Offset=str(job.offset),
        )
    refuse_long(request, job.length - offset)
    await service.uploads.run(job.id, _write(request, service, job, offset))
    if job.offset == job.length and job.state == "uploading":
        service.submit(job)


async def _write(request: Request, service: Service, job: Job, offset: int) -> None:
    def on_write(size: int) -> None:
        service.disk.check()
        arrived(size)

    def arrived(size: int) -> None:
        job.offset, job.touched = size, time.time()
        service.hub.publish(job.id)

    writer = FileWriter(job.input, offset, job.length, on_write)
    try:
        await save_body(request, writer)
    finally:
        writer.close()
        arrived(writer.size)


def _upload(service: Service, request: Request) -> Job:
    job = service.store.get(request.path_params["id"])
    is_form = job is not None and job.state == "uploading" and not job.resumable
    if job is None or job.path is not None or is_form or (job.is_finished and job.offset < job.length):
        raise RequestError(404, "there is no such upload; it may have expired", Tus_Resumable=_VERSION)
    return job


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != _VERSION:
        raise RequestError(412, f"the header Tus-Resumable must be {_VERSION}", Tus_Version=_VERSION)


def _number(request: Request, name: str) -> int:
    value = request.headers.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise RequestError(400, f"the header {name.title()} must be a number of bytes")
    return int(value)


def _metadata(header: str) -> dict[str, str]:
    """Parse ``key BASE64,key BASE64``."""
    if len(header) > _MAX_METADATA_CHARACTERS:
        raise RequestError(400, "the header Upload-Metadata is too long")
    result = {}
    for pair in filter(None, map(str.strip, header.split(","))):
        key, _, encoded = pair.partition(" ")
        try:
            result[key] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise RequestError(
                400, f"the value of {key!r} in Upload-Metadata is not UTF-8 in Base64"
            ) from None
    return result


def _headers(service: Service, job: Job) -> dict[str, str]:
    expires = job.touched + service.settings.limits.keep_seconds
    return {
        "Tus-Resumable": _VERSION,
        "Upload-Offset": str(job.offset),
        "Upload-Expires": formatdate(expires, usegmt=True),
        "Cache-Control": "no-store",
    }


ROUTES = [
    Route("/api/uploads", describe, methods=["OPTIONS"]),
    Route("/api/uploads", create, methods=["POST"]),
    Route("/api/uploads/{id}", describe, methods=["OPTIONS"]),
    Route("/api/uploads/{id}", state, methods=["HEAD"]),
    Route("/api/uploads/{id}", receive, methods=["PATCH"]),
    Route("/api/uploads/{id}", remove, methods=["DELETE"]),
]
