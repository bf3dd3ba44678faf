"""What errors and values look like."""

from __future__ import annotations

import re

__all__ = ["error_texts", "stable_id"]


def error_texts(error: BaseException | None) -> str:
    """Everything that an error's chain says, in every form in which it could be shown."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        if isinstance(error, UnicodeError):
            texts.append(repr(getattr(error, "object", None)))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def stable_id(value: object) -> str:
    """A parameter as a test's id: the same in every process, so without an address."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
