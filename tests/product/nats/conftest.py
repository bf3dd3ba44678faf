from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers.leftovers import no_leftovers


@pytest.fixture(params=["fast", "public"])
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to move frames; the public one by telling the guard of a nats-py that it does not know."""
    if request.param == "public":

        def unknown(_name: str) -> str:
            return "3.0.0"

        monkeypatch.setattr("backplane_nats._internals.version", unknown)
    return str(request.param)


@pytest.fixture(autouse=True)
async def _nothing_is_left_or_logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    with caplog.at_level("DEBUG"):
        async with no_leftovers():
            yield
    records = caplog.get_records("call")
    assert [record.getMessage() for record in records if record.name.startswith("nats") or record.exc_info] == []
