"""Fixtures for the tests of a service: `backplane`, `backplane_broker`, `make_pod`.

`pip install backplane-core[testing]`, and in the root conftest.py:

    pytest_plugins = ["backplane_core.testing.pytest_plugin"]

All three are plain fixtures that need no event loop, so they work under pytest-asyncio, under anyio (on asyncio), and
in a test that calls `asyncio.run` itself. In service a backplane contains what a sink or a callback raises, so that one
bad socket harms no other; here it fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol, Unpack

import pytest

from backplane_core._runtime.reporter import ABANDONED
from backplane_core.base import BaseBackplane
from backplane_core.distributed import DistributedBackplane
from backplane_core.memory import InMemoryBackplane
from backplane_core.observe import Observer, Record, SinkFailed, StateChanged
from backplane_core.options import Options
from backplane_core.testing.memory import MemoryBroker, MemoryTransport

__all__ = ["MakePod", "backplane", "backplane_broker", "make_pod"]


class MakePod(Protocol):
    """What the fixture `make_pod` is: a call of it makes a pod."""

    def __call__(self, **options: Unpack[Options]) -> DistributedBackplane:
        """Return a pod that is not open yet: `async with make_pod() as pod`.

        Args:
            options: See `Options`.

        Raises:
            ConfigurationError: An option is unknown, or its value is not allowed.
        """
        ...


class Watch:
    """An observer that keeps what went wrong in the host's code, and passes every record on.

    Args:
        observer: The host's own.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer
        self._failed: list[str] = []
        self.was_abandoned = False
        """Whether the event loop ended while the pod was open, which then closes itself."""

    def __call__(self, record: Record) -> None:
        """Keep the record if it reports a failure."""
        if isinstance(record, SinkFailed):
            self._failed.append(f"the sink of connection {record.conn_id!r} raised {record.error}")
        elif isinstance(record, StateChanged) and record.reason == ABANDONED:
            self.was_abandoned = True
        if self._observer is not None:
            self._observer(record)

    def failures(self, backplane: BaseBackplane) -> list[str]:
        """Return what the host's code raised, in words; empty if nothing."""
        callbacks = backplane.stats().observer_errors
        summary = f"on_gap, on_state or the observer raised, {callbacks} times in all; the log has the types"
        return [*self._failed, *[summary] * bool(callbacks)]


def fail_for(failures: list[str]) -> None:
    """Fail the test if there are any."""
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def backplane() -> Iterator[InMemoryBackplane]:
    """Provide a live in-memory backplane, closed when the test ends. A sink or callback that raised fails the test."""
    watch = Watch()
    backplane = InMemoryBackplane(observer=watch)
    yield backplane
    # The test's own loop may be closed by now, and nothing here belongs to it.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(backplane.aclose())
    loop.close()
    fail_for(watch.failures(backplane))


@pytest.fixture
def backplane_broker() -> MemoryBroker:
    """Provide the broker between the pods of `make_pod`: `cut()`, `restore()` and `drop_links()` are its outages."""
    return MemoryBroker()


@pytest.fixture
def make_pod(backplane_broker: MemoryBroker) -> Iterator[MakePod]:
    """Provide a function that makes the pods of one fleet, not open yet: `async with` opens and closes each.

    When the test ends, a pod that was opened and not closed fails it, and so does a sink or callback that raised.
    """
    pods: list[tuple[DistributedBackplane, Watch]] = []

    def make(**options: Unpack[Options]) -> DistributedBackplane:
        watch = options["observer"] = Watch(options.get("observer"))
        pod = DistributedBackplane(MemoryTransport(backplane_broker), **options)
        pods.append((pod, watch))
        return pod

    yield make
    left_open = sum(watch.was_abandoned or pod.state not in {"connecting", "closed"} for pod, watch in pods)
    summary = f"{left_open} of {len(pods)} pods were left open: enter each with async with"
    fail_for([*[failure for pod, watch in pods for failure in watch.failures(pod)], *[summary] * bool(left_open)])
