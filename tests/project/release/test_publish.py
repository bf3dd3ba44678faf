"""`scripts/release.py publish`, against an index on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.releasing.publishing import publish
from scripts.releasing.shell import ReleaseError
from tests.project.release.copies import Copy
from tests.project.release.index import Index

pytestmark = [pytest.mark.slow, pytest.mark.only_full, pytest.mark.xdist_group("released")]

CORE = ["backplane_core-0.5.0-py3-none-any.whl", "backplane_core-0.5.0.tar.gz"]
NATS = ["backplane_nats-0.3.3-py3-none-any.whl", "backplane_nats-0.3.3.tar.gz"]
REDIS = ["backplane_redis-0.7.2-py3-none-any.whl", "backplane_redis-0.7.2.tar.gz"]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index takes any; uv wants some."""
    monkeypatch.setenv("UV_PUBLISH_USERNAME", "anyone")
    monkeypatch.setenv("UV_PUBLISH_PASSWORD", "anything")


def published(
    released: Copy, index: Index, *, dist: Path | None = None, dry_run: bool = False, trusted: bool = False
) -> list[str]:
    said: list[str] = []
    publish(
        released.root,
        dist or released.root / "dist",
        upload_url=index.upload_url,
        simple_url=index.simple_url,
        dry_run=dry_run,
        trusted=trusted,
        say=said.append,
    )
    return said


def test_a_dry_run_uploads_nothing(released: Copy, index: Index) -> None:
    assert published(released, index, dry_run=True) == [
        "backplane-core 0.5.0: would be published",
        "backplane-nats 0.3.3: would be published",
        "backplane-redis 0.7.2: would be published",
    ]
    assert index.files() == []


def test_core_goes_first_and_a_second_run_skips_all(released: Copy, index: Index) -> None:
    published(released, index)
    assert set(index.files()[:2]) == set(CORE)
    assert set(index.files()) == {*CORE, *NATS, *REDIS}
    assert all(line.endswith("already published, skipped") for line in published(released, index))


def test_a_version_that_is_there_is_skipped_whatever_was_built_since(released: Copy, index: Index) -> None:
    for name in CORE:
        (index.folder / name).write_bytes(b"an older build")
    assert published(released, index)[0] == "backplane-core 0.5.0: already published, skipped"
    assert (index.folder / CORE[0]).read_bytes() == b"an older build"
    assert set(NATS) < set(index.files())


def test_an_upload_that_was_cut_off_goes_on(released: Copy, index: Index) -> None:
    shutil.copy(released.root / "dist" / CORE[0], index.folder)
    assert published(released, index)[0] == "backplane-core 0.5.0: published"
    assert set(index.files()) == {*CORE, *NATS, *REDIS}


def test_half_a_version_with_other_bytes_stops_before_the_adapters(released: Copy, index: Index) -> None:
    (index.folder / CORE[0]).write_bytes(b"another build")
    with pytest.raises(ReleaseError, match=r"failed with \d+: .*publish"):
        published(released, index)
    assert not {*NATS, *REDIS} & set(index.files())


def test_what_was_not_built_is_told_before_anything_is_uploaded(released: Copy, index: Index, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(released.root / "dist", dist)
    (dist / REDIS[1]).unlink()
    with pytest.raises(ReleaseError, match=r"lacks backplane_redis-0\.7\.2\.tar\.gz: run .*build"):
        published(released, index, dist=dist)
    assert index.files() == []


def test_an_index_that_is_away_says_so(released: Copy, index: Index) -> None:
    with pytest.raises(ReleaseError, match="can't be reached"):
        published(released, Index("http://127.0.0.1:1/", index.folder))


def test_trusted_publishing_fails_where_nobody_vouches_for_us(
    released: Copy, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "GITHUB_ACTIONS", "GITLAB_CI", "UV_PUBLISH_USERNAME", "UV_PUBLISH_PASSWORD":
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ReleaseError, match=r"(?i)trusted publishing"):
        published(released, index, trusted=True)
    assert index.files() == []


def test_no_secret_is_shown_when_an_upload_fails(released: Copy, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_PUBLISH_USERNAME")
    monkeypatch.delenv("UV_PUBLISH_PASSWORD")
    monkeypatch.setenv("UV_PUBLISH_TOKEN", "pypi-s3cret")
    (index.folder / CORE[0]).write_bytes(b"another build")
    with pytest.raises(ReleaseError) as caught:
        published(released, index)
    assert "s3cret" not in str(caught.value)
