"""erofs, written by mkfs.erofs as a child, the same bytes each time.

It is given the tree, not the directory: owners, excludes and added entries are the tree's. Only
mkfs.erofs before 1.7 reads a directory: the source if the tree equals it, else a private copy.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from builder import restore, tar
from builder.contents import pieces
from builder.hardlinks import first_files
from builder.progress import Meter
from builder.tools import Tool, feed, run, version, words
from builder.tree import Tree
from slots.errors import ConfigError
from slots.events import Emit, step

MKFS_EROFS = Tool("mkfs.erofs", "erofs-utils", "erofs-utils")

_TAR = (1, 7)
_CODECS = {"zstd": "zstd", "zlib": "deflate", "lzma": "lzma", "lz4": "lz4hc", "none": ""}
_SINCE = {"zstd": "1.8", "zlib": "1.6", "lzma": "1.5 built with liblzma", "lz4": "1.0"}


def tool_version() -> tuple[int, ...]:
    """Return that of mkfs.erofs; 1.5 knows no `-V`, its name stands within its usage."""
    said = words(MKFS_EROFS, "-V").splitlines()
    about = next((line for line in said if line.startswith("mkfs.erofs ")), "")
    return version(about)


def check(codec: str, source: Path | None) -> bool:
    """Tell whether the tool reads a tar stream, or say why it cannot write this tree."""
    streams = tool_version() >= _TAR
    _codec(codec, 1)
    if not streams and source is None and os.geteuid() != 0:
        raise ConfigError(
            "mkfs.erofs before 1.7 reads owners from a directory, and only root can make one with "
            "the owners asked for",
            hint="install erofs-utils 1.7 or newer, build as root, or choose squashfs",
        )
    return streams


def write(
    tree: Tree,
    out: Path,
    *,
    source: Path | None,
    codec: str,
    level: int,
    mtree_sha256: str,
    emit: Emit,
) -> None:
    """Write a tree as erofs. `source` is a directory that equals the tree, if there is one."""
    streams = check(codec, source)
    latest_s = max(node.mtime_s for node in tree)
    # The clamp of SOURCE_DATE_EPOCH keeps earlier times; -T would replace them all.
    environment = _environment() | {"SOURCE_DATE_EPOCH": str(latest_s)}
    arguments = [
        "--quiet", "-x-1", f"-U{UUID(mtree_sha256[:32])}", *_codec(codec, level),
    ]  # fmt: skip
    total_bytes = sum(node.size for node in tree)
    with step(emit, "erofs", out.name, total_bytes if streams else None):
        if streams:
            meter = Meter(emit, "erofs", out.name)
            feed(
                MKFS_EROFS,
                [*arguments, "--tar=f", str(out)],
                tar.stream(tree),
                meter.add,
                environment,
            )
        elif source is not None:
            run(MKFS_EROFS, [*arguments, str(out), str(source)], environment)
        else:
            _from_copy(tree, out, arguments, environment)


def _codec(codec: str, level: int) -> list[str]:
    name = _CODECS[codec]
    if not name:
        return []
    offered = words(MKFS_EROFS, "--help").partition("compressors are:")[2]
    if name not in offered.replace(",", " ").split():
        raise ConfigError(
            f"this mkfs.erofs cannot compress with {name} (it offers:{offered.rstrip()})",
            hint=f"install erofs-utils {_SINCE[codec]} or newer, or take --codec lz4",
        )
    return [f"-z{name},{level}"]


def _from_copy(tree: Tree, out: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Write from a copy that has the tree's owners, for tools that read directories alone."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="erofs-") as folder:
        contents = ((node, pieces(node)) for node in first_files(tree))
        restore.restore(tree, contents, Path(folder), restore.Privilege.ROOT)
        run(MKFS_EROFS, [*arguments, str(out), folder], environment)


def _environment() -> dict[str, str]:
    """Return an environment in which only the search path and the temporary folder are ours."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "HOME") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC0"}
