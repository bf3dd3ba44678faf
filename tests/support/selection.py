"""Which of the collected tests run by default, in which order, and which of them share a worker."""

# Pytest shows nobody which fixtures a test has.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.parts import Part

__all__ = [
    "QUICK_EXAMPLES",
    "beside_the_diagonal",
    "folder_of",
    "give_time",
    "is_passed_over",
    "not_in_part",
    "one_of_two_brokers",
    "order",
    "select",
    "share_workers",
]

TESTS: Final = Path(__file__).resolve().parents[1]

DIAGONAL: Final = {("redis", "broadcast"), ("nats", "interest")}
"""Each broker and each routing once; no code of ours depends on both."""

BROKERS: Final = ("broker", "shared_broker")
"""The parameters that name a broker."""

ABOVE_THE_SEAM: Final = (
    *(f"product/{name}" for name in ("asgi", "channels", "litestar", "server", "socketio")),
    *(f"project/{name}" for name in ("bench", "deploy", "docs", "examples")),
)
"""Folders of what uses core alone: which broker carries it makes no difference, and core's own tests say so.

Of two tests that differ by it one runs by default: over Redis or over NATS, by turns.
"""

BROKER_NAMES: Final = ("redis", "nats")

UVLOOP_NEEDS: Final = {None, "redis", "nats"}
"""Harnesses whose checks run on uvloop by default: another event loop shows at a socket, and at one of each broker."""

FIRST: Final = ("product/typing", "project/release", "product/logs", "product/ledger", "product/faults", "project")
"""What takes longest begins first, so that no worker is left alone with it at the end."""

SLOW_TO_START: Final = {"cluster", "nats_node"}
"""Harnesses whose broker takes seconds to start, so that one worker starts it for all."""


SLOW_S: Final = 600
"""Seconds for a test marked `slow`: a release that takes 20 s alone took 110 s at a load of 14."""

QUICK: Final = ("product/contract", "product/core", "product/pods")
"""Folders of the quick set: core, the contract of its transports, and pods; in memory and over Redis.

Tests marked `slow` or `thorough` are left out, and a property is tried with `QUICK_EXAMPLES`.
"""

QUICK_EXAMPLES: Final = 15

QUICK_BROKERS: Final = {"memory", "redis"}


def is_passed_over(config: pytest.Config, path: Path) -> bool | None:
    """Whether a file or folder holds nothing of the quick set, where that is asked for; None otherwise."""
    if not config.getoption("--quick") or not path.is_relative_to(TESTS):
        return None
    parts = path.relative_to(TESTS).parts[:2]
    return True if not any(folder.split("/")[: len(parts)] == list(parts) for folder in QUICK) else None


def _is_quick(item: pytest.Item) -> bool:
    params = _params(item)
    brokers = {params[name] for name in ("harness", *BROKERS) if name in params}
    left_out = any(item.get_closest_marker(name) for name in ("slow", "thorough"))
    return brokers <= QUICK_BROKERS and "uvloop" not in item.name and not left_out


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `--full` runs.

    With `--also-full` keep of that what is marked `only_full`, and a part of the rest. With `--full` leave out what is
    beside the diagonal of tests marked `diagonal`; with `--long` nothing; with `--quick` all but the quick set.
    """
    options = {name: config.getoption(f"--{name}") for name in ("quick", "full", "long", "also-full")}
    left_out: set[int] = set()
    if not options["long"]:
        never, repeated, marked = _beyond_the_default(items)
        left_out = never
        if not options["full"]:
            tests = {number: _together(items[number]) for number in sorted(repeated)}
            left_out |= not_in_part(tests, options["also-full"]) | (set() if options["also-full"] else marked)
    if options["quick"]:
        left_out |= {number for number, item in enumerate(items) if not _is_quick(item)}
    config.hook.pytest_deselected(items=[items[number] for number in sorted(left_out)])
    items[:] = [item for number, item in enumerate(items) if number not in left_out]


def _beyond_the_default(items: list[pytest.Item]) -> tuple[set[int], set[int], set[int]]:
    """Return the places of what only `--long` runs, and of two kinds of what only `--full` and `--long` run.

    One is combinations beside the diagonal, uvloop where it shows nothing new, and the other broker for what is above
    the seam; the other what is marked `only_full`.
    """
    pairs = beside_the_diagonal([_combination(item) for item in items])
    pairs |= one_of_two_brokers([_above_the_seam(item) for item in items])
    never = {number for number in pairs if items[number].get_closest_marker("diagonal") is not None}
    repeated = pairs | {number for number, item in enumerate(items) if _repeats_on_uvloop(item)}
    marked = {number for number, item in enumerate(items) if _is_for_full(item)}
    return never, repeated - never, marked - never


def _is_for_full(item: pytest.Item) -> bool:
    # Who names one on the command line, to see it fail again, gets it.
    return item.get_closest_marker("only_full") is not None and item.nodeid not in item.config.args


def not_in_part(tests: Mapping[int, Hashable], part: Part | None) -> set[int]:
    """Return the places of those tests that a part of them does not have: all, if there is no part."""
    if part is None:
        return set(tests)
    # What is equal stays together.
    kinds: dict[Hashable, int] = {}
    return {place for place, test in tests.items() if not part.has(kinds.setdefault(test, len(kinds)))}


def _together(item: pytest.Item) -> Hashable:
    """Return what a test has in common with those that share a worker with it, for what one of them starts."""
    group = item.get_closest_marker("xdist_group")
    return item if group is None else group.args


def beside_the_diagonal(combinations: Sequence[tuple[Hashable, Any, Any] | None]) -> set[int]:
    """Return the places of combinations that run with `--full` only.

    Args:
        combinations: Of each test what it is apart from these, its broker and its routing; None if it has not both.
    """
    alike: dict[Hashable, dict[tuple[Any, Any], int]] = defaultdict(dict)
    for number, combination in enumerate(combinations):
        if combination is not None:
            test, broker, routing = combination
            alike[test][broker, routing] = number
    # A test that has only some of the four has them for a reason; so has who names one on the command line.
    return {
        number
        for pairs in alike.values()
        if len(pairs) == 2 * len(DIAGONAL)
        for pair, number in pairs.items()
        if pair not in DIAGONAL
    }


def one_of_two_brokers(tests: Sequence[tuple[Hashable, str] | None]) -> set[int]:
    """Return the places of tests that run over the other broker by default: every second one of Redis, else of NATS.

    Args:
        tests: Of each test what it is apart from its broker, and that; None if it has none.
    """
    alike: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for number, test in enumerate(tests):
        if test is not None:
            alike[test[0]][test[1]] = number
    twice = [places for places in alike.values() if len(places) == len(BROKER_NAMES)]
    return {places[BROKER_NAMES[number % len(BROKER_NAMES)]] for number, places in enumerate(twice)}


def _above_the_seam(item: pytest.Item) -> tuple[Hashable, str] | None:
    params = _params(item)
    names = [name for name, value in params.items() if value in BROKER_NAMES]
    if len(names) != 1 or not folder_of(item.path).startswith(tuple(f"{folder}/" for folder in ABOVE_THE_SEAM)):
        return None
    broker = params.pop(names[0])
    return (item.location[0], item.location[2].partition("[")[0], repr(sorted(params.items()))), broker


def _combination(item: pytest.Item) -> tuple[Hashable, Any, Any] | None:
    params = _params(item)
    routing, brokers = params.pop("routing", None), [params.pop(name) for name in BROKERS if name in params]
    if routing is None or len(brokers) != 1:
        return None
    return (item.location[0], item.location[2].partition("[")[0], repr(sorted(params.items()))), brokers[0], routing


def _params(item: pytest.Item) -> dict[str, Any]:
    return dict(item.callspec.params) if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _repeats_on_uvloop(item: pytest.Item) -> bool:
    return "uvloop" in item.name and _params(item).get("harness") not in UVLOOP_NEEDS


def order(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, where workers take tests one by one."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("xdist_group"):
        return 0  # one worker runs the whole group
    folder = folder_of(item.path)
    return next((rank for rank, first in enumerate(FIRST) if folder.startswith(f"{first}/")), len(FIRST))


def folder_of(path: Path) -> str:
    """Return where a file is below `tests`, its name included; empty if it is elsewhere."""
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""


def give_time(items: list[pytest.Item]) -> None:
    """Give tests that build or publish `SLOW_S` before they count as hung: the first one does it for the others."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))


def share_workers(items: list[pytest.Item]) -> None:
    """Let tests run in one worker that share a fixture of their module, or a broker that takes seconds to start."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("xdist_group"):
            continue
        module = f"{item.path.parent.name}.{item.path.stem}"
        scopes = {definition.scope for each in item._fixtureinfo.name2fixturedefs.values() for definition in each}
        harness = _params(item).get("harness")
        if "module" in scopes:
            item.add_marker(pytest.mark.xdist_group(module))
        elif harness in SLOW_TO_START:
            item.add_marker(pytest.mark.xdist_group(f"{module} {harness}"))
