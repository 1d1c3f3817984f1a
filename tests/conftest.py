import os

import pytest
from hypothesis import settings

from slots.events import Event

# Short and the same each time by default; HYPOTHESIS_PROFILE=deep looks further. No deadlines:
# they would judge the machine, not the code.
settings.register_profile("short", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("deep", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


@pytest.fixture
def events() -> list[Event]:
    """A sink: give `events.append` as emit."""
    return []
