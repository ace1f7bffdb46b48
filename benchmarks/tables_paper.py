"""The methods of `docs/paper.md`, and its tables."""

from shared import load, markdown_table, provenance

from subpixel.evaluation.published import published
from subpixel.models import catalog as packaged

SETS = {"Set5": "Set5", "Set14": "Set14", "BSDS500/val": "BSD300", "BSDS500/test": "BSD500"}
"""Folders of test sets, and their names in the paper."""

KNOWN = {"Set5": "Set5", "Set14": "Set14", "BSD300": "BSD100", "BSD500": "BSD500"}
"""Names of the paper, and the names for them in `subpixel.evaluation.published`."""

METHODS = {
    3: {
        "bicubic": "Bicubic",
        "srcnn-915-t91-x3": "SRCNN 9-1-5 (91)",
        "espcn-relu-t91-x3": "ESPCN relu (91)",
        "espcn-t91-x3": "ESPCN tanh (91)",
        "srcnn-915-large-x3": "SRCNN 9-1-5 (ImageNet)",
        "espcn-relu-large-x3": "ESPCN relu (ImageNet)",
        "srcnn-955-large-x3": "SRCNN 9-5-5 (ImageNet)",
        "tnrd-large-x3": "TNRD 7x7 5-stage",
        "espcn-large-x3": "ESPCN tanh (ImageNet)",
        "fast-x3": None,
        "default-x3": None,
        "best-x3": None,
    },
    4: {
        "bicubic": "Bicubic",
        "espcn-t91-x4": None,
        "srcnn-955-large-x4": "SRCNN 9-5-5 (ImageNet)",
        "tnrd-large-x4": "TNRD 7x7 5-stage",
        "espcn-large-x4": "ESPCN tanh (ImageNet)",
        "fast-x4": None,
        "default-x4": None,
        "best-x4": None,
    },
}
"""Our networks, and the rows of Tables 1 and 2 of the paper that they are compared with, by scale."""


VIDEO_METHODS = (
    ("srcnn-955-large", "srcnn-915-t91"),
    ("espcn-large", "espcn-t91"),
    ("best", "default", "fast"),
)
"""Families for the tables of video, in groups; the first of each group that ships is measured."""


def available_methods(scale: int) -> list[str]:
    """The methods in `METHODS` that ship."""
    known = {"bicubic", *packaged.names(), *packaged.paper_names()}
    return [name for name in METHODS[scale] if name in known]


def video_methods(scale: int) -> list[str]:
    """The methods for video: one SRCNN, one ESPCN and one of ours, the best that ship."""
    chosen = []
    for candidates in VIDEO_METHODS:
        names = [name for name in available_methods(scale) if name.rpartition("-")[0] in candidates]
        chosen += sorted(names, key=lambda name: candidates.index(name.rpartition("-")[0]))[:1]
    return chosen


def at_scale(name: str, scale: int) -> str:
    """The name of an x3 method at another scale."""
    return name.replace("-x3", f"-x{scale}")


def quality_table(scale: int) -> str:
    """Our PSNR, and that of the paper in brackets."""
    stored = load("paper")
    names = list(SETS.values())
    rows = []
    for name, row in METHODS[scale].items():
        key = name if name != "bicubic" else f"bicubic-x{scale}"
        if key not in stored:
            continue
        cells = []
        for called in names:
            theirs = [one.psnr_db for one in published(KNOWN[called], scale) if one.method == row]
            ours = f"{stored[key]['psnr_db'][called]:.2f}"
            cells.append(f"{ours} ({theirs[0]:.2f})" if theirs else ours)
        rows.append((f"{row or 'ours alone'}: `{name}`", *cells))
    return markdown_table((f"x{scale}", *names), rows)


def video_table(scale: int) -> str:
    """PSNR on video: a column per method, a row per clip."""
    stored = load("paper-video")
    of_bicubic, names = stored[f"bicubic-x{scale}"], video_methods(scale)
    if missing := [name for name in names if name not in stored]:
        raise SystemExit(f"not measured on video: {', '.join(missing)}; run paper.py video first")
    columns = [of_bicubic, *(stored[name]["psnr_db"] for name in names)]
    rows = [[clip, *(f"{column[clip]:.2f}" for column in columns)] for clip in of_bicubic]
    means = [sum(column.values()) / len(column) for column in columns]
    rows.append(["**mean**", *(f"{value:.2f}" for value in means)])
    return markdown_table([f"x{scale}", "Bicubic", *(f"`{name}`" for name in names)], rows)


def evaluated_clips() -> str:
    """PSNR of `espcn-t91` on clips, as stored from `subpixel evaluate --json`."""
    stored = [load(f"video-psnr-x{scale}") for scale in (3, 4)]

    def cells(scores: dict[str, float]) -> list[str]:
        ours, bicubic = scores["psnr_db"], scores["bicubic_psnr_db"]
        return [f"{bicubic:.2f}", f"{ours:.2f}", f"{ours - bicubic:+.2f}"]

    rows = [
        [one["name"], str(one["frames"]), *cells(one), *cells(other)]
        for one, other in zip(*(report["clips"] for report in stored), strict=True)
    ]
    rows.append(["**mean**", "", *(cell for report in stored for cell in cells(report["mean"]))])
    head = ["clip", "frames"]
    for report in stored:
        head += [f"x{report['scale']} bicubic", f"`{report['model']}`", "gain"]
    return markdown_table(head, rows)


def time_table() -> str:
    """Times of all methods on our engines."""
    stored = load("paper-times")
    head = ("method", "engine", "Set14 x3, per image (ms)", "1920x1080 x3 (ms)", "1920x1080 x4 (ms)")
    rows, frames = [], stored["1920x1080"]
    for row in stored["Set14 x3"]:
        name = row["method"]
        at_3, at_4 = frames["x3"][name], frames["x4"][at_scale(name, 4)]
        rows.append(
            (f"`{name}`", row["engine"] or "NumPy", f"{row['milliseconds']:.1f}", str(at_3), str(at_4))
        )
    return f"{provenance('paper-times')}:\n\n{markdown_table(head, rows)}"


def torch_table(device: str) -> str:
    """Times with PyTorch from `torch_times.py`, in fp32, and in brackets in fp16 where measured."""
    stored = load(f"torch-{device}")
    fp32, fp16 = stored["milliseconds"]["fp32"], stored["milliseconds"].get("fp16", {})
    digits, columns, rows = 2 if fp16 else 1, list(fp32), []
    for name in fp32[columns[0]]:
        cells = []
        for column in columns:
            cells.append(f"{fp32[column][name]:.{digits}f}")
            if name in fp16.get(column, {}):
                cells[-1] += f" ({fp16[column][name]:.{digits}f})"
        rows.append((name, *cells))
    head = ("network", *(f"{column} (ms)" for column in columns))
    by = f"{provenance(f'torch-{device}')}, by PyTorch {stored['torch'].partition('+')[0]}"
    return f"{by}:\n\n{markdown_table(head, rows)}"
