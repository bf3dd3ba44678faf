"""The workflows in .github call what is there, and what an attacker could use fails their lint."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from scripts.release import arguments
from scripts.releasing.shell import ReleaseError, tools
from tests.project.release.copies import ROOT, Copy

PAGES = [
    ROOT / ".ci" / "run",
    *sorted(ROOT.glob(".github/**/*.yml")),
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
CALL = re.compile(r"(scripts/\w+\.py)(?: ([a-z]+))?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_script_that_is_named_is_there(page: Path) -> None:
    for script, command in CALL.findall(page.read_text()):
        assert (ROOT / script).exists(), f"{page.name}: {script}"
        if script == "scripts/release.py" and command:
            assert command in commands(), f"{page.name}: {script} {command}"


def commands() -> set[str]:
    return set(re.findall(r"^(\w+) {2,}", arguments().description or "", re.MULTILINE))


def test_the_commands_are_those_that_the_parser_knows() -> None:
    for command in commands():
        with pytest.raises(SystemExit) as done:
            arguments().parse_args([command, "--help"])
        assert done.value.code == 0
    assert "version" in commands()


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "v7", "unpinned-uses"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ('${BASE:+--since "origin/$BASE"}', "--since ${{ github.head_ref }}", "template-injection"),
    ],
)
def test_what_an_attacker_could_use_fails_the_lint(copy: Copy, old: str, new: str, finding: str) -> None:
    try:
        tools("workflows", ROOT)
    except ReleaseError as error:
        pytest.skip(str(error))
    (copy.root / ".venv-workflows").symlink_to(ROOT / ".venv-workflows")
    lint = sys.executable, "scripts/lint_workflows.py"
    assert copy.run(*lint).returncode == 0
    path = copy.root / ".github" / "workflows" / "ci.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = copy.run(*lint)
    assert done.returncode == 1
    assert finding in done.stderr


@pytest.mark.parametrize(
    ("workflow", "combinations"), [("ci.yml", '--also-full "$PART/10"'), ("nightly.yml", "--full")]
)
def test_the_outside_runs_all_that_the_run_before_a_push_does(workflow: str, combinations: str) -> None:
    """Each pytest has the options of README's command: by night with `--full`, before with a part of it.

    It may leave out the slow ones.
    """
    readme = re.search(r"uv run (pytest -n [^#\n]*[^# \n])", (ROOT / "README.md").read_text())
    assert readme is not None
    runs = re.findall(r"run: uv run --locked (pytest\b.*)", (ROOT / ".github" / "workflows" / workflow).read_text())
    suites = {run.removesuffix(' -m "not slow"') for run in runs}
    assert suites == {f"{readme[1]} {combinations}"}


def test_all_that_a_push_leaves_out_runs_at_night() -> None:
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text()
    for command in ("scripts/check_versions.py --all", "python -m tests.product.ledger --long", "--full"):
        assert command in nightly
    ran = re.findall(
        r'combinations=\((--[a-z-]+) "\$\(\(number % (\d+)\)\)/(\d+)"\)', (ROOT / ".ci" / "run").read_text()
    )
    assert ran == [("--also-full", "10", "10")]
