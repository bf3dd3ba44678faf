"""Finds distributions that changed without a changeset: `unannounced`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from scripts.releasing.changesets import pending
from scripts.releasing.shell import ReleaseError, run
from scripts.releasing.workspace import Distribution, read_workspace

__all__ = ["branch_base", "unannounced"]

# Where a branch leaves from: what was fetched tells more than a `main` of one's own, which may be old.
MAIN = ("origin/main", "main")


def branch_base(root: Path) -> str | None:
    """Return the commit at which this branch left main; None on main itself, and where there is no main."""
    for main in MAIN:
        try:
            base = run("git", "merge-base", main, "HEAD", cwd=root).strip()
        except ReleaseError:
            continue
        return base if base != run("git", "rev-parse", "HEAD", cwd=root).strip() else None
    return None


def unannounced(root: Path, since: str | None) -> Sequence[Distribution]:
    """Return the distributions whose sources changed and that no changeset names.

    Args:
        root: The workspace.
        since: Count what changed after the common ancestor with this commit; None: after each one's last release.

    Raises:
        ReleaseError: There is no such commit.
    """
    return [it for it in read_workspace(root) if _is_unannounced(root, it, since)]


def _is_unannounced(root: Path, it: Distribution, since: str | None) -> bool:
    base = _base(root, it, since)
    sources = [str(it.folder / "src"), str(it.folder / "pyproject.toml")]
    if not _changed(root, base, *sources) or _is_release(root, it, base):
        return False
    new = _changed(root, base, ".changeset")
    announced = [changeset for changeset in pending(root) if f".changeset/{_name(changeset.path)}" in new]
    # One without a distribution says: users don't see this change.
    return not any(it.name in changeset.bumps or not changeset.bumps for changeset in announced)


def _base(root: Path, it: Distribution, since: str | None) -> str | None:
    """Return what to compare with: its last release, or where the branch began if no release came after that."""
    released = _last_release(root, it)
    if since is None:
        return released
    base = _ancestor(root, since)
    return released if released in run("git", "rev-list", f"{base}..HEAD", cwd=root).split() else base


def _name(path: Path | None) -> str:
    return "" if path is None else path.name


def _last_release(root: Path, it: Distribution) -> str | None:
    """Return the commit of its last changelog, or None before the first release."""
    return run("git", "log", "-1", "--format=%H", "--", it.folder / "CHANGELOG.md", cwd=root).strip() or None


def _ancestor(root: Path, since: str) -> str:
    try:
        return run("git", "merge-base", since, "HEAD", cwd=root).strip()
    except ReleaseError as error:
        raise ReleaseError(f"git finds no common ancestor with {since}: fetch it, with its history") from error


def _changed(root: Path, base: str | None, *paths: str) -> set[str]:
    """Return the files that differ from `base`, or all of them; what is not yet committed counts."""
    untracked = run("git", "ls-files", "--others", "--exclude-standard", "--", *paths, cwd=root)
    if base is None:
        tracked = run("git", "ls-files", "--", *paths, cwd=root)
    else:
        tracked = run("git", "diff", "--name-only", "--no-renames", base, "--", *paths, cwd=root)
    return {*tracked.splitlines(), *untracked.splitlines()}


def _is_release(root: Path, it: Distribution, base: str | None) -> bool:
    """Whether the version itself moved: only `scripts/release.py version` does that, out of changesets."""
    if base is None:
        return (root / it.folder / "CHANGELOG.md").exists()
    path = f"{it.folder}/pyproject.toml"
    if not run("git", "ls-tree", base, "--", path, cwd=root):
        return False
    before = tomllib.loads(run("git", "show", f"{base}:{path}", cwd=root))["project"]["version"]
    now = tomllib.loads((root / path).read_text())["project"]["version"]
    return bool(before != now)
