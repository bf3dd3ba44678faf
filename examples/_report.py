"""What the user sees: the fleet, the table of deliveries, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen
from backplane_core import Target

from examples._scenario import PUBLICATIONS, Held, Publication, expected
from examples._screen import Colour, Screen

__all__ = ["Came", "Report"]

Came: TypeAlias = Counter[tuple[str, str]]
"""How often each (kind of event, connection) was seen."""

_COLOURS: Final[tuple[Colour, ...]] = ("cyan", "magenta", "yellow")
_IN, _EVENT, _TO, _OUT = 8, 14, 20, 7
"""Widths of the columns; with five connections the table is 79 wide."""


@frozen
class Report:
    """The text printed for one run.

    Args:
        screen: Where they are shown.
        pods: The processes that hold connections.
        publishers: All processes.
    """

    screen: Screen
    pods: Mapping[str, Held]
    publishers: Sequence[str]

    def fleet(self) -> list[str]:
        """Return lines that say who holds what."""
        lines: list[str] = []
        for name in self.publishers:
            label = self._process(name, _IN)
            for conn_id, targets in self.pods.get(name, {}).items():
                named = self.screen.paint(", ".join(map(_name, targets)), "dim")
                lines.append(f"  {label}{conn_id.ljust(_OUT)} {named}")
                label = " " * _IN
            if name not in self.pods:
                lines.append(f"  {label}{self.screen.paint('holds no connection, only publishes', 'dim')}")
        return lines

    def table(self, came: Came) -> list[str]:
        """Return a table of where each event went in and where it came out."""
        paint = self.screen.paint
        left = "  " + "from".ljust(_IN) + "event".ljust(_EVENT) + "to".ljust(_TO)
        holders = "".join([self._process(name, _OUT * len(held)) for name, held in self.pods.items()])
        ids = "".join([conn_id.ljust(_OUT) for conn_id in self._conn_ids()])
        lines = [" " * len(left) + holders, paint(left + ids, "dim")]
        for publication in PUBLICATIONS:
            went_in = self._process(self.publisher(publication), _IN)
            event = publication.event["kind"].ljust(_EVENT)
            cells = "".join([self._cell(publication, conn_id, came) for conn_id in self._conn_ids()])
            if not publication.reaches and not cells.strip():
                cells = paint("nobody is connected", "dim")
            lines.append(f"  {went_in}{event}{_to(publication).ljust(_TO)}{cells}")
        signs = f"{self.screen.came} came out, coloured by where it went in    {self.screen.excluded} excluded"
        if not self.screen.colours:
            signs = signs.replace(", coloured by where it went in", "")
        more = "Next: docs/tutorial.md, which breaks the broker too; docs/how-to/fastapi.md"
        return [*map(str.rstrip, lines), "", *["  " + paint(line, "dim") for line in (signs, more)]]

    def verdict(self, came: Came, trouble: Sequence[str]) -> list[str]:
        """Return whether everything expected arrived, once each, and nothing else; the last line sums up.

        Args:
            came: The deliveries that arrived.
            trouble: What else went wrong.
        """
        wanted = expected()
        missing, surplus = _listed(wanted - came), _listed(came - wanted)
        parts = [f"Missing: {missing}."] * bool(missing) + [f"Too many: {surplus}."] * bool(surplus)
        if parts or trouble:
            lines = [*trouble, " ".join(parts) or "All deliveries arrived, but not without trouble."]
            return [self.screen.paint(line, "red") for line in lines]
        return [self.screen.paint(f"All {wanted.total()} deliveries arrived, each once, and nothing else.", "green")]

    def publisher(self, publication: Publication) -> str:
        """Return the process that an event goes in at; in memory there is only one."""
        return publication.by if publication.by in self.publishers else self.publishers[0]

    def _conn_ids(self) -> list[str]:
        return [conn_id for held in self.pods.values() for conn_id in held]

    def _process(self, name: str, width: int) -> str:
        colour = _COLOURS[self.publishers.index(name) % len(_COLOURS)]
        return self.screen.paint(name.ljust(width), colour)

    def _cell(self, publication: Publication, conn_id: str, came: Came) -> str:
        screen = self.screen
        count = came[publication.event["kind"], conn_id]
        wanted = int(conn_id in publication.reaches)
        if count < wanted:
            return screen.paint(screen.missing.ljust(_OUT), "red")
        if count > wanted:
            return screen.paint(f"+{count - wanted}".ljust(_OUT), "red")
        if count:
            # In the colour of where it went in: a dot under another pod's name has crossed the bus.
            colour = _COLOURS[self.publishers.index(self.publisher(publication)) % len(_COLOURS)]
            return screen.paint(screen.came.ljust(_OUT), colour)
        if conn_id in publication.exclude:
            return screen.paint(screen.excluded.ljust(_OUT), "dim")
        return " " * _OUT


def _name(target: Target) -> str:
    return f"{target.kind} {target.id}".rstrip()


def _to(publication: Publication) -> str:
    targets = " or ".join(map(_name, publication.to))
    return f"{targets} but {', '.join(publication.exclude)}" if publication.exclude else targets


def _listed(deliveries: Came) -> str:
    return ", ".join([f"{kind} on {conn_id}" for kind, conn_id in sorted(deliveries.elements())])
