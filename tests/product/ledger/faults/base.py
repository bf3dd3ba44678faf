"""What every fault is: a frozen class that its seed fills, with one method, `happen`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar, Protocol, Self

from attrs import frozen
from backplane_core import BaseBackplane, Target
from backplane_testservers import OwnBroker, Proxy

from tests.product.ledger.access import Access
from tests.product.ledger.book import Book, Published
from tests.product.ledger.buses import BUS_NAMES, SINGLE, Bus, BusName
from tests.product.ledger.clocks import PodClock

__all__ = ["Fault", "HurtPod", "HurtWorld", "LineFault"]


class HurtPod(Protocol):
    """A pod as faults see it."""

    @property
    def name(self) -> str:
        """Its name, and its successor's another one."""
        ...

    @property
    def proxy(self) -> Proxy | None:
        """What stands before the broker on its line."""
        ...

    @property
    def backplane(self) -> BaseBackplane:
        """The backplane that is open now."""
        ...

    @property
    def links(self) -> int:
        """How many links went live."""
        ...

    @property
    def clock(self) -> PodClock:
        """Its wall clock."""
        ...

    def heal_line(self) -> None:
        """Let its line be as it was at first."""
        ...

    async def publish(self, target: Target, padding: int) -> Published:
        """Publish an event with so much padding."""
        ...

    async def restart(self, drain_s: float) -> None:
        """Close it in good order, and open another in its place."""
        ...


class HurtWorld(Protocol):
    """A run as faults see it."""

    @property
    def bus(self) -> Bus:
        """The broker."""
        ...

    @property
    def pods(self) -> Sequence[HurtPod]:
        """The pods, by their numbers in the plan."""
        ...

    @property
    def server(self) -> OwnBroker:
        """The bus, if it can be killed as a whole."""
        ...

    @property
    def access(self) -> Access:
        """Who may do what on the bus."""
        ...

    @property
    def book(self) -> Book:
        """What was written down so far."""
        ...

    @property
    def signs(self) -> bool:
        """Whether the fleet signs its frames."""
        ...

    def slots(self) -> Sequence[int]:
        """Return the slots of a Redis cluster in which the fleet's channels are."""
        ...

    def saw(self, fault: Fault, what: str) -> None:
        """Record that the fault was seen to happen; one that never was fails the run."""
        ...

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once the condition holds; fail the run if it does not within a minute."""
        ...


@frozen(kw_only=True)
class Fault(ABC):
    """One thing that goes wrong. `happen` hurts, waits until that was seen, and heals.

    A fault that was not seen to happen fails the run: it proves nothing. Faults that hurt the same thing take turns.

    Args:
        at_s: When it begins, in seconds from the start of the run.
        for_s: How long it lasts once it was seen, in seconds.
    """

    at_s: float
    for_s: float

    buses: ClassVar[frozenset[BusName]] = frozenset(BUS_NAMES)
    """Where it can happen."""

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        """Return one of its kind.

        Args:
            random: Decides.
            at_s: When it begins.
            pods: How many there are.
        """
        del pods
        return cls(at_s=at_s, for_s=round(random.uniform(0.05, 0.8), 2))

    @property
    @abstractmethod
    def place(self) -> str:
        """What it hurts: faults of one place take turns."""

    @abstractmethod
    async def happen(self, world: HurtWorld) -> None:
        """Hurt, call `world.saw`, and heal."""


@frozen(kw_only=True)
class LineFault(Fault):
    """A fault of the line between one pod and a single server.

    Args:
        pod: Whose, by number.
    """

    buses = SINGLE
    pod: int

    @classmethod
    def draw(cls, random: Random, *, at_s: float, pods: int) -> Self:
        return cls(at_s=at_s, for_s=round(random.uniform(0.05, 0.8), 2), pod=random.randrange(pods))

    @property
    def place(self) -> str:
        return f"line {self.pod}"

    def find(self, world: HurtWorld) -> tuple[HurtPod, Proxy]:
        """Return the pod, and the proxy before it."""
        pod = world.pods[self.pod]
        if pod.proxy is None:
            raise LookupError(f"{pod.name} has no proxy")
        return pod, pod.proxy
