"""An image as a tree again: info, ls, cat, extract and verify, whatever its format."""

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from builder import places, restore
from builder.hardlinks import first_files
from builder.names import listed, shown, text
from builder.opened import iso9660
from builder.opened.erofs import MAGIC, SUPERBLOCK_AT, ErofsImage
from builder.opened.image import Facts, OpenedImage
from builder.opened.squashfs import SquashfsImage
from builder.progress import Meter, counted
from builder.tree import Kind, Node, Tree
from builder.uzip.reader import UzipReader, is_uzip
from slots.errors import ConfigError, ProductError, Refused
from slots.events import Emit, Notice, step


@contextmanager
def opened(path: Path) -> Iterator[OpenedImage]:
    """Open an image by what it holds, not by its name."""
    with ExitStack() as stack:
        try:
            if path.is_fifo():  # also a shell's <(…)
                raise ConfigError(
                    f"{path} is a pipe: an image is read here and there",
                    hint="save it to a file first",
                )
            file = stack.enter_context(path.open("rb"))
            head = file.read(40_000)
        except IsADirectoryError as error:
            raise ConfigError(
                f"{path} is a folder, not an image", hint="name an image, or a release"
            ) from error
        except OSError as error:
            raise ConfigError(f"cannot read the image {path}: {error.strerror}") from error
        yield _opened(path, file, head, stack)


def _opened(path: Path, file: BinaryIO, head: bytes, stack: ExitStack) -> OpenedImage:
    if is_uzip(head[:128]):
        return _uzip(file, path.name)
    if head[32_769:32_774] == b"CD001":
        return iso9660.plain(file, path.name)
    if head[:4] == b"hsqs":
        return SquashfsImage(path)
    if head[SUPERBLOCK_AT : SUPERBLOCK_AT + 4] == MAGIC:
        return ErofsImage(path, file, stack)
    raise Refused(f"{path} is no image that is known", hint="uzip, iso9660, squashfs and erofs are")


def _uzip(file: BinaryIO, name: str) -> OpenedImage:
    reader = UzipReader(file, name)
    facts = Facts(
        "uzip",
        reader.codec.name,
        reader.cluster_bytes,
        reader.size_bytes,
        (("clusters", f"{reader.cluster_count:,}"), ("end", f"{reader.end_bytes:,} bytes")),
    )
    return iso9660.Iso9660Image(io.BufferedReader(reader), name, facts, reader)


def below(tree: Tree, path: str) -> list[Node]:
    """Return an entry and all below it."""
    wanted = _wanted(path)
    found = [node for node in tree if node.path == wanted or node.path.startswith(wanted + b"/")]
    if not found:
        raise Refused(f"no such entry in the image: {text(wanted)}")
    return found


def _wanted(path: str) -> bytes:
    parts = [part for part in os.fsencode(path).split(b"/") if part and part != b"."]
    return b"".join(b"/" + part for part in parts)


def cat(image: OpenedImage, path: str, out: BinaryIO) -> None:
    """Write the bytes of one file."""
    node = next((one for one in image.tree() if one.path == _wanted(path)), None)
    if node is None:
        raise Refused(f"no such entry in the image: {path}")
    if node.kind is Kind.SYMLINK:
        raise Refused(f"{shown(node.path)} is a symlink to {text(node.target)}")
    if node.kind is not Kind.FILE:
        raise Refused(f"{shown(node.path)} is no file but of type {node.kind}")
    for _, chunks in image.contents([node]):
        out.writelines(chunks)


def extract(image: OpenedImage, folder: Path, emit: Emit) -> Tree:
    """Unpack an image into a new or empty folder; as an ordinary user without its owners."""
    privilege = restore.Privilege.ROOT if os.geteuid() == 0 else restore.Privilege.USER
    tree = image.tree()
    files = first_files(tree)
    with (
        _filled(folder),
        step(emit, "extract", str(folder), sum(node.size for node in files)) as detail,
    ):
        meter = Meter(emit, "extract", str(folder))
        contents = counted(image.contents(files), meter)
        with places.disk_errors(folder, "free some, or name a folder elsewhere"):
            left_out = restore.restore(tree, contents, folder, privilege)
        detail.append(f"{len(tree)} entries")
    if privilege is restore.Privilege.USER:
        emit(Notice("owners are left out: only root can set them"))
    if left_out:
        emit(Notice(f"devices are left out: {listed(left_out)}"))
    return tree


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Give a new or empty folder, which is as it was again if it is not filled to the end."""
    was_there = folder.is_dir()
    _make_empty(folder)
    try:
        yield
    except BaseException as error:
        left = restore.emptied(folder)
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        if left and isinstance(error, ProductError):
            error.message = f"{error.message}; {folder} holds a part of the image"
        raise


def _make_empty(folder: Path) -> None:
    try:
        places.real(folder).mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Refused(f"{folder} is not empty", hint="name a new folder")
    except OSError as error:
        raise Refused(
            f"cannot make {folder}: {error.strerror}", hint="name a new folder elsewhere"
        ) from error
