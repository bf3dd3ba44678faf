"""`scripts/release.py version`, with changesets itself: how each bump moves every distribution."""

from __future__ import annotations

import json

import pytest

from scripts.releasing.changesets import Changeset, add
from scripts.releasing.workspace import drift
from tests.project.release.copies import CORE, NATS, REDIS, Copy

pytestmark = [pytest.mark.slow, pytest.mark.only_full, pytest.mark.xdist_group("changesets")]


def test_a_core_minor_below_one_moves_the_adapters_bounds_and_patches_them(releasing: Copy) -> None:
    releasing.announce("core=minor", message="A publish can name several targets.")
    releasing.commit()
    said = releasing.release("version")
    assert "backplane-core: 0.4.0 -> 0.5.0" in said
    assert releasing.versions() == {CORE: "0.5.0", NATS: "0.3.3", REDIS: "0.7.2"}
    for adapter in NATS, REDIS:
        assert releasing.dependencies(adapter).startswith('[\n    "backplane-core>=0.5.0,<0.6",\n')
        assert "backplane-core@0.5.0" in releasing.changelog(adapter)
    assert "## 0.5.0\n\n### Minor Changes\n\n" in releasing.changelog(CORE)
    assert "A publish can name several targets." in releasing.changelog(CORE)
    assert list(drift(releasing.root)) == []
    assert releasing.run("uv", "lock", "--check").returncode == 0
    assert not list(releasing.root.glob(".changeset/a-publish*"))
    releasing.commit()
    assert releasing.release("check", "--since", "HEAD~1")
    assert "nothing to release" in releasing.release("version")
    assert not releasing.git("status", "--porcelain")


def test_an_adapters_patch_touches_it_alone(releasing: Copy) -> None:
    releasing.announce("redis=patch", message="A lost link is noticed sooner.")
    releasing.commit()
    assert "backplane-core: stays 0.4.0" in releasing.release("version")
    assert releasing.versions() == {CORE: "0.4.0", NATS: "0.3.2", REDIS: "0.7.2"}
    assert releasing.touched() == {REDIS}
    assert list(drift(releasing.root)) == []


def test_a_core_patch_touches_core_alone(releasing: Copy) -> None:
    releasing.announce("core=patch", message="A closed pod frees its memory.")
    releasing.commit()
    releasing.release("version")
    assert releasing.versions() == {CORE: "0.4.1", NATS: "0.3.2", REDIS: "0.7.1"}
    assert releasing.touched() == {CORE}


def test_a_core_major_is_refused_until_the_adapters_have_a_changeset_of_their_own(releasing: Copy) -> None:
    add(releasing.root, Changeset(bumps={CORE: "major"}, text="`Target` has no default."))
    releasing.commit()
    assert f"{NATS} and {REDIS} break with it" in releasing.refused("version")
    assert not releasing.git("status", "--porcelain")
    releasing.announce("nats=major", "redis=major", message="Needs the new core: see its changelog.")
    releasing.release("version")
    assert releasing.versions() == {CORE: "1.0.0", NATS: "1.0.0", REDIS: "1.0.0"}
    assert '"backplane-core>=1.0.0,<2"' in releasing.dependencies(REDIS)
    assert "### Major Changes" in releasing.changelog(REDIS)
    assert "Needs the new core" in releasing.changelog(REDIS)


def test_a_core_minor_from_one_on_touches_core_alone(releasing: Copy) -> None:
    releasing.set_versions({CORE: "1.4.2", NATS: "1.0.0", REDIS: "1.0.0"})
    releasing.announce("core=minor", message="A publish can name several targets.")
    releasing.commit()
    releasing.release("version")
    assert releasing.versions() == {CORE: "1.5.0", NATS: "1.0.0", REDIS: "1.0.0"}
    assert releasing.touched() == {CORE}


def test_a_train_of_pre_releases_runs_and_ends(releasing: Copy) -> None:
    assert "not a pre-release tag in Python: use a, b or rc" in releasing.refused("pre", "enter", "preview")
    releasing.release("pre", "enter", "rc")
    releasing.announce("core=minor", message="A publish can name several targets.")
    releasing.commit()
    releasing.release("version")
    assert releasing.versions() == {CORE: "0.5.0rc0", NATS: "0.3.3rc0", REDIS: "0.7.2rc0"}
    assert '"backplane-core>=0.5.0rc0,<0.6"' in releasing.dependencies(REDIS)
    assert json.loads((releasing.folder(CORE) / "package.json").read_text())["version"] == "0.5.0-rc.0"
    releasing.commit()
    assert releasing.release("check", "--since", "HEAD~1")
    assert "nothing to release" in releasing.release("version")

    releasing.announce("core=patch", message="Several targets are sent once.")
    releasing.commit()
    releasing.release("version")
    assert releasing.versions()[CORE] == "0.5.0rc1"
    releasing.commit()

    releasing.release("pre", "exit")
    releasing.release("version")
    assert releasing.versions() == {CORE: "0.5.0", NATS: "0.3.3", REDIS: "0.7.2"}
    assert '"backplane-core>=0.5.0,<0.6"' in releasing.dependencies(REDIS)
    assert list(drift(releasing.root)) == []
    section = releasing.changelog(CORE).split("## 0.5.0-rc")[0]
    assert "A publish can name several targets." in section
    assert "Several targets are sent once." in section


def test_a_drift_stops_it_before_anything_moves(releasing: Copy) -> None:
    releasing.announce("redis=patch", message="A lost link is noticed sooner.")
    path = releasing.folder(CORE) / "pyproject.toml"
    path.write_text(path.read_text().replace('"0.4.0"', '"0.4.7"'))
    releasing.commit()
    assert "package.json has version 0.4.0" in releasing.refused("version")
    assert not releasing.git("status", "--porcelain")


def test_each_version_gets_one_tag_and_notes(releasing: Copy) -> None:
    assert releasing.release("pending") == "pending=false\n"
    releasing.announce("redis=patch", message="A lost link is noticed sooner.")
    releasing.commit()
    assert releasing.release("pending") == "pending=true\n"
    releasing.release("version")
    releasing.commit()
    assert releasing.release("tag").split() == [f"{CORE}@0.4.0", f"{NATS}@0.3.2", f"{REDIS}@0.7.2"]
    assert releasing.release("tag") == ""
    assert "A lost link is noticed sooner." in releasing.release("notes", f"{REDIS}@0.7.2")
    assert "no changelog mentions backplane-redis@0.7.3" in releasing.refused("notes", f"{REDIS}@0.7.3")
