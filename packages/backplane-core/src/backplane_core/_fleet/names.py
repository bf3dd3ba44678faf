"""What pods are called in answers: by their names, and where two have the same one, by their origins too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from backplane_core._fleet.asker import Asker
from backplane_core.answers import MissingPod

__all__ = ["missing_pods", "names_of"]


def names_of(asker: Asker, origins: Iterable[str]) -> dict[str, str]:
    """Return what each of these pods is called, by origin."""
    names = {origin: asker.name_of(origin) for origin in origins}
    bearers = Counter(names.values())
    return {origin: name if bearers[name] == 1 else f"{name} ({origin})" for origin, name in names.items()}


def missing_pods(names: Mapping[str, str], missing: Mapping[str, str]) -> tuple[MissingPod, ...]:
    """Return the pods that have not answered.

    Args:
        names: What each is called, by origin.
        missing: Why, by origin.
    """
    return tuple([MissingPod(pod=names[origin], reason=reason) for origin, reason in missing.items()])
