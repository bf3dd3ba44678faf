"""`scripts/release.py build`: the same bytes each time, and what an index would refuse."""

from __future__ import annotations

import json
import tarfile
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.releasing.building import build
from scripts.releasing.shell import ReleaseError
from tests.project.release.copies import CORE, REDIS, Copy

pytestmark = [pytest.mark.slow, pytest.mark.only_full, pytest.mark.xdist_group("released")]

SUFFIXES = {".whl", ".gz", ".json"}


def test_two_builds_are_the_same_bytes(released: Copy, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    released.git("clone", "--quiet", "--local", ".", str(elsewhere))
    (elsewhere / ".venv-release").symlink_to(released.root / ".venv-release")
    for path in elsewhere.rglob("*.py"):
        # What differs between two machines: times, and who may read.
        path.chmod(0o600)
    Copy(elsewhere).release("build", "--dist", str(tmp_path / "dist"))
    first, second = digests(released.root / "dist"), digests(tmp_path / "dist")
    assert len(first) == 9
    assert first == second


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.suffix in SUFFIXES}


def test_what_is_built_holds_licence_changelog_and_bounds(released: Copy) -> None:
    dist = released.root / "dist"
    with tarfile.open(dist / "backplane_redis-0.7.2.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml", "src/backplane_redis/py.typed"} <= names
    assert not any("package.json" in name or "node_modules" in name for name in names)
    with ZipFile(dist / "backplane_redis-0.7.2-py3-none-any.whl") as archive:
        metadata = archive.read("backplane_redis-0.7.2.dist-info/METADATA").decode()
    assert "Requires-Dist: backplane-core<0.6,>=0.5.0\n" in metadata


def test_the_sbom_names_all_that_comes_and_where_from_is_left_out(released: Copy) -> None:
    text = (released.root / "dist" / "backplane_redis-0.7.2.cdx.json").read_text()
    sbom = json.loads(text)
    assert sbom["metadata"]["component"]["name"] == REDIS
    assert {it["name"] for it in sbom["components"]} >= {CORE, "redis", "hiredis", "attrs", "msgspec"}
    assert "nats-py" not in text
    assert str(released.root) not in text


def test_a_wheel_that_would_spill_files_is_refused(copy: Copy, release_tools: None) -> None:
    path = copy.folder(REDIS) / "pyproject.toml"
    spill = '[tool.hatch.build.targets.wheel]\nforce-include = { "README.md" = "README.md" }'
    path.write_text(path.read_text().replace("[tool.hatch.build.targets.wheel]", spill))
    with pytest.raises(ReleaseError, match="check-wheel-contents"):
        build(copy.root, copy.root / "dist")


def test_a_page_that_an_index_can_not_show_is_refused(copy: Copy, release_tools: None) -> None:
    path = copy.folder(REDIS)
    (path / "README.rst").write_text("Title\n===\n\n.. no-such-directive::\n")
    manifest = path / "pyproject.toml"
    manifest.write_text(manifest.read_text().replace("README.md", "README.rst"))
    with pytest.raises(ReleaseError, match="twine check"):
        build(copy.root, copy.root / "dist")
