"""A disk that gets full while jobs run."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from subpixel.web.service import Service
from subpixel.web.settings import Settings
from video_files import make_frames, write
from web_server import command


@pytest.mark.slow
def test_jobs_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that runs is interrupted, says why, and goes on to the same bytes when there is space again."""
    clip = tmp_path / "clip.mp4"
    write(clip, make_frames(1500, 192, 128))
    service = Service(Settings(data=tmp_path / "data", image_workers=1))
    free = [10**9]
    monkeypatch.setattr(service.disk, "free_bytes", lambda: free[0])

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(300):
            while not condition():
                await asyncio.sleep(0.02)

    async def run() -> None:
        await service.start()
        try:
            job = service.create("clip.mp4", clip.stat().st_size, {"scale": 2}, str(clip))
            service.submit(job)
            await until(lambda: job.progress is not None and job.progress["frames"] > 100)
            free[0] = -(10**9)
            await until(lambda: job.state == "waiting" and job.note)
            assert "GB are free" in (job.note or "")
            free[0] = 10**9
            await until(lambda: job.is_finished)
            assert job.state == "done", job.error
            assert job.output is not None
            assert job.output.read_bytes() == command(clip, tmp_path / "large.mp4", "-s", "2")
        finally:
            await service.stop()

    asyncio.run(run())
