"""The page on writing a transport quotes the example as it is, its files run, its checks catch its mistakes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import define, field
from backplane_core import Transport
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, ContractError, find_check
from backplane_core.testing._kit import waiting

from tests.project.docs.mistakes import MISTAKES, Edit
from tests.project.docs.pages import OPTIONS, ROOT, blocks, files

PAGE = ROOT / "docs/how-to/own-transport.md"
EXAMPLE = (ROOT / "examples/own_transport.py").read_text()

QUOTES = [block for block in blocks(PAGE) if block not in files(PAGE).values()]


def test_the_page_quotes_the_example() -> None:
    assert len(QUOTES) >= 6


def written(text: str) -> str:
    """The words and signs, one space apart: the page breaks its lines sooner than the example does."""
    signs = " ".join(re.findall(r"\w+|[^\w\s]", text))
    return re.sub(r", ([)\]}])", r"\1", signs)


@pytest.mark.parametrize("quote", QUOTES, ids=lambda quote: quote.partition("\n")[0])
def test_a_quote_is_in_the_example_word_for_word(quote: str) -> None:
    assert written(quote) in written(EXAMPLE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "backplane_hub.py").write_text(EXAMPLE)
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    loop = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\naddopts = {OPTIONS}\n{loop}")
    return tmp_path


def run(project: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    return done.stdout


def test_two_pods_over_the_hub_hear_each_other(project: Path) -> None:
    assert run(project, "two_pods.py") == "hello\n"


def test_the_kit_passes_under_pytest(project: Path) -> None:
    said = run(project, "-m", "pytest", "-q", "test_contract.py")
    assert f"{len(LINK_CHECKS) + 2 * len(FLEET_CHECKS)} passed" in said


def test_the_kit_passes_as_a_script(project: Path) -> None:
    assert run(project, "contract.py") == "0 promises are broken\n"


# The mistakes, made in the example's own text.


def test_the_page_lists_just_these_mistakes() -> None:
    _, _, table = PAGE.read_text().partition("| Mistake | Caught by |")
    listed = re.findall(r"^\| .* \| `(check_\w+)` \|$", table, re.MULTILINE)
    assert listed
    assert set(listed) == set(MISTAKES)
    named = set(re.findall(r"`(check_\w+)`", PAGE.read_text()))
    assert named <= {check.__name__ for check in (*LINK_CHECKS, *FLEET_CHECKS)}


def example_with(edits: tuple[Edit, ...], path: Path) -> ModuleType:
    text = EXAMPLE
    for right, wrong in edits:
        assert text.count(right) == 1, f"the example holds this {text.count(right)} times: {right!r}"
        text = text.replace(right, wrong)
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@define
class Harness:
    """The hub of one version of the example."""

    version: Any
    path: str
    _running: AsyncExitStack = field(factory=AsyncExitStack)
    _runs: bool = False

    def make(self) -> Transport:
        transport: Transport = self.version.HubTransport(f"hub://{self.path}")
        return transport

    async def cut(self) -> None:
        await self._running.aclose()
        self._runs = False

    async def restore(self) -> None:
        if not self._runs:
            await self._running.enter_async_context(self.version.serve_hub(self.path))
            self._runs = True


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_caught_by_the_check_that_the_page_names(
    leaves_nothing: None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "DEADLINE_S", 2.0)
    check = find_check(name)
    harness = Harness(example_with(MISTAKES[name], tmp_path / "mistaken.py"), str(tmp_path / "hub.sock"))
    await harness.restore()
    try:
        with pytest.raises(ContractError):
            await check(harness)
    finally:
        for writer in getattr(harness.version, "LEFT_OPEN", ()):
            writer.transport.abort()
        await harness.cut()
