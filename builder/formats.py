"""The formats of an image: one row each in FORMATS."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from builder import erofs, pieces, program
from builder.clusters import Recall, Stored, ZeroRun, nothing_known
from builder.iso9660 import layout as iso9660
from builder.iso9660 import limits as iso9660_limits
from builder.iso9660 import stream as iso9660_stream
from builder.iso9660.parameters import Parameters, Placement
from builder.lint import Limits
from builder.parts import Marks
from builder.progress import Meter
from builder.recipe import Packing
from builder.squashfs import codecs as squashfs_codecs
from builder.squashfs import layout as squashfs
from builder.squashfs import writer as squashfs_writer
from builder.streams import fingerprint
from builder.tree import Digests, Tree
from builder.uzip import codecs as uzip_codecs
from builder.uzip import writer as uzip
from slots.errors import BuildError, ConfigError
from slots.events import Emit, step
from slots.index import Piece
from slots.manifest import ALIGNMENT_BYTES, HEAD_BYTES, Codec, Format

_READ_BYTES = 1 << 20
_ISO_CLUSTER_BYTES = 65_536
_ISO_LIMITS = Limits(
    iso9660_limits.MAX_FILE_BYTES,
    iso9660_limits.MAX_NAME_BYTES,
    iso9660_limits.MAX_TARGET_BYTES,
    iso9660_limits.MAX_LINKS,
)


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of a codec in a format, and the one that is taken if none is given."""

    least: int
    most: int
    default: int


@dataclass(frozen=True, slots=True)
class Packed:
    """How an artefact is packed, nothing left open."""

    codec: Codec
    level: int
    cluster_bytes: int  # 0 where the format has none
    layout: Placement


@dataclass(frozen=True, slots=True)
class Job:
    """One artefact to be made."""

    tree: Tree
    packed: Packed
    label: str
    source: Path | None  # a directory that equals the tree, if there is one
    threads: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where an artefact is written, and what it belongs to."""

    out: Path
    mtree_sha256: str
    emit: Emit
    digests: Digests
    recall: Callable[[str], Recall] = lambda _: nothing_known


@dataclass(frozen=True, slots=True)
class Made:
    """An artefact as it lies on the disk."""

    size_bytes: int
    sha256: str
    head_sha256: str
    pieces: tuple[Piece, ...]
    how: str = ""  # the clusters were compressed: the same way, the same bytes
    clusters: tuple[Stored, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What can be said of an artefact before it is made: parameters of its layout, its tools."""

    parameters: Mapping[str, int | str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format: its file suffix, its codecs, and how it is checked for and written."""

    suffix: str
    codecs: Mapping[Codec, Levels]  # the first is the default
    cluster_bytes: int  # the default; 0: the format has none
    cluster_step: int  # a cluster is a multiple of this; 0: a power of two
    layout: Placement
    limits: Limits
    tools: Callable[[Codec], dict[str, str]]  # with versions: other ones, other bytes
    check: Callable[[Job], Checked]
    write: Callable[[Job, Target], Made]


def packed(name: Format, wanted: Packing) -> Packed:
    """Settle how an artefact is packed; what the format cannot do is refused."""
    row = FORMATS[name]
    codec = next(iter(row.codecs)) if wanted.codec is None else wanted.codec
    if codec not in row.codecs:
        raise ConfigError(f"{name} has no codec {codec}", hint=f"it has {', '.join(row.codecs)}")
    levels = row.codecs[codec]
    level = levels.default if wanted.level is None else wanted.level
    if not levels.least <= level <= levels.most:
        raise ConfigError(
            f"{name} with {codec} has no level {level}",
            hint=f"its levels are {levels.least} to {levels.most}",
        )
    layout = row.layout if wanted.layout is None else Placement(wanted.layout)
    return Packed(codec, level, _cluster_bytes(name, row, wanted.cluster), layout)


def _cluster_bytes(name: Format, row: ImageFormat, wanted: int | None) -> int:
    if row.cluster_bytes == 0 or wanted is None:
        return row.cluster_bytes
    if row.cluster_step and wanted % row.cluster_step:
        raise ConfigError(
            f"a cluster of {wanted} bytes does not fit {name}",
            hint=f"take a multiple of {row.cluster_step:,}",
        )
    if not row.cluster_step and wanted & (wanted - 1):
        raise ConfigError(
            f"a cluster of {wanted} bytes does not fit {name}", hint="take a power of two"
        )
    return wanted


def _parameters(job: Job, cluster_bytes: int) -> Parameters:
    return Parameters(label=job.label, placement=job.packed.layout, cluster_bytes=cluster_bytes)


def _check_uzip(job: Job) -> Checked:
    parameters = _parameters(job, job.packed.cluster_bytes)
    _refuse(job, parameters)
    return Checked(parameters.as_record(), _uzip_tools(job.packed.codec))


def _uzip_tools(codec: Codec) -> dict[str, str]:
    return uzip_codecs.CODECS[codec].versions()


def _refuse(job: Job, parameters: Parameters) -> None:
    if refusals := iso9660.refusals(job.tree, parameters):
        more = f"; and {len(refusals) - 10} more" if len(refusals) > 10 else ""
        raise BuildError("; ".join(refusals[:10]) + more)


def _write_uzip(job: Job, target: Target) -> Made:
    layout = iso9660.plan_layout(job.tree, _parameters(job, job.packed.cluster_bytes))
    codec, level = uzip_codecs.codec_of(job.packed.codec, job.packed.level)
    count, cluster_bytes = layout.cluster_count, job.packed.cluster_bytes
    how = f"uzip {codec.name} {level} {cluster_bytes} {fingerprint(codec.packer(level))}"
    marks = Marks(target.digests, program.digest())
    with step(target.emit, "uzip", target.out.name, count * cluster_bytes) as detail:
        meter = Meter(target.emit, "uzip", target.out.name)
        with target.out.open("w+b", buffering=_READ_BYTES) as file:
            written = uzip.write(
                iso9660_stream.planned(layout, marks),
                count,
                file,
                codec=codec,
                level=level,
                cluster_bytes=cluster_bytes,
                threads=job.threads,
                recall=target.recall(how),
                on_progress=meter.reach,
            )
        detail.append(f"{written.stored + written.references} clusters")
        if written.recalled:
            detail.append(f"{written.recalled} as they were")
    return Made(
        written.size_bytes, written.sha256, written.head_sha256, written.pieces, how, written.kept
    )


def _check_iso9660(job: Job) -> Checked:
    parameters = _parameters(job, _ISO_CLUSTER_BYTES)
    _refuse(job, parameters)
    return Checked(parameters.as_record())


def _write_iso9660(job: Job, target: Target) -> Made:
    parameters = _parameters(job, _ISO_CLUSTER_BYTES)
    layout = iso9660.plan_layout(job.tree, parameters)
    with step(target.emit, "iso9660", target.out.name, layout.cluster_count * _ISO_CLUSTER_BYTES):
        meter = Meter(target.emit, "iso9660", target.out.name)
        with target.out.open("wb") as file:
            for cluster in iso9660_stream.clusters(layout):
                _write_cluster(file, cluster, meter)
            file.truncate()
    return _described(target)


def _write_cluster(file: BinaryIO, cluster: bytes | ZeroRun, meter: Meter) -> None:
    """Write a cluster; holes stay holes of the file until something follows them."""
    if isinstance(cluster, ZeroRun):
        size_bytes = cluster.count * _ISO_CLUSTER_BYTES
        file.seek(size_bytes, 1)
    else:
        size_bytes = len(cluster)
        file.write(cluster)
    meter.add(size_bytes)


def _check_squashfs(job: Job) -> Checked:
    return Checked(tools=_squashfs_tools(job.packed.codec))


def _squashfs_tools(codec: Codec) -> dict[str, str]:
    return squashfs_codecs.CODECS[codec].versions()


def _write_squashfs(job: Job, target: Target) -> Made:
    codec, level = job.packed.codec, job.packed.level
    block_bytes = job.packed.cluster_bytes
    layout = squashfs.plan_layout(job.tree, target.digests, block_bytes)
    marks = Marks(target.digests, program.digest())
    made_by = fingerprint(squashfs_codecs.CODECS[codec].packer(level, block_bytes))
    how = f"squashfs {codec} {level} {block_bytes} {made_by}"
    method = squashfs_writer.Method(codec, level, job.threads, target.recall(how))
    total_bytes = squashfs.content_bytes(layout)
    with step(target.emit, "squashfs", target.out.name, total_bytes) as detail:
        meter = Meter(target.emit, "squashfs", target.out.name)
        with target.out.open("wb", buffering=_READ_BYTES) as file:
            written = squashfs_writer.write(layout, marks, file, method, meter.reach)
        detail.append(f"{written.blocks} blocks")
        if written.recalled:
            detail.append(f"{written.recalled} as they were")
    return replace(_described(target), how=how, clusters=written.kept)


def _check_erofs(job: Job) -> Checked:
    erofs.check(job.packed.codec, job.source)
    return Checked(tools=_erofs_tools(job.packed.codec))


def _erofs_tools(_codec: Codec) -> dict[str, str]:
    return {"mkfs.erofs": ".".join(map(str, erofs.tool_version()))}


def _write_erofs(job: Job, target: Target) -> Made:
    erofs.write(
        job.tree,
        target.out,
        source=job.source,
        codec=job.packed.codec,
        level=job.packed.level,
        mtree_sha256=target.mtree_sha256,
        emit=target.emit,
    )
    return _described(target)


def _described(target: Target) -> Made:
    """Pad an artefact to whole sectors, and take its digests and pieces."""
    size_bytes = target.out.stat().st_size
    wanted_bytes = max(HEAD_BYTES, size_bytes + -size_bytes % ALIGNMENT_BYTES)
    with target.out.open("r+b") as file:
        file.truncate(wanted_bytes)
    with step(target.emit, "index", target.out.name, 2 * wanted_bytes) as detail:
        meter = Meter(target.emit, "index", target.out.name)
        digest, head = hashlib.sha256(), b""
        for data in _chunks(target.out):
            head = head or data[:HEAD_BYTES]
            digest.update(data)
            meter.add(len(data))
        found = pieces.cut(target.out, meter.add)
        detail.append(f"{len(found)} pieces")
    return Made(
        wanted_bytes,
        digest.hexdigest(),
        hashlib.sha256(head).hexdigest(),
        found,
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            yield data


def _uzip_levels() -> dict[Codec, Levels]:
    """Return the codecs of the uzip container, zstd first."""
    names: tuple[Codec, ...] = ("zstd", "zlib", "lzma")
    rows = {name: uzip_codecs.CODECS[name] for name in names}
    return {
        name: Levels(min(row.levels), max(row.levels), row.default_level)
        for name, row in rows.items()
    }


FORMATS: dict[Format, ImageFormat] = {
    "uzip": ImageFormat(
        suffix=".uzip",
        limits=_ISO_LIMITS,
        codecs=_uzip_levels(),
        cluster_bytes=65_536,
        cluster_step=2048,
        layout=Placement.HASHED,
        tools=_uzip_tools,
        check=_check_uzip,
        write=_write_uzip,
    ),
    "iso9660": ImageFormat(
        suffix=".iso",
        limits=_ISO_LIMITS,
        codecs={"none": Levels(0, 0, 0)},
        cluster_bytes=0,
        cluster_step=0,
        layout=Placement.SEQUENTIAL,
        tools=lambda _codec: {},
        check=_check_iso9660,
        write=_write_iso9660,
    ),
    "squashfs": ImageFormat(
        suffix=".squashfs",
        limits=Limits(major=4095, minor=2**20 - 1, owners=65_535),
        codecs={
            "zstd": Levels(1, 22, 9),
            "zlib": Levels(1, 9, 9),
            "lzma": Levels(0, 0, 0),
            "none": Levels(0, 0, 0),
        },
        cluster_bytes=131_072,
        cluster_step=0,
        layout=Placement.SEQUENTIAL,
        tools=_squashfs_tools,
        check=_check_squashfs,
        write=_write_squashfs,
    ),
    "erofs": ImageFormat(
        suffix=".erofs",
        limits=Limits(
            name_bytes=254, major=4095, minor=2**20 - 1
        ),  # mkfs.erofs 1.5 cuts names there
        codecs={
            "lz4": Levels(0, 12, 9),
            "zstd": Levels(1, 22, 9),
            "lzma": Levels(0, 9, 6),
            "zlib": Levels(1, 9, 9),
            "none": Levels(0, 0, 0),
        },
        cluster_bytes=0,
        cluster_step=0,
        layout=Placement.SEQUENTIAL,
        tools=_erofs_tools,
        check=_check_erofs,
        write=_write_erofs,
    ),
}
