"""Videos as jobs: previews, progress, cancelling, and a server that is killed in mid-work."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from video_files import make_frames, write
from web_server import Server, command, running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write(path, make_frames(75, 96, 64), sound="aac")
    return path


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes some seconds."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    write(path, make_frames(900, 160, 96))
    return path


def size_and_frames(data: bytes, tmp_path: Path) -> tuple[str, int, int, int]:
    path = tmp_path / "video"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        return stream.codec_context.name, stream.width, stream.height, frames


def test_video_as_the_command_makes_it(server: Server, clip: Path, tmp_path: Path) -> None:
    job = server.wait(server.submit(clip, scale=2)["id"])
    assert (job["state"], job["kind"]) == ("done", "video"), job["error"]
    assert job["source"]["frames"] == 75 and job["source"]["seconds"] == pytest.approx(3)
    assert job["target"] == {"width": 192, "height": 128}
    assert job["result"]["frames"] == 75 and job["result"]["name"] == "clip-x2.mp4"
    assert server.result(job["id"]) == command(clip, tmp_path / "large.mp4", "-s", "2")
    previews = [server.request("GET", job["links"][f"preview_{each}"]) for each in ("original", "result")]
    assert [answer.headers["Content-Type"] for answer in previews] == ["video/mp4"] * 2
    assert size_and_frames(previews[0].body, tmp_path) == ("h264", 96, 64, 50)
    assert size_and_frames(previews[1].body, tmp_path) == ("h264", 192, 128, 50)
    assert server.request("GET", job["links"]["thumbnail"]).headers["Content-Type"] == "image/webp"


def test_options_of_videos(server: Server, clip: Path, tmp_path: Path) -> None:
    video = {"container": "mov", "codec": "libx265", "crf": 30, "end": 1}
    job = server.wait(server.submit(clip, height=90, video=video, image={"format": "webp"})["id"])
    assert job["state"] == "done", job["error"]
    assert job["result"]["name"] == "clip-136x90.mov"
    expected = command(
        clip, tmp_path / "large.mov", "--height", "90", "--codec", "libx265", "--crf", "30", "--end", "1"
    )
    assert server.result(job["id"]) == expected


def test_preview_is_ready_before_the_whole(server: Server, long_clip: Path) -> None:
    id = server.submit(long_clip)["id"]
    seen = []
    end = time.monotonic() + 300
    while (job := server.job(id))["state"] not in ("done", "failed"):
        assert time.monotonic() < end
        seen.append(job)
        time.sleep(0.05)
    running_whole = [each["progress"] for each in seen if (each["progress"] or {}).get("stage") == "upscale"]
    assert running_whole and all(
        "preview_result" in each["links"] for each in seen if each["progress"] in running_whole
    )
    assert any(each["seconds_left"] is not None and each["frames_per_second"] > 0 for each in running_whole)


def test_remove_while_a_retry_waits(server: Server, long_clip: Path) -> None:
    id = server.submit(long_clip, scale=2)["id"]
    server.wait(id, "running")
    assert server.request("POST", f"/api/jobs/{id}/cancel").status == 200
    with ThreadPoolExecutor() as pool:
        retry = pool.submit(server.request, "POST", f"/api/jobs/{id}/retry")
        time.sleep(0.02)
        assert server.request("DELETE", f"/api/jobs/{id}").status == 204
        assert retry.result().status in (200, 404)
    assert server.request("GET", f"/api/jobs/{id}").status == 404


def test_cancel(server: Server, long_clip: Path, photo: Path) -> None:
    id = server.submit(long_clip)["id"]
    end = time.monotonic() + 300
    while (server.job(id)["progress"] or {}).get("stage") != "upscale":
        assert time.monotonic() < end
        time.sleep(0.02)
    answer = server.request("POST", f"/api/jobs/{id}/cancel")
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")
    assert server.request("POST", f"/api/jobs/{id}/cancel").status == 409
    folder = server.data / "jobs" / id
    end = time.monotonic() + 300
    while [path for path in folder.iterdir() if path.name not in ("input.mp4", "thumbnail.webp")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.wait(server.submit(photo)["id"])["state"] == "done"
    assert server.job(id)["state"] == "cancelled"
    server.request("POST", f"/api/jobs/{id}/retry", {"options": {"video": {"end": 0.5}}})
    job = server.wait(id)
    assert job["state"] == "done" and "preview_result" in job["links"]


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_killed_server_goes_on_to_the_same_bytes(
    sent: signal.Signals, long_clip: Path, photo: Path, tmp_path: Path
) -> None:
    with running(tmp_path / "data") as server:
        id = server.submit(long_clip, scale=2)["id"]
        waiting = server.submit(long_clip, scale=2)["id"]
        end = time.monotonic() + 300
        while (server.job(id)["progress"] or {"frames": 0})["frames"] < 300:
            assert time.monotonic() < end
            time.sleep(0.02)
        server.stop(sent)
        server.start()
        assert server.job(id)["state"] in ("waiting", "running")
        assert server.job(waiting)["state"] in ("waiting", "running")
        server.request("DELETE", f"/api/jobs/{waiting}")
        first = None
        while (job := server.job(id))["state"] != "done":
            assert job["state"] in ("waiting", "running"), job["error"]
            if first is None and job["progress"] and job["progress"]["stage"] == "upscale":
                first = job["progress"]["frames"]
            time.sleep(0.02)
        assert first is None or first >= 250  # frames of finished segments are not upscaled again
        result = server.result(id)
    assert result == command(long_clip, tmp_path / "large.mp4", "-s", "2")


def test_killed_child(server: Server, long_clip: Path) -> None:
    """A child process that dies is a failure with its reason, and the next job works."""
    id = server.submit(long_clip)["id"]
    end = time.monotonic() + 300
    while (server.job(id)["progress"] or {}).get("stage") != "upscale":
        assert time.monotonic() < end
        time.sleep(0.02)
    for worker in server.workers("videos"):
        os.kill(worker, signal.SIGKILL)
    job = server.wait(id)
    assert job["state"] == "failed" and "killed" in job["error"]
    server.request("POST", f"/api/jobs/{id}/retry")
    assert server.wait(id)["state"] == "done"


def test_playlists_read_no_other_files(server: Server, clip: Path, tmp_path: Path) -> None:
    """FFmpeg follows the names in a playlist; an upload must not."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile:{clip}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{clip.name}'\n"
    for name, text in (("a.m3u8", hls), ("a.mp4", hls), ("a.ffconcat", concat), ("a.mkv", concat)):
        job = server.wait(server.submit(text.encode(), name)["id"])
        assert job["state"] == "failed" and job["error"].startswith(f"{name}: "), job


def test_rotated_video(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write(path, make_frames(10, 96, 64), rotation=90)
    job = server.wait(server.submit(path, width=128)["id"])
    assert job["state"] == "done", job["error"]
    assert (job["source"]["width"], job["source"]["height"]) == (64, 96)
    preview = server.request("GET", job["links"]["preview_original"]).body
    assert size_and_frames(preview, tmp_path)[1:] == (96, 64, 10)
    assert size_and_frames(server.result(job["id"]), tmp_path)[1:] == (192, 128, 10)
    assert server.result(job["id"]) == command(path, tmp_path / "large.mp4", "--width", "128")


def test_limits_of_videos(clip: Path, tmp_path: Path) -> None:
    with running(tmp_path, "--max-frames", "50") as server:
        job = server.wait(server.submit(clip)["id"])
        assert job["state"] == "failed" and "--max-frames" in job["error"]
        assert str(tmp_path) not in job["error"]


def test_preview_of_deep_video(server: Server, tmp_path: Path) -> None:
    """Browsers play no H.264 of 10 bits, nor 4:4:4."""
    path = tmp_path / "deep.mkv"
    write(path, make_frames(5, 64, 48, "yuv444p10le"), codec="ffv1")
    job = server.wait(server.submit(path, video={"container": "mp4"})["id"])
    assert job["state"] == "done", job["error"]
    preview = server.request("GET", job["links"]["preview_result"])
    assert preview.headers["Content-Type"] == "video/mp4"
    assert size_and_frames(preview.body, tmp_path) == ("libdav1d", 128, 96, 5)
