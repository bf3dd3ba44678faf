"""All kinds of faults. To add one:

1. Write a frozen class that extends `Fault`, or `LineFault` for one pod's line. Further fields are what its `draw`
   decides; `buses` says over which brokers it can happen.
2. In `happen`: hurt something, wait with `world.until` until that can be seen, call `world.saw`, wait `for_s`, heal,
   and wait until the pods have recovered as far as the promise says.
3. Name it in `KINDS`, and every plan may draw it.

What it needs of the run belongs into `HurtWorld` or `HurtPod`. How a loss is judged stays as it is: a fault that needs
an excuse of its own has found one.
"""

from __future__ import annotations

from typing import Final

from tests.product.ledger.faults.base import Fault
from tests.product.ledger.faults.broker import Demoted, Freeze, Hiccup, Kill
from tests.product.ledger.faults.clock import ClockSet
from tests.product.ledger.faults.clusters import CutOff, KillNode, LameDuck, MoveSlots, Promote
from tests.product.ledger.faults.failovers import Deposed, HandOver, KillPrimary
from tests.product.ledger.faults.line import Cut, HalfOpen, Held, Late, Narrow, Refused
from tests.product.ledger.faults.logins import Renewed
from tests.product.ledger.faults.pod import Blocked, Restart
from tests.product.ledger.faults.refusals import Denied, Poison

__all__ = ["KINDS", "Fault"]

KINDS: Final[tuple[type[Fault], ...]] = (
    Blocked,
    ClockSet,
    Cut,
    CutOff,
    Demoted,
    Denied,
    Deposed,
    Freeze,
    HalfOpen,
    HandOver,
    Held,
    Hiccup,
    Kill,
    KillNode,
    KillPrimary,
    LameDuck,
    Late,
    MoveSlots,
    Narrow,
    Poison,
    Promote,
    Refused,
    Renewed,
    Restart,
)
