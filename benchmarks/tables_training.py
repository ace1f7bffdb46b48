"""Tables of training: what choices in a config and forms of the network gain and cost."""

from typing import Any

from shared import load, markdown_table, provenance


def own_images() -> str:
    """PSNR after five minutes of training on similar images."""
    stored = load("own_images")
    rows = [[name, *(f"{psnr:.2f}" for psnr in of.values())] for name, of in stored["psnr_db"].items()]
    head = ["upscaled with", *(f"{precision} (dB)" for precision in next(iter(stored["psnr_db"].values())))]
    caption = f"{provenance('own_images')}; training took {stored['seconds']:.0f} seconds of CPU time"
    return f"{caption}:\n\n{markdown_table(head, rows)}"


def sweep() -> str:
    """Multiply-adds, time and PSNR of networks of several shapes."""
    rows = [
        (name, str(row["macs_per_lr_pixel"]), f"{row['ms']:.2f}", f"{row['psnr_db']:.2f}")
        for name, row in sorted(load("sweep")["shapes"].items(), key=lambda pair: float(pair[1]["ms"]))
    ]
    table = markdown_table(("shape", "multiply-adds", "ms", "PSNR (dB)"), rows)
    return f"{provenance('sweep')}:\n\n{table}"


def losses() -> str:
    """PSNR by what is minimized in training."""
    rows = [
        [name, f"{row['held_out_db']:.2f}", f"{row['photographs_db']:.2f}"]
        for name, row in load("losses")["runs"].items()
    ]
    return markdown_table(["trained for", "40 pictures (dB)", "5 photographs (dB)"], rows)


def stack_choices() -> str:
    """PSNR of a stack by what is changed in its config."""
    rows = [[name, f"{psnr:.2f}"] for name, psnr in load("stack_runs")["recipe"].items()]
    return markdown_table(["changed", "PSNR (dB)"], rows)


def fake_quantization() -> str:
    """PSNR in fp32 and int8 by the fake quantization in training."""
    rows = [
        [row["network"], row["training"], f"{row['fp32']:.2f}", f"{row['int8']:.2f}"]
        for row in load("stack_runs")["rounding"]
    ]
    return markdown_table(["network", "training", "fp32", "int8"], rows)


def block_motion() -> str:
    """What motion leaves of the blocks of the validation clips, and how many blocks it explains."""
    clips = load("earlier/block-motion")["clips"]
    rows = []
    for encoder in next(iter(clips.values())):
        for source in clips[next(iter(clips))][encoder]:
            of_clips = [clip[encoder][source] for clip in clips.values()]
            left, opened = (sum(one[key] for one in of_clips) / len(of_clips) for key in ("left", "open"))
            rows.append([f"{source}, x264 {encoder}", f"{left:.2f}", f"{opened:.0%}"])
    return markdown_table(["motion from", "left (8-bit levels)", "blocks explained"], rows)


def several_frames() -> str:
    """Networks over several frames beside packaged models, on the validation clips."""
    stored = load("frames")
    rows = [
        [
            f"`{name}`",
            str(row["macs_per_lr_pixel"]),
            f"{row['psnr_db']:.2f}",
            f"{row['ssim']:.4f}",
            f"{1000 * row['warping_error']:.3f}",
            f"{row['tof_px']:.3f}",
        ]
        for name, row in stored["rows"].items()
    ]
    head = ["network", "multiply-adds", "PSNR (dB)", "SSIM", "warping error x1000", "tOF (px)"]
    return markdown_table(head, rows)


def espcn_choices() -> str:
    """PSNR of ESPCN by what is changed in its config."""
    rows = [
        [name, f"{row['start_psnr_db']:.2f}", f"{row['psnr_db']:.2f}"]
        for name, row in load("training-choices")["results"].items()
    ]
    return markdown_table(["changed", "PSNR at the start (dB)", "after the run (dB)"], rows)


def gpu_step() -> str:
    """Milliseconds per training step on a GPU."""
    rows = [
        [
            one["network"],
            str(one["batch"]),
            f"{one['replayed_ms']:.1f}",
            f"{one['compiled_ms']:.1f}" if "compiled_ms" in one else "",
        ]
        for one in load("training-gpu")["alone"]
    ]
    return markdown_table(["network", "batch", "replayed", "compiled and replayed"], rows)


def step() -> str:
    """Milliseconds per training step on a CPU, by the form of the network."""
    paper: dict[int, tuple[str, str]] = {2: ("2", "4"), 3: ("3.17", "9"), 4: ("4", "16")}
    rows = []
    for row in load("training-step")["rows"]:
        cells = [
            f"{row['sub-pixel ms']} ms",
            f"{row['transposed ms']} ms, x{row['transposed / sub-pixel']}",
            f"{row['behind bicubic ms']} ms, x{row['behind bicubic / sub-pixel']}",
        ]
        rows.append([str(row["scale"]), *cells, *paper[row["scale"]]])
    head = ["r", "sub-pixel", "transposed", "behind bicubic", "the paper's log2(r^2)", "its r^2"]
    return f"{provenance('training-step')}:\n\n{markdown_table(head, rows)}"


def time_to_psnr() -> str:
    """Seconds, and steps in parentheses, until each target PSNR."""
    stored: dict[str, Any] = load("training-to-psnr")
    targets, rows = stored["targets_db"], []
    for name, form in stored["forms"].items():
        cells = [f"{one['seconds']} s ({one['steps']})" for one in form["reached"]]
        cells += ["not reached"] * (len(targets) - len(cells))
        rows.append((name, f"{form['start_db']:.2f}", *cells))
    head = ("form", "start (dB)", *(f"{target} dB" for target in targets))
    return f"{provenance('training-to-psnr')}:\n\n{markdown_table(head, rows)}"
