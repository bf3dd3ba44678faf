"""After whatever a bus and its pods go through, all that watch see the truth; the model needs each part for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from backplane_core._presence import pod_presence, views
from backplane_core._presence.part import Part
from backplane_core._presence.rosters import Rosters
from backplane_core._presence.view import View
from backplane_core._presence.views import Views

from tests.product.presence.model import FAULTS, Account, Plan, play

pytestmark = pytest.mark.timeout(900)  # thousands of runs, with --full, on a busy machine

PARTS = 4
"""So many tests share the seeds, and so the cores."""


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys to a page, two to a change, and one view that is read again at a time: so that there are several."""
    monkeypatch.setattr(pod_presence, "PAGE_BYTES", (100, 100))
    monkeypatch.setattr(pod_presence, "CHANGE_BYTES", (100, 100))
    monkeypatch.setattr(views, "ASKED_AT_ONCE", 1)


def plan(seed: int) -> Plan:
    return Plan(seed, calm=seed % 5 == 0, linger_s=0.6 if seed % 5 == 1 else 0.0)


def play_all(seeds: Iterable[int]) -> list[Account]:
    return [play(plan(seed)) for seed in seeds]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_watcher_sees_the_truth_in_the_end_and_each_change_once(part: int, *, full: bool) -> None:
    seeds = range(part, 10_000 if full else 400, PARTS)
    accounts = dict(zip(seeds, play_all(seeds), strict=True))
    assert {seed: account.wrong for seed, account in accounts.items() if account.wrong} == {}
    assert set().union(*[account.faults for account in accounts.values()]) == set(FAULTS)
    assert sum([account.steps for account in accounts.values()]) > 5 * len(accounts)
    assert sum([account.skipped for account in accounts.values()]) > len(accounts)
    assert sum([account.transitions for account in accounts.values()]) > 10 * len(accounts)


def nothing(*_: object, **__: object) -> None:
    """Do nothing, in place of something."""


def forget(part: Part, key: str) -> bool:
    """Remove a key from what is shown, and not from what is being read."""
    return part.keys.pop(key, None) is not None


MUTANTS: dict[str, tuple[type, str, Callable[..., object]]] = {
    "a hole is passed by": (Views, "missed", nothing),
    "a number is not looked at": (View, "missed", nothing),
    "a new link is trusted": (Views, "live", nothing),
    "a dead pod stays": (Views, "gone", nothing),
    "a pod that comes is not asked": (Views, "heard", nothing),
    "nobody asks again": (Views, "_ask_again", nothing),
    "a watcher that says so again is not believed": (Rosters, "renew", nothing),
    "what is read anew is not compared": (View, "_replace", nothing),
    "who leaves while pages are read stays": (Part, "left", forget),
    "nobody lingers": (View, "tick", nothing),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_any_of_its_parts_the_model_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, method, instead = MUTANTS[name]
    monkeypatch.setattr(owner, method, instead)
    for seed in range(400):
        try:
            account = play(plan(seed))
        except Exception:  # noqa: BLE001 -- that it breaks is as good
            return
        if account.wrong:
            return
    pytest.fail("the model did not notice")


def test_a_seed_always_plays_the_same() -> None:
    assert play(plan(7)) == play(plan(7))


def test_a_full_outbox_does_not_keep_from_a_watcher_that_it_must_read_again() -> None:
    assert play(plan(4507)).wrong == []  # its time was over there, and it said too late that it goes on watching
