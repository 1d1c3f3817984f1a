"""known_hosts as sshd(8) describes it: is the key that a host shows the one that is written down?

Pure: lines in, a verdict out. Hashed names, patterns, `[name]:port` and `@revoked` are understood;
`@cert-authority` is not (its lines are skipped).
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from re import fullmatch


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line: which hosts (as written), their key, and where it is written."""

    patterns: tuple[str, ...]
    key_type: str
    key: str  # base64
    place: str  # FILE:LINE
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Trusted:
    """The key is the one that is written down."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is written down for this host."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Another key is written down at `place`."""

    place: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key is marked as revoked at `place`."""

    place: str


Judgement = Trusted | Unknown | Changed | Revoked


def parse(lines: Iterable[str], file: str) -> Iterator[KnownKey]:
    """Yield the keys of a known_hosts file; lines that make no sense are skipped, as ssh does."""
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if marker not in {"", "@revoked"} or len(words) < 3:
            continue
        patterns = tuple(words[0].split(","))
        yield KnownKey(patterns, words[1], words[2], f"{file}:{number}", bool(marker))


def host_id(name: str, port: int) -> str:
    """Return the name by which known_hosts knows a host."""
    return name.casefold() if port == 22 else f"[{name.casefold()}]:{port}"


def key_types(keys: Iterable[KnownKey], host: str) -> tuple[str, ...]:
    """Return the types of the keys that are written down for a host, to ask for one of these."""
    return tuple(key.key_type for key in keys if not key.revoked and _names(key, host))


def judge(keys: Iterable[KnownKey], host: str, key_type: str, key: str) -> Judgement:
    """Hold the key that a host shows against what is written down."""
    named = [one for one in keys if _names(one, host)]
    for one in named:
        if one.revoked and (one.key_type, one.key) == (key_type, key):
            return Revoked(one.place)
    written = [one for one in named if not one.revoked]
    if any((one.key_type, one.key) == (key_type, key) for one in written):
        return Trusted()
    if not written:
        return Unknown()
    same_type = [one for one in written if one.key_type == key_type]
    return Changed((same_type or written)[0].place)


def fingerprint(key: str) -> str:
    """Return a key's fingerprint as ssh-keygen -l shows it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _names(key: KnownKey, host: str) -> bool:
    negative = any(_fits(one[1:], host) for one in key.patterns if one.startswith("!"))
    return not negative and any(_fits(one, host) for one in key.patterns if one[0] != "!")


def _fits(pattern: str, host: str) -> bool:
    if pattern.startswith("|1|"):
        return _fits_hashed(pattern, host)
    # ssh knows * and ? only; brackets belong to [name]:port
    return fullmatch(translate(pattern.casefold().replace("[", "[[]")), host) is not None


def _fits_hashed(pattern: str, host: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        wanted = base64.b64decode(digest, validate=True)
        made = hmac.new(base64.b64decode(salt, validate=True), host.encode(), "sha1").digest()
    except ValueError:
        return False
    return hmac.compare_digest(made, wanted)
