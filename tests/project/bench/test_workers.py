"""What the processes of a measurement do besides publishing and counting."""

from __future__ import annotations

import asyncio

import backplane_nats._link as nats_link
import pytest
from backplane_nats._public_io import PublicIO
from backplane_redis._connection import LinkConnection, make_connection

from bench.libraries import LibraryMissing, library
from bench.processes import ProcessFailed, ask
from bench.workers.throughput import only_public_names
from tests.product.nats.helpers import opened


async def test_by_public_api_alone_no_adapter_takes_its_fast_path(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((nats_link, "make_inline_io"), (LinkConnection, "stream")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    connection = make_connection({})
    monkeypatch.setattr(connection, "_reader", asyncio.StreamReader())

    async def wires() -> tuple[object, object]:
        async with opened(nats_url) as nats:
            return getattr(nats, "_io"), connection.stream()  # noqa: B009 -- private

    fast = await wires()
    assert not isinstance(fast[0], PublicIO)
    assert isinstance(fast[1], asyncio.StreamReader)
    only_public_names()
    public = await wires()
    assert isinstance(public[0], PublicIO)
    assert public[1] is None


async def test_a_process_that_fails_fails_the_measurement(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProcessFailed, match="speed measure should say 'done', said 'nothing'"):
        await ask("speed", "measure", {})
    assert "there is no worker 'speed'; there are fanout, fleet" in capfd.readouterr().err, "it says why itself"


def test_a_library_that_is_not_there_names_the_command_that_has_it() -> None:
    with pytest.raises(LibraryMissing, match="no_such_library is not installed: run this with `uv run --group bench"):
        library("no_such_library.channels")
