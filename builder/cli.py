"""The command `image`: parse, call, exit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder import console
from builder.build import Built, Order, build, default_threads
from builder.recipe import NAME, Cluster, Packing, Recipe, read_recipe, recipe_of
from slots.errors import ConfigError
from slots.manifest import Codec, Format
from slots.settings import config_error

DEFAULT_RECIPE = Path("images/cgi.toml")

app = typer.Typer(
    name="image",
    help="Build read-only images of chroots, and read them back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]


def main() -> None:
    """Run `image`."""
    app()


@app.callback()
def _image() -> None:
    """Build read-only images of chroots, and read them back."""


@app.command("build")
def _build(  # noqa: PLR0917 - the options of the command
    recipe: Annotated[
        Path | None,
        typer.Argument(help=f"A recipe (TOML). Default: {DEFAULT_RECIPE}, or none with --source."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="The chroot, instead of the recipe's source.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="A file (single format), or the folder for the release's folder."),
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="uzip, iso9660, erofs, squashfs.")
    ] = None,
    codec: Annotated[str | None, typer.Option(help="zstd, zlib, lzma, lz4, none.")] = None,
    level: Annotated[int | None, typer.Option(help="Of the codec.")] = None,
    cluster: Annotated[int | None, typer.Option(help="Bytes compressed as one.")] = None,
    epoch: Annotated[
        int | None,
        typer.Option(help="No time in the image is later. Default: $SOURCE_DATE_EPOCH."),
    ] = None,
    mtree: Annotated[
        Path | None, typer.Option(help="mtree(5) file: owners, modes, devices of entries.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out what matches, e.g. 'var/cache/**'.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of the release. Default: from its content.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Build a release: one tree, an artefact per format, and their description.

    \b
    image build                                 images/cgi.toml into images/out/
    image build images/sample.toml --version 7
    image build --source /webroot/cgi --format uzip --output /tmp/cgi.uzip
    image build --exclude 'var/cache/**' --exclude '*.pyc' --format squashfs --level 15
    """

    def work() -> None:
        chosen = _recipe(recipe, source)
        options = _options(
            format=list(dict.fromkeys(formats or [])),
            codec=codec,
            level=level,
            cluster=cluster,
            epoch=epoch,
            version=version,
        )
        order = Order(
            recipe=chosen,
            formats=options.formats,
            output=output,
            packing=Packing(codec=options.codec, level=options.level, cluster=options.cluster),
            epoch_s=_epoch(options, chosen),
            version=options.version,
            mtree=mtree,
            excludes=tuple(exclude or ()),
            threads=default_threads(),
        )
        with console.progress() as emit:
            built = build(order, emit)
        _show_built(built, as_json=as_json)

    _run(work, as_json=as_json)


def _run(work: Callable[[], None], *, as_json: bool) -> None:
    raise typer.Exit(console.run(work, as_json=as_json))


def _recipe(path: Path | None, source: Path | None) -> Recipe:
    if path is None and source is not None:
        return recipe_of(source)
    found = read_recipe(path or DEFAULT_RECIPE)
    return found if source is None else found.model_copy(update={"source": source})


class _Options(BaseModel):
    """What the command line says, checked as a recipe is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    formats: tuple[Format, ...] = Field(default=(), alias="format")
    codec: Codec | None = None
    level: int | None = None
    cluster: Cluster | None = None
    epoch: int | None = Field(default=None, ge=0)
    version: str | None = Field(default=None, pattern=NAME)


def _options(**given: Any) -> _Options:
    try:
        return _Options.model_validate(given)
    except ValidationError as error:
        raise config_error(error, _Options, "the command line") from error


def _epoch(options: _Options, recipe: Recipe) -> int | None:
    """Return the epoch: of the command line, the environment, the recipe."""
    if options.epoch is not None:
        return options.epoch
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return recipe.epoch
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds")
    return int(text)


def _show_built(built: Built, *, as_json: bool) -> None:
    release = built.release
    if as_json:
        console.say_json(
            {
                "schema": "flipslot.build/1",
                "manifest": str(built.manifest),
                "new": built.is_new,
                "release": release.model_dump(mode="json", by_alias=True),
            }
        )
        return
    folder = built.manifest.parent
    what = "" if built.is_new else " (was there already, the same to the byte)"
    console.say(
        f"{release.label}: {release.entries:,} entries, {console.size(release.content_bytes)}{what}"
    )
    for one in release.artefacts:
        packing = f"{one.codec} {one.level}" if one.level else one.codec
        console.say(
            f"  {folder / one.file}  {console.size(one.size_bytes)}  {packing}  {one.sha256}"
        )
    console.say(f"  {built.manifest}  release {release.id}")
