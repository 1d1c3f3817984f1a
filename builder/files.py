"""Files that a recipe adds: their content as text, from another file, or from a template.

A template is Jinja2 with StrictUndefined: a variable that nobody gave is an error. It knows the
recipe's `variables`, its own over them, and `name`, the name of the image.
"""

import stat
from pathlib import Path

from builder.normalise import NewFile, path_of
from builder.recipe import FileSettings, Recipe
from builder.stamps import stamp_of
from slots.errors import ConfigError


def added(recipe: Recipe) -> tuple[NewFile, ...]:
    """Return the files of a recipe with their content; all that cannot be made are named."""
    made: list[NewFile] = []
    faults: list[str] = []
    for number, one in enumerate(recipe.files):
        try:
            made.append(_made(one, recipe))
        except _FaultError as fault:
            faults.append(f"files[{number}] ({one.path}): {fault}")
    if faults:
        raise ConfigError("; ".join(faults), hint="docs/recipes.md shows how files are added")
    return tuple(made)


class _FaultError(Exception):
    """One file that cannot be made."""


def _made(one: FileSettings, recipe: Recipe) -> NewFile:
    new = NewFile(path_of(one.path), b"", 0, uid=one.uid, gid=one.gid, mode=one.mode)
    if one.source is not None:
        return _copied(new, one.source)
    if one.template is not None:
        variables = {"name": recipe.name} | recipe.variables | one.variables
        content = _rendered(one.template, variables).encode()
    else:
        content = (one.text or "").encode()
    return new.holding(content, len(content))


def _copied(new: NewFile, source: Path) -> NewFile:
    try:
        status = source.stat()
    except OSError as error:
        raise _FaultError(f"cannot read {source}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise _FaultError(f"{source} is no file")
    return new.holding(str(source.resolve()), status.st_size, stamp_of(status))


def _rendered(template: Path, variables: dict[str, object]) -> str:
    from jinja2 import (  # noqa: PLC0415 - the start of every command would wait for it
        Environment,
        FileSystemLoader,
        StrictUndefined,
        TemplateError,
        TemplateNotFound,
        TemplateSyntaxError,
    )

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - files of a chroot, not HTML
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(template.name).render(variables)
    except TemplateNotFound as error:
        raise _FaultError(f"{template}: no such file, or one that it names: {error}") from error
    except TemplateError as error:
        where = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise _FaultError(f"{template}{where}: {error.message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _FaultError(f"cannot read {template}: {error}") from error
