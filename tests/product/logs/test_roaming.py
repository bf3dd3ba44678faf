"""Clients that roam over a fleet, over a log that fails by chance, get each event once; the twins show what for."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core._log.mirror import Mirror
from backplane_core._log.record import Record
from backplane_core._protocol.position import Ahead

from tests.product.logs.model import READERS, Plan
from tests.product.logs.roaming import RoamingAccount, play_roaming

pytestmark = pytest.mark.timeout(900)  # hundreds of runs, with --full, on a busy machine


def seeds(*, full: bool, long: bool) -> range:
    return range(10_000 if long else 100 if full else 30)


def play_all(seeds: range, **options: bool) -> list[RoamingAccount]:
    return [play_roaming(Plan(seed=seed, **options)) for seed in seeds]


def assert_clean(accounts: list[RoamingAccount]) -> None:
    """Each event came once and in order; what an id could not be resumed from, and what was given up, is in a gap."""
    for seed, account in enumerate(accounts):
        if account.given_up:
            continue  # it may be in the log all the same
        assert not account.wrong, f"seed {seed}: {account}"
        assert not account.unexplained, f"seed {seed}: {account}"
    # 45 of 300 where pods end and start, 13 of 100 where the log is trimmed.
    assert sum([account.given_up > 0 for account in accounts]) < max(4, len(accounts) / 5), "nearly all are judged"
    assert sum([account.roams for account in accounts]) > 20 * len(accounts)
    assert sum([account.replayed for account in accounts]) > 100 * len(accounts)


def test_a_client_that_roams_gets_each_event_exactly_once_and_in_order(*, full: bool, long: bool) -> None:
    accounts = play_all(seeds(full=full, long=long), forgets=False)
    assert_clean(accounts)
    for seed, account in enumerate(accounts):
        # A lane may be held for longer than a client waits.
        assert account.unknown or not account.missing or account.given_up * READERS >= account.missing, f"seed {seed}"
    assert sum([account.unknown > 0 for account in accounts]) < max(4, len(accounts) / 10), "nearly all lose nothing"


def test_pods_may_end_and_start(*, full: bool, long: bool) -> None:
    accounts = play_all(seeds(full=full, long=long), forgets=False, restarts=True)
    assert_clean(accounts)


def test_a_pod_that_found_a_log_empty_and_began_at_its_end_lacks_nothing() -> None:
    account = play_roaming(
        Plan(seed=170, forgets=False, restarts=True, combines=False)
    )  # once it lacked the entry at that end
    assert not account.wrong
    assert not account.unexplained


def test_what_a_pod_publishes_before_the_rest_get_a_frame_comes_once() -> None:
    account = play_roaming(Plan(seed=623, forgets=False, restarts=True))
    assert not account.wrong
    assert not account.unexplained


def test_what_was_trimmed_meanwhile_lies_inside_a_gap(*, full: bool, long: bool) -> None:
    accounts = play_all(seeds(full=full, long=long), forgets=False, trims=True)
    assert_clean(accounts)
    assert sum([account.missing for account in accounts]) > 0


def test_what_a_pod_never_read_and_is_sent_again_comes_behind_a_gap_to_those_who_had_it_elsewhere() -> None:
    account = play_roaming(Plan(seed=1437, forgets=False, trims=True))
    assert not account.wrong
    assert not account.unexplained


def test_without_what_a_sender_was_ahead_events_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_ahead(_: Mirror) -> Ahead:
        return {}

    monkeypatch.setattr(Mirror, "ahead", never_ahead)
    assert any(account.wrong for account in play_all(range(10), forgets=False))


def test_without_the_late_place_of_own_events_they_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    publish: Any = Mirror.publish

    def place_at_once(mirror: Any, record: Record) -> None:
        publish(mirror, record)
        record.serial = mirror._next()
        mirror._index(record)

    def forget_pending(mirror: Any, lane: int, seq: int, cursor: str) -> bool:
        pending = mirror.pending[lane]
        while pending and pending[0].seq <= seq:
            pending.popleft()
        return True

    monkeypatch.setattr(Mirror, "publish", place_at_once)
    monkeypatch.setattr(Mirror, "_place_pending", forget_pending)
    assert sum([account.missing for account in play_all(range(10), forgets=False)]) > 0


def test_without_a_look_at_all_its_targets_a_client_gets_what_is_not_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_the_first(record: Record, wires: frozenset[bytes]) -> bytes | None:
        return next((target for target in record.targets if target in wires), None)

    monkeypatch.setattr(Record, "target_for", by_the_first)
    wrong = [text for account in play_all(range(5), forgets=False) for text in account.wrong]
    assert any("not for it" in text for text in wrong)
