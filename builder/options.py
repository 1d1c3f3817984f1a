"""What the command line says of a build, and the time that nothing in the image is later than."""

import os
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.recipe import NAME, NAME_MAX, Cluster, Recipe
from slots.errors import ConfigError
from slots.manifest import Codec, Format
from slots.settings import config_error


class Options(BaseModel):
    """What the command line says, checked as a recipe is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: tuple[Format, ...] = Field(default=(), alias="format")
    codec: Codec | None = None
    level: int | None = None
    cluster: Cluster | None = None
    epoch: int | None = Field(default=None, ge=0)
    version: str | None = Field(default=None, pattern=NAME, max_length=NAME_MAX)


def checked(**given: Any) -> Options:
    """Return what the command line says; all that is wrong in it is named at once."""
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        raise config_error(error, Options, "the command line") from error


def epoch_s(options: Options, recipe: Recipe) -> int | None:
    """Return the epoch: of the command line, the environment, the recipe."""
    if options.epoch is not None:
        return options.epoch
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return recipe.epoch
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds")
    return int(text)
