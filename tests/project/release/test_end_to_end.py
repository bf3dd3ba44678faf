"""A release, from a changeset to a user's machine."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.project.release.copies import CORE, REDIS, ROOT, Copy
from tests.project.release.index import Index

pytestmark = [pytest.mark.slow, pytest.mark.only_full, pytest.mark.xdist_group("released"), pytest.mark.timeout(300)]


def test_what_was_published_is_installed_alone_and_runs_the_readme(
    released: Copy, index: Index, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PUBLISH_USERNAME", "anyone")
    monkeypatch.setenv("UV_PUBLISH_PASSWORD", "anything")
    urls = ["--upload-url", index.upload_url, "--simple-url", index.simple_url]
    assert "backplane-redis 0.7.2: published" in released.release("publish", *urls)

    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    ran(released, "uv", "venv", "--seed", "--python", sys.executable, str(environment))
    # Ours come from this index alone, everything else from where it always comes from.
    ran(
        released,
        *("uv", "pip", "install", "--python", str(python), "--index", index.simple_url),
        *("--refresh-package", CORE, "--refresh-package", REDIS, REDIS),
    )
    came = {
        it["name"]: it["version"] for it in json.loads(ran(released, str(python), "-m", "pip", "list", "--format=json"))
    }
    assert {CORE: "0.5.0", REDIS: "0.7.2"}.items() <= came.items()
    assert {"redis", "hiredis", "attrs", "cattrs", "msgspec"} <= set(came)
    assert not {"nats-py", "backplane-nats"} & set(came)
    assert "No broken requirements" in ran(released, str(python), "-m", "pip", "check")

    quickstart = quickstart_of_the_readme()
    for program in quickstart, quickstart.replace("connect()", f'connect("{redis_url}")', 1):
        output = ran(released, str(python), "-I", "-W", "error", "-c", program)
        assert [json.loads(line)["state"] for line in output.splitlines()] == ["running", "done"]


def ran(copy: Copy, *command: str) -> str:
    done = copy.run(*command)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def quickstart_of_the_readme() -> str:
    section = (ROOT / "README.md").read_text().split("## Quickstart")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    assert "with connect() as" in found[1]
    return found[1]
