"""Rock Ridge names → ISO identifiers (ECMA-119, 7.5 and 7.6), unique within one directory.

An identifier follows from its own name alone: a name that is already good in upper case is taken
as it is, every other one becomes four letters of itself and four digits of its hash. Only when
two hashes meet does the later name (in byte order) try again, so one more file in a directory
renames no other. Identifiers are short because they do not compress.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GOOD_FILE = re.compile(rb"[a-z0-9_]{1,8}(\.[a-z0-9_]{1,3})?")
GOOD_DIRECTORY = re.compile(rb"[a-z0-9_]{1,8}")

STEM_LENGTH = 4
SHORT_HASH = 4
LONG_HASH = 8
SHORT_ATTEMPTS = 8
"""After so many meetings the four digits are nearly used up; eight are good for any directory."""

_TWO_DIGITS = tuple(bytes((low, high)) for high in DIGITS for low in DIGITS)
"""A number below 36², the lower digit first."""

_MANGLED = bytes(byte if byte in DIGITS else ord("_") for byte in bytes(range(256)).upper())


def identifiers(names: Sequence[bytes], directories: Sequence[bool]) -> list[bytes]:
    """Return the identifier of each name of one directory, names in byte order."""
    found: list[bytes | None] = [
        _good(name, directory) for name, directory in zip(names, directories, strict=True)
    ]
    taken = set(found)
    for at, good in enumerate(found):
        if good is None:
            found[at] = key = _free(names[at], taken)
            taken.add(key)
    pairs = zip(found, directories, strict=True)
    return [key if directory else file_identifier(key) for key, directory in pairs if key]


def file_identifier(key: bytes) -> bytes:
    """Return the identifier of a file: name, dot, extension, version (ECMA-119, 7.5.1)."""
    return (key if b"." in key else key + b".") + b";1"


def sort_keys(identifiers: Sequence[bytes]) -> list[bytes]:
    """Return the place of each identifier in its directory (ECMA-119, 9.3).

    Name and extension count as if filled with spaces, which sort before any other character.
    """
    if not identifiers:
        return []
    text = b"\0".join(identifiers).replace(b".;1", b"").replace(b";1", b"")
    return text.replace(b".", b" ").split(b"\0")


def _good(name: bytes, directory: bool) -> bytes | None:
    pattern = GOOD_DIRECTORY if directory else GOOD_FILE
    return name.upper() if pattern.fullmatch(name) else None


def _free(name: bytes, taken: Iterable[bytes | None]) -> bytes:
    stem = name[:STEM_LENGTH].translate(_MANGLED).ljust(STEM_LENGTH, b"_")
    attempt = 0
    while True:
        short = attempt < SHORT_ATTEMPTS
        digits = _hash_digits(name, attempt, SHORT_HASH if short else LONG_HASH)
        key = stem + digits if short else digits
        if key not in taken:
            return key
        attempt += 1


def _hash_digits(name: bytes, attempt: int, count: int) -> bytes:
    """Return digits of a hash, the lowest first; `count` is even."""
    if attempt:
        hashed = blake2b(name, digest_size=8, salt=attempt.to_bytes(4, "little"))
    else:
        hashed = blake2b(name, digest_size=8)
    number = int.from_bytes(hashed.digest(), "little")
    if count == 4:  # nearly all
        high, low = divmod(number % len(_TWO_DIGITS) ** 2, len(_TWO_DIGITS))
        return _TWO_DIGITS[low] + _TWO_DIGITS[high]
    digits = b""
    for _ in range(count // 2):
        number, two = divmod(number, len(_TWO_DIGITS))
        digits += _TWO_DIGITS[two]
    return digits
