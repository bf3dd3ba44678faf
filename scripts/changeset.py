"""Writes a changeset: `uv run scripts/changeset.py` asks; with arguments it does not.

uv run scripts/changeset.py core=minor redis=patch -m "`publish` takes several targets."
uv run scripts/changeset.py --none     users don't see this change
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.releasing.changesets import BUMPS, CORE, Changeset, add  # noqa: E402 -- found by the line above
from scripts.releasing.shell import ReleaseError  # noqa: E402
from scripts.releasing.workspace import read_workspace  # noqa: E402

MEANINGS = {"patch": "a bug fix", "minor": "something new", "major": "users must change something"}


def full_name(name: str, known: Sequence[str]) -> str:
    """Return `backplane-redis` for `redis` too; an unknown name stays, for `Changeset.check` to refuse."""
    return f"backplane-{name}" if f"backplane-{name}" in known else name


def parse_bumps(words: Sequence[str], known: Sequence[str]) -> Mapping[str, str]:
    """Return distributions to bumps, from words like `redis=patch`."""
    bumps: dict[str, str] = {}
    for word in words:
        name, equals, bump = word.partition("=")
        if not equals:
            raise ReleaseError(f"{word!r} is not of the form DISTRIBUTION=BUMP, like {known[0]}=minor")
        if full_name(name, known) in bumps:
            raise ReleaseError(f"{full_name(name, known)} is named twice")
        bumps[full_name(name, known)] = bump
    return bumps


def ask(question: str, answers: Sequence[str], default: str) -> str:
    """Ask until the answer is one of these."""
    while True:
        answer = input(f"{question} [{default}] ").strip().lower() or default
        if answer in answers:
            return answer
        print(f"one of {', '.join(answers)}")


def interview(known: Sequence[str]) -> Changeset:
    """Ask for everything that a changeset needs."""
    print("How does each version move? " + "; ".join(f"{bump}: {why}" for bump, why in MEANINGS.items()))
    answers = {name: ask(f"  {name}: none, {', '.join(BUMPS)}?", ("none", *BUMPS), "none") for name in known}
    bumps = {name: bump for name, bump in answers.items() if bump != "none"}
    if not bumps:
        return Changeset(bumps={}, text="")
    return Changeset(bumps=bumps, text=input("What changes for the people who use it, in a sentence? ").strip())


def wanted(bumps: Sequence[str], message: str | None, *, none: bool, known: Sequence[str]) -> Changeset:
    """Return what the command line says, or what the user answers.

    Raises:
        ReleaseError: The arguments contradict each other, or there is nobody to ask.
    """
    if none and (bumps or message):
        raise ReleaseError("--none takes no other arguments")
    if none:
        return Changeset(bumps={}, text="")
    if bumps or message:
        if not bumps:
            raise ReleaseError(f"which distribution? {', '.join(f'{name}=patch' for name in known)}; or --none")
        return Changeset(bumps=parse_bumps(bumps, known), text=(message or "").strip())
    if not sys.stdin.isatty():
        raise ReleaseError('nobody to ask here: give all arguments, like core=minor -m "What is new, in a sentence."')
    return interview(known)


def for_adapters(changeset: Changeset, known: Sequence[str]) -> Changeset | None:
    """Return the changeset that adapters get with a major of core, for those that are not named."""
    silent = [name for name in known if name not in changeset.bumps]
    if changeset.bumps.get(CORE) != "major" or not silent:
        return None
    return Changeset(bumps=dict.fromkeys(silent, "major"), text="Needs the new `backplane-core`: see its changelog.")


def main() -> None:
    """Write the files and name them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bumps", nargs="*", metavar="DISTRIBUTION=BUMP", help=f"BUMP: {', '.join(BUMPS)}")
    parser.add_argument("-m", "--message", help="what changes for the people who use it, in a sentence")
    parser.add_argument("--none", action="store_true", help="users don't see this change")
    options = parser.parse_args()
    known = [it.name for it in read_workspace(ROOT)]
    try:
        changeset = wanted(options.bumps, options.message, none=options.none, known=known)
        changeset.check(known)
    except ReleaseError as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nnothing was written")
    for it in filter(None, (changeset, for_adapters(changeset, known))):
        print(add(ROOT, it).relative_to(ROOT))


if __name__ == "__main__":
    main()
