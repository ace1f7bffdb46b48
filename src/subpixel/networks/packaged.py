"""The models that ship inside the package, found by name or by scale, without any network access."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from subpixel.errors import ModelError
from subpixel.model import Model, load_model

DEFAULT_NETWORK = "espcn-t91"
"""What enlarges a picture when only a scale is asked for; a model is ``<network>-<data>-x<scale>``."""

TNRD_FORMAT = "subpixel-tnrd-1"
"""What the file of a TNRD says that it is."""

_FOLDER = files("subpixel") / "weights"


def names() -> list[str]:
    """The names of the packaged models, sorted."""
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in _FOLDER.iterdir()
        if entry.name.endswith(".safetensors")
    )


@cache
def _load(name: str) -> Model:
    return load_model(Path(str(_FOLDER / f"{name}.safetensors")))


def tnrd_file(name: str, *, scale: int | None = None) -> Path | None:
    """The file of a TNRD, packaged (``"tnrd-large-x3"``, ``"tnrd-large"``) or by its path; None for all else.

    TNRD is no `Model`: `subpixel.training.tnrd` runs it, by PyTorch, to be compared with.
    """
    if name.endswith(".safetensors"):
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(name, framework="numpy") as file:
                return Path(name) if (file.metadata() or {}).get("format") == TNRD_FORMAT else None
        except (SafetensorError, OSError):
            return None  # whoever reads it as a model says what is wrong
    for wanted in (name, f"{name}-x{scale}"):
        path = Path(str(_FOLDER / "tnrd" / f"{wanted}.safetensors"))
        if path.exists():
            return path
    return None


def find(name: str | None = None, *, scale: int | None = None) -> Model:
    """Find a model: a packaged one by name, any one by the path of its file, or the default for a scale.

    Args:
        name: such as ``"espcn-t91-x3"``, or the path of a ``.safetensors`` file. The scale may be left out
            (``"espcn-t91"``) when ``scale`` gives it.
        scale: the factor that the model must have.

    Raises:
        ModelError: no such model, or its scale is another; the message lists what there is.
    """
    if name is None and scale is None:
        raise ModelError("name a model or a scale")
    if name is not None and name.endswith(".safetensors"):
        model = load_model(name)
    else:
        wanted = name or DEFAULT_NETWORK
        packaged = names()
        if wanted not in packaged and scale is not None:
            wanted = f"{wanted}-x{scale}"
        if wanted not in packaged:
            known = ", ".join(packaged) or "none"
            raise ModelError(
                f"no packaged model {wanted!r}; packaged: {known}. A file of your own is named by its path"
            )
        model = _load(wanted)
    if scale is not None and model.scale != scale:
        raise ModelError(
            f"model {model.name} enlarges x{model.scale}, not x{scale}; leave out the scale or pick another"
        )
    return model
