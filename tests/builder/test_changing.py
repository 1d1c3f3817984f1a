"""A tree that changes while it is read: the build names the file, and leaves nothing."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builder.build import build
from builder.recipe import FileSettings
from slots.errors import BuildError
from slots.events import Event, Progress, Started
from tests.builder import readers
from tests.builder.conftest import order


@pytest.mark.parametrize("step", ["digest", "uzip"])
def test_a_file_that_grows_in_the_middle_of_the_reading_is_named(
    chroot: Path, tmp_path: Path, step: str
) -> None:
    once = threading.Event()

    def disturb(event: Event) -> None:
        if isinstance(event, Progress) and event.step == step and not once.is_set():
            once.set()
            with (chroot / "usr/lib/big").open("ab") as file:
                file.write(b"more")

    with pytest.raises(BuildError, match="/usr/lib/big") as caught:
        build(order(chroot, tmp_path / "out" / "image"), disturb)
    assert once.is_set()
    assert "changed" in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_of_the_recipe_that_changes_is_named(chroot: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_text("before")
    plain = order(chroot, tmp_path / "out" / "image")
    recipe = plain.recipe.model_copy(update={"files": (FileSettings(path="x", source=extra),)})

    def disturb(event: Event) -> None:
        if isinstance(event, Started) and event.step == "uzip":
            extra.write_text("after it")

    with pytest.raises(BuildError, match="/x changed while"):
        build(type(plain)(recipe, plain.formats, plain.output, threads=2), disturb)


@pytest.mark.parametrize("change", ["grows", "goes", "appears"])
def test_the_command_names_what_changes_while_it_builds_and_exits_9(
    chroot: Path, tmp_path: Path, change: str
) -> None:
    out, changing = tmp_path / "out", chroot / "usr/lib" / ("big" if change != "appears" else "new")
    (chroot / "random").write_bytes(os.urandom(3_000_000))
    command = [
        sys.executable, "-c", "from builder.cli import main; main()", "build", "--no-cache",
        "--source", str(chroot), "--output", f"{out}/", "--level", "22",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 60
        while not list(out.glob(".*partial*/*.uzip")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        match change:
            case "goes":
                changing.unlink()
            case _:
                with changing.open("ab") as file:
                    file.write(b"more")
        _, said = child.communicate(timeout=60)
    told = [line for line in said.splitlines() if line.startswith("image: ")]
    assert (child.returncode, len(told)) == (9, 1)
    assert "/usr/lib" in told[0]
    assert "Traceback" not in said
    assert list(out.iterdir()) == []


_CHANGES = {"grows": "echo more >>big", "goes": "rm big", "appears": "echo more >new"}


@pytest.mark.parametrize("change", _CHANGES)
def test_what_changes_while_a_tool_reads_the_tree_is_named_with_exit_9(
    chroot: Path, tmp_path: Path, change: str
) -> None:
    """The tool is there, but the tree changes before its first look at it."""
    readers.need("mkfs.erofs")
    name = "mkfs.erofs"
    tool, out = tmp_path / "tools" / name, tmp_path / "out"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *{out}*) (cd {chroot}/usr/lib && {_CHANGES[change]});; esac\n'
        f'exec {shutil.which(name)} "$@"\n'
    )
    tool.chmod(0o755)
    command = [
        sys.executable, "-c", "from builder.cli import main; main()", "build", "--no-cache",
        "--source", str(chroot), "--output", f"{out}/", "--format", "erofs",
    ]  # fmt: skip
    path = f"{tool.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("image: ")]
    assert (done.returncode, len(told)) == (9, 1), done.stderr
    assert "/usr/lib" in told[0]
    assert "changed while the image was built" in told[0]
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []
