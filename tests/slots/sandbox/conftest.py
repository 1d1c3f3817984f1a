"""A frontend in a folder, that needs no root."""

from pathlib import Path

import pytest

from slots.sandbox import Sandbox
from slots.slot import SlotSet
from tests.slots.hosts import Host, sandbox_slots
from tests.slots.sandbox.frontend import SLOT_BYTES


@pytest.fixture
def slots(tmp_path: Path) -> SlotSet:
    folder = tmp_path / "a frontend's folder"
    folder.mkdir()
    return sandbox_slots(folder, SLOT_BYTES)


@pytest.fixture
def host(slots: SlotSet) -> Host:
    return Host(Sandbox(), slots)
