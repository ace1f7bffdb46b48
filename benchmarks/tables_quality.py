"""Tables of quality: PSNR of the packaged models, and the effect of each choice of the protocol."""

from collections.abc import Iterable
from itertools import chain
from statistics import mean
from typing import Any

from shared import load, markdown_table, provenance

from subpixel.models import catalog as packaged

SETS = ("Set5", "Set14", "BSD100")
SCALES = (2, 3, 4)
FRONT = ("best", "default", "default-compressed", "fast", "espcn-t91")
"""The families of models in README.md, besides bicubic."""

CONTENT = ("default", "default-compressed")
PUBLISHED_BICUBIC = {
    ("Set5", "x2"): ("33.66", "0.9299"),
    ("Set5", "x3"): ("30.39", "0.8682"),
    ("Set5", "x4"): ("28.42", "0.8104"),
    ("Set14", "x2"): ("30.23", "0.8687"),
    ("Set14", "x3"): ("27.54", "0.7736"),
    ("Set14", "x4"): ("26.00", "0.7019"),
    ("BSD100", "x2"): ("29.56", ""),
    ("BSD100", "x3"): ("27.21", ""),
    ("BSD100", "x4"): ("25.96", ""),
    ("BSD500", "x3"): ("27.26", ""),
    ("BSD500", "x4"): ("25.97", ""),
}
"""PSNR and SSIM: Set5 and Set14 from the SRCNN paper (2016), the others from `evaluation.published`."""

PITFALLS = (
    "LR by OpenCV's or PyTorch's bicubic: a = -0.75, no antialiasing",
    "LR by scikit-image's resize, order 3, anti_aliasing",
    "LR by box means (OpenCV's INTER_AREA)",
    "the same, keeping each cell's first pixel: a shift",
    "LR by Pillow's bicubic, or PyTorch's with antialias",
    "LR not rounded, as by SRCNN",
    "nothing rounded or clipped",
    "luma in 0..255 (OpenCV, Pillow, JPEG) instead of 16..235",
    "RGB instead of luma",
    "gray pictures through RGB to 16..235",
    "no border left out",
    "PSNR of the mean squared error of the set",
)
"""The deviations in docs/protocol.md; the research page has all."""

SHOWN_AS = {
    "the same, keeping each cell's first pixel: a shift": (
        "LR by Gaussian blur (sigma 1 px), keeping the first pixel of each block: a shift"
    ),
    "LR not rounded, as by SRCNN": "LR not rounded, as in the programs of SRCNN",
    "gray pictures through RGB to 16..235": "grayscale images through RGB to 16..235",
    "PSNR of the mean squared error of the set": "PSNR of the mean squared error of the test set",
}
"""Names in docs/protocol.md of deviations whose stored names only make sense among all the others."""


def front() -> str:
    """PSNR on Set14 in int8: a row per family."""
    stored, baseline = load("precision"), load("protocol_pitfalls")["baseline"]["Set14"]
    rows = [[f"`{family}`", *_cells(stored, family)] for family in FRONT]
    rows.append(["bicubic", *(f"{baseline[f'x{scale}']['psnr_db']:.2f}" for scale in SCALES)])
    return markdown_table(["model", *(f"x{scale}" for scale in SCALES)], rows)


def _cells(stored: dict[str, Any], family: str) -> list[str]:
    names = [f"{family}-x{scale}" for scale in SCALES]
    return [f"{stored[name]['int8']['Set14']:.2f}" if name in stored else "" for name in names]


def models() -> str:
    """PSNR in int8, in brackets in fp32, and time."""
    precision, costs = load("precision"), load("models-amx")["640x360"]
    rows = []
    for row in costs:
        int8, fp32 = (precision[row["model"]][kind] for kind in ("int8", "fp32"))
        quality = [f"{int8[dataset]:.2f} ({fp32[dataset]:.2f})" for dataset in SETS]
        rows.append([f"`{row['model']}`", *quality, f"{row['ms']:.2f}", f"{row['of_espcn']:.2f}"])
    table = markdown_table(["model", *SETS, "ms", "time relative to ESPCN"], rows)
    return f"{provenance('models-amx')}:\n\n{table}"


def deep_samples() -> str:
    """PSNR with float32 samples in int8, and the difference to fp32."""
    names, rows = ("Set5", "Set14"), []
    for model, of in load("deep_samples").items():
        cells = ((f"{of['int8'][key]:.2f}", f"{of['int8'][key] - of['fp32'][key]:+.3f}") for key in names)
        rows.append([f"`{model}`", *chain.from_iterable(cells)])
    head = chain.from_iterable((f"{name} (dB)", "int8 - fp32") for name in names)
    return markdown_table(["model", *head], rows)


def to_2160p() -> str:
    """Frames per second to 3840x2160."""
    rates = load("models-amx")["frames_per_second_to_3840x2160"]
    table = markdown_table(
        ["model", "frames per second"], [[f"`{name}`", str(rate)] for name, rate in rates.items()]
    )
    return f"{provenance('models-amx')}:\n\n{table}"


def cards() -> str:
    """The metadata in the file of each packaged model."""
    rows = []
    for name in packaged.names():
        model, path = packaged.find(name), packaged.path(name)
        psnr = [f"{model.metadata.psnr_db[key]:.2f}" if key in model.metadata.psnr_db else "" for key in SETS]
        kilobytes = f"{path.stat().st_size / 1000:.0f}" if path else ""
        macs = f"{model.spec.macs_per_lr_pixel:,}".replace(",", " ")
        rows.append([f"`{name}`", model.metadata.version, *psnr, macs, kilobytes])
    return markdown_table(["model", "version", *SETS, "multiply-adds per input pixel", "kB"], rows)


def compressed() -> str:
    """PSNR of ``default`` / ``default-compressed`` after JPEG and after H.264."""
    stored = load("content")
    first = stored["default-x2"]
    jpeg, h264 = ("clean", "90", "70", "50", "30"), ("clean", "18", "23", "28", "32")
    image_rows, clip_rows = [], []
    for scale in SCALES:
        one, other = (stored[f"{name}-x{scale}"]["jpeg"] for name in CONTENT)
        for called in SETS:
            cells = (f"{one[called][key]:.2f} / {other[called][key]:.2f}" for key in jpeg)
            image_rows.append((f"x{scale}, {called}", *cells))
        one, other = (stored[f"{name}-x{scale}"]["h264"] for name in CONTENT)
        cells = (f"{_mean(one, key):.2f} / {_mean(other, key):.2f}" for key in h264)
        clip_rows.append((f"x{scale}, mean of {len(first['h264'])} clips", *cells))
    image_head = ("images", "clean", "JPEG 90", "JPEG 70", "JPEG 50", "JPEG 30")
    clip_head = ("videos", "clean", "CRF 18", "CRF 23", "CRF 28", "CRF 32")
    return f"{markdown_table(image_head, image_rows)}\n\n{markdown_table(clip_head, clip_rows)}"


def by_quality(scale: int = 2) -> str:
    """PSNR after color JPEG, by quality, of the networks for clean and for compressed images."""
    stored = load("compression")
    names = ("default", "default-compressed", "best", "best-compressed")
    qualities = ("60", "75", "90", "95", "98", "100")
    rows = [
        (f"`{name}`", *(f"{stored[f'{name}-x{scale}']['jpeg'][quality]:.2f}" for quality in qualities))
        for name in names
    ]
    return markdown_table(("model", *(f"quality {quality}" for quality in qualities)), rows)


def sizes() -> str:
    """PSNR on Set14 at factors that no model has, or that need two."""
    stored = load("sizes")["psnr_db"]
    rows = [
        (label, *(f"{stored[factor][name]:.2f}" for factor in stored))
        for label, name in (("Lanczos (Pillow)", "lanczos"), ("`default`", "default"), ("`best`", "best"))
    ]
    return markdown_table(("PSNR on Set14 (dB)", *stored), rows)


def _mean(clips: dict[str, dict[str, float]], key: str) -> float:
    return sum(clip[key] for clip in clips.values()) / len(clips)


def baseline(*, ssim: bool = True) -> str:
    """Bicubic under the protocol and with unrounded LR, beside published numbers."""
    head = ["bicubic", "scale", "PSNR (dB)", "LR unrounded", "published"]
    head += ["SSIM", "LR unrounded", "published"] if ssim else []
    rows = []
    for name, scales in load("protocol_pitfalls")["baseline"].items():
        for scale, found in scales.items():
            psnr, similarity = PUBLISHED_BICUBIC.get((name, scale), ("", ""))
            row = [name, scale, f"{found['psnr_db']:.3f}", f"{found['lr_unrounded_psnr_db']:.3f}", psnr]
            row += [f"{found['ssim']:.4f}", f"{found['lr_unrounded_ssim']:.4f}", similarity] if ssim else []
            rows.append(row)
    return markdown_table(head, rows)


def pitfalls(scale: str = "x3", only: Iterable[str] | None = None) -> str:
    """What each deviation adds to PSNR; with all deviations also SSIM by several definitions."""
    columns = {
        f"{model}, {name}": found
        for model, sets in load("protocol_pitfalls")["pitfalls"][scale].items()
        for name, found in sets.items()
    }
    rows = [["**the protocol, PSNR (dB)**", *(f"**{found['psnr_db']:.3f}**" for found in columns.values())]]
    for key, style in (("psnr_change_db", "+.3f"), *([] if only else [("ssim", ".4f")])):
        for what in only or dict.fromkeys(what for found in columns.values() for what in found[key]):
            values = (found[key].get(what) for found in columns.values())
            rows.append(
                [
                    SHOWN_AS.get(what, what) if only else what,
                    *("" if value is None else format(value, style) for value in values),
                ]
            )
    return markdown_table(["", *columns], rows)


def memorization() -> str:
    """Gain of ``best`` over ``default`` on training images and on held-out images."""
    known = load("training_runs")[
        "mean luma PSNR on 60 pictures of BSDS500/train that are trained on, and on the 40 that are not"
    ]
    rows = []
    for row, best, default in (
        ("x2, version 3", "best-x2 (version 3)", "default-x2"),
        ("x2", "best-x2", "default-x2"),
        ("x3, version 3", "best-x3 (version 3)", "default-x3 (version 3)"),
        ("x3", "best-x3", "default-x3"),
        ("x4, version 3", "best-x4 (version 3)", "default-x4 (version 2)"),
        ("x4", "best-x4", "default-x4"),
    ):
        gains = (f"{ours - usual:.2f}" for ours, usual in zip(known[best], known[default], strict=True))
        rows.append([row, *gains])
    head = ["gain of `best` over `default`", "pictures trained on (dB)", "held out (dB)"]
    return markdown_table(head, rows)


def several_frames() -> str:
    """PSNR of `best` and the gain of `video`, by clip and scale."""
    scales = load("video-network")["scales"]
    rows = []
    for name in scales["3"]:
        cells = [name]
        for clips in scales.values():
            best, video = (mean(clips[name][key]) for key in ("best_db", "video_db"))
            cells.append(f"{best:.2f} {video - best:+.2f}")
        rows.append(cells)
    gains = [
        mean(mean(clip["video_db"]) - mean(clip["best_db"]) for clip in clips.values())
        for clips in scales.values()
    ]
    rows.append(["mean gain", *(f"{gain:+.2f}" for gain in gains)])
    return markdown_table(["clip", *(f"x{scale} (dB)" for scale in scales)], rows)


def breaks() -> str:
    """Gain of `video` over `best` where films break off, by event and scale: mean, and lowest of a clip."""
    scales = load("video-cuts")["scales"]
    rows = []
    for name in scales["3"]["events"]:
        cells = [name]
        for scale in scales.values():
            clips = scale["events"][name].values()
            gains = [clip["mean_db"] for clip in clips]
            cells.append(f"{mean(gains):+.2f} ({min(gains):+.2f})")
        clips = scales["3"]["events"][name].values()
        cells.append(f"{min(clip['after_db'] for clip in clips):+.3f}")
        left = [(clip["left_after"], clip["left_later"]) for clip in clips if "left_later" in clip]
        cells.append(" to ".join(f"{mean(values):.2f}" for values in zip(*left, strict=True)))
        rows.append(cells)
    cells = ["a still frame with noise, last 8 of 240 frames"]
    for scale in scales.values():
        gains = [clip["last_db"] for clip in scale["noisy still"].values()]
        cells.append(f"{mean(gains):+.2f} ({min(gains):+.2f})")
    rows.append([*cells, "", ""])
    heads = [*(f"x{scale} (dB)" for scale in scales), "frame after, x3 (dB)", "left, x3 (levels)"]
    return markdown_table(["event", *heads], rows)


def compressed_clips() -> str:
    """PSNR after H.264 of the networks for compressed video, by clip and scale, and the mean."""
    scales = {scale: dict(clips) for scale, clips in load("video-network")["compressed"].items()}
    for clips in scales.values():
        names = next(iter(clips.values()))
        clips["mean"] = {name: mean(values[name] for values in clips.values()) for name in names}
    rows = [
        [clip, *(" / ".join(f"{value:.2f}" for value in clips[clip].values()) for clips in scales.values())]
        for clip in next(iter(scales.values()))
    ]
    return markdown_table(["clip", *(f"x{scale} (dB)" for scale in scales)], rows)


def quarters() -> str:
    """Gain of `video-x4` (version 1) over `best` by what moves together, and clip."""
    gains = load("single_experiments")["video-x4 version 1, first 20 frames, gain over best in dB, by motion"]
    rows = [[name, *(f"{gain:+.3f}" for gain in clips.values())] for name, clips in gains.items()]
    clips = next(iter(gains.values()))
    return markdown_table(["motion of", *(f"{clip} (dB)" for clip in clips)], rows)


def bounds() -> str:
    """Gain of `video-x2` over `best`, early and late, by clip and by where results are bounded."""
    clips = load("single_experiments")[
        "video-x2 version 3, middle of 480x288, at most 240 frames, gain over best in dB, "
        "first 56 and last 20, by bound"
    ]
    rows = [
        [clip, *(f"{first:+.2f} {last:+.2f}" for first, last in by_bound.values())]
        for clip, by_bound in clips.items()
    ]
    return markdown_table(["clip", *(f"{name} (dB)" for name in next(iter(clips.values())))], rows)


def warm_up() -> str:
    """PSNR after a warm-up, minus that of an endless run, by clip at x3 and number of frames."""
    clips = load("video-network")["scales"]["3"]
    rows = [
        [name, *(f"{mean(values):+.3f}" for values in clip["warm_up_db"].values())]
        for name, clip in clips.items()
    ]
    counts = next(iter(clips.values()))["warm_up_db"]
    return markdown_table(["clip", *(f"{count} frames (dB)" for count in counts)], rows)
