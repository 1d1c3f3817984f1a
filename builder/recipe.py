"""images/*.toml: what goes into an image, and how it is packed."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from builder.lint import Waivable, Waiver
from builder.normalise import TIME_MAX_S, NewFile, OwnerRule, Rules, path_of
from builder.places import real
from slots.errors import ConfigError
from slots.manifest import Codec, Format
from slots.settings import config_error

CLUSTER_MIN_BYTES = 4096
CLUSTER_MAX_BYTES = 1 << 20
OWNER_MAX = 2**32 - 2

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
NAME_MAX = 100
"""Name and version, and what is put before and behind them, are one file name of 255 bytes."""


Text = TypeVar("Text", str, Path)


def _mode(value: object) -> object:
    """Read a mode written as octal text ("0755"), which TOML's plain numbers are not."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{1,4}", value):
        return int(value, 8)
    raise ValueError(f'a mode is octal text such as "0755", not {value!r}')


def _inner_path(value: str) -> str:
    try:
        path_of(value)
    except ConfigError as error:
        raise ValueError(error.message) from error
    return value


def _not_empty(value: object) -> object:
    """Refuse an empty path: it would be the recipe's own folder."""
    if value == "":
        raise ValueError("is empty")
    return value


def _without_nul(value: Text) -> Text:
    """Refuse what TOML can say of a path, and no file system can hold."""
    if "\0" in str(value):
        raise ValueError("holds a NUL character")
    return value


FilePath = Annotated[Path, AfterValidator(_without_nul)]
SourcePath = Annotated[FilePath, BeforeValidator(_not_empty)]
Mode = Annotated[int, BeforeValidator(_mode)]
Whole = Annotated[int, Field(strict=True)]  # neither "3" nor true
Owner = Annotated[Whole, Field(ge=0, le=OWNER_MAX)]
InnerPath = Annotated[str, BeforeValidator(_inner_path)]
LinkTarget = Annotated[str, AfterValidator(_without_nul)]
Cluster = Annotated[Whole, Field(ge=CLUSTER_MIN_BYTES, le=CLUSTER_MAX_BYTES)]
Layout = Literal["hashed", "sequential"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnerSettings(_Settings):
    """Owner and mode of what matches a pattern."""

    match: str = Field(min_length=1)
    uid: Owner | None = None
    gid: Owner | None = None
    mode: Mode | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.uid is None and self.gid is None and self.mode is None:
            raise ValueError("none of uid, gid and mode is given")
        return self


def _source_table(value: object) -> object:
    """Read a source that is given by its path alone."""
    return {"path": value} if isinstance(value, str | Path) else value


class SourceSettings(_Settings):
    """A directory that goes into the image, and what of it does not."""

    path: SourcePath  # relative to the recipe's folder
    exclude: tuple[str, ...] = ()


class FileSettings(_Settings):
    """A file that is added, or put in the place of one of the sources."""

    path: InnerPath
    text: str | None = None
    source: FilePath | None = None  # relative to the recipe's folder
    template: FilePath | None = None  # relative to the recipe's folder
    variables: dict[str, Any] = {}  # over those of the recipe
    uid: Owner | None = None
    gid: Owner | None = None
    mode: Mode | None = None

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        given = [self.text, self.source, self.template]
        if sum(one is not None for one in given) != 1:
            raise ValueError("give one of text, source and template")
        if self.variables and self.template is None:
            raise ValueError("variables are for a template")
        return self


class WaiverSettings(_Settings):
    """A rule of `image lint` that is silenced where it matches."""

    code: Waivable
    match: str = Field(default="**", min_length=1)
    reason: str = Field(min_length=1)


class LintSettings(_Settings):
    """What `image lint` is told."""

    waive: tuple[WaiverSettings, ...] = ()


class Packing(_Settings):
    """How one format is packed; None means the format's own default."""

    codec: Codec | None = None
    level: Whole | None = None
    cluster: Cluster | None = None
    layout: Layout | None = None

    def over(self, other: "Packing") -> "Packing":
        """Return these settings, the other's where these say nothing."""
        mine = self.model_dump(exclude_none=True)
        return Packing.model_validate(other.model_dump() | mine)


class Recipe(_Settings):
    """A recipe; every setting but the source has a default."""

    name: str = Field(
        default="", pattern=rf"^$|{NAME}", max_length=NAME_MAX
    )  # default: the file's name
    source: SourcePath | None = None  # relative to the recipe's folder
    sources: tuple[Annotated[SourceSettings, BeforeValidator(_source_table)], ...] = Field(
        default=(), validate_default=True
    )
    version: str | None = Field(default=None, pattern=NAME, max_length=NAME_MAX)
    formats: tuple[Format, ...] = Field(default=("uzip",), min_length=1)
    label: str | None = Field(default=None, pattern=r"^[A-Z0-9_]{1,32}$")  # of the ISO volume
    codec: Codec | None = None
    level: Whole | None = None
    cluster: Cluster | None = None
    layout: Layout | None = None
    packing: dict[Format, Packing] = {}
    epoch: Whole | None = Field(default=None, ge=0, le=TIME_MAX_S)
    exclude: tuple[str, ...] = ()
    mount_points: tuple[InnerPath, ...] = ()
    links: dict[InnerPath, LinkTarget] = {}
    files: tuple[FileSettings, ...] = ()
    variables: dict[str, Any] = {}  # for templates
    owners: tuple[OwnerSettings, ...] = ()
    mtree: FilePath | None = None  # relative to the recipe's folder
    lint: LintSettings = LintSettings()

    @field_validator("sources")
    @classmethod
    def _has_a_source(
        cls, sources: tuple[SourceSettings, ...], info: ValidationInfo
    ) -> tuple[SourceSettings, ...]:
        if "source" in info.data and (info.data["source"] is None) == (not sources):
            raise ValueError("give source, or several as sources")
        return sources

    @property
    def layers(self) -> tuple[SourceSettings, ...]:
        """The sources, each to be laid over those before it."""
        return self.sources if self.source is None else (SourceSettings(path=self.source),)

    @property
    def waivers(self) -> tuple[Waiver, ...]:
        """The rules that are silenced."""
        return tuple(Waiver(one.code, one.match, one.reason) for one in self.lint.waive)

    @model_validator(mode="after")
    def _formats_differ(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError("formats names a format twice")
        return self

    def packing_of(self, format_: Format, given: Packing) -> Packing:
        """Return how a format is packed: as given, else its own settings, else those of all."""
        whole = Packing(
            codec=self.codec, level=self.level, cluster=self.cluster, layout=self.layout
        )
        return given.over(self.packing.get(format_, Packing()).over(whole))

    def rules(self, epoch_s: int | None, files: tuple[NewFile, ...] = ()) -> Rules:
        """Return what this recipe changes of a scanned tree; its files come with their content."""
        return Rules(
            files=files,
            mount_points=self.mount_points,
            links=tuple(sorted(self.links.items())),
            owners=tuple(OwnerRule(one.match, one.uid, one.gid, one.mode) for one in self.owners),
            epoch_s=epoch_s,
        )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; its paths come back relative to where we are."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"no such recipe: {path}", hint="docs/recipes.md shows one") from error
    except IsADirectoryError as error:
        hint = f"name the recipe's file; or is it the chroot? then --source {path}"
        raise ConfigError(f"the recipe {path} is a folder", hint=hint) from error
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the recipe {path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as error:
        raise config_error(error, Recipe, str(path)) from error
    return _placed(recipe, path.parent, recipe.name or image_name(path.stem))


def _placed(recipe: Recipe, folder: Path, name: str) -> Recipe:
    """Return a recipe whose paths are relative to where we are."""

    def here(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    sources = tuple(one.model_copy(update={"path": folder / one.path}) for one in recipe.sources)
    files = tuple(
        one.model_copy(update={"source": here(one.source), "template": here(one.template)})
        for one in recipe.files
    )
    return recipe.model_copy(
        update={
            "name": name,
            "source": here(recipe.source),
            "sources": sources,
            "files": files,
            "mtree": here(recipe.mtree),
        }
    )


def recipe_of(source: Path) -> Recipe:
    """Return the recipe of a directory without one: as it is, nothing added."""
    return Recipe(name=image_name(real(source).name), source=source)


def image_name(text: str) -> str:
    """Return a name that an image may have."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:NAME_MAX] or "image"


def label_of(recipe: Recipe) -> str:
    """Return the label of the ISO volume: the name of the image unless the recipe has one."""
    return recipe.label or re.sub(r"[^A-Z0-9_]", "_", recipe.name.upper())[:32]
