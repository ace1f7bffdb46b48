"""The page of `subpixel serve` in a browser: what users do with it."""

import re
from pathlib import Path
from typing import Any

WAIT_MS = 60_000


def drop(page: Any, *paths: Path) -> None:
    """Drop files from the desktop on the page."""
    session = page.context.new_cdp_session(page)
    box = page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **at})
    session.detach()


def choose(page: Any, *paths: Path) -> None:
    """Choose files in the dialog of the browser."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(list(paths))


def paste(page: Any, image: bytes) -> None:
    """Copy a PNG, and paste it."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (bytes) => {
            const blob = new Blob([new Uint8Array(bytes)], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        list(image),
    )
    page.keyboard.press("Control+v")


def row(page: Any, name: str) -> Any:
    """The row of a file; its name is text, or a pattern."""
    return page.locator("li.job").filter(has=page.get_by_role("heading", name=name, exact=True))


def reaches(page: Any, name: str, state: str) -> Any:
    """Wait until a file has a state, and return its row."""
    found = row(page, name)
    found.and_(page.locator(f"[data-state={state}]")).wait_for(timeout=WAIT_MS)
    return found


def press(row: Any, text: str) -> None:
    """Press a button of a row."""
    row.get_by_role("button", name=re.compile(f"^{text}: ")).click()


def download(page: Any, name: str) -> tuple[str, bytes]:
    """Download a result; return its name and its bytes."""
    with page.expect_download() as started:
        row(page, name).get_by_role("link", name=re.compile("^Download: ")).click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()
