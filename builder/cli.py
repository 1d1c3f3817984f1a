"""The command `image`: parse, call, exit."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path
from typer.exceptions import TyperException
from typer.main import get_command

from builder import browse, compare, console, documents, ending, lint, named, prepare, texts
from builder.build import OUT, Order, build, default_threads
from builder.description import description
from builder.formats import FORMATS
from builder.options import Options, checked, epoch_s
from builder.places import MANIFEST
from builder.recipe import Packing, Recipe, read_recipe, recipe_of
from builder.reproduce import build_checked
from builder.verify import verify
from slots.errors import ConfigError, Exit
from slots.garbage import uncollected
from slots.words import refuse_empty

DEFAULT_RECIPE = Path("images/cgi.toml")

app = typer.Typer(
    name="image",
    help="Build read-only images of chroots, and read them back.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Image = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="A uzip, iso9660, squashfs or erofs image; or a release, of which it is the first: "
        "its folder, or its NAME-VERSION, NAME or id in images/out.",
    ),
]
Release = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="An image, or a release: its folder, or its NAME-VERSION, NAME or id in images/out.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]


def main() -> None:
    """Run the command line and exit."""
    ending.prepare_streams()
    ending.end_softly()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return ending.run(lambda: _run(arguments), as_json="--json" in arguments)


def _run(arguments: Sequence[str]) -> int:
    """Run it as typer itself would, but for a closed pipe: that is ours to tell."""
    try:
        refuse_empty("image", arguments)
        with uncollected(), get_command(app).make_context("image", [*arguments]) as context:
            context.command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as error:
        asked = getattr(error, "ctx", None)
        which = asked.command_path if asked else "image"
        raise ConfigError(error.format_message(), hint=f"see `{which} --help`") from error
    return int(Exit.DONE)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - only who asks waits for it

        typer.echo(f"flipslot {version('flipslot')}")
        raise typer.Exit


@app.callback()
def _image(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Tell the version, and end."
        ),
    ] = False,
) -> None:
    """Build read-only images of chroots, and read them back."""
    del version  # its callback answered


@app.command("build", short_help="Build a release: one tree, an artefact per format.")
def _build(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE",
            help=f"A recipe (TOML). Default: {DEFAULT_RECIPE}, or none with --source.",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="The chroot, instead of the recipe's source.")
    ] = None,
    output: Annotated[
        str | None,
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
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of what earlier builds knew. Default: in the user's cache."),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Know nothing, remember nothing.")
    ] = False,
    paranoid: Annotated[
        bool, typer.Option("--paranoid", help="Read every file, also those known by their times.")
    ] = False,
    check_reproducible: Annotated[
        bool,
        typer.Option("--check-reproducible", help="Build twice without the cache, and compare."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Build a release: one tree, an artefact per format, and their description.

    \b
    image build                                 images/cgi.toml into images/out/
    image build images/sample.toml --version 7
    image build --source /webroot/cgi --format uzip --output /tmp/cgi.uzip
    image build --exclude 'var/cache/**' --exclude '*.pyc' --format squashfs --level 15
    """
    chosen = _recipe(recipe, source)
    options = checked(
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
        output=_output(output),
        packing=Packing(codec=options.codec, level=options.level, cluster=options.cluster),
        epoch_s=epoch_s(options, chosen),
        version=options.version,
        mtree=mtree,
        excludes=tuple(exclude or ()),
        threads=default_threads(),
        cache=None if no_cache else cache or user_cache_path("flipslot"),
        reads_all=paranoid,
    )
    with console.progress() as emit:
        built = (build_checked if check_reproducible else build)(order, emit)
    if as_json:
        console.say_json(documents.build(built))
    else:
        console.say(texts.build(built))


def _recipe(path: Path | None, source: Path | None) -> Recipe:
    if path is None and source is not None:
        return recipe_of(source)
    found = read_recipe(path or DEFAULT_RECIPE)
    return found if source is None else found.model_copy(update={"source": source, "sources": ()})


def _output(text: str | None) -> Path | None:
    """Return the output; a name that ends with a `/` is a folder, made if it is missing."""
    if text is None:
        return None
    path = Path(text)
    if text.endswith(os.sep):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {path}: {error.strerror}") from error
    return path


@app.command("info", short_help="What an image is, and of which release.")
def _info(image: Image, as_json: AsJson = False) -> None:
    """Say what an image is: format, codec, size, and the release it belongs to.

    \b
    image info images/out/cgi-1/cgi-1.uzip
    image info cgi-1
    """
    path = named.image(image, OUT)
    with browse.opened(path) as one:
        facts = one.facts()
    found = description(path)
    size_bytes = path.stat().st_size
    if as_json:
        console.say_json(documents.info(path, size_bytes, facts, found))
    else:
        console.say(texts.info(path, size_bytes, facts, found))


@app.command("ls", short_help="List an entry and all below it.")
def _ls(
    image: Image,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Inside the image; default: all of it.")
    ] = "/",
    long: Annotated[bool, typer.Option("-l", help="Mode, links, owner, size, time (UTC).")] = False,
    as_json: AsJson = False,
) -> None:
    """List an entry and all below it.

    \b
    image ls cgi.uzip
    image ls -l cgi.uzip /etc
    """
    with browse.opened(named.image(image, OUT)) as one:
        nodes = browse.below(one.tree(), path)
    if as_json:
        console.say_json(documents.ls(nodes))
    else:
        console.say(texts.ls(nodes, long=long))


@app.command("cat", short_help="Write a file of an image to stdout.")
def _cat(
    image: Image,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file inside the image.")],
) -> None:
    """Write a file of an image to stdout.

    \b
    image cat cgi.uzip /etc/passwd
    """
    with browse.opened(named.image(image, OUT)) as one:
        browse.cat(one, path, console.raw_output())


@app.command("extract", short_help="Unpack an image into a new folder.")
def _extract(
    image: Image,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    as_json: AsJson = False,
) -> None:
    """Unpack an image: modes, times, links; as root owners and devices too.

    \b
    image extract cgi.uzip /tmp/cgi
    """
    with browse.opened(named.image(image, OUT)) as one, console.progress() as emit:
        tree = browse.extract(one, folder, emit)
    if as_json:
        console.say_json(documents.extract(folder, len(tree)))
    else:
        console.say(texts.extract(folder, len(tree)))


@app.command("verify", short_help="Check every digest, each file read back.")
def _verify(
    image: Release,
    witness: Annotated[
        bool, typer.Option("--witness", help="Let pycdlib read the entries of ISO 9660 too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every digest: of the image, its pieces, and each file read back out of it.

    \b
    image verify images/out/cgi-1/cgi-1.uzip
    image verify cgi-1                          all images of a release in images/out
    image verify --witness cgi.uzip             takes three times as long
    """
    with console.progress() as emit:
        found = verify(named.place(image, OUT), emit, witness=witness)
    if as_json:
        console.say_json(documents.verify(found))
    else:
        console.say(texts.verify(found))


@app.command("diff", short_help="What two images or releases differ in.")
def _diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="An image, or a release as `image info` takes it.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another, of whatever format.")],
    with_bytes: Annotated[
        bool, typer.Option("--bytes", help="Also what would travel: the pack between the two.")
    ] = False,
    read: Annotated[
        bool, typer.Option("--read", help="Read the images, whatever lies beside them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what differs: added, removed, changed content, mode, owner, time.

    \b
    image diff cgi-1 cgi-2
    image diff --bytes old.uzip new.uzip
    """
    before, after = named.place(old, OUT), named.place(new, OUT)
    found = compare.compare(before, after, read=read)
    travels = compare.travels(before, after) if with_bytes else {}
    if as_json:
        console.say_json(documents.diff(found, travels))
    else:
        console.say(texts.diff(found, travels))


@app.command("lint", short_help="What is wrong with a tree, before it is built.")
def _lint(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A directory, an image or a release (see `image info`); default: the recipe's "
            "sources.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Its rules and waivers count, as in a build.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Whose limits count; default: the recipe's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong, or worth a look, before an image is built of it. Exit 9 on an error.

    \b
    image lint /webroot/cgi
    image lint --recipe images/cgi.toml
    image lint images/out/cgi-1/cgi-1.uzip
    image lint cgi-1
    """
    options = checked(format=list(dict.fromkeys(formats or [])))
    place = None if path is None else named.place(path, OUT)
    if place is not None and (not place.is_dir() or (place / MANIFEST).is_file()):
        judged = _judged_image(place, None if recipe is None else read_recipe(recipe))
    else:
        judged = _judged_source(_recipe(recipe, place), options)
    if as_json:
        console.say_json(documents.lint(judged))
    else:
        console.say(texts.lint(judged))
    if judged.errors:
        raise typer.Exit(int(Exit.BUILD))


def _judged_image(place: Path, recipe: Recipe | None) -> lint.Judged:
    """Judge an image; one of a release by the limits of all that hold the same tree."""
    path = named.first_image(place)
    release = description(place) if place != path else None
    with browse.opened(path) as image:
        names = [one.format for one in release.artefacts] if release else [image.facts().format]
        found = lint.lint(image.tree(), {name: FORMATS[name].limits for name in names})
    return lint.judge(found, () if recipe is None else recipe.waivers)


def _judged_source(recipe: Recipe, options: Options) -> lint.Judged:
    names = options.formats or recipe.formats
    limits: dict[str, lint.Limits] = {name: FORMATS[name].limits for name in names}
    with console.progress() as emit:
        prepared = prepare.read(recipe, prepare.Wanted(limits), emit)
    return prepare.judged_by(recipe, prepared, limits)
