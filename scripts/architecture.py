"""Draws docs/explanation/architecture.svg: the parts of the library, and an arrow where one imports another.

uv run scripts/architecture.py     after a change of the imports

Which modules make a part, and where it stands, is written here; the arrows are read from the code. An import that a way
over other parts implies already is not drawn.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from html import escape
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs/explanation/architecture.svg"
CORE: Final = ROOT / "packages/backplane-core/src/backplane_core"
ADAPTERS: Final = sorted(ROOT.glob("adapters/*/src/*"))

Arrows: TypeAlias = frozenset[tuple[str, str]]


@frozen
class Part:
    """Some modules of core, or packages, that have one job.

    Args:
        job: What it does, in a few words.
        modules: Their names within `backplane_core`, or of an adapter's package.
        column: Where it stands, counted from the left.
        row: Where it stands, counted from the top; arrows point down.
    """

    job: str
    modules: tuple[str, ...]
    column: float
    row: int


PARTS: Final[Mapping[str, Part]] = {
    "adapters": Part("move bytes over a broker", ("backplane_redis", "backplane_nats"), 1, 0),
    "testing": Part("contract kit, a broker in memory", ("testing",), 2.8, 0),
    "connect": Part("from a URL to a backplane", ("connect", "publisher"), 1, 1),
    "distributed": Part("a pod of a fleet", ("distributed",), 1, 2),
    "memory": Part("a pod alone", ("memory",), 2.8, 2),
    "base": Part("publish, connections, states", ("_base", "_states", "_turn", "_arguments"), 2.8, 3),
    "uplink": Part(
        "keeps one link live",
        ("_uplink", "_links", "_subscriptions", "_outage", "_hearing", "_succession", "_successor"),
        0,
        3,
    ),
    "sender": Part("numbers, keeps, sends again", ("_sender", "_outbox", "_in_doubt"), 0, 4),
    "reader": Part("drops copies, finds holes", ("_reader", "_gate"), 1.4, 4),
    "connection": Part("one socket's bounded queue", ("connection",), 3.3, 5),
    "sockets": Part("from a socket's callback to core", ("sockets",), 0, 6),
    "fleet": Part("what is known of other pods", ("_fleet", "_sequence"), 0.4, 5),
    "settings": Part("options", ("_settings",), 2.3, 5),
    "registry": Part("this pod's connections", ("backplane", "_registry", "_gaps"), 1.55, 6),
    "routing": Part("from targets to channels", ("_routing",), 2.7, 6),
    "wire": Part("envelopes and events as bytes", ("envelope", "event", "_wire", "_json", "_signing"), 0.9, 7),
    "words": Part(
        "what all speak of",
        (
            "target",
            "errors",
            "observe",
            "transport",
            "_counters",
            "_logging",
            "_surroundings",
            "_home",
            "_forks",
            "_tasks",
            "_waking",
        ),
        1.7,
        8,
    ),
}


def public_names() -> dict[str, str]:
    """Return the module that each public name of core comes from."""
    tree = ast.parse((CORE / "__init__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module).partition(".")[2] for node in imports for alias in node.names}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of core that a file imports from; by way of the package, the one where the name comes from."""
    public = public_names()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, _, module = node.module.partition(".")
            if package == CORE.name:
                yield from [module.split(".")[0]] if module else [public.get(it.name, it.name) for it in node.names]


def sources() -> Iterator[tuple[str, Path]]:
    """Yield each file with the name of its module, or of its package if that is drawn whole."""
    for path in sorted(CORE.rglob("*.py")):
        if path != CORE / "__init__.py":
            yield path.relative_to(CORE).parts[0].removesuffix(".py"), path
    for adapter in ADAPTERS:
        for path in sorted(adapter.rglob("*.py")):
            yield adapter.name, path


def all_arrows() -> Arrows:
    """Return (importing part, imported part) for every import between two parts."""
    part_of = {module: name for name, part in PARTS.items() for module in part.modules}
    pairs = {(part_of[module], part_of[other]) for module, path in sources() for other in imported(path)}
    return frozenset(pair for pair in pairs if pair[0] != pair[1])


def reachable(start: str, arrows: AbstractSet[tuple[str, str]]) -> frozenset[str]:
    """Return the parts that a way along the arrows leads to."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        at = ahead.pop()
        following = {to for by, to in arrows if by == at} - found
        found |= following
        ahead += following
    return frozenset(found)


def drawn_arrows() -> Arrows:
    """Return the arrows that no way over other parts implies."""
    arrows = all_arrows()
    return frozenset(arrow for arrow in arrows if arrow[1] not in reachable(arrow[0], arrows - {arrow}))


WIDTH: Final = 232
HEIGHT: Final = 46
COLUMN: Final = 260
ROW: Final = 96
MARGIN: Final = 14

HEAD: Final = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#5b7289"/></marker></defs>'
)
STYLE: Final = """
  text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1c2733 }
  .job { font-size: 12px; fill: #4a5a6a }
  rect { fill: #f4f7fa; stroke: #8095a8 }
  line { stroke: #5b7289; stroke-width: 1.3; marker-end: url(#head) }
  svg { background: #fff }
"""


def picture() -> str:
    """Return the drawing as SVG."""
    lefts = {name: MARGIN + part.column * COLUMN for name, part in PARTS.items()}
    tops = {name: MARGIN + part.row * ROW for name, part in PARTS.items()}
    width, height = max(lefts.values()) + WIDTH + MARGIN, max(tops.values()) + HEIGHT + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img">',
        "<title>The parts of Backplane; an arrow points from a part to one that it imports</title>",
        f"<style>{STYLE}</style>",
        HEAD,
    ]
    arrows = drawn_arrows()
    for by, to in sorted(arrows):
        starts = sorted((other for one, other in arrows if one == by), key=lefts.__getitem__)
        ends = sorted((one for one, other in arrows if other == to), key=lefts.__getitem__)
        x1 = lefts[by] + WIDTH * (starts.index(to) + 1) / (len(starts) + 1)
        x2 = lefts[to] + WIDTH * (ends.index(by) + 1) / (len(ends) + 1)
        lines.append(
            f'<line data-from="{by}" data-to="{to}" x1="{x1:g}" y1="{tops[by] + HEIGHT}" x2="{x2:g}" y2="{tops[to]}"/>'
        )
    for name, part in PARTS.items():
        middle, top = lefts[name] + WIDTH / 2, tops[name]
        lines += [
            f'<rect x="{lefts[name]:g}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>',
            f'<text x="{middle:g}" y="{top + 19}">{escape(name)}</text>',
            f'<text class="job" x="{middle:g}" y="{top + 36}">{escape(part.job)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture())
