"""The measures of what travels, on images of a few hundred kilobytes."""

import subprocess
from pathlib import Path

import pytest

from tests.bench import peers, travel_peers, travel_rows
from tests.bench.travel_peers import Update
from tests.bench.travel_replay import plain_dd, replay
from tests.deployer.conftest import described
from tests.slots.patches import noise

OLD = noise(1, 600_000)
NEW = OLD[:300_000] + noise(2, 50_000) + OLD[300_000:]


@pytest.fixture
def update(tmp_path: Path) -> Update:
    """Two versions of one file, and of an image."""
    for version, data in (("1", OLD), ("2", NEW)):
        folder = described(data, tmp_path / version, version)
        (folder / "release.json").rename(folder / "cgi.squashfs.release.json")
        (tmp_path / f"tree{version}").mkdir()
        (tmp_path / f"tree{version}" / "file").write_bytes(data)
    (tmp_path / "work").mkdir()
    return Update(
        tmp_path / "tree1",
        tmp_path / "tree2",
        tmp_path / "1/cgi.squashfs",
        tmp_path / "2/cgi.squashfs",
        tmp_path / "work",
        ["tmp/*"],
    )


@pytest.mark.parametrize("name", travel_peers.PEERS)
def test_each_peer_sends_little_more_than_what_is_new(update: Update, name: str) -> None:
    peer = travel_peers.PEERS[name]
    if peers.lacking([peer.tool]):
        pytest.skip(f"needs {peer.tool}")
    sent = peer.take(update)
    most = 300_000 if name == "casync" else 70_000  # its chunks are of 64 KiB
    assert 50_000 < sent.sent_bytes < most
    assert sent.cpu_s > 0
    assert not [path for path in update.work.iterdir() if path.name != "local-shell"]


def test_a_pack_is_replayed_by_the_real_verb(update: Update) -> None:
    pack, usage = travel_rows.made(update.old, update.new, update.work / "pack")
    assert usage.cpu_s > 0
    assert 50_000 < pack.facts.size_bytes < 90_000
    artefact = travel_rows.artefact_of(update.new)
    assert replay(update.old, update.new, artefact, pack.path, pack.facts).cpu_s > 0
    assert plain_dd(update.new).cpu_s > 0


def test_a_replay_that_gives_other_bytes_is_no_figure(update: Update) -> None:
    pack, _ = travel_rows.made(update.old, update.new, update.work / "pack")
    artefact = travel_rows.artefact_of(update.new)
    data = bytearray(update.new.read_bytes())
    data[-1] ^= 1
    update.new.write_bytes(data)
    with pytest.raises(subprocess.CalledProcessError, match="cmp"):
        replay(update.old, update.new, artefact, pack.path, pack.facts)
