"""Files that appear whole or not at all: written beside, flushed, renamed.

The builder has its own few lines of that (places.py): what the packages share is pure, and one
fsync of a folder is no reason for a package of its own.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slots.errors import ConfigError

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """Return a name beside this one that nobody else takes."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}{PARTIAL}")


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that becomes `path` when all went well; nothing is left when it did not."""
    partial = partial_of(path)
    with partial.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    settle(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write the file that a user's `-o` means; what stands in the way is one clear line."""
    try:
        with written(replaceable(path)) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def replaceable(path: Path) -> Path:
    """Return the file that a user's `-o` means: a link is followed, a device or pipe is refused.

    A rename would put a file into the place of /dev/null, or of the link /dev/stdout.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        is_special = target.exists() and not target.is_file()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    except RuntimeError as error:  # what Python 3.11 and 3.12 raise
        raise ConfigError(f"cannot write {path}: its symlinks are a loop") from error
    if is_special:
        raise ConfigError(f"cannot write {path}: it is no regular file")
    return target


def settle(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
