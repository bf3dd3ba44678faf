"""What fixed rounds of a contest come to: medians, ratios within a round, goals."""

from __future__ import annotations

from bench.breakdown import sections
from bench.contest import Result
from bench.contestants import CONTESTANTS
from bench.report import best, ratio, rows, table
from bench.verdict import findings


def result(rate: float, *, us: float = 5.0, lost: int = 0, late: int = 0) -> Result:
    return Result(events=1_000 + lost, seconds=1_000 / rate, sender_us=us, receiver_us=us + 1, lost=lost, late=late)


# The second round fell into a busy minute: all are slower by ten, and no ratio differs for it.
ROUNDS = [
    {
        "redis-bare": result(4_000 / slow),
        "redis-bare-64": result(8_000 / slow, late=3),
        "redis-ceiling": result(300_000 / slow),
        "redis-interest": result(150_000 / slow, us=7.0),
        "redis-flush-64": result(32_000 / slow),
        "litestar": result(3_000 / slow),
        "broadcaster": result(5_000 / slow, lost=2),
        "broadcaster-64": result(9_000 / slow),
    }
    for slow in (1, 10, 1)
]
SETTINGS = {"size": 200, "rounds": 3}


def test_goals_are_held_against_the_best_and_in_ratios_of_one_round() -> None:
    found = findings({"redis": ROUNDS}, settings=SETTINGS)
    goals = {goal.what: goal for goal in found.goals}
    peer = goals["Redis, one by one, interest: the best other library (broadcaster)"]
    assert (round(peer.found), peer.spread, peer.reached) == (30, (peer.found, peer.found), True)
    ceiling = goals["Redis, one by one, interest: the bare coalescing loop"]
    assert (round(ceiling.found, 2), ceiling.reached) == (0.5, True)
    assert not goals["Redis, the same, stretched: interest"].reached
    flush = goals["Redis, publish + flush each, 64 publishers: bare redis-py"]
    assert (round(flush.found, 2), flush.reached) == (4, False)
    cpu = goals["Redis, one by one, interest: processor time per event, sender"]
    assert (cpu.found, cpu.unit, cpu.reached) == (7.0, "µs", True)
    assert len(goals) == 6, "a goal whose contestants took no part is left out"


def test_whoever_took_no_part_is_compared_with_nobody() -> None:
    alone = [{"redis-interest": results["redis-interest"]} for results in ROUNDS]
    found = findings({"redis": alone}, settings=SETTINGS)
    assert {goal.unit for goal in found.goals} == {"µs"}
    assert found.rows[0][5] == "-"


def test_the_table_shows_medians_losses_and_the_bare_client_that_publishes_likewise() -> None:
    found = findings({"redis": ROUNDS}, settings=SETTINGS)
    lines = {(row[0], row[1]): row for row in found.rows}
    assert lines["Redis: backplane, publish + flush", "64"][2:6] == ("yes", "32,000", "3,200-32,000", "4.00")
    assert lines["Redis: backplane, interest", "1"][5] == "38"
    assert lines["Redis: broadcaster", "1"][8] == "6 lost"
    assert lines["Redis: bare redis-py", "64"][9] == "9"
    text = table(found.columns, found.rows)
    assert len({len(line) for line in text.splitlines()[:2]}) == 1
    assert [plot.key for plot in found.plots] == ["throughput-redis", "throughput-redis-64"]
    assert next(iter(found.plots[0].series)) == "bare coalescing loop"


def test_a_ratio_is_taken_within_its_round() -> None:
    assert [round(value) for value in ratio(ROUNDS, "redis-interest", "broadcaster")] == [30, 30, 30]
    chosen = {key: CONTESTANTS[key] for key in ROUNDS[0]}
    assert best(rows(chosen, ROUNDS), "peer", 64) == "broadcaster-64"
    assert best(rows(chosen, ROUNDS), "peer", 2) is None


def test_samples_become_microseconds_by_section() -> None:
    found = sections(
        {
            "backplane_core/_protocol/json.py:encode_event": 3,
            "backplane_core/_protocol/frame.py:build_frame": 1,
            "backplane_nats/_link.py:send": 2,
            "asyncio/selector_events.py:write": 1,
            "python3.11/selectors.py:select": 1,
        },
        cpu_us=4.0,
    )
    assert found == {
        "encode and check JSON": 2.0,
        "the adapter: bytes to frames and back": 1.0,
        "event loop and socket": 1.0,
    }
