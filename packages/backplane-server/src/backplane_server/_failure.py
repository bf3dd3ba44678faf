"""How a command reports that it failed: `Failure`."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "MISUSED", "Failure"]

FAILED: Final = 1
"""Exit code: the arguments were right, and it could not be done."""
MISUSED: Final = 2
"""Exit code: an argument, a flag, a variable or the file is wrong. Click uses the same one."""


class Failure(Exception):  # noqa: N818 -- what a command ends with, and no error of a library
    """Ends a command with an error message and an exit code.

    Args:
        problem: What is wrong, without secrets.
        advice: What to do next; empty if the problem says it.
        code: The exit code.
    """

    def __init__(self, problem: str, advice: str = "", code: int = FAILED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.code = code
