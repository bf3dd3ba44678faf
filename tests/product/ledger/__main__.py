"""Replays runs of the ledger by their seeds, or plays new ones for as long as you like.

    uv run python -m tests.product.ledger 4711                    # replay one; --times 10, as no two runs are alike
    uv run python -m tests.product.ledger 4711 --shrink           # and find out what of it is needed to fail
    uv run python -m tests.product.ledger --runs 500              # many
    uv run python -m tests.product.ledger --long                  # an hour of them
    uv run python -m tests.product.ledger --long --minutes 30

It ends with 1 if a run failed: with how to replay it, what happened in it, and what is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.product.ledger.buses import BUS_NAMES
from tests.product.ledger.campaign import Campaign, play_seed, quiet, shrink

LONG_MINUTES = 60.0


def say(text: str) -> None:
    """Write a line of progress over the last one, where somebody is looking; whatever is longer stays."""
    is_short = "\n" not in text
    if is_short and sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{text}")
    else:
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Return 1 if a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.product.ledger", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("seeds", type=int, nargs="*", help="replay these")
    parser.add_argument("--times", type=int, default=1, help="how often each is replayed")
    parser.add_argument("--shrink", action="store_true", help="leave out what it does not need to fail")
    parser.add_argument("--bus", choices=BUS_NAMES, help="over this broker, whatever the seeds draw")
    parser.add_argument("--runs", type=int, help="how many new ones")
    parser.add_argument("--long", action="store_true", help="as many as there is time for")
    parser.add_argument("--minutes", type=float, default=LONG_MINUTES, help="how much time that is (%(default)g)")
    parser.add_argument("--first", type=int, default=int(time.time()), help="the first new seed")
    parser.add_argument("--jobs", type=int, default=4, help="how many at a time (%(default)s)")
    options = parser.parse_args()
    quiet()
    if options.seeds:
        if options.shrink:
            results = [shrink(seed, options.bus, options.times, say) for seed in options.seeds]
        else:
            results = [play_seed(seed, options.bus) for seed in options.seeds for _ in range(options.times)]
        for result in results:
            say(result.report or f"{result.seed} over {result.bus}: all that is promised holds; {result.counts}")
        return any(result.problems for result in results)
    if options.runs is None and not options.long:
        parser.error("name seeds to replay, or --runs, or --long")
    campaign = Campaign(
        first=options.first,
        runs=options.runs,
        for_s=options.minutes * 60 if options.long else None,
        jobs=options.jobs,
        bus=options.bus,
        say=say,
    )
    say(f"from seed {options.first} on, {options.jobs} at a time")
    return bool(campaign.play())


if __name__ == "__main__":
    sys.exit(main())
