"""One process's pod of one URL: `SharedPod`, which all `SyncConnection`s with the same options share."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from attrs import frozen

from backplane_core._portal.shared import Shared
from backplane_core.adapters import make_transport
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ClosedError, ReentrantPublishError
from backplane_core.target import Target

__all__ = ["SharedPod"]

T = TypeVar("T")


@frozen(eq=False)
class Change:
    """Adds a target to a connection, or removes one.

    Args:
        backplane: The pod that holds it.
        conn_id: The connection's id.
        target: The target.
        adds: Whether to add the target; otherwise it is removed.
    """

    backplane: DistributedBackplane
    conn_id: str
    target: Target
    adds: bool

    def make(self) -> None:
        """Make the change, in the loop."""
        if self.adds:
            with suppress(ClosedError):  # closed meanwhile
                self.backplane.associate_nowait(self.conn_id, self.target)
        else:
            self.backplane.dissociate_nowait(self.conn_id, self.target)


class SharedPod(Shared):
    """A pod whose connections are read in other threads; see `Shared`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self._pod: DistributedBackplane | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return its result; from any thread but the loop's own.

        Raises:
            ReentrantPublishError: Called in the loop's own thread, which would deadlock.
            ClosedError: The loop ended first.
        """
        if self.is_current:
            coroutine.close()
            raise ReentrantPublishError(
                "a callback in the event loop's own thread can't wait for the loop: it would deadlock"
            )
        return self.entered().run(coroutine)

    def change_targets(self, conn_id: str, target: Target, *, adds: bool) -> None:
        """Add a target to a connection, or remove it, in the loop's next turn; changes of one thread stay in order."""
        self.entered().soon(Change(self.served(), conn_id, target, adds).make)

    def make(self) -> DistributedBackplane:
        """Make the pod."""
        transport, rest = make_transport(self.url, self.options)
        self._pod = pod = DistributedBackplane(transport, **rest)
        return pod

    def served(self) -> DistributedBackplane:
        """Return the pod."""
        if self._pod is None:  # it was handed over before anything else
            raise ClosedError("the pod could not start")
        return self._pod
