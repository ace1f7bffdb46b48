"""A format or container that is added is complete: an option, fuzzed, and with a media type.

`test_api.py` writes a file for each option.
"""

from typing import get_args

from parsers import PARSERS
from subpixel.images.formats import FORMATS, OUTPUT_EXTENSIONS, READABLE
from subpixel.options import ContainerName, ImageFormat
from subpixel.video.media.containers import CONTAINERS
from subpixel.web.jobs import media_type
from subpixel.web.options import WEB_CONTAINERS


def test_each_format_is_an_option():
    assert sorted(get_args(ImageFormat)) == sorted(format.option for format in FORMATS)


def test_each_container_is_an_option():
    assert get_args(ContainerName) == tuple(container.extensions[0][1:] for container in CONTAINERS)


def test_each_format_is_fuzzed():
    assert {format.option for format in READABLE} <= set(PARSERS)


def test_each_output_of_the_server_has_a_media_type():
    extensions = (*OUTPUT_EXTENSIONS, *(f".{name}" for name in WEB_CONTAINERS))
    assert [each for each in extensions if not media_type(each).startswith(("image/", "video/"))] == []
