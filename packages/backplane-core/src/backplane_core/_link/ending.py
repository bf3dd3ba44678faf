"""Why a link ended, where several of its tasks learned of it: `most_telling`."""

from __future__ import annotations

from collections.abc import Iterator

from backplane_core.errors import TransportError

__all__ = ["most_telling"]


def most_telling(group: BaseExceptionGroup[TransportError]) -> TransportError:
    """Return the error that says most of those of one link: one that will come again on the next, or else the first."""
    errors = list(_leaves(group))
    return next((error for error in errors if not error.retryable), errors[0])


def _leaves(group: BaseExceptionGroup[TransportError]) -> Iterator[TransportError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
