"""Who runs this, and where their files are, also where the machine has no entry for them.

A container's user may have a number and nothing else: no name, no home.
"""

import getpass
import os
from pathlib import Path


def expanded(text: str) -> Path:
    """Return a path with its `~` replaced; of a user that is unknown it stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises RuntimeError


def home() -> Path:
    """Return the home of who runs this; `~` itself if there is none."""
    return expanded("~")


def name() -> str:
    """Return the name of who runs this; the number of who has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid{os.getuid()}"
