"""The OpenAPI document of the API, built from the routes' own limits and the library's own choices."""

from typing import Any, get_args

from subpixel import __version__
from subpixel.options import MAX_SCALE, ContentKind, Deinterlace, FieldOrder, Fit, ImageFormat, Wrap
from subpixel.web.options import WEB_CONTAINERS, model_names

_Schema = dict[str, Any]


def description() -> _Schema:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Subpixel",
            "version": __version__,
            "summary": "Upscales images and videos.",
            "description": "Times are seconds since 1970, sizes are bytes. An error has a body with `error`. "
            "With 429, 503 and 507, the header Retry-After says in how many seconds to try again.",
        },
        "security": [{}, {"token": []}],
        "paths": {**_synchronous(), **_jobs(), **_uploads(), **_rest()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Job": _job(), "Options": _options(), "Error": _object(error=_string())},
        },
    }


def _synchronous() -> _Schema:
    options = {**_size_options(), **_model_options(), **_image_options()}
    body = {
        "image/*": {"schema": _string(format="binary")},
        "multipart/form-data": {"schema": _object(file=_string(format="binary"))},
    }
    operation = _operation(
        "Upscale one image",
        {"200": _content("The upscaled image, the same bytes as the command writes", "image/*")},
        *("400", "413", "415", "422", "429", "503", "507"),
        parameters=[_parameter(name, schema) for name, schema in options.items()],
        body=body,
    )
    return {"/upscale": {"post": operation}}


def _jobs() -> _Schema:
    job = {"200": _json("The job", _reference("Job"))}
    created = {"201": _json("The job", _reference("Job"))}
    with_options = {"application/json": {"schema": _object(options=_reference("Options"))}}
    submitted = {
        "multipart/form-data": {"schema": _object(file=_string(format="binary"), options=_string())},
        "application/octet-stream": {"schema": _string(format="binary")},
        "application/json": {"schema": _object(path=_string(), options=_reference("Options"))},
    }
    listed = {"200": _json("The oldest job first", _object(jobs=_array(_reference("Job"))))}
    query = [_parameter("name", _string()), _parameter("options", _string())]
    file = {"200": _content("The file", "application/octet-stream")}
    return {
        "/api/jobs": {
            "get": _operation("All jobs", listed),
            "post": _operation(
                "Submit a file, or with --allow-path a path on the server",
                created,
                *("400", "403", "413", "422", "429", "507"),
                parameters=query,
                body=submitted,
            ),
        },
        "/api/jobs/{id}": {
            "parameters": [_id()],
            "get": _operation("One job", job, "404"),
            "delete": _operation("Cancel a job, and remove it with its files", {"204": _empty()}, "404"),
        },
        "/api/jobs/{id}/cancel": {
            "parameters": [_id()],
            "post": _operation("Cancel a job", job, "404", "409"),
        },
        "/api/jobs/{id}/retry": {
            "parameters": [_id()],
            "post": _operation(
                "Run a finished job again, perhaps with other options",
                job,
                *("404", "409", "422"),
                body=with_options,
            ),
        },
        "/api/jobs/{id}/result": {
            "parameters": [_id()],
            "get": _operation("Download the result; supports ranges", file, "404"),
        },
        "/api/jobs/{id}/{link}": {
            "parameters": [_id(), _parameter("link", _string(), place="path")],
            "get": _operation("Material for a page; see the links of the job", file, "404", "422"),
        },
    }


def _uploads() -> _Schema:
    version = _parameter("Tus-Resumable", _string(const="1.0.0"), place="header")
    length = _parameter("Upload-Length", _integer(), place="header")
    metadata = _parameter("Upload-Metadata", _string(), place="header")
    offset = _parameter("Upload-Offset", _integer(), place="header")
    body = {"application/offset+octet-stream": {"schema": _string(format="binary")}}
    return {
        "/api/uploads": {
            "post": _operation(
                "Create an upload that resumes (tus 1.0.0)",
                {"201": _json("The job; Location is the address of the upload", _reference("Job"))},
                *("400", "412", "413", "422", "429", "507"),
                parameters=[version, length, metadata],
                body=body,
            )
        },
        "/api/uploads/{id}": {
            "parameters": [_id(), version],
            "head": _operation("How many bytes have arrived: Upload-Offset", {"200": _empty()}, "404", "412"),
            "patch": _operation(
                "Send bytes from Upload-Offset on",
                {"204": _empty()},
                *("404", "409", "412", "413", "415", "507"),
                parameters=[offset],
                body=body,
            ),
            "delete": _operation("Give an upload up", {"204": _empty()}, "404", "412"),
        },
    }


def _rest() -> _Schema:
    events = {"200": _content("Events jobs, job and removed", "text/event-stream")}
    archive = {"200": _content("A ZIP", "application/zip")}
    selected = [_parameter("jobs", _string(description="Identifiers, with commas between them"))]
    return {
        "/api/server": {"get": _operation("What the server offers and accepts", {"200": _json("", {})})},
        "/api/results.zip": {
            "get": _operation("All results in one file", archive, "404", parameters=selected)
        },
        "/api/events": {"get": _operation("Changes of jobs, as server-sent events", events, "503")},
        "/health": {"get": _operation("Whether the server answers", {"200": _json("", {})})},
    }


def _job() -> _Schema:
    size = {"width": _integer(), "height": _integer()}
    return _object(
        id=_string(),
        name=_string(),
        kind=_or_null(_string(enum=["image", "video"])),
        state=_string(enum=["uploading", "waiting", "running", "done", "failed", "cancelled"]),
        options=_reference("Options"),
        created=_number(),
        finished=_or_null(_number()),
        expires=_or_null(_number()),
        upload=_object(offset=_integer(), length=_integer()),
        source=_or_null(
            _object(
                **size,
                bytes=_integer(),
                frames=_or_null(_integer()),
                seconds=_or_null(_number()),
                frame_rate=_or_null(_number()),
            )
        ),
        target=_or_null(_object(**size)),
        progress=_or_null(
            _object(
                fraction=_number(minimum=0, maximum=1),
                frames=_integer(),
                total_frames=_or_null(_integer()),
                frames_per_second=_number(),
                seconds_left=_or_null(_number()),
                stage=_string(enum=["prepare", "preview", "upscale"]),
            )
        ),
        result=_or_null(
            _object(
                name=_string(),
                media_type=_string(),
                bytes=_integer(),
                **size,
                frames=_or_null(_integer()),
                model=_string(),
                engine=_string(),
                precision=_string(),
                seconds=_number(),
                warnings=_array(_string()),
            )
        ),
        error=_or_null(_string()),
        note=_or_null(_string()),
        links={"type": "object", "additionalProperties": _string()},
    )


def _options() -> _Schema:
    boolean = {"type": "boolean"}
    video = _object(
        container=_string(enum=list(WEB_CONTAINERS)),
        codec=_string(),
        crf=_number(),
        preset=_string(),
        start=_number(minimum=0),
        end=_number(minimum=0),
        deinterlace=_choice(Deinterlace),
        field_order=_choice(FieldOrder),
        grain={"oneOf": [_number(minimum=0, maximum=1), _string(const="keep")]},
        square_pixels=boolean,
        drop_unsupported=boolean,
        inverse_telecine=boolean,
    )
    return _object(**_size_options(), **_model_options(), image=_object(**_image_options()), video=video)


def _size_options() -> _Schema:
    pixels = _integer(minimum=1)
    named = _string(description="1080p, 4k, 800x600")
    scale = _number(minimum=1, maximum=MAX_SCALE)
    return {"scale": scale, "size": named, "width": pixels, "height": pixels, "fit": _choice(Fit)}


def _model_options() -> _Schema:
    model = _string(enum=list(model_names()))
    return {
        "content": _choice(ContentKind),
        "model": model,
        "sharpness": _number(minimum=0, maximum=1),
    }


def _image_options() -> _Schema:
    quality = _integer(minimum=1, maximum=100)
    return {"format": _choice(ImageFormat), "quality": quality, "wrap": _choice(Wrap)}


def _operation(
    summary: str,
    answers: _Schema,
    *errors: str,
    parameters: list[_Schema] | None = None,
    body: _Schema | None = None,
) -> _Schema:
    refused = {status: _json("Refused", _reference("Error")) for status in errors}
    operation: _Schema = {"summary": summary, "responses": {**answers, **refused}}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"content": body}
    return operation


def _parameter(name: str, schema: _Schema, *, place: str = "query") -> _Schema:
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "schema": schema, **required}


def _id() -> _Schema:
    return _parameter("id", _string(), place="path")


def _content(meaning: str, media_type: str, schema: _Schema | None = None) -> _Schema:
    return {"description": meaning, "content": {media_type: {"schema": schema or {}}}}


def _json(meaning: str, schema: _Schema) -> _Schema:
    return _content(meaning, "application/json", schema)


def _empty() -> _Schema:
    return {"description": "Done"}


def _reference(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties}


def _array(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _string(**more: Any) -> _Schema:
    return {"type": "string", **more}


def _number(**more: Any) -> _Schema:
    return {"type": "number", **more}


def _integer(**more: Any) -> _Schema:
    return {"type": "integer", **more}


def _choice(literal: Any) -> _Schema:
    return _string(enum=list(get_args(literal)))


def _or_null(schema: _Schema) -> _Schema:
    return {"oneOf": [schema, {"type": "null"}]}
