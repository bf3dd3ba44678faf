"""Over a log that fails by chance nothing is lost, or it is accounted for; and the model sees what each part is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest
from backplane_core._inbound.cursors import Cursors

from tests.product.logs.model import READERS, Account, Plan, play
from tests.support.parts import Seeds

pytestmark = pytest.mark.timeout(600)  # five hundred runs, with --full, on a busy machine

FAULTS = {"cut", "drop", "hold", "release", "lose confirmations", "forget", "erase"}


def play_all(seeds: Sequence[int], **options: bool) -> Mapping[int, Account]:
    accounts: dict[int, Account] = {}
    for seed in seeds:
        account = play(Plan(seed=seed, **options))
        assert not account.wrong, f"seed {seed}: {account.wrong}"
        accounts[seed] = account
    return accounts


def chosen(seeds: Seeds, *, full: int = 500) -> Sequence[int]:
    return seeds.of(range(60), full=range(full), long=range(10_000))


def test_whatever_a_broker_does_each_event_comes_exactly_once_and_in_order(seeds: Seeds) -> None:
    played = play_all(chosen(seeds))
    accounts = played.values()
    for seed, account in played.items():
        # What its sender gave up may be in the log all the same; if that forgets it, it is a gap for the others.
        assert account.missing <= account.given_up * READERS, f"seed {seed}: {account}"
        assert account.gaps <= account.given_up * READERS, f"seed {seed}: {account}"
        assert not account.unexplained, f"seed {seed}: {account}"
    assert sum([account.given_up > 0 for account in accounts]) < len(accounts) / 10, "nearly all lose nothing"
    assert set().union(*[account.faults for account in accounts]) == FAULTS
    assert sum([account.copies for account in accounts]) > 0
    assert sum([account.expected for account in accounts]) > 100 * len(accounts)


def test_what_was_trimmed_before_it_was_read_lies_inside_a_gap(seeds: Seeds) -> None:
    accounts = play_all(chosen(seeds, full=100), trims=True)
    for seed, account in accounts.items():
        assert not account.unexplained, f"seed {seed}: {account.unexplained}"
    assert sum([account.missing for account in accounts.values()]) > 0


def test_without_the_ring_events_are_lost_and_each_lies_inside_a_gap(seeds: Seeds) -> None:
    accounts = play_all(chosen(seeds, full=100), ring=False)
    for seed, account in accounts.items():
        assert not account.unexplained, f"seed {seed}: {account.unexplained}"
    assert sum([account.missing for account in accounts.values()]) > 0


def test_without_cursors_events_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cursors, "after", forget)
    accounts = [play(Plan(seed=seed, forgets=False)) for seed in range(30)]
    assert sum([account.missing for account in accounts]) > 0


def forget(_: Cursors, __: Iterable[str]) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("seed", [1])
def test_a_seed_always_plays_the_same(seed: int) -> None:
    assert play(Plan(seed=seed)) == play(Plan(seed=seed))
