"""Bugs: what the log says about an unexpected exception, without anything that could be payload.

The text of an exception may contain payload (a `KeyError` is the key), and so may its notes, its arguments, the locals
of its frames and the literals in its source lines. So the log names only its type and place: `KeyError at link.py:42`.
With `BACKPLANE_TRACEBACKS=1` in the environment the stack follows: the file, line and function of each frame, of this
exception, of its causes, and of every exception in it if it is a group.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from time import monotonic
from typing import Final, cast

from backplane_core._runtime.logging import logger

__all__ = ["error_location", "first_leaf", "log_fault", "log_stack"]

SWITCH: Final = "BACKPLANE_TRACEBACKS"
"""The environment variable. Read at each fault, so that a shell, a test or a debugger can set it at any time."""

EVERY_S: Final = 60.0
"""A stack is logged once in this many seconds: a sink that fails for every event has one traceback, not thousands."""
MAX_STACKS: Final = 256
"""Distinct stacks remembered for that long; a thousand different ones would help nobody."""

MAX_FRAMES: Final = 40
"""Frames shown of one exception: half of them the outermost, half the innermost. Endless recursion has a thousand."""
MAX_EXCEPTIONS: Final = 20
"""Exceptions shown of one fault: causes, contexts, and members of groups."""

_logged_at: Final[dict[str, float]] = {}


def error_location(error: BaseException) -> str:
    """Return the type and place of an error without its text, which could contain payload: `KeyError at link.py:42`."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a task group that is not a group itself."""
    error = group.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return first_leaf(cast("BaseExceptionGroup[BaseException]", error))
    return error


def log_fault(what: str, error: BaseException) -> str:
    """Log that something failed, with the error's type and place, and its stack if that is switched on.

    Args:
        what: What failed, without payload: "the link failed".
        error: The error. If it is a group, its first error is named.

    Returns:
        What was logged, without the stack, for use as a `reason`.
    """
    group = isinstance(error, BaseExceptionGroup)
    named = first_leaf(cast("BaseExceptionGroup[BaseException]", error)) if group else error
    text = f"{what}: {error_location(named)}"
    logger.error("%s", text)
    log_stack(what, error)
    return text


def log_stack(what: str, error: BaseException) -> None:
    """Log the stack of an error, if that is switched on; for faults that a record already reports.

    Args:
        what: What failed, without payload.
        error: The error.
    """
    if os.environ.get(SWITCH) != "1":
        return
    stack = "\n".join(_lines(error))
    now = monotonic()
    logged_at = _logged_at.get(stack)
    if logged_at is not None and now - logged_at < EVERY_S:
        return
    if len(_logged_at) >= MAX_STACKS:
        _logged_at.clear()
    _logged_at[stack] = now
    logger.error("%s\n%s", what, stack)


def _lines(error: BaseException) -> list[str]:
    """Return the stack of an error, those of its causes, and those of the errors in it, if it is a group."""
    lines: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[str, str, BaseException]] = [("", "", error)]
    while waiting:
        indent, said, one = waiting.pop()
        if id(one) in seen:
            lines.append(f"{indent}{said}{_name(one)}, as above")
            continue
        if len(seen) >= MAX_EXCEPTIONS:
            lines.append(f"{indent}and more exceptions")
            break
        seen.add(id(one))
        lines.append(f"{indent}{said}{_name(one)}")
        lines += [f"{indent}  {frame}" for frame in _frames(one)]
        cause, context = one.__cause__, one.__context__
        # Last in, first out: members of a group are shown after its stack, and before its causes.
        if cause is not None:
            waiting.append((indent, "caused by ", cause))
        elif context is not None and not one.__suppress_context__:
            waiting.append((indent, "while handling ", context))
        if isinstance(one, BaseExceptionGroup):
            members = cast("BaseExceptionGroup[BaseException]", one).exceptions
            waiting += [
                (f"{indent}    ", f"{number} of {len(members)}: ", member)
                for number, member in reversed(list(enumerate(members[:MAX_EXCEPTIONS], 1)))
            ]
    return lines


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> Iterator[str]:
    """Yield a line for each frame, the outermost first, that says where it is and nothing else."""
    frames = [
        f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    half = MAX_FRAMES // 2
    if len(frames) <= MAX_FRAMES:
        yield from frames
    else:
        yield from frames[:half]
        yield f"... {len(frames) - 2 * half} frames"
        yield from frames[-half:]
