"""What starts servers for tests stays in this repository: no release builds it, nothing that is published needs it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from scripts.releasing.workspace import in_order, read_workspace
from tests.project.layout.test_imports import imports

ROOT = Path(__file__).parents[3]
PRIVATE = "Private :: Do Not Upload"
"""An index refuses a distribution with this classifier."""


def members() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Each distribution of the workspace, with its folder and what its `pyproject.toml` says of the project."""
    found = [path for pattern in ("packages/*", "adapters/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")]
    projects = [(path.parent, tomllib.loads(path.read_text())["project"]) for path in found]
    return {project["name"]: (folder, project) for folder, project in projects}


MEMBERS = members()
PUBLISHED = [it.name for it in in_order(read_workspace(ROOT))]


def test_servers_for_tests_are_marked_as_private_and_no_release_takes_them() -> None:
    private = {name for name, (_, project) in MEMBERS.items() if PRIVATE in project.get("classifiers", [])}
    assert "backplane-testservers" in private
    assert set(PUBLISHED) == MEMBERS.keys() - private
    for name in private:
        assert not (MEMBERS[name][0] / "package.json").exists(), "changesets would version it, and a release build it"


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_that_is_published_depends_on_what_is_not(name: str) -> None:
    folder, project = MEMBERS[name]
    needed = {Requirement(text).name for text in requirements(project)}
    assert needed & MEMBERS.keys() <= set(PUBLISHED)
    private = {other.replace("-", "_") for other in MEMBERS.keys() - PUBLISHED}
    sources = sorted(folder.glob("src/**/*.py"))
    assert sources
    for path in sources:
        for module, _ in imports(path):
            assert module.split(".")[0] not in private, f"{path} imports {module}"


def requirements(project: dict[str, Any]) -> Iterator[str]:
    """Yield what a distribution requires, its extras included."""
    yield from project.get("dependencies", [])
    for extra in project.get("optional-dependencies", {}).values():
        yield from extra
