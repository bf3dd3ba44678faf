"""Which of the collected tests run by default, in which order, and which of them share a worker."""

# Pytest shows nobody which fixtures a test has.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = [
    "QUICK_EXAMPLES",
    "beside_the_diagonal",
    "folder_of",
    "give_time",
    "is_passed_over",
    "order",
    "select",
    "share_workers",
]

TESTS: Final = Path(__file__).resolve().parents[1]

DIAGONAL: Final = {("redis", "broadcast"), ("nats", "interest")}
"""Each broker and each routing once; no code of ours depends on both."""

BROKERS: Final = ("broker", "shared_broker")
"""The parameters that name a broker."""

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
    """Leave out what only `--full` runs: combinations beside the diagonal, and uvloop where it shows nothing new.

    With `--full` leave out those combinations of tests marked `diagonal`; with `--long` nothing; with `--quick` all but
    the quick set.
    """
    if config.getoption("--long"):
        return
    pairs = beside_the_diagonal([_combination(item) for item in items])
    full, quick = config.getoption("--full"), config.getoption("--quick")

    def runs(number: int, item: pytest.Item) -> bool:
        if full:
            return number not in pairs or item.get_closest_marker("diagonal") is None
        return number not in pairs and not _repeats_on_uvloop(item) and (not quick or _is_quick(item))

    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for number, item in enumerate(items):
        (kept if runs(number, item) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


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
