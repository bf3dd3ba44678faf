from __future__ import annotations

import pytest
from backplane_redis._connection import LinkConnection


def no_stream(_connection: LinkConnection) -> None:
    """What `LinkConnection.stream` returns where redis-py keeps its reader under another name."""


@pytest.fixture(params=["stream", "public"])
def read_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once per way of reading: the stream itself, and redis-py's public API."""
    if request.param == "public":
        monkeypatch.setattr(LinkConnection, "stream", no_stream)
    return str(request.param)
