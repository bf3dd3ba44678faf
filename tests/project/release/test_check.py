"""`scripts/release.py check`: manifests that drift apart, and changes that nobody announced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

from scripts.releasing.announced import unannounced
from scripts.releasing.changesets import Changeset, add
from scripts.releasing.shell import ReleaseError
from scripts.releasing.workspace import Distribution, bounds, carry, drift, in_order
from tests.project.release.copies import CORE, NATS, REDIS, ROOT, Copy


def test_this_workspace_has_not_drifted() -> None:
    assert list(drift(ROOT)) == []


@pytest.mark.parametrize(
    ("name", "file", "change", "sentence"),
    [
        (CORE, "package.json", ("0.4.0", "0.4.1"), "package.json has version 0.4.1, .*pyproject.toml has 0.4.0"),
        (CORE, "pyproject.toml", ('"0.4.0"', '"0.4.1"'), "pyproject.toml has 0.4.1"),
        (REDIS, "package.json", ("^0.4.0", "^0.3.0"), "package.json wants backplane-core <0.4,>=0.3.0"),
        (REDIS, "pyproject.toml", (",<0.5", ",<0.6"), "pyproject.toml has <0.6,>=0.4.0"),
        (NATS, "pyproject.toml", (">=0.4.0,<0.5", ""), "package.json wants backplane-core <0.5,>=0.4.0"),
        (NATS, "../../uv.lock", (f'"{NATS}"\nversion = "0.3.2"', f'"{NATS}"\nversion = "0.3.1"'), "uv.lock has 0.3.1"),
        (REDIS, "../../package-lock.json", ('"0.7.1"', '"0.7.0"'), "package-lock.json has 0.7.0"),
        (REDIS, "../../package-lock.json", ("^0.4.0", "^0.5.0"), "package-lock.json has other dependencies"),
    ],
)
def test_each_drift_is_named_and_stops_a_release(
    copy: Copy, name: str, file: str, change: tuple[str, str], sentence: str
) -> None:
    path = copy.folder(name) / file
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    assert any(re.search(f"^{name}: .*{sentence}", line) for line in drift(copy.root)), list(drift(copy.root))
    assert "uv run scripts/release.py carry" in copy.refused("check")


def test_a_core_out_of_an_adapters_bounds_is_a_drift(copy: Copy) -> None:
    for file in "package.json", "pyproject.toml":
        path = copy.folder(CORE) / file
        path.write_text(path.read_text().replace('"0.4.0"', '"0.5.0"'))
    assert f"{REDIS}: {CORE} <0.5,>=0.4.0 leaves out the workspace's own 0.5.0" in list(drift(copy.root))


def test_versions_are_carried_over_into_every_manifest(copy: Copy) -> None:
    before = copy.dependencies(REDIS)
    copy.set_versions({CORE: "1.2.0-rc.0", NATS: "0.3.2", REDIS: "0.8.0"})
    assert list(drift(copy.root)) == []
    assert copy.versions() == {CORE: "1.2.0rc0", NATS: "0.3.2", REDIS: "0.8.0"}
    assert copy.dependencies(REDIS) == before.replace(">=0.4.0,<0.5", ">=1.2.0rc0,<2")


def test_carrying_over_twice_changes_nothing(copy: Copy) -> None:
    carry(copy.root)
    assert not copy.git("status", "--porcelain")


def test_a_change_without_a_changeset_is_told_what_to_write(copy: Copy) -> None:
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    copy.commit()
    message = copy.refused("check", "--since", "main")
    assert f"{REDIS} changed without a changeset" in message
    command = re.search(r"scripts/changeset\.py (\S+) -m", message)
    assert command
    copy.announce(command[1])
    assert "every change has a changeset" in copy.release("check", "--since", "main")


def test_a_changeset_for_another_distribution_is_not_enough(copy: Copy) -> None:
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    announce(copy, NATS)
    assert names(copy, "main") == [REDIS]


def test_one_that_lay_there_before_is_not_enough_for_a_branch_but_for_a_release(copy: Copy) -> None:
    (copy.folder(REDIS) / "CHANGELOG.md").write_text("# released\n")
    announce(copy, REDIS)
    copy.commit()
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    assert names(copy, "main") == [REDIS]
    (copy.folder(CORE) / "CHANGELOG.md").write_text("# released\n")
    (copy.folder(NATS) / "CHANGELOG.md").write_text("# released\n")
    copy.commit()
    assert names(copy, None) == [REDIS]
    announce(copy, REDIS)
    assert names(copy, None) == []


def test_a_branch_is_compared_with_where_it_left_main_and_main_with_the_last_release(copy: Copy) -> None:
    for name in CORE, NATS, REDIS:
        (copy.folder(name) / "CHANGELOG.md").write_text("# released\n")
    copy.commit()
    announce(copy, REDIS)
    edit(copy, REDIS)
    copy.commit()
    copy.release("check")
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    copy.commit()
    assert f"{REDIS} changed without a changeset" in copy.refused("check")
    # Merged, it is a part of a release that the first changeset announces.
    copy.git("switch", "--quiet", "main")
    copy.git("merge", "--quiet", "work")
    copy.release("check")
    edit(copy, NATS)
    copy.commit()
    assert f"{NATS} changed without a changeset" in copy.refused("check")


def test_a_branch_that_makes_a_release_is_compared_with_that(copy: Copy) -> None:
    """The first one may leave the version as it is, since nothing was on the index."""
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    (copy.folder(REDIS) / "CHANGELOG.md").write_text("# released\n")
    copy.commit()
    assert names(copy, "main") == []
    edit(copy, REDIS)
    assert names(copy, "main") == [REDIS]


def test_a_changeset_without_a_distribution_says_that_users_see_nothing(copy: Copy) -> None:
    copy.git("switch", "--quiet", "--create", "work")
    edit(copy, REDIS)
    add(copy.root, Changeset(bumps={}, text=""))
    assert names(copy, "main") == []


def test_pages_and_tests_need_no_changeset(copy: Copy) -> None:
    copy.git("switch", "--quiet", "--create", "work")
    (copy.folder(REDIS) / "README.md").write_text("# other words\n")
    (copy.root / "tests").mkdir()
    (copy.root / "tests" / "new.py").write_text("")
    assert names(copy, "main") == []


def test_a_release_itself_needs_no_changeset(copy: Copy) -> None:
    copy.git("switch", "--quiet", "--create", "release")
    copy.set_versions({CORE: "0.5.0", NATS: "0.3.3", REDIS: "0.7.2"})
    assert names(copy, "main") == []


def test_before_the_first_release_all_must_be_announced(copy: Copy) -> None:
    assert names(copy, None) == [CORE, NATS, REDIS]
    announce(copy, CORE, NATS, REDIS)
    assert names(copy, None) == []


def test_an_unknown_base_says_what_to_fetch(copy: Copy) -> None:
    with pytest.raises(ReleaseError, match="no common ancestor with origin/main: fetch it"):
        unannounced(copy.root, "origin/main")


def test_a_malformed_changeset_fails_the_check(copy: Copy) -> None:
    (copy.root / ".changeset" / "x.md").write_text('---\n"backplane-kafka": minor\n---\n\nKafka is here at last.\n')
    assert ".changeset/x.md: no distribution is called 'backplane-kafka'" in copy.refused("check", "--since", "main")


def test_a_major_of_core_alone_is_told_what_the_adapters_need(copy: Copy) -> None:
    (copy.root / ".changeset" / "x.md").write_text('---\n"backplane-core": major\n---\n\nTargets have no default.\n')
    message = copy.refused("check", "--since", "main")
    assert f"scripts/changeset.py {NATS}=major {REDIS}=major -m" in message


@pytest.mark.parametrize(
    ("caret", "wanted"),
    [
        ("^1.4.2", ">=1.4.2,<2"),
        ("^0.4.2", ">=0.4.2,<0.5"),
        ("^1.2.0-rc.0", ">=1.2.0rc0,<2"),
        ("^0.5.0-rc.1", ">=0.5.0rc1,<0.6"),
    ],
)
def test_a_caret_becomes_a_lower_and_an_upper_bound(caret: str, wanted: str) -> None:
    assert set(str(bounds(caret)).split(",")) == set(wanted.split(","))


def test_a_train_of_the_next_version_is_out_of_bounds() -> None:
    assert not bounds("^0.4.0").contains("0.5.0rc1", prereleases=True)


@pytest.mark.parametrize("range_", ["^0.0.3", "~1.2.0", "*", "1.2.0"])
def test_another_range_is_refused(range_: str) -> None:
    with pytest.raises(ValueError, match=r"is not a range like|versions start at"):
        bounds(range_)


def test_what_others_need_comes_first() -> None:
    one, two, three = made("z"), made("m", "z"), made("a", "m")
    assert [it.name for it in in_order([three, two, one])] == ["z", "m", "a"]
    with pytest.raises(ValueError, match="need each other: x, y"):
        in_order([made("x", "y"), made("y", "x")])


def made(name: str, *needs: str) -> Distribution:
    return Distribution(
        name=name, folder=Path(name), version=Version("1.0.0"), tag="", requires=dict.fromkeys(needs, "^1.0.0")
    )


def names(copy: Copy, since: str | None) -> list[str]:
    return [it.name for it in unannounced(copy.root, since)]


def edit(copy: Copy, name: str) -> None:
    path = next(copy.folder(name).glob("src/*/__init__.py"))
    path.write_text(path.read_text() + "\n# changed\n")


def announce(copy: Copy, *distributions: str) -> None:
    add(copy.root, Changeset(bumps=dict.fromkeys(distributions, "patch"), text="Something that users see."))
