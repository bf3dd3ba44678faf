"""The hub's transport, published as a distribution of its own: `connect("hub://...")` finds it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TWO_PODS = """
import asyncio, sys
from backplane_core import Target, connect, connect_from_env
from backplane_hub import serve_hub

async def main(path):
    async with (
        serve_hub(path),
        connect(f"hub://{path}") as here,
        connect_from_env({"BACKPLANE": "hub", "BACKPLANE_URL": f"hub://{path}"}) as there,
        there.connection("conn-1", Target.user("u1")) as connection,
        asyncio.timeout(10),
    ):
        assert await here.publish(Target.user("u1"), "hello") == 0
        print((await anext(connection)).value)

asyncio.run(main(sys.argv[1]))
"""


def run(*command: str | Path) -> str:
    # pytest's own environment would be found before the one that is asked for.
    environment = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds core and the hub, and nothing of this workspace beside them."""
    folder = tmp_path_factory.mktemp("hub")
    project = folder / "backplane-hub"
    project.mkdir()
    [pyproject] = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs/how-to/own-transport.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (project / "pyproject.toml").write_text(pyproject)
    (project / "backplane_hub.py").write_text((ROOT / "examples/own_transport.py").read_text())
    python = folder / "venv/bin/python"
    run("uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run("uv", "pip", "install", "--quiet", "--python", python, ROOT / "packages/backplane-core", project)
    return python


def test_an_installed_transport_is_found_by_its_scheme_and_delivers(python: Path, tmp_path: Path) -> None:
    assert run(python, "-I", "-W", "error", "-c", TWO_PODS, tmp_path / "x.sock") == "hello\n"


def test_another_scheme_is_refused_with_a_list_that_names_it(python: Path) -> None:
    ask = "from backplane_core import connect\ntry: connect('bus://x')\nexcept ValueError as error: print(error)"
    assert run(python, "-I", "-W", "error", "-c", ask) == (
        "no installed adapter serves bus://; there are hub://, memory://\n"
    )
