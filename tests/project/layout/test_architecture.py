"""The drawing of the architecture shows the parts as they import each other, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import architecture
from scripts.architecture import CORE, PARTS, PICTURE, picture, reachable
from tests.project.layout.test_imports import ADAPTERS, imports

DRAWN = set(re.findall(r'<line data-from="(\w+)" data-to="(\w+)"', PICTURE.read_text()))
PART_OF = {module: name for name, part in PARTS.items() for module in part.modules}


def imported_by(path: Path) -> set[str]:
    """The modules of core that a file names, or that define the public names it takes."""
    found: set[str] = set()
    for module, names in imports(path):
        if module.startswith("backplane_core."):
            found.add(module.split(".")[1])
        elif module == "backplane_core":
            definition = re.compile(
                rf"^(?:(?:async )?def|class) ({'|'.join(names)})\b|^({'|'.join(names)}):", re.MULTILINE
            )
            found |= {source.stem for source in CORE.glob("[a-z]*.py") if definition.search(source.read_text())}
    return found


def part_of(path: Path) -> str:
    if path.is_relative_to(CORE):
        return PART_OF[path.relative_to(CORE).parts[0].removesuffix(".py")]
    return PART_OF[path.parts[path.parts.index("src") + 1]]


FILES = [*(path for path in CORE.rglob("*.py") if path != CORE / "__init__.py"), *ADAPTERS]


def test_the_drawing_is_up_to_date() -> None:
    assert PICTURE.read_text() == picture(), "the imports are others: run `uv run scripts/architecture.py`"


def test_every_module_belongs_to_one_part() -> None:
    drawn = [module for part in PARTS.values() for module in part.modules]
    assert len(drawn) == len(set(drawn))
    modules = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert set(drawn) == modules | packages | {"backplane_redis", "backplane_nats"}


def test_every_import_goes_along_the_arrows() -> None:
    for path in FILES:
        for module in imported_by(path):
            by, to = part_of(path), PART_OF[module]
            assert by == to or to in reachable(by, DRAWN), f"{path.name} of {by} imports {module} of {to}"


def test_every_arrow_is_an_import() -> None:
    real = {(part_of(path), PART_OF[module]) for path in FILES for module in imported_by(path)}
    assert len(DRAWN) > 15
    assert real >= DRAWN


def test_every_arrow_points_down() -> None:
    for by, to in DRAWN:
        assert PARTS[by].row < PARTS[to].row


def test_an_import_against_the_arrows_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in CORE.glob("*.py"):
        (tmp_path / "backplane_core").mkdir(exist_ok=True)
        (tmp_path / "backplane_core" / path.name).write_text(path.read_text())
    with (tmp_path / "backplane_core/target.py").open("a") as file:
        file.write("\nfrom backplane_core.memory import InMemoryBackplane\n")
    monkeypatch.setattr(architecture, "CORE", tmp_path / "backplane_core")
    assert ("words", "memory") in architecture.all_arrows()
