"""The page about the architecture is true: its table of allowed imports, its drawing, and the files that it names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts.architecture import (
    CORE,
    PAGE,
    PICTURE,
    PLACES,
    allowed,
    allowed_folders,
    bands,
    drawn,
    folders,
    imports,
    job,
    modules,
    picture,
    reachable,
    room_of,
)


def forbidden(core: Path = CORE) -> list[str]:
    """Return each import between folders that the page does not allow, as a sentence."""
    return [
        f"{path.relative_to(core)} imports {to}"
        for path, to in sorted(imports(core))
        if (by := room_of(path, core)) in folders(core) and to in folders(core)
        if not {(by, to), (f"{by}/{path.stem}", to)} & allowed()
    ]


def circles(core: Path = CORE) -> list[str]:
    """Return the folders and public modules that import themselves by way of others."""
    pairs = {(room_of(path, core), to) for path, to in imports(core)}
    return [room for room in sorted({by for by, _ in pairs}) if room in reachable(room, pairs)]


def copy_with(tmp_path: Path, file: str, line: str) -> Path:
    """Return a copy of core in which a file has one line more."""
    core = tmp_path / CORE.name
    shutil.copytree(CORE, core)
    with (core / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    return core


def test_the_drawing_is_up_to_date() -> None:
    assert PICTURE.read_text() == picture(), "the drawing is out of date: run `uv run scripts/architecture.py`"


def test_every_folder_is_drawn_and_says_what_it_is_for() -> None:
    assert folders() == sorted(PLACES)
    for folder in folders():
        assert 10 < len(job(folder)) < 40, f"the docstring of {folder}/__init__.py must begin with one short line"


def test_every_public_module_is_drawn() -> None:
    holds, speaks = bands()
    assert sorted(holds + speaks) == modules()
    assert "sync_publisher" in holds
    assert "target" in speaks


def test_every_import_between_folders_is_allowed() -> None:
    assert not forbidden()


def test_every_permission_is_used() -> None:
    used = {(room_of(path), to) for path, to in imports()}
    used |= {(f"{room_of(path)}/{path.stem}", to) for path, to in imports()}
    assert allowed() <= used


def test_no_folder_and_no_public_module_imports_itself_by_way_of_others() -> None:
    assert not circles()


def test_every_arrow_points_down() -> None:
    assert len(drawn()) > 5
    for by, to in drawn():
        assert PLACES[by][1] < PLACES[to][1]


def test_what_is_allowed_is_what_the_arrows_lead_to() -> None:
    for by, to in allowed_folders():
        assert to in reachable(by, drawn())


def test_the_page_names_files_that_are_there() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", PAGE.read_text())
    assert len(named) > 10
    for name in named:
        assert (CORE / name).exists(), f"the page names {name}: where has it gone?"


@pytest.mark.parametrize(
    ("file", "line", "seen"),
    [
        ("_local/states.py", "from backplane_core._link.backoff import Backoff", "_local/states.py imports _link"),
        (
            "_protocol/frame.py",
            "from backplane_core._runtime.tasks import run_bounded",
            "_protocol/frame.py imports _runtime",
        ),
        ("sockets/tap.py", "from backplane_core._protocol.frame import Head", "sockets/tap.py imports _protocol"),
    ],
)
def test_a_forbidden_import_is_seen(tmp_path: Path, file: str, line: str, seen: str) -> None:
    assert set(forbidden(copy_with(tmp_path, file, line))) - set(forbidden()) == {seen}


@pytest.mark.parametrize(
    "line", ["from backplane_core.memory import InMemoryBackplane", "from backplane_core import connect"]
)
def test_a_circle_is_seen(tmp_path: Path, line: str) -> None:
    assert "target" in circles(copy_with(tmp_path, "target.py", line))
