"""Tables of speed: the engine beside other runtimes, its start, and whole video jobs."""

from typing import Any

from shared import load, markdown_table, provenance

COLUMNS = {"engine-amx": "with AMX", "engine-vnni": "with AVX-512 VNNI"}
"""The processors of the tables for users."""

JOBS = {
    "subpixel": "Subpixel, ESPCN, to H.264",
    "default": "Subpixel, `default-compressed`, to H.264",
    "ffmpeg bicubic": "FFmpeg, bicubic, to H.264",
    "subpixel to y4m": "Subpixel, ESPCN, uncompressed",
    "default to y4m": "Subpixel, `default-compressed`, uncompressed",
    "one layer": "Subpixel, a network of one layer, to H.264",
    "one layer to y4m": "Subpixel, a network of one layer, uncompressed",
}


def runtimes() -> str:
    """Every runtime on ESPCN x3, a column for each processor; versions stand below."""
    stored = {name: load(name)["beside"][1]["results"] for name in COLUMNS}
    names = {_called(row): row["median_ms"] for row in stored["engine-amx"]}
    rows = []
    for called in sorted(names, key=lambda called: names[called]):
        times = [next(row for row in stored[name] if _called(row) == called)["median_ms"] for name in COLUMNS]
        rows.append([called, *(f"{time:.1f}" for time in times)])
    where = ";\n".join(f"{column}: {provenance(name)}" for name, column in COLUMNS.items())
    table = markdown_table(["runtime", *(f"{column} (ms)" for column in COLUMNS.values())], rows)
    return f"{table}\n\n{where[0].upper()}{where[1:]}.\n{_versions(stored['engine-amx'])}"


def _called(row: dict[str, Any]) -> str:
    runner = {"subpixel-halide": "**Subpixel**", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    others = {"opencv": "OpenCV", "torch": "PyTorch"}
    return f"{(runner | others).get(row['runner'], row['runner'])} {row['precision']}"


def _versions(rows: list[dict[str, Any]]) -> str:
    others = {
        _called(row).rpartition(" ")[0]: row["version"].partition("+")[0]
        for row in rows
        if not row["runner"].startswith("subpixel")
    }
    return ", ".join(f"{name} {version}" for name, version in others.items()) + "."


def beside(name: str) -> str:
    """All scales and runtimes on one processor."""
    stored = load(name)["beside"]
    head = ["scale", *(f"{row['runner']} {row['precision']}" for row in stored[0]["results"])]
    rows = [[f"x{one['scale']}", *(f"{row['median_ms']:.1f}" for row in one["results"])] for one in stored]
    return f"{provenance(name)}, medians in ms:\n\n{markdown_table(head, rows)}"


def sizes(*names: str) -> str:
    """ESPCN x3 by size, in both precisions."""
    rows = []
    for of_size in zip(*(load(name)["sizes"] for name in names), strict=True):
        width, height = map(int, of_size[0]["size"].split("x"))
        times = [row["median_ms"] for one in of_size for row in one["results"]]
        rows.append([f"{width}x{height}", f"{3 * width}x{3 * height}", *(f"{time:.1f}" for time in times)])
    kinds = [name.rpartition("-")[2].upper() for name in names]
    columns = [f"{kind} {precision} (ms)" for kind in kinds for precision in ("int8", "fp32")]
    return markdown_table(["input", "output", *columns], rows)


def threads(name: str) -> str:
    """ESPCN x3 on one and two threads."""
    rows = [
        [str(one["threads"]), *(f"{row['median_ms']:.1f}" for row in one["results"])]
        for one in load(name)["threads"]
    ]
    head = [f"{row['runner']} {row['precision']} (ms)" for row in load(name)["threads"][0]["results"]]
    return f"{provenance(name).partition(', 2 threads')[0]}:\n\n{markdown_table(['threads', *head], rows)}"


def starts(*names: str) -> str:
    """Seconds that the first run of the command takes, and later ones."""
    kinds = {
        "first": "first run of the command",
        "afterwards": "later runs",
        "compile": "of that: to compile ESPCN",
        "compile default": "to compile `default`",
        "load": "to load a compiled network",
    }
    stored = [load(name)["median_seconds"] for name in names]
    rows = [[text, *(f"{of[key]:.2f}" if key in of else "" for of in stored)] for key, text in kinds.items()]
    heads = [f"{load(name)['kind'].upper()} (s)" for name in names]
    return markdown_table(["median", *heads], rows)


def crew() -> str:
    """What helpers in compiled code changed."""
    stored = load("single_experiments")["int8 with AMX, ms: before a change, and after it"]
    of = next(value for key, value in stored.items() if "best-x3" in value and "64x48" in value["best-x3"])
    columns = list(of["best-x3"])
    rows = [
        [f"`{name}`", *(f"{times[size][0]:.2f} / {times[size][1]:.2f}" for size in columns)]
        for name, times in of.items()
    ]
    return markdown_table(["model", *columns], rows)


def models_vnni() -> str:
    """Times of the models of 2026-11-25 on vectors."""
    rows = [
        [f"`{row['model']}`", f"{row['ms']:.2f}", f"{row['of_espcn']:.2f}"]
        for row in load("earlier/models-vnni")["640x360"]
    ]
    table = markdown_table(["model", "ms", "time relative to ESPCN"], rows)
    return f"{provenance('earlier/models-vnni')}:\n\n{table}"


def video(name: str) -> str:
    """Whole video jobs."""
    stored = load(name)
    rows = []
    for job, text in JOBS.items():
        if job in stored["jobs"]:
            row = stored["jobs"][job]
            cells = [f"{row['seconds']:.2f}", str(row["frames_per_second"]), str(row["peak_memory_mb"])]
            rows.append([text, *cells])
    table = markdown_table(["job", "seconds", "frames per second", "memory (MB)"], rows)
    return f"{provenance(name)}, {stored['frames']} frames:\n\n{table}"
