"""What a broker refuses costs nothing else: frames, channels, and what every pod needs."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from backplane_core import (
    AuthenticationError,
    DistributedBackplane,
    EventDropped,
    EventTooLargeError,
    Frame,
    Gap,
    Link,
    Record,
    Refusal,
    RefusedError,
    SubscriptionRefused,
    Target,
    TargetDeniedError,
    Traits,
    TransportError,
)
from backplane_core._link import handover
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of
from tests.support.waiting import until

USER = Target.user("u1")
OTHER = Target.user("u2")
BAD = b"poison"


@define
class Rules:
    """What the broker refuses to the pods of one transport."""

    no_publish: set[str] = field(factory=set[str])
    no_subscribe: set[str] = field(factory=set[str])
    no_questions: bool = False
    refuses_bad: bool = False
    dies_of_bad: bool = False
    first_frames: list[Frame] = field(factory=list[Frame])
    """What it delivers before it confirms that their channels are heard."""
    asked: Counter[str] = field(factory=Counter[str])
    opened: int = 0
    max_payload_bytes: int | None = None


class RuledLink(MemoryLink):
    """A link of a broker with rules."""

    def __init__(self, broker: MemoryBroker, rules: Rules) -> None:
        super().__init__(broker)
        self.rules = rules

    async def subscribe(self, channels: Sequence[str]) -> None:
        self.rules.asked.update(channels)
        refused = [channel in self.rules.no_subscribe for channel in channels]
        await super().subscribe([name for name, is_refused in zip(channels, refused, strict=True) if not is_refused])
        for frame in [frame for frame in self.rules.first_frames if frame[0] in channels]:
            self.take(frame)
            for _ in range(20):
                await asyncio.sleep(0)
        self._raise(refused, "no permission to hear it", is_denied=True)

    async def send(self, frames: Sequence[Frame]) -> None:
        rules = self.rules
        if rules.dies_of_bad and any(BAD in frame[1] for frame in frames):
            self.die("the broker died of it")
            raise TransportError("the broker died of it")
        denied = [
            frame[0] in rules.no_publish or (rules.no_questions and ":@" in frame[0] and ":@user" not in frame[0])
            for frame in frames
        ]
        bad = [rules.refuses_bad and BAD in frame[1] for frame in frames]
        await super().send([frame for at, frame in enumerate(frames) if not denied[at] and not bad[at]])
        self._raise(denied, "no permission to publish", is_denied=True)
        self._raise(bad, "it is poison", is_denied=False)

    @staticmethod
    def _raise(refused: Sequence[bool], reason: str, *, is_denied: bool) -> None:
        if any(refused):
            places = [place for place, is_refused in enumerate(refused) if is_refused]
            raise RefusedError([Refusal(index=place, reason=reason, is_denied=is_denied) for place in places])


class RuledTransport(MemoryTransport):
    """Opens links to a broker with rules."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.rules = Rules()

    @property
    def traits(self) -> Traits:
        return Traits(single_stream=True, announces_leave=True, max_payload_bytes=self.rules.max_payload_bytes)

    async def open(self) -> Link:
        self.rules.opened += 1
        link = RuledLink(self.broker, self.rules)
        link.enter()
        return link


def dropped(records: Sequence[Record]) -> list[EventDropped]:
    return [record for record in records if isinstance(record, EventDropped)]


async def two_pods(fleet: MemoryFleet, **options: Any) -> tuple[DistributedBackplane, Rules, Any, list[Record]]:
    records: list[Record] = []
    transport = RuledTransport(fleet.broker)
    here = await fleet.pod(transport, observer=records.append, probe_interval_s=1.0, beat_s=0.2, **options)
    far = await fleet.socket(await fleet.pod(probe_interval_s=1.0, beat_s=0.2), "far", USER)
    return here, transport.rules, far, records


async def test_a_refused_event_is_counted_and_reported_and_the_link_lives(fleet: MemoryFleet) -> None:
    here, rules, far, records = await two_pods(fleet)
    rules.refuses_bad = True
    for number in range(5):
        here.publish_nowait(USER, number)
        here.publish_nowait(USER, [number, BAD.decode()])
    await here.flush(timeout_s=5)
    assert await far.has(5) == [0, 1, 2, 3, 4]
    assert rules.opened == 1
    assert here.stats().dropped == {"refused": 5}
    assert [record.count for record in dropped(records)] == [1] * 5
    record = dropped(records)[0]
    assert (record.cause, record.channel, record.reason) == ("refused", channel_of(here, USER), "it is poison")
    assert record.size is not None
    assert record.size > len(BAD)
    assert BAD.decode() not in repr(record).replace("it is poison", "")
    await until(lambda: sum(gap.missed or 0 for gap in far.gaps) == 5, "receivers see the holes")


@pytest.mark.parametrize("signing_keys", [None, [b"k" * 32]], ids=["plain", "signed"])
async def test_an_event_that_links_die_of_is_given_up_and_all_others_arrive_once_in_order(
    fleet: MemoryFleet, signing_keys: list[bytes] | None
) -> None:
    options: dict[str, Any] = {} if signing_keys is None else {"signing_keys": signing_keys}
    records: list[Record] = []
    transport = RuledTransport(fleet.broker)
    here = await fleet.pod(transport, observer=records.append, **options)
    far = await fleet.socket(await fleet.pod(**options), "far", USER)
    rules = transport.rules
    rules.dies_of_bad = True
    gaps: list[Gap] = []
    here.on_gap = gaps.append
    for number in range(40):
        here.publish_nowait(USER, number)
        if number == 20:
            here.publish_nowait(OTHER, BAD.decode())
    await here.flush(timeout_s=30)
    assert await far.has(40) == list(range(40))
    assert here.stats().dropped == {"refused": 1}
    assert dropped(records)[0].reason == "each link that carried it alone died: the broker died of it"
    assert rules.opened <= 1 + 2 + 5.4 + 1
    await here.wait_for_state("live", timeout_s=10)


async def test_a_limit_that_the_broker_states_late_is_taken_from_then_on(fleet: MemoryFleet) -> None:
    here, rules, _far, _ = await two_pods(fleet)
    await here.publish(USER, "x" * 2_000)
    await here.flush(timeout_s=5)
    rules.max_payload_bytes = 1_000

    def is_refused() -> bool:
        try:
            here.publish_nowait(USER, "x" * 2_000)
        except EventTooLargeError as error:
            return error.limit == 1_000
        return False

    await until(is_refused, "the limit is known")
    assert rules.opened == 1


async def test_a_pod_that_may_not_ask_fails_at_the_start_with_the_permission(fleet: MemoryFleet) -> None:
    transport = RuledTransport(fleet.broker)
    transport.rules.no_questions = True
    with pytest.raises(AuthenticationError, match="no permission to publish"):
        await fleet.pod(transport, connect_timeout_s=30)


async def test_a_pod_that_may_not_publish_on_the_shared_channel_fails_at_the_start(fleet: MemoryFleet) -> None:
    transport = RuledTransport(fleet.broker)
    transport.rules.no_publish = {"backplane"}
    with pytest.raises(AuthenticationError, match="no permission to publish"):
        await fleet.pod(transport, connect_timeout_s=30)


async def test_a_pod_that_may_not_hear_the_shared_channel_fails_at_the_start(fleet: MemoryFleet) -> None:
    transport = RuledTransport(fleet.broker)
    transport.rules.no_subscribe = {"backplane"}
    with pytest.raises(AuthenticationError, match="no permission to hear it"):
        await fleet.pod(transport, connect_timeout_s=30)


async def test_a_permission_that_is_taken_away_is_reported_once_and_deafness_is_counted_from_its_begin(
    fleet: MemoryFleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._link.backoff.REFUSED_WAIT_S", (0.02, 0.03))
    here, rules, far, _ = await two_pods(fleet)
    rules.no_publish = {"backplane"}
    await until(lambda: rules.opened >= 6, "it is tried again")
    first = here.ready().deaf_since
    await here.publish(USER, "kept")
    await until(lambda: rules.opened >= 12, "and again")
    assert here.ready().deaf_since == pytest.approx(first, abs=0.01)
    assert "no permission to publish" in (here.ready().reason or "")
    assert here.stats().outbox_messages < 12, "beats don't pile up"
    assert here.stats().links == 1, "no link was live meanwhile"
    rules.no_publish = set()
    await here.wait_for_state("live", timeout_s=10)
    assert "kept" in await far.has(1)
    assert here.stats().dropped == {}
    assert len([record for record in caplog.records if "no permission" in record.message and record.levelno >= 30]) <= 2


async def test_a_denied_target_costs_no_other_and_its_association_raises(routing: str, leaves_nothing: None) -> None:
    if routing != "interest":
        pytest.skip("under broadcast no target has a channel")
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, far, records = await two_pods(fleet)
        rules.no_subscribe = {channel_of(here, OTHER)}
        near = await fleet.socket(here, "near", USER)
        with pytest.raises(TargetDeniedError, match="no permission to hear it") as denied:
            await here.associate("near", OTHER)
        assert denied.value.channel == channel_of(here, OTHER)
        assert here.targets_of("near") == {USER}
        with pytest.raises(TargetDeniedError):
            async with here.connection(None, USER, OTHER):
                pass
        there = await fleet.pod()
        await there.publish(USER, 1)
        assert await near.has(1) == await far.has(1) == [1]
        assert near.gaps == []
        assert rules.opened == 1
        assert here.ready()
        assert [type(record) for record in records].count(SubscriptionRefused) >= 1
        assert here.stats().denied == 0, "nobody needs it any longer"


async def test_a_target_that_is_denied_without_anybody_waiting_is_a_gap_and_costs_no_other(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.1)
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, _, records = await two_pods(fleet)
        there = await fleet.pod()
        near = await fleet.socket(here, "near", USER)
        rules.no_subscribe = {channel_of(here, OTHER)}
        assert here.associate_nowait("near", OTHER) is True, "it is attached, and nobody waits"
        await until(lambda: any("no permission to hear it" in gap.reason for gap in near.gaps), "it is notified")
        assert here.targets_of("near") == {USER, OTHER}, "it is asked for again"
        await there.publish(OTHER, "missed")
        await there.publish(USER, "heard")
        assert await near.has(1) == ["heard"]
        assert here.ready()
        assert rules.opened == 1
        before = len(near.gaps)
        rules.no_subscribe = set()
        await until(lambda: here.stats().denied == 0 and len(near.gaps) > before, "it is heard again")
        await there.publish(OTHER, "now")
        await until(lambda: near.events == ["heard", "now"], "and gets what follows")
        assert near.gaps[-1].since <= near.gaps[0].since + 1
        assert [type(record) for record in records].count(SubscriptionRefused) == 1


def ask_to_leave(fleet: MemoryFleet) -> MemoryLink:
    """Announce to the one pod whose links can leave that its link will be closed."""
    [link] = [link for link in fleet.broker._subscribers.links if isinstance(link, RuledLink)]
    link.ask_to_leave("works ahead")
    return link


async def test_a_target_that_the_next_node_denies_costs_no_other_and_the_move_goes_on(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.1)
    monkeypatch.setattr("backplane_core._link.handover.SPREAD_S", 0.0)
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, _, records = await two_pods(fleet)
        there = await fleet.pod()
        near, denied = await fleet.socket(here, "near", USER), await fleet.socket(here, "denied", OTHER)
        rules.no_subscribe = {channel_of(here, OTHER)}
        ask_to_leave(fleet)
        await until(lambda: here.stats().links == 2, "the move")
        await until(lambda: any("no permission to hear it" in gap.reason for gap in denied.gaps), "it is notified")
        assert here.stats().denied == 1
        await there.publish(USER, 1)
        await there.publish(OTHER, "missed")
        assert await near.has(1) == [1]
        assert near.gaps == []
        assert here.ready()
        before = len(denied.gaps)
        rules.no_subscribe = set()
        await until(lambda: here.stats().denied == 0 and len(denied.gaps) > before, "it is heard again")
        await there.publish(OTHER, "now")
        await until(lambda: denied.events == ["now"], "and gets what follows")
        assert [type(record) for record in records].count(SubscriptionRefused) == 1
        assert rules.opened == 2


async def test_a_next_node_that_denies_what_every_pod_needs_is_not_moved_to(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._link.handover.SPREAD_S", 0.0)
    here, rules, far, _ = await two_pods(fleet)
    rules.no_subscribe = {"backplane"}
    ask_to_leave(fleet)
    await until(lambda: rules.opened >= 3, "it tries again")
    await here.publish(USER, 1)
    assert await far.has(1) == [1]
    assert here.stats().links == 1
    rules.no_subscribe = set()
    await until(lambda: here.stats().links == 2, "the move")
    assert far.gaps == []


async def test_a_channel_that_is_asked_for_in_the_middle_of_a_move_and_that_the_next_node_denies_raises(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._link.handover.SPREAD_S", 0.0)
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, _, _ = await two_pods(fleet)
        near = await fleet.socket(here, "near", USER)
        switch: Any = handover.Handover._switch
        raised: list[TargetDeniedError] = []

        async def associated_then_switched(relay: Any, old: RuledLink, next_link: Any, move: Any) -> None:
            old.rules = Rules()  # the old node lets it pass
            rules.no_subscribe = {channel_of(here, OTHER)}
            try:
                await here.associate("near", OTHER)
            except TargetDeniedError as error:
                raised.append(error)
            assert channel_of(here, OTHER) not in fleet.broker.channels
            await switch(relay, old, next_link, move)

        monkeypatch.setattr(handover.Handover, "_switch", associated_then_switched)
        ask_to_leave(fleet)
        await until(lambda: here.stats().links == 2, "the move")
        assert [error.channel for error in raised] == [channel_of(here, OTHER)]
        assert here.targets_of("near") == {USER}
        assert near.gaps == []


async def test_an_event_that_is_refused_in_the_middle_of_a_move_costs_no_other(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._link.handover.SPREAD_S", 0.0)
    here, rules, far, records = await two_pods(fleet)
    rules.refuses_bad = True
    ask_to_leave(fleet)
    published = 0
    async with asyncio.timeout(20):
        while here.stats().links == 1 or published % 20:
            await here.publish(USER, BAD.decode() if published % 20 == 7 else published)
            published += 1
            await asyncio.sleep(0.001)
    await here.flush(timeout_s=10)
    good = [number for number in range(published) if number % 20 != 7]
    assert await far.has(len(good)) == good
    assert {gap.cause for gap in far.gaps} == {"sequence"}, "what was refused, and nothing else"
    assert here.stats().dropped == {"refused": published - len(good)}
    assert {record.reason for record in dropped(records)} == {"it is poison"}
    assert rules.opened == 2


async def test_an_event_that_the_old_node_dies_of_in_the_middle_of_a_move_is_given_up_alone(
    fleet: MemoryFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._link.handover.SPREAD_S", 0.0)
    here, rules, far, _ = await two_pods(fleet)
    rules.dies_of_bad = True
    overlap: Any = handover.Handover._overlap

    async def publish_bad_first(relay: Any, old: Any, next_link: Any) -> Any:
        if "bad" not in sent:
            sent.append("bad")
            for event in ("before", BAD.decode(), "behind"):
                await here.publish(USER, event)
        return await overlap(relay, old, next_link)

    sent: list[str] = []
    monkeypatch.setattr(handover.Handover, "_overlap", publish_bad_first)
    ask_to_leave(fleet)
    assert await far.has(2) == ["before", "behind"]
    await until(lambda: here.stats().dropped == {"refused": 1}, "it is given up")
    await here.wait_for_state("live", timeout_s=10)


async def test_a_target_that_is_denied_later_is_a_gap_and_once_more_when_it_is_heard_again(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.1)
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, _, records = await two_pods(fleet)
        there = await fleet.pod()
        near = await fleet.socket(here, "near", OTHER)
        rules.no_subscribe = {channel_of(here, OTHER)}
        fleet.broker.drop_links()
        await until(lambda: here.stats().denied == 1, "it is refused")
        await here.wait_for_state("live", timeout_s=10)
        await until(lambda: any("not heard" in gap.reason for gap in near.gaps), "its connection knows")
        await there.wait_for_state("live", timeout_s=10)
        await there.publish(OTHER, "missed")
        await there.flush(timeout_s=5)
        before = len(near.gaps)
        rules.no_subscribe = set()
        await until(lambda: here.stats().denied == 0, "it is heard again")
        await until(lambda: len(near.gaps) > before, "the connection is notified of what it missed")
        await there.publish(OTHER, "heard")
        await until(lambda: near.events == ["heard"], "and gets what follows")
        assert [type(record) for record in records].count(SubscriptionRefused) == 1, "reported when it began"


@pytest.mark.parametrize("refused_again", [0, 3])
async def test_a_target_that_is_heard_again_shows_its_gap_before_the_first_event_though_that_comes_at_once(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch, refused_again: int
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.1)
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        here, rules, _, _ = await two_pods(fleet)
        channel, items = channel_of(here, OTHER), list[Any]()
        async with here.connection(None, OTHER) as connection:

            async def read() -> None:
                async for item in connection.items():
                    items.append(item if isinstance(item, Gap) else item.value)

            reader = asyncio.create_task(read())
            rules.no_subscribe = {channel}
            fleet.broker.drop_links()
            await until(lambda: any(isinstance(item, Gap) and "not heard" in item.reason for item in items), "a gap")
            await here.wait_for_state("live", timeout_s=10)
            asked = rules.asked[channel]
            await until(lambda: rules.asked[channel] >= asked + refused_again, "it is refused again")
            items.clear()
            rules.first_frames = [(channel, b'{"origin":"o","target":{"User":"u2"},"event":"first"}')]
            rules.no_subscribe = set()
            await until(lambda: "first" in items, "it is heard again")
            assert isinstance(items[0], Gap)
            assert items[0].channel == channel
            await until(lambda: here.stats().denied == 0, "the pod knows")
            assert items.count("first") == 1
            reader.cancel()
            await asyncio.wait([reader])
