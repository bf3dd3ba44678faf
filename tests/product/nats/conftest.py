from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from backplane_testservers.leftovers import no_leftovers


@pytest.fixture(params=["inline", "public"])
def client_io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test by each `ClientIO`; the public one is taken where the guard does not know the version of nats-py."""
    if request.param == "public":

        def unknown(_name: str) -> str:
            return "3.0.0"

        monkeypatch.setattr("backplane_nats._inline_io.version", unknown)
    return str(request.param)


@pytest.fixture(autouse=True)
async def _nothing_is_left_or_logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    with caplog.at_level("DEBUG"):
        async with no_leftovers():
            yield
    records = caplog.get_records("call")
    assert [record.getMessage() for record in records if record.name.startswith("nats") or record.exc_info] == []
