"""Fleets that are half ours: foreign pods over plain redis-py and nats-py beside Python pods, on the names they use."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from functools import partial
from random import Random

import pytest
from backplane_core import DistributedBackplane, Target, connect
from backplane_testservers import OwnBroker

from tests.product.interop.foreign import CHANNEL, ForeignPod, foreign_pod
from tests.product.interop.ledger import Ledger
from tests.product.interop.mixed import HOST_KINDS, Foreign, Member, Python, attach_sockets, traffic
from tests.support.waiting import until

KNOWN = (
    "origin",
    "target",
    "to",
    "event",
    "seq",
    "prev",
    "also",
    "exclude",
    "key",
    "event_id",
    "receipt",
    "pod",
    "routing",
    "lanes",
    "fleet",
)


def has_heard(pod: ForeignPod, member: str) -> bool:
    return any(member in names for names in pod.members)


def settled(pod: ForeignPod) -> bool:
    return pod.counts["own"] == pod.counts["sent"] and pod.counts["beats"] >= 3


@pytest.mark.timeout(900)
async def test_pods_of_both_kinds_serve_one_fleet_and_nothing_is_lost_doubled_misrouted_or_reordered(
    leaves_nothing: None, broker: OwnBroker, *, long: bool
) -> None:
    rounds, each = (150, 400) if long else (3, 400)
    random, ledger = Random(20), Ledger()
    async with AsyncExitStack() as stack:
        ours: list[DistributedBackplane] = []
        for _ in range(3):
            pod = await stack.enter_async_context(connect(broker.url, channel=CHANNEL, beat_s=0.05))
            assert isinstance(pod, DistributedBackplane)
            ours.append(pod)
        theirs = [await stack.enter_async_context(foreign_pod(broker)) for _ in range(2)]
        pythons = [Python(f"python{number}", pod) for number, pod in enumerate(ours)]
        members: list[Member] = [*pythons, *[Foreign(f"foreign{number}", pod) for number, pod in enumerate(theirs)]]
        await attach_sockets(ledger, members, random)
        await traffic(ledger, members, random, rounds=rounds, each=each)
        assert all(count == rounds * each + len(ledger.sockets) for count in ledger.published.values())
        # Foreign pods can't answer, and are not harmed by questions, orders and receipts.
        answers = await ours[0].fleet.count(Target.everyone())
        assert (len(answers.by_pod), answers.complete) == (3, True)
        assert (await ours[0].fleet.close(Target.user("nobody") & Target.org("nobody"))).complete
        assert (await ours[0].fleet.publish(Target.user("nobody"), "receipt", key="k", event_id="e")).complete
        # What is restricted reaches nobody there. None of their sockets has a host's kind, and each of ours has.
        for socket in [socket for socket in ledger.sockets if socket.foreign]:
            first, second, *_ = socket.targets
            assert await ours[0].publish(first & second, "restricted", exclude=HOST_KINDS) == 0
            assert await ours[0].publish(first, "restricted", exclude=HOST_KINDS) == 0
        for foreign in theirs:
            await until(partial(has_heard, foreign, "to"), "such frames are heard")
        async with ours[1].connection(None, presence="Ann"), aclosing(ours[0].fleet.watch(Target.everyone())) as watch:
            assert list(getattr(await anext(watch), "present", {}).values()) == ["Ann"]
        sent = sum(pod.counts["sent"] for pod in theirs)
        for stats in [pod.stats() for pod in ours]:
            assert stats.foreign == sent
            assert stats.decode_errors == stats.duplicates == stats.mismatch == stats.sink_errors == 0
            assert (stats.gaps, stats.dropped) == ({}, {})
        for foreign in theirs:
            # Beats come, and are nobody's: what a socket gets beside its events is alien to the ledger.
            await until(partial(settled, foreign), "its own frames came back, and beats of others")
            assert foreign.counts["dropped"] == sum(python.for_others for python in pythons) > 100
            seen = {name for names in foreign.members for name in names}
            assert seen == set(KNOWN)
            assert all(list(names) == [name for name in KNOWN if name in names] for names in foreign.members)
        ledger.check()
