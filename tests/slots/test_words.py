"""An empty word of a command line is named by what stands before it."""

import pytest

from slots.errors import ConfigError
from slots.words import refuse_empty


@pytest.mark.parametrize(
    ("arguments", "behind"),
    [
        (["plan", "--inventory", ""], "--inventory"),
        (["plan", "--inventory=", "-q"], "--inventory"),
        (["plan", "-o", "", "-q"], "-o"),
        (["info", ""], "info"),
        (["cat", "--", "", "a"], "--"),
        ([""], "image"),
    ],
)
def test_an_empty_word_is_refused(arguments: list[str], behind: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_empty("image", arguments)
    assert refused.value.message == f"there is an empty argument behind {behind}"


@pytest.mark.parametrize(
    "arguments", [[], ["build", "--version", "7", "--json"], ["cat", "a", " "], ["cat", "a="]]
)
def test_words_that_say_something_pass(arguments: list[str]) -> None:
    refuse_empty("image", arguments)
