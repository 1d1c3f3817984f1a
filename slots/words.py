"""The words of a command line, looked at before they are understood. Pure."""

from collections.abc import Sequence

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
