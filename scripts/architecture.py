"""Draws docs/explanation/architecture.svg: the folders of core, and an arrow where one may import another.

uv run scripts/architecture.py     after a change of the folders, their docstrings or the allowed imports

Which folder may import which is written once, in the table of docs/explanation/architecture.md. A folder's job is the
docstring of its `__init__`. The public modules stand in two rows: those that a private folder imports, and the others.
An arrow that a path over other folders implies is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from html import escape
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs/explanation/architecture.md"
PICTURE: Final = PAGE.with_suffix(".svg")
CORE: Final = ROOT / "packages/backplane-core/src/backplane_core"
ADAPTERS: Final = sorted(ROOT.glob("adapters/*/src/*"))

Pair: TypeAlias = tuple[str, str]

PLACES: Final[Mapping[str, tuple[float, float]]] = {
    "_pod": (0.5, 1),
    "_link": (0.5, 2),
    "_inbound": (0, 3),
    "_fleet": (0, 4),
    "_log": (1, 4),
    "_jobs": (2, 4),
    "_presence": (0, 5),
    "_outbound": (1, 5),
    "_local": (0, 6),
    "testing": (2, 5),
    "_portal": (2, 6),
    "_protocol": (0.5, 7),
    "sockets": (1.5, 7),
    "_runtime": (0.5, 8),
}
"""Where each folder stands: its column, counted from the left, and its row, counted from the top. Arrows point down."""


def allowed(page: Path = PAGE) -> frozenset[Pair]:
    """Return (importer, imported) for each way that the page's table allows.

    An importer is a folder, or one module of it as `folder/module`.
    """
    rows = re.findall(r"^\| (`[^|]+`) +\| (`[^|]+`) +\|$", page.read_text(), re.MULTILINE)
    names = re.compile(r"`([\w/]+)`")
    return frozenset((by, to) for left, right in rows for by in names.findall(left) for to in names.findall(right))


def allowed_folders() -> frozenset[Pair]:
    """Return the allowed ways between whole folders."""
    return frozenset((by.partition("/")[0], to) for by, to in allowed())


def folders(core: Path = CORE) -> list[str]:
    """Return the names of core's folders."""
    return sorted(path.parent.name for path in core.glob("*/__init__.py"))


def modules(core: Path = CORE) -> list[str]:
    """Return the names of core's public modules."""
    return sorted(path.stem for path in core.glob("*.py") if path.stem != "__init__")


def job(folder: str) -> str:
    """Return what a folder is for: the first line of its docstring."""
    docstring = ast.get_docstring(ast.parse((CORE / folder / "__init__.py").read_text())) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def room_of(path: Path, core: Path = CORE) -> str:
    """Return the room that a file of core belongs to: its folder, or the public module that it is."""
    return path.relative_to(core).parts[0].removesuffix(".py")


def imported(path: Path, core: Path = CORE) -> Iterator[str]:
    """Yield the rooms of core that a file imports from; by way of the package, the room that a name comes from."""
    public = {
        alias.name: str(node.module).split(".")[1]
        for node in ast.parse((core / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{core.name}.")
        for alias in node.names
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, *names = node.module.split(".")
            if package == CORE.name:
                yield from names[:1] or [public.get(alias.name, alias.name) for alias in node.names]


def imports(core: Path = CORE) -> frozenset[tuple[Path, str]]:
    """Return (file, imported room) for every import of core from another room of core."""
    files = [path for path in core.rglob("*.py") if path != core / "__init__.py"]
    pairs = {(path, to) for path in files for to in imported(path, core)}
    return frozenset((path, to) for path, to in pairs if room_of(path, core) != to)


def reachable(start: str, pairs: AbstractSet[Pair]) -> frozenset[str]:
    """Return all that a way along the pairs leads to."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        at = ahead.pop()
        following = {to for by, to in pairs if by == at} - found
        found |= following
        ahead += following
    return frozenset(found)


def drawn() -> frozenset[Pair]:
    """Return the allowed ways between folders that no way over other folders implies."""
    pairs = allowed_folders()
    return frozenset(pair for pair in pairs if pair[1] not in reachable(pair[0], pairs - {pair}))


def bands() -> tuple[list[str], list[str]]:
    """Return the public modules that no private folder imports, and those that one does."""
    shared = {to for path, to in imports() if room_of(path).startswith("_")} & set(modules())
    return [name for name in modules() if name not in shared], sorted(shared)


WIDTH: Final = 256
HEIGHT: Final = 54
COLUMN: Final = 276
ROW: Final = 90
BAND: Final = 58
MARGIN: Final = 14

STYLE: Final = """
  svg { background: #fff }
  text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #4a5a6a }
  .name { font: 600 14px ui-monospace, monospace; fill: #1c2733 }
  .file { font: 12.5px ui-monospace, monospace; fill: #1c2733 }
  rect { fill: #f4f7fa; stroke: #8095a8 }
  .public rect { fill: #fdf6e9; stroke: #c4a05a }
  line { stroke: #5b7289; stroke-width: 1.3; marker-end: url(#head) }
"""
HEAD: Final = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#5b7289"/></marker></defs>'
)


def _left(folder: str) -> float:
    return MARGIN + PLACES[folder][0] * COLUMN


def _top(folder: str) -> float:
    return MARGIN + BAND - HEIGHT + PLACES[folder][1] * ROW


def _box(folder: str) -> str:
    left, top = _left(folder), _top(folder)
    middle = left + WIDTH / 2
    kind = "private" if folder.startswith("_") else "public"
    return (
        f'<g class="{kind}">'
        f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="{middle:g}" y="{top + 23:g}">{folder}/</text>'
        f'<text x="{middle:g}" y="{top + 42:g}">{escape(job(folder))}</text></g>'
    )


def _band(title: str, names: list[str], top: float, width: float) -> str:
    middle = MARGIN + width / 2
    return (
        f'<g class="public"><rect x="{MARGIN}" y="{top:g}" width="{width:g}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle:g}" y="{top + 22:g}">{escape(title)}</text>'
        f'<text class="file" x="{middle:g}" y="{top + 41:g}">{" · ".join(names)}</text></g>'
    )


def _places_along(folder: str, others: Iterable[str], other: str) -> float:
    """Return where on a folder's edge the arrow to or from another begins or ends: in the order they stand in."""
    order = sorted(sorted(others), key=_left)  # those above each other by name, so that each drawing is the same
    return _left(folder) + WIDTH * (order.index(other) + 1) / (len(order) + 1)


def picture() -> str:
    """Return the drawing as SVG."""
    width = max(map(_left, PLACES)) + WIDTH - MARGIN
    bottom = max(map(_top, PLACES)) + ROW
    height = bottom + HEIGHT + MARGIN
    holds, speaks = bands()
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 2 * MARGIN:g} {height:g}" role="img">',
        "<title>The folders of backplane_core; an arrow points from a folder to one that it may import</title>",
        f"<style>{STYLE}</style>",
        HEAD,
        _band("what a service holds", holds, MARGIN, width),
        _band("what all of them speak of", speaks, bottom, width),
    ]
    arrows = drawn()
    for by, to in sorted(arrows):
        x1 = _places_along(by, (other for one, other in arrows if one == by), to)
        x2 = _places_along(to, (one for one, other in arrows if other == to), by)
        ends = f'x1="{x1:g}" y1="{_top(by) + HEIGHT:g}" x2="{x2:g}" y2="{_top(to):g}"'
        lines.append(f'<line data-from="{by}" data-to="{to}" {ends}/>')
    return "\n".join([*lines, *map(_box, PLACES), "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture())
