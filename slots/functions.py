"""The functions of a sh library, so that only those travel that a call reaches.

The library's files keep a form: a function begins at the start of a line with `name() {`, ends at
the next line that begins with a brace, or is one line. What else stands there is for all.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

_BEGIN = re.compile(r"(?P<name>[a-z_0-9]+)\(\) (?P<body>[{(](?: +#.*)?$)?")
_NAME = re.compile(r"[a-z_0-9]+")


@dataclass(frozen=True, slots=True)
class Part:
    """A function as it travels, or the lines between two of them, which have no name."""

    name: str
    text: str


@cache
def parts(source: str) -> tuple[Part, ...]:
    """Take a file apart, and leave out what is for readers alone."""
    return tuple(part for part in _parts(source.splitlines()) if part.text)


def _parts(lines: Iterable[str]) -> Iterator[Part]:
    name, held = "", list[str]()
    for line in lines:
        begin = None if name else _BEGIN.match(line)
        if begin is not None:
            yield Part("", _travelling(held))
            name, held = begin["name"], []
        held.append(line)
        one_line = begin is not None and begin["body"] is None
        if name and (one_line or line.startswith(("}", ")"))):
            yield Part(name, _travelling(held))
            name, held = "", []
    yield Part(name, _travelling(held))


def _travelling(lines: Iterable[str]) -> str:
    stripped = (line.strip() for line in lines)
    kept = (line for line in stripped if not line.startswith("#") or "shellcheck" in line)
    return "".join(f"{line}\n" for line in kept if line)


def joined(library: Sequence[Part]) -> str:
    """Return a library whole."""
    return "".join(part.text for part in library)


def reached(library: Sequence[Part], call: str) -> str:
    """Return of a library what this call may reach: what it names, what that names, and so on.

    A name counts wherever it stands, be it a word of a value: rather too much travels. Of one that
    is put together (`"move_$kind"`) the beginning counts for all that begin so.
    """
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for part in library:
        texts[part.name].append(part.text)
    texts[""].append(call)
    wanted, new = {""}, {""}
    while new:
        words = {word for name in new for text in texts[name] for word in _NAME.findall(text)}
        begun = tuple(word for word in words if word.endswith("_"))
        named = {name for name in texts if name in words or name.startswith(begun)}
        new = named - wanted
        wanted |= new
    return "".join(part.text for part in library if part.name in wanted)
