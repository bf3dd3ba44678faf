"""How much a log keeps, as the transports over logs take it: `Retention`."""

from __future__ import annotations

from typing import Final, Self

from attrs import frozen

from backplane_core.errors import ConfigurationError

__all__ = ["Retention"]

LEAST_BYTES: Final = 65_536
"""Less would not hold the events of a moment."""


@frozen(kw_only=True)
class Retention:
    """How much the log of each lane keeps; whichever limit is reached first.

    Args:
        entries: How many entries.
        max_bytes: How many bytes of the server's memory or disk; None: as many as those entries take.
        age_s: How old an entry gets, in seconds of the server's clock; None: any age.
    """

    entries: int
    max_bytes: int | None
    age_s: float | None

    @classmethod
    def parse(cls, *, entries: int | str, max_bytes: int | str | None, age_s: float | str | None) -> Self:
        """Return the retention for these options of a transport, each of which may be text.

        Args:
            entries: `retain_entries`.
            max_bytes: `retain_bytes`.
            age_s: `retain_s`.

        Raises:
            ConfigurationError: One is not allowed; says what is.
        """
        try:
            retention = cls(
                entries=_whole(entries, 1),
                max_bytes=None if max_bytes is None else _whole(max_bytes, LEAST_BYTES),
                age_s=None if age_s is None else _seconds(age_s),
            )
        except (TypeError, ValueError):
            pass
        else:
            return retention
        # Out here, where no `__context__` carries what was given.
        raise ConfigurationError(
            f"retain_entries is a whole number of at least 1; retain_bytes a whole number of bytes of at least "
            f"{LEAST_BYTES}, or None; retain_s a number of seconds above 0, or None"
        )


def _whole(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or int(value) < least:
        raise TypeError
    return int(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not 0 < float(value) < float("inf"):
        raise TypeError
    return float(value)
