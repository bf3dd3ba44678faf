"""Which scheme is meant by one that nobody serves: `nearest_scheme`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Final

__all__ = ["nearest_scheme"]

_KIND: Final = r"(redis|valkey)(s?)"
_SPELLINGS: Final = (
    (rf"{_KIND}[-+._]streams?[-+._]clusters?|{_KIND}[-+._]cluster[-+._]streams?", "{kind}{tls}-cluster+streams"),
    (rf"{_KIND}[-+._]streams?[-+._]sentinels?|{_KIND}[-+._]sentinel[-+._]streams?", "{kind}{tls}+sentinel+streams"),
    (rf"{_KIND}[-+._]?clusters?|clusters?[-+._]{_KIND}", "{kind}{tls}-cluster"),
    (rf"(?:{_KIND})?[-+._]?sentinels?|sentinels?[-+._]{_KIND}", "{kind}{tls}+sentinel"),
    (
        rf"{_KIND}[-+._]?(?:unix|sock(?:et)?)|(?:unix|sock(?:et)?)[-+._]?{_KIND}|sock(?:et)?|unix[-+._]?sock(?:et)?",
        "unix",
    ),
    (rf"{_KIND}[-+._]?(?:tls|ssl)|(?:tls|ssl)[-+._]?{_KIND}", "{kind}s"),
    (r"nats[-+._]?(?:s|tls|ssl)|(?:tls|ssl)[-+._]nats", "tls"),
)
"""How other libraries, and people, spell what is served under another name."""


def nearest_scheme(scheme: str, served: Collection[str]) -> str | None:
    """Return the scheme that is meant by one that nobody serves; None if it is like none.

    Args:
        scheme: In lower case.
        served: Those that are served, or would be if their adapter was installed.
    """
    near = difflib.get_close_matches(scheme, served, n=1, cutoff=0.75)
    return next((found for found in [*_meant(scheme), *near] if found in served), None)


def _meant(scheme: str) -> Iterator[str]:
    for spelling, meant in _SPELLINGS:
        if found := re.fullmatch(spelling, scheme):
            words = [word or "" for word in found.groups()] or ["", ""]
            kind, tls = next((pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0]), ("redis", ""))
            yield meant.format(kind=kind, tls=tls)
