"""An option is everywhere: in the functions, the command, the server, and the server's description."""

from dataclasses import fields
from inspect import signature

import pytest
import typer

import subpixel
from subpixel.cli import app
from subpixel.selection import ModelOptions
from subpixel.web import openapi, options

FUNCTIONS = (subpixel.upscale_image, subpixel.upscale_video)
COMMAND = typer.main.get_command(app).commands["upscale"]
MODEL_OPTIONS = {field.name for field in fields(ModelOptions)}

NOT_IN_THE_COMMAND = {"input", "upscaler", "codec_options", "format", "max_memory_mib"}
"""The command has ``inputs``, ``--codec-option``, ``--max-memory`` and the output's extension instead."""

NOT_ON_THE_SERVER = {
    "input",
    "output",
    "upscaler",
    "overwrite",
    "progress",
    "engine",
    "precision",
    "threads",
    "codec_options",
    "max_output_pixels",
    "max_memory_mib",
    "shard",
}
"""What the server decides."""


def names(function):
    return set(signature(function).parameters)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_have_the_options_of_models(function):
    assert names(function) >= MODEL_OPTIONS


def test_upscalers_have_the_options_of_models():
    assert names(subpixel.load) >= MODEL_OPTIONS - {"model", "upscaler"}
    assert names(subpixel.Upscaler) >= MODEL_OPTIONS - {"content", "upscaler"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_command_has_the_options_of_functions(function):
    assert names(function) - NOT_IN_THE_COMMAND <= {parameter.name for parameter in COMMAND.params}


@pytest.mark.parametrize(
    ("function", "own"),
    [(subpixel.upscale_image, options.IMAGE_OPTIONS), (subpixel.upscale_video, options.VIDEO_OPTIONS)],
)
def test_the_server_has_the_options_of_functions(function, own):
    assert {*options.COMMON_OPTIONS, *own} == names(function) - NOT_ON_THE_SERVER


def test_the_server_describes_its_options():
    described = openapi.description()["components"]["schemas"]["Options"]["properties"]
    assert set(described) == {*options.COMMON_OPTIONS, "image", "video"}
    assert set(described["image"]["properties"]) == set(options.IMAGE_OPTIONS)
    assert set(described["video"]["properties"]) == set(options.VIDEO_OPTIONS)
