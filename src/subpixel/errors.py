"""The exceptions of Subpixel, in one hierarchy.

    SubpixelError
    ├── InputError              the image, video or array cannot be used
    │   ├── UnreadableImage     not an image, or damaged
    │   ├── UnsupportedImage    an image of a kind that is not supported (an animation, for example)
    │   ├── UnreadableVideo     not a video, or too damaged to decode any frame
    │   ├── UnsupportedVideo    a video of a kind that is not supported
    │   └── ImageTooLarge       the upscaled image would exceed a limit on pixels or memory
    ├── OutputError             the result cannot be written to the output
    │   ├── OutputExists        the output exists already
    │   ├── OutputIsInput       the output is the input file, perhaps through a link
    │   ├── OtherJob            other processes make the same output with other frames
    │   └── EncoderError        an encoder or a container does not accept the result
    ├── ModelError              a model is unknown, or its file is missing or invalid
    ├── EngineError             an engine is not installed, cannot run the model, or failed
    ├── ClusterError            a cluster cannot be reached or used
    ├── ConfigError             a training config is invalid
    └── DatasetError            a folder of test or training images is missing or unusable

Messages name the file and the cure. A wrong argument, such as an unsupported dtype or a negative size, raises
``ValueError`` or ``TypeError`` instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class SubpixelError(Exception):
    """The base class; catch it to handle every error of Subpixel except for wrong arguments."""


class InputError(SubpixelError):
    """The image, video or array cannot be used."""


class UnreadableImage(InputError):  # noqa: N818 - the name says what is wrong, as PIL.UnidentifiedImageError does not
    """The file is not an image, or is damaged."""


class UnsupportedImage(InputError):  # noqa: N818
    """The file is an image of a kind that is not supported, such as an animation."""


class UnreadableVideo(InputError):  # noqa: N818
    """The file is not a video, or too damaged to decode any frame."""


class UnsupportedVideo(InputError):  # noqa: N818
    """The file is a video of a kind that is not supported."""


class ImageTooLarge(InputError):  # noqa: N818
    """The upscaled image would exceed a limit on pixels or memory."""


class OutputError(SubpixelError):
    """The result cannot be written to the output."""


class OutputExists(OutputError):  # noqa: N818
    """The output exists already."""


class OutputIsInput(OutputError):  # noqa: N818
    """The output is the input file, perhaps through a link."""


class OtherJob(OutputError):  # noqa: N818
    """Other processes make the same output, and this one would make other frames."""


class EncoderError(OutputError):
    """An encoder or a container does not accept the result."""


class ModelError(SubpixelError):
    """A model is unknown, or its file is missing or invalid."""


class EngineError(SubpixelError):
    """An engine is not installed, cannot run the model, or failed."""


class ClusterError(SubpixelError):
    """A cluster cannot be reached or used, or its machines failed at a file again and again."""


class ConfigError(SubpixelError):
    """A training config is invalid."""


class DatasetError(SubpixelError):
    """A folder of test or training images is missing or unusable."""


@contextmanager
def name_file_in_errors(file: str, *others: str) -> Iterator[None]:
    """Make every error that the body raises name the file.

    The message of a `SubpixelError` gets the name as a prefix, unless it begins with this or another file of
    the job already. Any other exception gets a note, which a traceback shows.

    Args:
        file: the name of the input in messages.
        others: prefixes of messages that name another file of the job.
    """
    try:
        yield
    except SubpixelError as error:
        if str(error).startswith((f"{file}:", *others)):
            raise
        raise type(error)(f"{file}: {error}") from error
    except Exception as error:
        error.add_note(f"This error occurred while processing {file}.")
        raise
