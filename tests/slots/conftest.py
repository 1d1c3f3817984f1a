"""The shells under which scripts must run."""

import pytest

from tests.slots.hosts import SHELLS


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)
