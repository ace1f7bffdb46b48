"""Tables of speed: the engine beside other runtimes, its start, and complete video jobs."""

from statistics import median
from typing import Any

from shared import load, markdown_table, provenance

COLUMNS = {"engine-amx": "with AMX", "engine-vnni": "with AVX-512 VNNI"}
"""The instruction sets in the tables for users."""

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
    """Times of every runtime on ESPCN x3: a column per processor, and the versions below."""
    stored = {name: load(name)["beside"][1]["results"] for name in COLUMNS}
    names = {_called(row): row["median_ms"] for row in stored[next(iter(COLUMNS))]}
    rows = []
    for called in sorted(names, key=lambda called: names[called]):
        times = [next(row for row in stored[name] if _called(row) == called)["median_ms"] for name in COLUMNS]
        rows.append([called, *(f"{time:.1f}" for time in times)])
    where = ";\n".join(f"{column}: {provenance(name)}" for name, column in COLUMNS.items())
    table = markdown_table(["runtime", *(f"{column} (ms)" for column in COLUMNS.values())], rows)
    return f"{table}\n\n{where[0].upper()}{where[1:]}.\n{_versions(stored[next(iter(COLUMNS))])}"


def _called(row: dict[str, Any]) -> str:
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "opencv": "OpenCV", "torch": "PyTorch"}
    names["subpixel-native"] = "**Subpixel**"
    return f"{names.get(row['runner'], row['runner'])} {row['precision']}"


def _versions(rows: list[dict[str, Any]]) -> str:
    others = {
        _called(row).rpartition(" ")[0]: row["version"].partition("+")[0]
        for row in rows
        if not row["runner"].startswith("subpixel")
    }
    return ", ".join(f"{name} {version}" for name, version in others.items()) + "."


def beside(name: str) -> str:
    """Times of ESPCN by scale and runtime on one processor."""
    stored = load(name)["beside"]
    head = ["scale", *(f"{row['runner']} {row['precision']}" for row in stored[0]["results"])]
    rows = [[f"x{one['scale']}", *(f"{row['median_ms']:.1f}" for row in one["results"])] for one in stored]
    return f"{provenance(name)}, medians in ms:\n\n{markdown_table(head, rows)}"


def sizes(*names: str) -> str:
    """Times of ESPCN x3 by size, in both precisions."""
    rows = []
    for of_size in zip(*(load(name)["sizes"] for name in names), strict=True):
        width, height = map(int, of_size[0]["size"].split("x"))
        times = [row["median_ms"] for one in of_size for row in one["results"]]
        rows.append([f"{width}x{height}", f"{3 * width}x{3 * height}", *(f"{time:.1f}" for time in times)])
    kinds = [name.rpartition("-")[2].upper() for name in names]
    columns = [f"{kind} {precision} (ms)" for kind in kinds for precision in ("int8", "fp32")]
    return markdown_table(["input", "output", *columns], rows)


def threads(name: str) -> str:
    """Times of ESPCN x3 on one and on two threads."""
    rows = [
        [str(one["threads"]), *(f"{row['median_ms']:.1f}" for row in one["results"])]
        for one in load(name)["threads"]
    ]
    head = [f"{row['runner']} {row['precision']} (ms)" for row in load(name)["threads"][0]["results"]]
    return f"{provenance(name).partition(', 2 threads')[0]}:\n\n{markdown_table(['threads', *head], rows)}"


def native() -> str:
    """Times of the native engine, beside Halide, for each instruction set."""
    rows = [
        [
            target,
            f"`{name.removesuffix('-x3')}`",
            f"{one['median_ms']:.1f}",
            f"{one['share_of_peak']:.2f}",
            f"{one['halide_ratio']:.2f}",
        ]
        for target, models in load("native")["targets"].items()
        for name, one in models.items()
    ]
    head = ["target", "network", "time (ms)", "share of peak", "Halide's time / this time"]
    return f"{provenance('native')}:\n\n{markdown_table(head, rows)}"


def targets(name: str) -> str:
    """Times of the native engine for each instruction set."""
    stored = load(name)["targets"]
    rows = [
        [f"`{target}`", *(f"{of[name]['median_ms']:.1f} ({of[name]['share_of_peak']:.0%})" for name in of)]
        for target, of in stored.items()
    ]
    head = ["instruction set", *(f"`{name.removesuffix('-x3')}`" for name in next(iter(stored.values())))]
    return f"{provenance(name)}, ms (share of the peak):\n\n{markdown_table(head, rows)}"


def starts(*names: str) -> str:
    """Seconds of the first run of the command, and of later runs."""
    kinds = {
        "first": "first run of the command",
        "afterwards": "later runs",
        "compile": "of that: to compile the network",
        "load": "to load a compiled network",
    }
    stored = [load(name)["median_seconds"] for name in names]
    rows = [[text, *(f"{of[key]:.2f}" if key in of else "" for of in stored)] for key, text in kinds.items()]
    heads = [f"{load(name)['kind'].upper()} (s)" for name in names]
    return markdown_table(["median", *heads], rows)


def web() -> str:
    """Latency, throughput, overload and memory of the server."""
    stored = load("web-vnni")
    busy, overload, upload = stored["busy"], stored["overload"], stored["upload"]
    refused = overload["answers"].get("503", 0) + overload["answers"].get("429", 0)
    accepted = overload["answers"]["200"]
    memory = stored["many_jobs"]["memory_mib"]
    rows = [
        [
            "image of 1 MP, from the upload to the first byte of the result",
            f"{_s(stored['job_seconds']['median'])}",
        ],
        ["`POST /upscale` x2 of 256x256, 8 clients", f"{busy['per_second']:.0f} a second"],
        [
            f"ten times as many calls, for {overload['seconds']:.0f} s",
            f"{accepted} answered, {refused} refused after {_s(overload['refused_median_seconds'])} "
            f"(99%: {_s(overload['refused_p99_seconds'])})",
        ],
        [
            "`GET /health` meanwhile",
            f"{_s(overload['health_median_seconds'])}, at most {_s(overload['health_max_seconds'])}",
        ],
        [
            f"memory of all processes over {stored['many_jobs']['jobs']} jobs",
            f"{memory[0]:.0f} MiB after the first tenth, {memory[-1]:.0f} MiB at the end",
        ],
        [
            f"memory of the server while it receives {upload['gigabytes']:g} GB, cut in the middle",
            f"at most {upload['peak_memory_mib']:.0f} MiB",
        ],
    ]
    note = f"{provenance('web-vnni')}; load average before the start: {stored['load_before']}."
    return f"{markdown_table(['measured', 'result'], rows)}\n\n{note}"


def web_page() -> str:
    """From the drop on the page to the result on the screen."""
    stored = load("web-page-vnni")
    rows = [
        [name.upper()]
        + [
            f"{_s(stored[name][key]['min'])} / {_s(stored[name][key]['median'])}"
            for key in ("ready", "painted")
        ]
        for name in ("png", "jpeg")
    ]
    table = markdown_table(["image of 1 MP", "result is ready", "result is on the screen"], rows)
    note = f"The fastest / the median of {stored['runs']}, in Chromium; {provenance('web-page-vnni')}; "
    return f"{table}\n\n{note}load average before the start: {stored['load_before']}."


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def thread_pool() -> str:
    """Times before and after worker threads in compiled code."""
    stored = load("single_experiments")["int8 with AMX, ms: before a change, and after it"]
    of = next(value for key, value in stored.items() if "best-x3" in value and "64x48" in value["best-x3"])
    columns = list(of["best-x3"])
    rows = [
        [f"`{name}`", *(f"{times[size][0]:.2f} / {times[size][1]:.2f}" for size in columns)]
        for name, times in of.items()
    ]
    return markdown_table(["model", *columns], rows)


def models_vnni() -> str:
    """Times on vectors of the models of 2026-11-25."""
    rows = [
        [f"`{row['model']}`", f"{row['ms']:.2f}", f"{row['of_espcn']:.2f}"]
        for row in load("earlier/models-vnni")["640x360"]
    ]
    table = markdown_table(["model", "ms", "time relative to ESPCN"], rows)
    return f"{provenance('earlier/models-vnni')}:\n\n{table}"


def video(name: str) -> str:
    """Times of complete video jobs."""
    stored = load(name)
    rows = []
    for job, text in JOBS.items():
        if job in stored["jobs"]:
            row = stored["jobs"][job]
            cells = [f"{row['seconds']:.2f}", str(row["frames_per_second"]), str(row["peak_memory_mb"])]
            rows.append([text, *cells])
    table = markdown_table(["job", "seconds", "frames per second", "memory (MB)"], rows)
    text = f"{provenance(name)}, {stored['frames']} frames:\n\n{table}"
    if "ratios" in stored:
        names = {"default": "`default-compressed`", "subpixel": "ESPCN"}
        ratios = [f"{stored['ratios'][job]:.2f} by {model}" for job, model in names.items()]
        text += f"\n\nIn times of FFmpeg's bicubic job, to H.264: {', '.join(ratios)}."
    return text


def stills() -> str:
    """CPU times of a large photograph by stage."""
    stages = {"decode": "JPEG", "network": "network", "color": "color", "compress": "PNG", "total": "all"}
    rows = []
    for result in load("stills")["results"]:
        for kind, called in (("code", ""), ("numpy", ", color by NumPy")):
            seconds = result["seconds"][kind]
            rows.append([f"x{result['scale']:g}{called}", *(f"{seconds[stage]:.2f}" for stage in stages)])
    table = markdown_table(["factor", *(f"{called} (s)" for called in stages.values())], rows)
    return f"{provenance('stills')}, CPU time of all threads together:\n\n{table}"


def unchanged() -> str:
    """What it saves to copy the unchanged parts of videos."""
    stored = load("unchanged")
    rows = []
    for clip, row in stored["clips"].items():
        job = f"{row['job_time_ratio']:.2f}" if "job_time_ratio" in row else "-"
        size = f"{row['width']}x{row['height']}"
        rows.append([clip, size, f"{row['copied_share']:.0%}", f"{row['time_ratio']:.2f}", job])
    table = markdown_table(["video", "size", "copied", "time of frames", "time of the job"], rows)
    return f"{provenance('unchanged')}, {stored['target']}:\n\n{table}"


def workers() -> str:
    """CPU times of a film, by the engine's workers."""
    rows = [
        [kind, f"{median(seconds):.2f}", ", ".join(f"{each:.2f}" for each in seconds)]
        for kind, seconds in _experiment("workers of the engine").items()
    ]
    return markdown_table(["workers", "median (s)", "all (s)"], rows)


def film_parts() -> str:
    """The parts of a film job."""
    rows = [
        [part, f"{share:.0%}", f"{alone_ms:.1f}" if alone_ms else ""]
        for part, (share, alone_ms) in _experiment("a film by default-compressed x3").items()
    ]
    return markdown_table(["part", "share of CPU time", "alone, ms a frame"], rows)


def _experiment(start: str) -> dict[str, Any]:
    """The single experiment whose name begins with some words."""
    stored = load("single_experiments")
    found: dict[str, Any] = next(stored[name] for name in stored if name.startswith(start))
    return found
