"""Replays one run by its number: `uv run python -m tests.product.model SEED`.

A run that fails is cut down first; then its script, its trace and what it breaks are printed. `--whole` does not cut.
"""

from __future__ import annotations

import argparse
import sys

from tests.product.model.run import play, shrink
from tests.product.model.script import draw


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Return 1 if the run fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.product.model", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--whole", action="store_true", help="do not cut a failing script down")
    options = parser.parse_args()
    plan = draw(options.seed)
    if play(plan).violations and not options.whole:
        plan = shrink(plan)
    say(repr(plan))
    for step in plan.steps:
        say(f"    {step!r},")
    outcome = play(plan, say)
    say("\n".join(outcome.violations) or "all that is promised holds")
    return bool(outcome.violations)


if __name__ == "__main__":
    sys.exit(main())
