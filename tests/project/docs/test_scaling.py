"""The page about scaling can't drift from its arithmetic: its tables are what its program prints."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from tests.project.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/how-to/scaling.md"


def program() -> tuple[dict[str, Any], str]:
    """Run the page's program; return its names and what it printed."""
    (code,) = blocks(PAGE)
    names: dict[str, Any] = {"__name__": "__main__"}
    with redirect_stdout(StringIO()) as printed:
        exec(code, names)
    return names, printed.getvalue()


def shown() -> list[str]:
    """Return the page's blocks of plain text."""
    return re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_tables_are_what_the_program_prints() -> None:
    _, printed = program()
    beats, fleets = shown()
    assert f"{beats}\n{fleets}" == printed


def test_the_program_computes_with_the_figures_of_the_first_table() -> None:
    names, _ = program()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \| ([\d.,]+) \|", PAGE.read_text(), re.MULTILINE)
    table = {name: (float(redis.replace(",", "")), float(nats.replace(",", ""))) for name, redis, nats in rows}
    assert table == {name: (getattr(names["REDIS"], name), getattr(names["NATS"], name)) for name in table}
    assert {*table, "name"} == {attribute.name for attribute in names["Broker"].__attrs_attrs__}


def test_beats_grow_with_the_square_of_the_fleet_and_cells_divide_them() -> None:
    names, _ = program()
    one, hundred_times, cells = (names["FLEETS"][at] for at in (0, 2, 3))
    assert hundred_times.pods == 100 * one.pods
    assert cells.pods == one.pods
    beats = [names["REDIS"].cores(0, fleet.pods**2)[1] for fleet in (one, hundred_times, cells)]
    assert beats[1] == 10_000 * beats[0]
    assert beats[2] == beats[0]
