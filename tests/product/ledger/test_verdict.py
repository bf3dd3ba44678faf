"""The ledger can fail: each kind of wrong is seen, and only what a promise covers is excused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from attrs import define, field
from backplane_core import Gap, Target
from backplane_core._protocol.routing import make_routing

from tests.product.ledger import verdict
from tests.product.ledger.book import NEVER, Book, Hold, Life, Published, Told
from tests.product.ledger.verdict import find_losses, find_violations

U1, U2 = Target.user("u1"), Target.user("u2")


@define
class Scene:
    """A fleet under interest routing: `there` publishes, connections are on `here`, event n is of 100 + n s."""

    book: Book = field(factory=lambda: Book(make_routing("interest", "ch", 1)))

    def connection(self, kind: str = "queue", pod: str = "here", conn_id: str = "c1", *targets: Target) -> Life:
        life = self.book.begin(conn_id, pod, "queue" if kind == "queue" else "sink", targets or (U1,))
        self.book.owe(life.holds, confirmed=True)
        return life

    def publish(
        self, count: int, sender: str = "there", *targets: Target, exclude: Iterable[str] = ()
    ) -> list[Published]:
        events = [self.book.publish(sender, targets or (U1,), exclude) for _ in range(count)]
        for event in events:
            event.at = event.confirmed_at = 100.0 + event.number
            event.returned = self.book.order()
        return events

    def hear(self, life: Life, *events: Published) -> None:
        for event in events:
            self.book.heard(life, [event.sender, event.number, "xx"])

    def tell(self, life: Life, since: float, until: float) -> None:
        self.book.told(life, Gap(channel="ch", cause="reconnect", reason="", since=since, until=until))

    def overflow(self, life: Life, missed: int) -> None:
        self.book.told(life, Gap(channel="ch", cause="overflow", reason="", since=0, until=999, missed=missed))

    @property
    def found(self) -> list[str]:
        return [violation.what for violation in find_violations(self.book)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_came_once_each_and_in_order_is_well(scene: Scene) -> None:
    life = scene.connection()
    scene.hear(life, *scene.publish(5))
    assert scene.found == []


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ([0, 1, 1, 2], ["copy"]),
        ([0, 2, 1], ["inversion"]),
        ([0, 2], ["loss"]),
        ([0, 1], ["loss"]),
        ([1, 2], ["loss"]),
        ([], ["loss"] * 3),
        ([0, 1, 2, 0, 1, 2], ["copy"] * 3),
    ],
)
def test_a_copy_a_swap_and_a_loss_are_found(scene: Scene, order: list[int], found: list[str]) -> None:
    life = scene.connection()
    events = scene.publish(3)
    scene.hear(life, *[events[number] for number in order])
    assert scene.found == found


def test_two_senders_and_two_targets_may_interleave_as_they_like(scene: Scene) -> None:
    life = scene.connection("queue", "here", "c1", U1, U2)
    ours, others = scene.publish(2), scene.publish(2, "third")
    second = scene.publish(1, "there", U2)
    scene.hear(life, second[0], others[0], ours[0], others[1], ours[1])
    assert scene.found == []


def test_with_one_channel_for_all_a_sender_keeps_its_order_over_all_targets() -> None:
    scene = Scene(Book(make_routing("broadcast", "ch", 1)))
    life = scene.connection("queue", "here", "c1", U1, U2)
    one, other = scene.publish(1)[0], scene.publish(1, "there", U2)[0]
    scene.hear(life, other, one)
    assert scene.found == ["inversion"]


def test_what_is_for_others_excluded_refused_or_from_nowhere_is_an_alien(scene: Scene) -> None:
    life = scene.connection()
    (other,) = scene.publish(1, "there", U2)
    (excluded,) = scene.publish(1, exclude=["c1"])
    (refused,) = scene.publish(1)
    refused.refused = True
    scene.hear(life, other, excluded, refused)
    scene.book.heard(life, ["nobody", 0])
    scene.book.heard(life, "no event of ours")
    assert scene.found == ["alien"] * 5


def test_a_connection_is_owed_what_is_published_while_it_holds_the_target_and_nothing_else(scene: Scene) -> None:
    life = scene.connection("sink")
    hold = life.held(U1)
    assert hold is not None
    held = scene.publish(2)
    scene.hear(life, *held)
    hold.ended = scene.book.order()
    scene.publish(1)
    scene.hear(life, *scene.publish(1, "there", Target.everyone()))
    assert scene.found == []
    scene.hear(life, *scene.publish(1))
    assert scene.found == ["alien"]


def test_what_comes_to_a_queue_before_its_target_is_given_up_may_be_read_later_and_to_a_sink_it_may_not() -> None:
    for kind, found in (("queue", []), ("sink", ["alien"])):
        scene = Scene()
        life = scene.connection(kind)
        events = scene.publish(1)
        scene.book.end(life)
        scene.hear(life, *events)
        assert scene.found == found


def test_of_a_connection_that_ended_a_hole_is_a_loss_and_a_tail_is_none(scene: Scene) -> None:
    life = scene.connection()
    events = scene.publish(4)
    scene.hear(life, events[0], events[2])
    scene.book.end(life)
    assert [violation.event for violation in find_violations(scene.book)] == [events[1]]


def test_a_sink_that_ended_soon_after_a_hole_may_not_have_been_notified_yet(scene: Scene) -> None:
    life = scene.connection("sink")
    events = scene.publish(3)
    scene.hear(life, events[0], events[2])
    scene.book.end(life)
    assert scene.found == []
    life.ended_at += verdict.GAP_LATE_S
    assert scene.found == ["loss"]


def test_the_time_in_which_the_loop_stood_still_does_not_count_for_a_gap_that_is_late(scene: Scene) -> None:
    life = scene.connection("sink")
    events = scene.publish(3)
    scene.hear(life, events[0], events[2])
    scene.book.end(life)
    came_at = life.heard[-1].at
    life.ended_at = came_at + verdict.GAP_LATE_S + 1
    assert scene.found == ["loss"]
    scene.book.stalls.append((came_at - 5, came_at + 1.5))
    assert scene.found == []
    life.ended_at += 1
    assert scene.found == ["loss"]


def test_a_gap_covers_what_passed_the_bus_inside_it_and_nothing_else(scene: Scene) -> None:
    life = scene.connection("sink")
    events = scene.publish(5)
    scene.hear(life, events[0])
    scene.tell(life, 100.9, 102.1)
    assert [violation.event for violation in find_violations(scene.book)] == events[3:]
    scene.tell(life, 103.97, 104)  # ends where the fourth was published, begins behind the third
    assert [violation.event for violation in find_violations(scene.book)] == [events[3]]


def test_what_waited_at_its_sender_is_covered_by_a_gap_while_it_waited_and_by_no_later_one(scene: Scene) -> None:
    life = scene.connection("sink")
    one, other = scene.publish(2)
    one.at = other.at = 100.0
    one.confirmed_at, other.confirmed_at = 103.0, 101.0
    scene.tell(life, 102.0, 102.5)
    assert [violation.event for violation in find_violations(scene.book)] == [other]


def test_a_gap_that_was_reported_before_the_publish_covers_nothing(scene: Scene) -> None:
    life = scene.connection("sink")
    scene.tell(life, 90.0, 110.0)
    scene.publish(1)
    assert scene.found == ["loss"]


def test_another_connections_gap_covers_nothing(scene: Scene) -> None:
    one = scene.connection("sink")
    other = scene.connection("sink", "here", "c2")
    scene.publish(1)
    scene.tell(other, 90.0, 110.0)
    assert [violation.life for violation in find_violations(scene.book)] == [one]


def test_in_a_queue_a_gap_stands_before_the_first_event_behind_the_hole() -> None:
    for late, found in ((False, []), (True, ["late gap"])):
        scene = Scene()
        life = scene.connection()
        events = scene.publish(3)
        scene.hear(life, events[0])
        if not late:
            scene.tell(life, 100.5, 101.5)
        scene.hear(life, events[2])
        if late:
            scene.tell(life, 100.5, 101.5)
        assert scene.found == found


def test_a_queue_that_overflowed_says_how_many_it_dropped(scene: Scene) -> None:
    life = scene.connection()
    events = scene.publish(3)
    scene.hear(life, events[0])
    scene.overflow(life, 1)
    assert scene.found == ["loss"]
    scene.overflow(life, 1)
    assert scene.found == []


def test_what_its_sender_counted_on_its_channel_is_excused_as_often_as_it_counted(scene: Scene) -> None:
    one, other = scene.connection(), scene.connection("sink", "elsewhere", "c2")
    events = scene.publish(3)
    for life in (one, other):
        scene.hear(life, events[0])
    channel = events[0].channel
    scene.book.dropped("there", channel, "outbox", 1)
    scene.book.dropped("there", "another channel", "outbox", 9)
    scene.book.dropped("third", channel, "outbox", 9)
    assert scene.found == ["loss"] * 2  # one event, at two connections
    scene.book.dropped("there", channel, "outbox", 1)
    assert scene.found == []


def test_what_reached_another_connection_was_not_dropped_before_it_was_sent(scene: Scene) -> None:
    scene.connection()
    other = scene.connection("sink", "elsewhere", "c2")
    (event,) = scene.publish(1)
    scene.hear(other, event)
    scene.book.dropped("there", event.channel, "outbox", 1)
    assert scene.found == ["loss"]
    scene.book.dropped("there", event.channel, "unconfirmed", 1)
    assert scene.found == []


def test_a_queue_excuses_what_its_senders_counters_do_not(scene: Scene) -> None:
    life = scene.connection()
    other = scene.connection("sink", "elsewhere", "c2")
    events = scene.publish(3)
    scene.hear(life, events[2])
    for event in events[1:]:
        scene.hear(other, event)
    scene.book.dropped("there", events[0].channel, "outbox", 1)  # it never left, so nobody has it
    scene.overflow(life, 1)  # and this queue dropped the next one
    assert scene.found == []


def test_on_the_senders_own_pod_nothing_is_excused_but_what_its_queue_dropped(scene: Scene) -> None:
    life = scene.connection("queue", "there")
    (event,) = scene.publish(1)
    scene.tell(life, 90.0, 110.0)
    scene.book.dropped("there", event.channel, "outbox", 1)
    assert scene.found == ["local loss"]
    scene.overflow(life, 1)
    assert scene.found == []


def test_on_the_senders_own_pod_a_sink_has_the_event_before_publish_returns(scene: Scene) -> None:
    life = scene.connection("sink", "there")
    scene.publish(1)
    scene.book.end(life)
    assert scene.found == ["local loss"]


def test_the_margin_around_a_gap_is_as_wide_as_a_clocks_error(scene: Scene) -> None:
    life = scene.connection("sink")
    (event,) = scene.publish(1)
    scene.tell(life, event.at - 9, event.at - 0.03)
    scene.tell(life, event.at + 0.03, event.at + 9)
    assert scene.found == ["loss"]


def test_over_a_log_a_gap_needs_a_sender_that_counted_something_or_a_pod_that_refused_something() -> None:
    log = Scene(Book(make_routing("broadcast", "ch", 1), keeps=True))
    life = log.connection()
    (event,) = log.publish(1)
    log.hear(life, event)
    assert log.found == []
    log.overflow(life, 0)
    assert log.found == []
    log.tell(life, 90.0, 110.0)
    assert log.found == ["needless gap"]
    log.book.refusing.add("elsewhere")
    assert log.found == ["needless gap"]
    log.book.refusing.add("here")
    assert log.found == []
    log.book.refusing.clear()
    log.book.dropped("there", event.channel, "outbox", 1)
    assert log.found == []


def test_over_a_log_a_gap_covers_a_loss_and_is_needless_itself() -> None:
    log = Scene(Book(make_routing("broadcast", "ch", 1), keeps=True))
    life = log.connection("sink")
    log.publish(1)
    assert log.found == ["loss"]
    log.tell(life, 90.0, 110.0)
    assert log.found == ["needless gap"]


def test_over_a_log_what_a_sender_doubts_excuses_nothing() -> None:
    for cause, found in (("in_doubt", ["loss"]), ("unconfirmed", ["loss"]), ("outbox", [])):
        log = Scene(Book(make_routing("broadcast", "ch", 1), keeps=True))
        log.connection("sink")
        (event,) = log.publish(1)
        log.book.dropped("there", event.channel, cause, 1)
        assert log.found == found


# Each rule is needed: without it, one of the scenes above is judged otherwise.


def no_margin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verdict, "MARGIN_S", 1e9)


def any_gap_covers(patch: pytest.MonkeyPatch) -> None:
    def covers(told: Told, event: Published, book: Book) -> bool:
        del told, event, book
        return True

    patch.setattr(verdict, "_covers", covers)


def any_drop_counts(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> list[verdict.Violation]:
        return []

    patch.setattr(verdict, "_uncounted", nothing)


def nothing_is_due(patch: pytest.MonkeyPatch) -> None:
    def due(life: Life, *_: object) -> bool:
        return life.ended == NEVER

    patch.setattr(verdict, "_is_due", due)


def everyone_may_hear(patch: pytest.MonkeyPatch) -> None:
    def may(hold: Hold, *_: object) -> bool:
        return bool(hold)

    patch.setattr(verdict, "_may_hear", may)


def order_does_not_matter(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> list[verdict.Violation]:
        return []

    patch.setattr(verdict, "_inversions", nothing)


def late_gaps_are_well(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        return None

    patch.setattr(verdict, "_late_gap", nothing)


@pytest.mark.parametrize(
    ("weaken", "scene_of"),
    [
        (no_margin, test_the_margin_around_a_gap_is_as_wide_as_a_clocks_error),
        (any_gap_covers, test_a_gap_covers_what_passed_the_bus_inside_it_and_nothing_else),
        (any_drop_counts, test_what_its_sender_counted_on_its_channel_is_excused_as_often_as_it_counted),
        (nothing_is_due, test_of_a_connection_that_ended_a_hole_is_a_loss_and_a_tail_is_none),
        (everyone_may_hear, test_what_is_for_others_excluded_refused_or_from_nowhere_is_an_alien),
    ],
)
def test_a_ledger_with_a_rule_less_is_caught(
    scene: Scene,
    weaken: Callable[[pytest.MonkeyPatch], None],
    scene_of: Callable[[Scene], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weaken(monkeypatch)
    with pytest.raises(AssertionError):
        scene_of(scene)


@pytest.mark.parametrize(
    ("weaken", "test"),
    [
        (order_does_not_matter, test_with_one_channel_for_all_a_sender_keeps_its_order_over_all_targets),
        (late_gaps_are_well, test_in_a_queue_a_gap_stands_before_the_first_event_behind_the_hole),
        (
            everyone_may_hear,
            test_what_comes_to_a_queue_before_its_target_is_given_up_may_be_read_later_and_to_a_sink_it_may_not,
        ),
    ],
)
def test_a_ledger_with_another_rule_less_is_caught(
    weaken: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    weaken(monkeypatch)
    with pytest.raises(AssertionError):
        test()


def test_losses_are_known_before_the_end(scene: Scene) -> None:
    life = scene.connection()
    events = scene.publish(2)
    assert len(find_losses(scene.book)) == 2
    scene.hear(life, *events)
    assert find_losses(scene.book) == []
