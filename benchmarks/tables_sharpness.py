"""Tables of docs/sharpness.md: what sharpness and grain do to quality and noise, and what they cost."""

from shared import load, markdown_table, provenance

SETS = ("Set14", "BSD100", "clips")
NOISE = ("source", "grain 0", "grain 0.5", "grain 1")


def sharpness() -> str:
    """PSNR, VMAF and VMAF-NEG by sharpness."""
    rows = []
    for row in load("sharpness")["rows"]:
        scores = (row[name] for name in SETS)
        cells = [f"{each['psnr_db']:.2f} / {each['vmaf']:.1f} / {each['vmaf_neg']:.1f}" for each in scores]
        rows.append([f"`{row['model']}`, {row['sharpness']:g}", *cells])
    return markdown_table(["model, sharpness", "Set14", "BSD100", "video clips"], rows)


def grain() -> str:
    """The noise of sources and of results, with its coarse part."""
    rows = []
    for row in load("grain")["rows"]:
        h264 = f", H.264 at CRF {row['crf']}" if row["crf"] else ""
        cells = [f"{row[key]:.2f} ({row[f'{key} coarse']:.2f})" for key in NOISE]
        rows.append([f"`{row['model']}`, {row['noise']}, {row['sigma']}{h264}", *cells])
    return markdown_table(["model, noise", "source", "without", "`--grain 0.5`", "`--grain keep`"], rows)


def cost() -> str:
    """CPU time without and with sharpness, and of grain."""
    stored = load("sharpness-cost")["rows"]
    seconds = {(row.get("model"), row.get("sharpness")): row.get("seconds") for row in stored}
    rows = []
    for model, shown in (
        ("default-x3", "640x360 frame x3, `default`"),
        ("best-x3", "640x360 frame x3, `best`"),
        ("default-x2", "photograph of 24 megapixels x2, `default`"),
    ):
        plain, sharp = (seconds[model, each] * 1000 for each in (0, 0.5))
        rows.append([f"sharpness, {shown}", f"{plain:.0f} ms", f"{sharp - plain:.0f} ms"])
    of_grain = next(row for row in stored if row["what"] == "grain")
    added = (of_grain["estimate_seconds"] + of_grain["add_seconds"]) * 1000
    rows.append(["grain, 640x360 frame x3", "", f"{added:.0f} ms"])
    table = markdown_table(["CPU time of all threads together", "without", "added"], rows)
    return f"{provenance('sharpness-cost')}:\n\n{table}"


def rules() -> str:
    """Rules for sharpness that were compared."""
    rows = [[name, _scores(x2), _scores(x3)] for name, x2, x3 in load("sharpness-choices")["rules"]]
    return markdown_table(["rule", "x2", "x3"], rows)


def weights() -> str:
    """Interpolation toward sharper weights, and the unsharp mask."""
    rows = [[name, _scores(scores)] for name, scores in load("sharpness-choices")["weights_x2"]]
    return markdown_table(["x2", "PSNR / VMAF / VMAF-NEG"], rows)


def _scores(scores: list[float] | None) -> str:
    return f"{scores[0]:.2f} / {scores[1]:.1f} / {scores[2]:.1f}" if scores else ""
