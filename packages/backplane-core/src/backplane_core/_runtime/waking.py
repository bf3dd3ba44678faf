"""How tasks wait and are woken: by the hand-made awaitable if this Python's tasks take it, else by plain futures.

The choice is made once, when this is imported, and here alone. Both have one interface, `Waiter`, `WakeQueue` and
`Confirmation`, and keep the same promises; `own_waiters` says what the first is for and what it saves.

`BACKPLANE_PLAIN_FUTURES=1` in the environment chooses futures without a trial: to find out, where tasks behave in a way
that nobody understands, whether the hand-made awaitable is to blame.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from backplane_core._runtime.faults import log_stack
from backplane_core._runtime.logging import logger

__all__ = ["OWN_WAITERS", "Confirmation", "Waiter", "WakeQueue"]

SWITCH: Final = "BACKPLANE_PLAIN_FUTURES"
"""The environment variable."""


def _choose() -> bool:
    if os.environ.get(SWITCH) == "1":
        return False
    try:
        from backplane_core._runtime.waiter_trial import try_own_waiters  # noqa: PLC0415 -- an import may fail as well

        try_own_waiters()
    except Exception as error:  # noqa: BLE001 -- whatever it is, plain futures will do
        # There is no payload yet that this could show.
        logger.info("tasks wait on plain futures, as our awaitable failed its trial: %s", error)
        log_stack("our awaitable failed its trial", error)
        return False
    return True


OWN_WAITERS: Final = _choose()
"""Whether tasks wait on the hand-made awaitable."""

if not TYPE_CHECKING and not OWN_WAITERS:
    from backplane_core._runtime.future_waiters import Confirmation, Waiter, WakeQueue
else:
    from backplane_core._runtime.own_waiters import Confirmation, Waiter, WakeQueue
