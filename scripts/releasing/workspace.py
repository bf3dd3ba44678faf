"""What the manifests say about each distribution, and how npm's terms become Python's.

`package.json` next to each `pyproject.toml` is where changesets puts versions; `carry` takes them over, `drift` says
where the two, `package-lock.json` and `uv.lock` disagree.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.releasing.shell import run, uv

__all__ = ["Distribution", "bounds", "carry", "drift", "in_order", "read_workspace"]

# Not `*/*`: node_modules holds symlinks to the members.
MEMBERS = ("packages/*/package.json", "adapters/*/package.json")


@frozen(kw_only=True)
class Distribution:
    """One distribution, as its `package.json` has it.

    Args:
        name: Its name, the same on the index.
        folder: Where it lies, from the workspace's root.
        version: Its version in Python's spelling, `1.2.0rc0` for npm's `1.2.0-rc.0`.
        tag: What git calls that version, in npm's spelling like the changelog: `backplane-core@1.2.0-rc.0`.
        requires: The distributions of this workspace that it needs, to npm's ranges.
    """

    name: str
    folder: Path
    version: Version
    tag: str
    requires: Mapping[str, str]


def read_workspace(root: Path) -> Sequence[Distribution]:
    """Return every distribution of the workspace, sorted by name."""
    return sorted((_read(path, root) for pattern in MEMBERS for path in root.glob(pattern)), key=lambda it: it.name)


def _read(path: Path, root: Path) -> Distribution:
    manifest = json.loads(path.read_text())
    return Distribution(
        name=manifest["name"],
        folder=path.parent.relative_to(root),
        version=Version(manifest["version"]),
        tag=f"{manifest['name']}@{manifest['version']}",
        requires=manifest.get("dependencies", {}),
    )


def in_order(distributions: Sequence[Distribution]) -> Sequence[Distribution]:
    """Return them so that each comes after those that it needs: an index never shows one that can't be installed."""
    ordered: list[Distribution] = []
    left = list(distributions)
    while left:
        done = {it.name for it in ordered}
        ready = [it for it in left if set(it.requires) <= done]
        if not ready:
            raise ValueError(f"these need each other: {', '.join(it.name for it in left)}")
        ordered += ready
        left = [it for it in left if it not in ready]
    return ordered


def bounds(caret: str) -> SpecifierSet:
    """Return npm's `^1.4.2` as `>=1.4.2,<2`; below 1.0 the minor breaks: `^0.4.2` is `>=0.4.2,<0.5`.

    Raises:
        ValueError: It is not such a range, or it is one of 0.0.x, for which npm has a different rule.
    """
    if not caret.startswith("^"):
        raise ValueError(f"{caret!r} is not a range like ^1.4.2")
    low = Version(caret[1:])
    if (low.major, low.minor) == (0, 0):
        raise ValueError(f"{caret!r}: versions start at 0.1.0")
    high = f"{low.major + 1}" if low.major else f"0.{low.minor + 1}"
    return SpecifierSet(f">={low},<{high}")


def carry(root: Path) -> None:
    """Take versions and bounds from every `package.json` over into `pyproject.toml` and `uv.lock`."""
    for it in read_workspace(root):
        # Only what differs: each call starts uv again.
        python = _pyproject(root, it)
        if Version(python["version"]) != it.version:
            run(uv(), "version", "--frozen", "--quiet", "--package", it.name, str(it.version), cwd=root)
        for name, caret in it.requires.items():
            if _required(python).get(name) != bounds(caret):
                requirement = f"{name}{_spelled(bounds(caret))}"
                run(uv(), "add", "--frozen", "--quiet", "--package", it.name, requirement, cwd=root)
    run(uv(), "lock", "--quiet", cwd=root)


def drift(root: Path) -> Iterator[str]:
    """Yield a sentence for each version or bound in which a manifest or lock file disagrees with `package.json`."""
    distributions = read_workspace(root)
    locked = {it["name"]: it for it in tomllib.loads((root / "uv.lock").read_text())["package"]}
    npm_locked = json.loads((root / "package-lock.json").read_text())["packages"]
    for it in distributions:
        python = _pyproject(root, it)
        where = it.folder / "pyproject.toml"
        found = {
            f"{where} has": python["version"],
            "uv.lock has": locked.get(it.name, {}).get("version"),
            "package-lock.json has": npm_locked.get(str(it.folder), {}).get("version"),
        }
        for place, version in found.items():
            if version is None or Version(version) != it.version:
                yield f"{it.name}: package.json has version {it.version}, {place} {version}"
        if python["name"] != it.name:
            yield f"{it.name}: {where} has the name {python['name']}"
        if npm_locked.get(str(it.folder), {}).get("dependencies", {}) != it.requires:
            yield f"{it.name}: package-lock.json has other dependencies than package.json"
        required = {name: found for name, found in _required(python).items() if name in {d.name for d in distributions}}
        for name in sorted({*required, *it.requires}):
            wanted = bounds(it.requires[name]) if name in it.requires else None
            if required.get(name) != wanted:
                yield f"{it.name}: package.json wants {name} {wanted}, {where} has {required.get(name)}"
            elif not bounds(it.requires[name]).contains(_version_of(name, distributions), prereleases=True):
                yield f"{it.name}: {name} {wanted} leaves out the workspace's own {_version_of(name, distributions)}"


def _version_of(name: str, distributions: Sequence[Distribution]) -> Version:
    return next(it.version for it in distributions if it.name == name)


def _pyproject(root: Path, it: Distribution) -> Mapping[str, Any]:
    project: Mapping[str, Any] = tomllib.loads((root / it.folder / "pyproject.toml").read_text())["project"]
    return project


def _required(python: Mapping[str, Any]) -> Mapping[str, SpecifierSet]:
    requirements = [Requirement(line) for line in python["dependencies"]]
    return {canonicalize_name(it.name): it.specifier for it in requirements}


def _spelled(specifiers: SpecifierSet) -> str:
    """Return the lower bound first, as people write it."""
    return ",".join(sorted(map(str, specifiers), reverse=True))
