"""Films and images in buckets, on a cluster; and two drivers that do the same film."""

import json
import subprocess
import sys

import pytest

import subpixel.cluster
from cluster_process import running_cluster
from subpixel import upscale_image


@pytest.fixture(scope="module")
def bucket_cluster(kernels, _s3_server, tmp_path_factory):
    """A cluster whose machines reach the server."""
    log = tmp_path_factory.mktemp("cluster") / "log"
    with running_cluster(log, **_s3_server.environment) as cluster:
        cluster.add()
        yield cluster


@pytest.mark.slow
def test_films_and_images_in_buckets_give_the_files_of_one_machine(
    bucket_cluster, s3, film, expected_film, photos, tmp_path
):
    bucket = s3.bucket()
    s3.put(f"s3://{bucket}/in/film.mkv", film.read_bytes())
    expected = {"out/film.mkv": expected_film}
    for photo in sorted(photos.iterdir())[:3]:
        s3.put(f"s3://{bucket}/in/{photo.name}", photo.read_bytes())
        upscale_image(photo, tmp_path / photo.name)
        expected[f"out/{photo.name}"] = (tmp_path / photo.name).read_bytes()
    given = set(s3.names(bucket))
    results = subpixel.cluster.upscale(
        f"s3://{bucket}/in", f"s3://{bucket}/out", address=bucket_cluster.address
    )
    assert [result.output for result in results] == [f"s3://{bucket}/{name}" for name in sorted(expected)]
    assert {name: s3.get(f"s3://{bucket}/{name}") for name in expected} == expected
    assert set(s3.names(bucket)) == given | expected.keys()  # and nothing is left of the jobs


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_two_drivers_on_one_film(bucket_cluster, s3, film, expected_film, tmp_path, place):
    """Each segment is done by one of them. The second to end says that the output exists, or has it too."""
    bucket = s3.bucket()
    where = f"s3://{bucket}/large" if place == "bucket" else str(tmp_path / "large")
    command = [sys.executable, "-m", "subpixel", "upscale", film, "-o", f"{where}/film.mkv", "--json"]
    command = [*map(str, command), "--cluster", bucket_cluster.address]
    drivers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = []
    for driver in drivers:
        shown, errors = driver.communicate(timeout=200)
        ends.append((driver.returncode, json.loads(shown), errors))
    assert 0 in [code for code, _, _ in ends]
    for code, result, errors in ends:
        if code:
            assert code == 1
            assert "film.mkv: exists already" in errors or "another process created it meanwhile" in errors
        else:
            assert result["missing_segments"] == 0
    if place == "bucket":
        assert s3.names(bucket) == ["large/film.mkv"]
        assert s3.get(f"{where}/film.mkv") == expected_film
    else:
        assert [path.name for path in (tmp_path / "large").iterdir()] == ["film.mkv"]
        assert (tmp_path / "large" / "film.mkv").read_bytes() == expected_film
