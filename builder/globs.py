"""Patterns over paths of a tree.

`*` and `?` stay inside one name, `**` crosses names, `[…]` is a set of characters. A pattern with
a `/` (other than at its end) is matched from the root, one without against the last name alone.
A `/` at the end asks for a directory: callers give directories their own `/`.
"""

import re
from collections.abc import Callable, Iterable

Matcher = Callable[[bytes], bool]


def matcher(patterns: Iterable[str]) -> Matcher:
    """Return a test of paths of a tree (`b"/etc/passwd"`) against any of these patterns."""
    sources = [_source(pattern) for pattern in patterns]
    if not sources:
        return lambda _path: False
    compiled = re.compile("|".join(sources).encode("utf-8", "surrogateescape"), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def _source(pattern: str) -> str:
    body = pattern.rstrip("/")
    anchored = "/" in body
    rest = body.lstrip("/") if anchored else body
    prefix = "/" if anchored else "(?:/.*)?/"
    return f"(?:{prefix}{_names(rest)})"


def _names(pattern: str) -> str:
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] == "?":
            out, at = out + "[^/]", at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            out, at = out + _set(pattern[at + 1 : end]), end + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return out


def _set(inside: str) -> str:
    negated = inside[:1] in {"!", "^"}
    members = inside[1:] if negated else inside
    escaped = members.replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
    return f"[{'^/' if negated else ''}{escaped}]"
