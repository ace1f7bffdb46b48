"""Measure the page of `subpixel serve` in Chromium: for `docs/web.md`.

    python benchmarks/web_page.py [--runs 10]

Starts a server, drops images of 1 MP on the page one after the other, and opens each result in the viewer as
soon as the page says that it is ready. Measures the time from the drop until the row is ready, and until the
result is painted. The first image is not counted: it warms up. Writes
``benchmarks/results/web-page-KIND.json`` for this kind of processor. Needs Chromium and playwright.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from shared import host_kind, store

from web import photo, server

WIDTH, HEIGHT = 1280, 800

WATCH = """
(name) => { window.measured = new Promise((resolve) => {
  const times = {};
  const note = (key) => (times[key] ??= performance.now() - times.dropped);
  addEventListener("drop", () => (times.dropped ??= performance.now()), { capture: true, once: true });
  const painted = (call) => requestAnimationFrame(() => requestAnimationFrame(call));
  const look = () => {
    const row = [...document.querySelectorAll("li.job")].find((each) => each.innerText.startsWith(name));
    if (row) note("listed");
    if (row?.dataset.state === "running") note("running");
    if (row?.dataset.state !== "done") return;
    watcher.disconnect();
    note("ready");
    row.querySelector("button.thumbnail").click();
    const stage = document.querySelector("#stage");
    const wait = new MutationObserver(() => {
      if (!stage.querySelector("#pane-right img")) return;
      wait.disconnect();
      painted(() => {
        note("painted");
        document.querySelector("#viewer-close").click();
        resolve(times);
      });
    });
    wait.observe(stage, { subtree: true, childList: true });
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.querySelector("#jobs"), { subtree: true, childList: true, attributes: true });
}); }
"""


def drop(page: Any, path: Path) -> None:
    """Drop a file from the desktop on the page."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, "x": 500, "y": 150})
    session.detach()


def measure(page: Any, path: Path) -> dict[str, float]:
    """Drop an image; return the seconds until it is listed, until it is ready, and until it is painted."""
    page.evaluate(WATCH, path.name)
    drop(page, path)
    times = page.evaluate("window.measured")
    return {name: round(times[name] / 1000, 4) for name in ("listed", "ready", "painted")}


def repeat(page: Any, folder: Path, name: str, quality: int | None, runs: int) -> dict[str, Any]:
    """Drop images of a format; return minimum, median and maximum of each time."""
    measured = []
    for number in range(runs + 1):
        path = folder / f"{number}.{name}"
        path.write_bytes(photo(WIDTH, HEIGHT, quality))
        measured.append(measure(page, path))
    del measured[0]
    return {
        key: {
            "min": round(min(run[key] for run in measured), 3),
            "median": round(statistics.median(run[key] for run in measured), 3),
            "max": round(max(run[key] for run in measured), 3),
        }
        for key in measured[0]
    }


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    stored: dict[str, Any] = {"kind": host_kind(), "runs": options.runs, "load_before": 0.0}
    stored["load_before"] = round(os.getloadavg()[0], 1)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder, "data")) as (port, _),
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=program, args=arguments) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#version").get_by_text("Subpixel").wait_for()
        for name, quality in (("png", None), ("jpeg", 85)):
            stored[name] = repeat(page, Path(folder), name, quality, options.runs)
            print(name, stored[name], flush=True)
    store(f"web-page-{host_kind()}", stored)


if __name__ == "__main__":
    main()
