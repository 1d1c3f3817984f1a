"""The words of a command line: refused alike by both commands. Pure."""

from collections.abc import Sequence
from pathlib import PurePath

from slots.errors import ConfigError


def refuse_empty(command: str, arguments: Sequence[str]) -> None:
    """Refuse an empty word, as an unset variable leaves it: it is no default, and not where we are.

    Once it is a path it would be `.`, so this is asked of the words themselves.
    """
    before = command
    for word in arguments:
        option, sign, value = word.partition("=")
        if option.startswith("--") and sign and not value:
            before, word = option, ""  # noqa: PLW2901 - the same, written as one word
        if not word:
            raise ConfigError(
                f"there is an empty argument behind {before}",
                hint="is it of an unset variable? Give a value, or leave it out",
            )
        before = word


def unknown_release(wanted: str, out: PurePath) -> ConfigError:
    """Return that neither a path nor a release below `out` is called so."""
    return ConfigError(
        f"there is no image or release {wanted}",
        hint=f"give an image file, a release's folder, or its name or id in {out}",
    )
