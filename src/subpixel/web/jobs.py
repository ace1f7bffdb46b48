"""Jobs: what the user started, with its state and its files."""

import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from subpixel.files import is_file
from subpixel.images.formats import EXTENSIONS as IMAGE_EXTENSIONS
from subpixel.video.media.containers import INPUT_EXTENSIONS as VIDEO_EXTENSIONS

State = Literal["uploading", "waiting", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")

_MAX_NAME_CHARACTERS = 200
_MAX_VIEW_PIXELS = 100_000_000
"""Browsers do not show images that are much larger."""

_FILES = {
    "thumbnail": "thumbnail.webp",
    "preview_original": "preview-original.mp4",
    "preview_result": "preview-result.mp4",
}
"""Links to files that exist once they are made, by name."""

VIEWS = {"original": "original.png", "bicubic": "bicubic.png", "view": "view.png"}
"""Links to images that are made at the first request."""

VIEWABLE = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif"}
"""Extensions of results that browsers show."""

_MEDIA_TYPES = {
    ".png": "image/png",
    ".apng": "image/apng",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".jxl": "image/jxl",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}


@dataclass
class Job:
    """One file, what is to be done with it, and what has become of it."""

    id: str
    name: str
    """Of the file, as the user sees it; never a path."""
    folder: Path
    """Of all files of the job."""
    options: dict[str, Any]
    created: float
    length: int
    """Of the source, in bytes."""
    path: str | None = None
    """Of the source, if it is a file of the server's user that was not uploaded."""
    state: State = "uploading"
    kind: str | None = None
    finished: float | None = None
    expires: float | None = None
    source: dict[str, Any] | None = None
    target: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    # What follows is not stored.
    offset: int = 0
    """Bytes of the source that have arrived."""
    touched: float = field(default_factory=time.time)
    """When the last byte arrived."""
    resumable: bool = False
    """Whether the source arrives by the tus protocol."""
    progress: dict[str, Any] | None = None
    note: str | None = None
    prepared: bool = False
    """Whether the previews of a video were made, or tried."""

    @property
    def input(self) -> Path:
        """The file to upscale."""
        return Path(self.path) if self.path else self.folder / f"input{known_extension(self.name)}"

    @property
    def output(self) -> Path | None:
        """The result."""
        return None if self.result is None else self.folder / self.result["file"]

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens with it by itself."""
        return self.state in FINISHED

    def file(self, link: str) -> Path:
        """Return the path of the file behind a link, which need not exist."""
        return self.folder / {**_FILES, **VIEWS}[link]

    def links(self) -> dict[str, str]:
        """Return the addresses that work now, by name."""
        names = [link for link in _FILES if is_file(self.file(link))]
        if self.state == "done" and self.result:
            names.append("result")
            pixels = self.result["width"] * self.result["height"]
            if self.kind == "image" and pixels <= _MAX_VIEW_PIXELS:
                names += [name for name in VIEWS if name != "bicubic" or not self.result["frames"]]
        links = {name: f"/api/jobs/{self.id}/{name}" for name in names}
        if self.state == "uploading" and self.resumable:
            links["upload"] = f"/api/uploads/{self.id}"
        return links

    def to_json(self) -> dict[str, Any]:
        """Return what clients see; docs/web-api.md describes it."""
        result = None
        if self.result is not None:
            result = {key: value for key, value in self.result.items() if key != "file"}
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "options": self.options,
            "created": self.created,
            "finished": self.finished,
            "expires": self.expires,
            "upload": {"offset": self.offset, "length": self.length},
            "source": self.source,
            "target": self.target,
            "progress": self.progress,
            "result": result,
            "error": self.error,
            "note": self.note,
            "links": self.links(),
        }

    def remove_results(self) -> None:
        """Remove all files except for the source and the thumbnail."""
        keep = {self.input.name, _FILES["thumbnail"]}
        if self.folder.is_dir():
            for file in self.folder.iterdir():
                if file.name in keep:
                    continue
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file, ignore_errors=True)
                else:
                    file.unlink(missing_ok=True)


def new_id() -> str:
    """Return an identifier that nobody guesses."""
    return secrets.token_urlsafe(12)


def clean_name(name: str) -> str:
    """Return the last part of a file's name, without what would confuse a screen or a header."""
    base = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character for character in base if character.isprintable()).strip(". ")
    if len(printable) > _MAX_NAME_CHARACTERS:
        extension = known_extension(printable)
        printable = printable[: _MAX_NAME_CHARACTERS - len(extension)] + extension
    return printable or "file"


def known_extension(name: str) -> str:
    """Return the extension of a name in lower case if it is one of an image or a video; else ""."""
    extension = Path(name).suffix.lower()
    return extension if extension in (*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS) else ""


def media_type(extension: str) -> str:
    """Return the media type of a file that the server gives out."""
    return _MEDIA_TYPES.get(extension.lower(), "application/octet-stream")
