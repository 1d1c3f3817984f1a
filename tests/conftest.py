import pytest

from slots.events import Event


@pytest.fixture
def events() -> list[Event]:
    """A sink: give `events.append` as emit."""
    return []
