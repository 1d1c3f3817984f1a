"""`image build --check-reproducible`: the same order twice, and the first byte that differs."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from builder.build import OUT, Built, Order, build
from builder.places import real
from slots.errors import BuildError
from slots.events import Emit, step

_READ_BYTES = 1 << 20


def build_checked(order: Order, emit: Emit) -> Built:
    """Build without a cache, build again with other threads, and compare every file made."""
    order = replace(order, cache=None)
    built = build(order, emit)
    place = order.output or OUT
    with (
        step(emit, "reproduce", built.release.label) as detail,
        tempfile.TemporaryDirectory(
            dir=real(place if place.is_dir() else place.parent), prefix=".again-"
        ) as folder,
    ):
        again = build(_second(order, built, Path(folder)), emit)
        compare(built, again)
        detail.append("the same to the byte")
    return built


def _second(order: Order, built: Built, folder: Path) -> Order:
    """Return an order of the same elsewhere: the number of threads decides what ends when."""
    single = built.manifest.name != "release.json"
    output = folder / built.release.artefacts[0].file if single else folder
    return replace(order, output=output, threads=order.threads + 1)


def compare(one: Built, two: Built) -> None:
    """Name the first difference of two releases."""
    files = [
        *(name for artefact in one.release.artefacts for name in (artefact.file, artefact.index)),
        one.release.mtree,
        one.manifest.name,
    ]
    # What describes the entries comes first: it says what, the images only where.
    for name in sorted(files, key=lambda name: (name != one.release.mtree, files.index(name))):
        first, second = one.manifest.with_name(name), two.manifest.with_name(name)
        at = _first_difference(first, second)
        if at is not None:
            raise BuildError(
                f"not reproducible: {name} differs from byte {at} on",
                hint=f"{first} is kept; build again, then `image diff` the two",
            )


def _first_difference(first: Path, second: Path) -> int | None:
    at = 0
    for left, right in _pairs(first, second):
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            return at + next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))
        at += len(left)
    return None


def _pairs(first: Path, second: Path) -> Iterator[tuple[bytes, bytes]]:
    with first.open("rb") as one, second.open("rb") as two:
        while True:
            left, right = one.read(_READ_BYTES), two.read(_READ_BYTES)
            if not left and not right:
                return
            yield left, right
