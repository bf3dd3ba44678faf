"""A part of many tests or seeds, another one for each commit: `Part`, and which seeds a run plays: `Seeds`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

__all__ = ["Part", "Seeds"]


@frozen
class Part:
    """Every `of`-th of a sequence.

    Args:
        number: Which one. It may be larger than `of`, so that the number of commits will do: `of` commits, one after
            the other, take all parts.
        of: How many parts there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return what an option says, as in "7/10".

        Raises:
            ValueError: It says something else.
        """
        found = re.fullmatch(r"(\d+)/([1-9]\d*)", text)
        if found is None:
            raise ValueError(f"{text!r} is no part: write 7/10 for the seventh of ten")
        return cls(int(found[1]), int(found[2]))

    def has(self, place: int) -> bool:
        """Return whether what is at a place belongs to it."""
        return place % self.of == self.number % self.of


@frozen(kw_only=True)
class Seeds:
    """Which seeds a test plays: the same ones by default; with `--also-full` those of a part of all as well."""

    full: bool
    long: bool
    part: Part | None

    def of(self, default: range, *, full: range, long: range) -> Sequence[int]:
        """Return the seeds to play.

        Args:
            default: Those that are always played.
            full: Those of `--full`.
            long: Those of `--long`.
        """
        if self.long:
            return long
        if self.full:
            return full
        if self.part is None:
            return default
        beyond = [seed for seed in full if seed not in default]
        return [*default, *(seed for place, seed in enumerate(beyond) if self.part.has(place))]
