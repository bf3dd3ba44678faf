"""What the processes of a contest do beside publishing and counting."""

from __future__ import annotations

import asyncio
import signal
import time

import backplane_nats._link as nats_link
import pytest
from backplane_nats._public_io import PublicIO
from backplane_redis._connection import LinkConnection, make_connection

from bench.libraries import LibraryMissing, library
from bench.sampler import Sampler
from bench.worker import only_public_names
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


def spin() -> None:
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass


def test_the_sampler_finds_what_takes_the_time() -> None:
    with Sampler() as sampler:
        spin()
    assert sampler.counts["bench/test_workers.py:spin"] > 0
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)
    before = sampler.counts
    spin()
    assert sampler.counts == before


def test_a_sampler_that_is_off_samples_nothing() -> None:
    with Sampler(enabled=False) as sampler:
        spin()
    assert sampler.counts == {}


def test_a_library_that_is_not_there_names_the_command_that_has_it() -> None:
    with pytest.raises(LibraryMissing, match="no_such_library is not installed: run this with `uv run --group bench"):
        library("no_such_library.channels")
