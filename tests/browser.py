"""A headless Chromium for tests of pages. They are skipped where it, or playwright, is missing."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_ARGUMENTS = (
    "--no-sandbox",  # which root in a container cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",  # screenshots have the samples of the image
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Playwright's browser; SUBPIXEL_CHROMIUM names another program.

    One for each test file, not for all: as long as it is open, playwright's event loop counts as running in
    this thread, and `asyncio.run` fails in every test.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("SUBPIXEL_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_ARGUMENTS), timeout=300_000)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address and returns playwright's page; options are those of its context.

    After the test no page may have asked for anything but its own address (of a server: its own origin), and
    none may have written an error to the console, but for those with one of the texts in
    ``page.expected_faults``: an error may arrive at any time until the page is closed.
    """
    contexts, faults, expected = [], [], []

    def open_one(url: str, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 700}, **options})
        contexts.append(context)

        def check(route: Any) -> None:
            wanted = route.request.url
            parts, own = urlsplit(wanted), urlsplit(url)
            same = parts.scheme == own.scheme and parts.netloc == own.netloc
            if wanted == url or (same and own.scheme != "file") or parts.scheme in ("blob", "data"):
                route.continue_()
            else:
                faults.append(f"request of {wanted}")
                route.abort()

        context.route("**/*", check)
        context.on("weberror", lambda error: faults.append(f"error: {error.error}"))
        context.on(
            "console",
            lambda message: faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        context.set_default_timeout(60_000)  # a busy machine is not a fault
        page = context.new_page()
        page.expected_faults = expected
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not any(text in fault for text in expected)] == []
