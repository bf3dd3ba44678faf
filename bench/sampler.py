"""Where a process spends its processor time: `Sampler`, a profiler that costs next to nothing."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final, Self

from attrs import define, field

__all__ = ["Sampler"]

_EVERY_S: Final = 0.001
"""Of processor time. Most kernels round it up to their tick of 4 ms."""


@define(kw_only=True)
class Sampler:
    """A context manager that looks, every few milliseconds of processor time, which function runs.

    Unlike a profiler that hooks calls it slows nothing, so that small functions don't look dear. The time in code that
    is no Python, a system call say, belongs to the function that called it.

    Args:
        enabled: Else it does nothing.
    """

    enabled: bool = True
    _found: Counter[tuple[str, str]] = field(init=False, factory=Counter[tuple[str, str]])

    @property
    def counts(self) -> dict[str, int]:
        """How often each function was found running, by "package/module.py:function"."""
        return {f"{'/'.join(Path(file).parts[-2:])}:{name}": count for (file, name), count in self._found.items()}

    def __enter__(self) -> Self:
        if self.enabled:
            signal.signal(signal.SIGPROF, self._sample)
            signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            signal.setitimer(signal.ITIMER_PROF, 0)
            # Not the default, which kills: one may be under way.
            signal.signal(signal.SIGPROF, signal.SIG_IGN)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._found[frame.f_code.co_filename, frame.f_code.co_name] += 1
