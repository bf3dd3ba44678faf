"""Compares what arrived with what should have: `Report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import typer
from attrs import define, field

from backplane_server._demo.clients import Client
from backplane_server._failure import FAILED

__all__ = ["END", "Report"]

END: Final = "end "
"""Prefix of the kind of events that mark the end: all events before them have arrived."""


@define
class Report:
    """Compares, and prints a line for each comparison.

    Args:
        trouble: What went wrong, one sentence for each problem.
    """

    trouble: list[str] = field(factory=list[str], init=False)
    _known: set[str] = field(factory=set[str], init=False)
    _wanted: int = field(default=0, init=False)
    _arrived: int = field(default=0, init=False)
    _covered: int = field(default=0, init=False)
    _gaps: int = field(default=0, init=False)

    def begin(self, title: str) -> None:
        """Begin a part of the scenario."""
        typer.echo(f"\n{title}")
        self._known = set()

    def compare(self, kind: str, one: Client, wanted: int, *, may_miss: bool = False) -> None:
        """Compare how often events of a kind reached a client with how often they should have.

        Args:
            kind: The kind of the events.
            one: The client.
            wanted: How often they should have.
            may_miss: Whether the client may miss them if a gap was reported to it.
        """
        came = sum(event.get("kind") == kind for event in one.events)
        self._known.add(kind)
        self._wanted += wanted
        self._arrived += min(wanted, came)
        if may_miss and came < wanted and one.gaps:
            self._covered += wanted - came
            typer.echo(f"  gap {one.name:14}on {one.pod}  {came:2} of {wanted:2}  {kind}")
            return
        if wanted != came:
            self.trouble.append(f"{kind!r} reached {one.name} on {one.pod} {came} times instead of {wanted}")
        if wanted or came:
            mark = "ok  " if wanted == came else "BAD "
            typer.echo(f"  {mark}{one.name:14}on {one.pod}  {came:2} of {wanted:2}  {kind}")

    def end(self, clients: Sequence[Client]) -> None:
        """End a part: look for events that nobody published in it, and clear the clients."""
        for one in clients:
            for event in one.events:
                kind = str(event.get("kind"))
                if kind not in self._known and not kind.startswith(END):
                    self.trouble.append(
                        f"{one.name} on {one.pod} got an event that nobody published in this part: {kind!r}"
                    )
            self._gaps += len(one.gaps)
            one.events.clear()
            one.gaps.clear()

    def show(self) -> int:
        """Print the result, and return the exit code."""
        typer.echo(f"\n{self._arrived} of {self._wanted} expected deliveries; {self._gaps} gaps were reported")
        for sentence in self.trouble:
            typer.echo(f"error: {sentence}", err=True)
        if self.trouble:
            typer.echo(
                "next: run `backplane demo --check` again; if it fails again, report it with this output", err=True
            )
            return FAILED
        missed = (
            f"; {self._covered} missed deliveries are covered by gaps that were reported to their sockets"
            if self._covered
            else ""
        )
        typer.echo(f"every event reached exactly the sockets that it was for, once{missed}")
        return 0
