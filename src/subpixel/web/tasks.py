"""What a worker does: each ``run_NAME`` does the task NAME and returns the values of the event "done"."""

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subpixel.errors import SubpixelError
from subpixel.files import lock
from subpixel.images.formats import FORMATS, Format, format_named, recognize
from subpixel.images.formats import OUTPUT_EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.sizes import IMAGE, PixelGeometry, TargetSize
from subpixel.video.media.containers import OUTPUT_EXTENSIONS
from subpixel.web import views
from subpixel.web.jobs import known_extension, media_type
from subpixel.web.options import SIZE_OPTIONS, image_arguments, video_arguments

if TYPE_CHECKING:
    from subpixel.web.worker import Worker

_LOCK_SECONDS = 0.1


def warm_up() -> None:
    """Import what images need, and load the networks of scale 2, so that the first image does not wait."""
    import numpy as np

    from subpixel.loading import load

    for content in ("clean", "compressed"):
        load(content=content)(np.zeros((16, 16, 3), np.uint8))


def run_start(task: dict[str, Any], worker: "Worker") -> dict[str, Any]:
    """Upscale an image; of a video, make the thumbnail and the previews only."""
    source, folder = Path(task["input"]), Path(task["folder"])
    with source.open("rb") as file:
        found = recognize(file.read(64))
    if isinstance(found, Format):
        return _upscale_image(source, folder, task, worker, found)
    return _prepare_video(source, folder, task, worker)


def run_synchronous(task: dict[str, Any], worker: "Worker") -> dict[str, Any]:
    """Upscale an image, and make nothing else."""
    source, folder = Path(task["input"]), Path(task["folder"])
    with source.open("rb") as file:
        found = recognize(file.read(64))
    return _upscale_image(source, folder, task, worker, found if isinstance(found, Format) else None)


def _upscale_image(
    source: Path, folder: Path, task: dict[str, Any], worker: "Worker", found: Format | None
) -> dict[str, Any]:
    from subpixel.images.read import read
    from subpixel.images.upscale import upscale_image

    options, limits = task["options"], task["limits"]
    if task["task"] == "start":
        header = views.read_header(source)
        width, height = _target(options, header.width, header.height)
        described: dict[str, Any] = {
            "width": header.width,
            "height": header.height,
            "bytes": source.stat().st_size,
        }
        described |= {"frames": None, "seconds": None, "frame_rate": None}
        worker.send("source", kind="image", source=described, target={"width": width, "height": height})
        thumbnail = folder / "thumbnail.webp"
        # What will be refused for its size is not decoded either.
        is_small = width * height <= limits["output_pixels"] and header.nbytes < limits["memory_mib"] * 2**20
        if is_small and not views.has_file(thumbnail):
            image = read(source, lambda header: None)
            views.write_thumbnail(image.samples, thumbnail, image.metadata.icc)
            del image
    output = folder / f"result{_image_extension(task['name'], options, found)}"
    result = upscale_image(
        source,
        output,
        overwrite=True,
        max_output_pixels=limits["output_pixels"],
        max_memory_mib=limits["memory_mib"],
        progress=lambda progress: worker.report("upscale", progress),
        **image_arguments(options),
    )
    return {
        "kind": "image",
        "result": _result(
            result, output, task["name"], options, result.frames if result.frames > 1 else None
        ),
    }


def _image_extension(name: str, options: dict[str, Any], found: Format | None) -> str:
    """The extension of the result: of the format that is asked for, or as the command chooses it."""
    extension = known_extension(name)
    if wanted := options.get("image", {}).get("format"):
        output_format = format_named(wanted)
        return extension if extension in output_format.extensions else output_format.extensions[0]
    if extension in IMAGE_EXTENSIONS:
        return extension
    return found.extensions[0] if found in FORMATS and found and not Path(name).suffix else ".png"


def _prepare_video(source: Path, folder: Path, task: dict[str, Any], worker: "Worker") -> dict[str, Any]:
    """Describe a video, and make its thumbnail and previews, unless they exist."""
    views.check_video(source)
    options = task["options"]
    description = views.describe_video(source, folder / "thumbnail.webp")
    stored = description.pop("stored")
    is_rotated = stored != [description["width"], description["height"]]
    geometry = PixelGeometry(quarter_turn=is_rotated, even=True)
    width, height = _target(options, stored[0], stored[1], geometry)
    views.check_frames(source, description, width * height, task["limits"])
    upright = (height, width) if is_rotated else (width, height)
    shown = {key: value for key, value in description.items() if key != "pixel_format"}
    worker.send("source", kind="video", source=shown, target={"width": upright[0], "height": upright[1]})
    original, result = folder / "preview-original.mp4", folder / "preview-result.mp4"
    if not (views.has_file(original) and views.has_file(result)):
        # Without a preview the video is upscaled all the same, and tells what is wrong with it.
        with contextlib.suppress(SubpixelError, ValueError):
            views.write_previews(
                source,
                original,
                result,
                description,
                width * height,
                video_arguments(options),
                lambda progress: worker.report("preview", progress),
            )
    return {"kind": "video"}


def run_video(task: dict[str, Any], worker: "Worker") -> dict[str, Any]:
    """Upscale a video; an interrupted run goes on."""
    from subpixel.video.upscale import upscale_video

    source, folder, options = Path(task["input"]), Path(task["folder"]), task["options"]
    views.check_video(source)
    output = folder / f"result{_video_extension(task['name'], options)}"
    handle = _wait_for_lock(folder / "lock", worker)
    try:
        result = upscale_video(
            source,
            output,
            overwrite=True,
            progress=lambda progress: worker.report("upscale", progress),
            **video_arguments(options),
        )
    finally:
        os.close(handle)
    return {"kind": "video", "result": _result(result, output, task["name"], options, result.frames)}


def _wait_for_lock(path: Path, worker: "Worker") -> int:
    """Wait until the process of a server that was killed has ended, and return the lock."""
    while (handle := lock(path)) is None:
        worker.check_cancelled()
        time.sleep(_LOCK_SECONDS)
    return handle


def _video_extension(name: str, options: dict[str, Any]) -> str:
    if container := options.get("video", {}).get("container"):
        return f".{container}"
    extension = known_extension(name)
    return extension if extension in OUTPUT_EXTENSIONS else ".mkv"


def run_view(task: dict[str, Any], worker: "Worker") -> dict[str, Any]:
    """Make an image that a page shows beside the result."""
    folder = Path(task["folder"])
    size = tuple(task["size"])
    if task["view"] == "view":
        views.write_view(folder / task["file"], folder / "view.png", None, bicubic=False)
    elif task["view"] == "bicubic":
        views.write_view(Path(task["input"]), folder / "bicubic.png", size, bicubic=True)
    else:
        views.write_view(Path(task["input"]), folder / "original.png", None, bicubic=False)
    return {}


def _target(
    options: dict[str, Any], width: int, height: int, geometry: PixelGeometry = IMAGE
) -> tuple[int, int]:
    asked = TargetSize(**{name: options[name] for name in SIZE_OPTIONS if name in options})
    scale = 2
    name = options.get("model", "")
    if name.rpartition("-x")[2].isdigit():
        scale = int(name.rpartition("-x")[2])
    return asked.or_scale(scale).for_source(width, height, geometry)


def _result(
    result: Any, output: Path, name: str, options: dict[str, Any], frames: int | None
) -> dict[str, Any]:
    by_size = any(key in options for key in ("size", "width", "height"))
    suffix = f"{result.width}x{result.height}" if by_size else f"x{result.scale:g}"
    stem = name.removesuffix(Path(name).suffix) if known_extension(name) else name
    warnings = [warning.replace(str(output), name) for warning in result.warnings]
    return {
        "file": output.name,
        "name": f"{stem}-{suffix}{output.suffix}",
        "media_type": media_type(output.suffix),
        "bytes": output.stat().st_size,
        "width": result.width,
        "height": result.height,
        "frames": frames,
        "model": result.model,
        "engine": result.engine,
        "precision": result.precision,
        "seconds": result.seconds,
        "warnings": warnings,
    }
