"""Draws by seeded chance: whether something happens, and how long something takes."""

from __future__ import annotations

from random import Random

__all__ = ["draw_time", "happens"]


def happens(random: Random, chance: float) -> bool:
    """Draw whether something of this chance happens."""
    return chance > 0 and random.random() < chance


def draw_time(random: Random, longest_s: float) -> float:
    """Draw a time of at most so many seconds."""
    return random.uniform(0, longest_s) if longest_s else 0.0
