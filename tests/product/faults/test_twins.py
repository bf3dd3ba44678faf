"""Each mechanism switched off shows the failure that it is there for; a test that passes without it proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from backplane_core._link.backoff import Backoff
from backplane_core._link.supervisor import LinkSupervisor
from backplane_core._outbound.outbox import Outbox
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.sequence import DUPLICATE, Tracker
from backplane_core.transport import Link

from tests.product.faults.rig import Rig
from tests.support.waiting import until

PROBE_S = 0.5
EVENTS = 200

pytestmark = pytest.mark.parametrize("routing", ["broadcast"])


@pytest.fixture
def probing(rig: Rig) -> Rig:
    rig.options["probe_interval_s"] = PROBE_S
    return rig


def never(*_: object, **__: object) -> str:
    return "wait"


@pytest.mark.parametrize("probe", [True, False], ids=["on", "off"])
async def test_without_the_probe_a_pod_stays_deaf_for_ever_and_calls_itself_live(
    probing: Rig, monkeypatch: pytest.MonkeyPatch, *, probe: bool
) -> None:
    if not probe:
        monkeypatch.setattr(Heartbeat, "tick", never)
    rig, proxy = probing, probing.proxy()
    here, there = await rig.pod(), await rig.pod(proxy)
    theirs = await rig.sockets(there, 5)
    local = await rig.sockets(here, 1)
    async with rig.traffic(here):
        await rig.more(20, "traffic before the cut", *theirs)
        proxy.down.drop()
        published = len(local[0].events)
        # Ten probe intervals' worth.
        await until(lambda: len(local[0].events) > published + 10 * PROBE_S * 500, "time passes", 60)
        proxy.heal()
        if probe:
            await until(lambda: there.links == 2 and there.is_live, "the link is replaced")
    assert proxy.down.dropped_bytes
    if probe:
        await rig.settle()
        rig.ledger.assert_clean()
    else:
        assert there.is_live
        assert there.backplane.ready()
        assert there.links == 1
        assert there.gaps == []
        with pytest.raises(AssertionError, match="unexplained"):
            rig.ledger.assert_clean()


async def resent(rig: Rig, *, lost: str) -> None:
    """Let a publisher lose its link with a batch unconfirmed: swallowed on its way up, or its confirmation down."""
    proxy = rig.proxy()
    here, there = await rig.pod(proxy), await rig.pod()
    theirs = await rig.sockets(there, 5)
    async with rig.traffic(here):
        await rig.more(20, "traffic before the cut", *theirs)
    await here.backplane.flush(timeout_s=10)
    getattr(proxy, lost).drop()
    await rig.publish(here, EVENTS)
    await until(lambda: getattr(proxy, lost).dropped_bytes > 0, "the batch is out")
    proxy.reset()
    proxy.heal()
    await until(lambda: here.links == 2 and here.is_live, "the link is replaced")
    await rig.settle()


@pytest.mark.parametrize("tell_copies", [True, False], ids=["on", "off"])
async def test_without_telling_copies_by_their_number_what_is_sent_again_arrives_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, tell_copies: bool
) -> None:
    if not tell_copies:
        accept: Callable[..., int] = Tracker.accept

        def takes_all(*frame: Any) -> int:
            missing = accept(*frame)
            return 0 if missing == DUPLICATE else missing

        monkeypatch.setattr(Tracker, "accept", takes_all)
    await resent(rig, lost="down")
    if tell_copies:
        rig.ledger.assert_clean()
        assert rig.ledger.missing == 0
        assert rig.pods[1].backplane.stats().duplicates > 0, "there were copies to tell"
    else:
        with pytest.raises(AssertionError, match="duplicates"):
            rig.ledger.assert_clean()


@pytest.mark.parametrize("send_again", [True, False], ids=["on", "off"])
async def test_without_sending_again_what_was_unconfirmed_is_lost_and_nobody_counts_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, send_again: bool
) -> None:
    if not send_again:
        lost: Callable[..., Any] = Outbox.lost

        def forget(self: Outbox, *, resend: bool) -> list[Any]:
            lost(self, resend=False)
            return []

        monkeypatch.setattr(Outbox, "lost", forget)
    await resent(rig, lost="up")
    assert rig.pods[0].backplane.stats().dropped == {}
    if send_again:
        rig.ledger.assert_clean()
        assert rig.ledger.missing == 0
    else:
        assert rig.ledger.missing > 0


class NoJitter(Random):
    """Draws the upper end, always."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def most_at_once(random: Callable[[int], Random], pods: int = 200, window_s: float = 0.05) -> float:
    """Return the largest share of a fleet that tries within one window, after the first second of an outage."""
    attempts: list[float] = []
    for pod in range(pods):
        backoff, now = Backoff(random(pod)), 0.0
        while now < 30:
            now += backoff.lost(now)
            attempts.append(now)
    late = sorted(at for at in attempts if at > 1)
    return max(sum(at <= other < at + window_s for other in late) for at in late[::20]) / pods


def test_without_jitter_a_fleet_comes_back_in_step(routing: str) -> None:
    assert most_at_once(Random) < 0.35
    assert most_at_once(NoJitter) == 1.0


@pytest.mark.parametrize("generations", [True, False], ids=["on", "off"])
async def test_without_giving_up_a_dead_links_bytes_they_are_delivered_after_the_gap_that_called_them_missing(
    probing: Rig, monkeypatch: pytest.MonkeyPatch, *, generations: bool
) -> None:
    links: list[Link] = []
    readers: list[asyncio.Task[None]] = []
    if not generations:
        read: Callable[[LinkSupervisor, Link], Any] = vars(LinkSupervisor)["_read"]

        async def read_on(self: LinkSupervisor, link: Link) -> None:
            reader = asyncio.create_task(read(self, link))
            reader.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it ends with its link
            readers.append(reader)
            await asyncio.shield(reader)

        async def keep_open(coroutine: Any, _: float) -> None:
            links.append(coroutine.cr_frame.f_locals["self"])
            coroutine.close()

        monkeypatch.setattr(LinkSupervisor, "_read", read_on)
        monkeypatch.setattr("backplane_core._link.supervisor.run_bounded", keep_open)
    rig, proxy = probing, probing.proxy()
    here, there = await rig.pod(), await rig.pod(proxy)
    theirs = await rig.sockets(there, 5)
    await rig.publish(here, EVENTS)
    await rig.more(0, "traffic before")
    await until(lambda: all(len(witness.events) == EVENTS / 5 for witness in theirs), "it has arrived")
    proxy.down.hold()
    await rig.publish(here, EVENTS)
    await until(lambda: there.is_degraded, "the pod notices")
    proxy.heal()
    await until(lambda: there.links == 2 and there.is_live, "the link is replaced")
    seen = [len(witness.events) for witness in theirs]
    told = [len(witness.gaps) for witness in theirs]
    assert told == [1] * 5
    if generations:
        await rig.settle()
        rig.ledger.assert_clean()
        # Only what settling published came after the gap.
        assert [len(witness.events) - n for witness, n in zip(theirs, seen, strict=True)] == [1] * 5
    else:
        await until(lambda: all(len(w.events) >= 2 * EVENTS / 5 for w in theirs), "what the gap called missing")
        for link in links:
            await link.aclose()
        for reader in readers[:-1]:
            reader.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reader
