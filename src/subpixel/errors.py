"""Every error that Subpixel raises on purpose, as one tree.

    SubpixelError
    ├── InputError              the picture, video or array given cannot be used
    │   ├── UnreadableImage     not a picture, or damaged
    │   ├── UnsupportedImage    a picture, of a kind that is refused (animated, exotic samples)
    │   ├── UnreadableVideo     not a video, or too damaged to give a frame
    │   ├── UnsupportedVideo    a video of a kind that is refused
    │   └── ImageTooLarge       its enlargement would exceed the limit on pixels
    ├── OutputError             the result cannot be written where it was asked to go
    │   ├── OutputExists        something stands there already
    │   ├── OutputIsInput       the output is the input itself, perhaps through a link
    │   └── EncoderError        an encoder or a container refuses what it is asked to hold
    ├── ModelError              a model file is damaged, unknown, or not what it claims to be
    ├── EngineError             an engine is missing, cannot run this model, or failed
    ├── ConfigError             a training configuration is wrong
    └── DatasetError            a folder of test or training pictures is missing or unusable

Messages name the file and say what to do about it. A programmer's mistake (a wrong dtype, a negative
size) raises the usual ``ValueError`` or ``TypeError`` instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class SubpixelError(Exception):
    """The root: catch it to catch everything Subpixel raises on purpose."""


class InputError(SubpixelError):
    """The picture, video or array given cannot be used."""


class UnreadableImage(InputError):  # noqa: N818 - the name says what is wrong, as PIL.UnidentifiedImageError does not
    """The file is not a picture, or is damaged."""


class UnsupportedImage(InputError):  # noqa: N818
    """The file is a picture of a kind that is refused, such as an animation."""


class UnreadableVideo(InputError):  # noqa: N818
    """The file is not a video, or too damaged to give a frame."""


class UnsupportedVideo(InputError):  # noqa: N818
    """The file is a video of a kind that is refused."""


class ImageTooLarge(InputError):  # noqa: N818
    """The enlarged picture would exceed the limit on pixels."""


class OutputError(SubpixelError):
    """The result cannot be written where it was asked to go."""


class OutputExists(OutputError):  # noqa: N818
    """Something stands under the output's name already."""


class OutputIsInput(OutputError):  # noqa: N818
    """The output is the input itself, perhaps through a link."""


class EncoderError(OutputError):
    """An encoder or a container refuses what it is asked to hold."""


class ModelError(SubpixelError):
    """A model file is damaged, unknown, or not what it claims to be."""


class EngineError(SubpixelError):
    """An engine is missing, cannot run this model, or failed."""


class ConfigError(SubpixelError):
    """A training configuration is wrong."""


class DatasetError(SubpixelError):
    """A folder of test or training pictures is missing or unusable."""


@contextmanager
def naming(file: str, *others: str) -> Iterator[None]:
    """Have every error that leaves this tell which file was at work.

    Ours begin with its name, unless they begin with that of another file that belongs to it. Any other gets a
    note, which a traceback shows.

    Args:
        file: the input, as people know it.
        others: beginnings of messages that name another file.
    """
    try:
        yield
    except SubpixelError as error:
        if str(error).startswith((f"{file}:", *others)):
            raise
        raise type(error)(f"{file}: {error}") from error
    except Exception as error:
        error.add_note(f"This was raised by work on {file}.")
        raise
