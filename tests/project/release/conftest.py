"""Copies of the workspace to release from, and an index to publish to."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.releasing.node import install, surroundings
from scripts.releasing.shell import ReleaseError, tools
from tests.project.release.copies import CORE, ROOT, Copy, make_template
from tests.project.release.index import Index


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def release_tools() -> None:
    """The programs of the `release` group, installed once for all copies."""
    tools("release", ROOT)


@pytest.fixture(scope="session")
def template_with_node(template: Copy) -> Copy:
    """The template with changesets installed; skips where npm's registry can't be reached."""
    try:
        surroundings(ROOT)  # makes `.venv-node` where the copies' links point to, if it is needed
        install(template.root)
    except ReleaseError as error:
        if os.environ.get("BACKPLANE_REQUIRE_NODE") == "1":
            pytest.fail(f"BACKPLANE_REQUIRE_NODE=1, but {error}", pytrace=False)
        pytest.skip(str(error))
    return template


@pytest.fixture
def copy(template: Copy, tmp_path: Path) -> Copy:
    """A copy of the test's own."""
    return duplicate(template, tmp_path)


@pytest.fixture
def releasing(template_with_node: Copy, tmp_path: Path) -> Copy:
    """A copy of the test's own in which changesets runs."""
    return duplicate(template_with_node, tmp_path)


def duplicate(template: Copy, folder: Path) -> Copy:
    root = folder / "workspace"
    shutil.copytree(template.root, root, symlinks=True)
    return Copy(root)


@pytest.fixture(scope="session")
def released(template_with_node: Copy, release_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy after a minor release of core, committed and built into `dist`."""
    copy = duplicate(template_with_node, tmp_path_factory.mktemp("released"))
    copy.announce(f"{CORE}=minor", message="A publish can name several targets.")
    copy.commit()
    copy.release("version")
    copy.commit("A release")
    copy.release("build")
    return copy


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty package index on this machine."""
    folder = tmp_path / "index"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "pypiserver", "run", "--host=127.0.0.1", f"--port={port}"]
    options = ["--disable-fallback", "--authenticate=.", "--passwords=.", "--backend=simple-dir", str(folder)]
    with (tmp_path / "index.log").open("w") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield Index(f"http://127.0.0.1:{port}/", folder)
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "the index ended"
            assert time.monotonic() < deadline, "the index does not listen"
            time.sleep(0.05)
        else:
            return
