"""A copy of this workspace in which a test may release: `Copy`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from scripts.releasing.workspace import carry, read_workspace

__all__ = ["ROOT", "Copy", "make_template"]

ROOT = Path(__file__).parents[3]
CORE, NATS, REDIS = "backplane-core", "backplane-nats", "backplane-redis"
# Not those of today: a test must hold after the next release too.
VERSIONS = {CORE: "0.4.0", NATS: "0.3.2", REDIS: "0.7.1"}

NO_PART = ("bench/", "deploy/", "docs/", "examples/", "tests/")
"""Folders that a release does not look at: two thirds of the files, and each test has a copy of its own."""

# Nobody's own git configuration.
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@frozen
class Copy:
    """A git repository with the workspace's files, to release from.

    Args:
        root: Where it lies.
    """

    root: Path

    def run(self, *command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(
            [str(word) for word in command],
            cwd=self.root,
            env={**os.environ, **GIT},
            input=text or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, message: str = "A change") -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def release(self, *arguments: str) -> str:
        """Run `scripts/release.py` and return what it said."""
        done = self.run(sys.executable, "scripts/release.py", *arguments)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run `scripts/release.py`, which must refuse in so many words, and return those."""
        done = self.run(sys.executable, "scripts/release.py", *arguments)
        assert done.returncode == 1, f"{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def announce(self, *bumps: str, message: str = "Something that users see.") -> str:
        """Run `scripts/changeset.py` and return the names of the files that it wrote."""
        done = self.run(sys.executable, "scripts/changeset.py", *bumps, "-m", message)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def versions(self) -> Mapping[str, str]:
        return {it.name: str(it.version) for it in read_workspace(self.root)}

    def dependencies(self, name: str) -> str:
        """Return the text of a distribution's `pyproject.toml` from `dependencies` on."""
        return self.folder(name).joinpath("pyproject.toml").read_text().split("dependencies = ")[1]

    def changelog(self, name: str) -> str:
        return self.folder(name).joinpath("CHANGELOG.md").read_text()

    def folder(self, name: str) -> Path:
        return next(self.root / it.folder for it in read_workspace(self.root) if it.name == name)

    def touched(self) -> set[str]:
        """Return the distributions in which a file differs from the last commit."""
        paths = [line[3:] for line in self.git("status", "--porcelain", "--untracked-files=all").splitlines()]
        return {it.name for it in read_workspace(self.root) if any(path.startswith(f"{it.folder}/") for path in paths)}

    def set_versions(self, versions: Mapping[str, str]) -> None:
        """Put the workspace where it would be had these versions been released."""
        lock_path = self.root / "package-lock.json"
        lock = json.loads(lock_path.read_text())
        for it in read_workspace(self.root):
            path = self.root / it.folder / "package.json"
            manifest = json.loads(path.read_text())
            locked = lock["packages"][str(it.folder)]
            manifest["version"] = locked["version"] = versions[it.name]
            if it.requires:
                manifest["dependencies"] = locked["dependencies"] = {name: f"^{versions[name]}" for name in it.requires}
            path.write_text(json.dumps(manifest, indent=2) + "\n")
        lock_path.write_text(json.dumps(lock, indent=2) + "\n")
        carry(self.root)


def make_template(root: Path) -> Copy:
    """Copy this workspace as it stands, uncommitted files too: released, with nothing pending."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for path in _released([path for path in listed.split("\0") if path]):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, root / path)
    _leave_out_others(root)
    for group in ("node", "release"):
        # Made once, in the workspace itself.
        (root / f".venv-{group}").symlink_to(ROOT / f".venv-{group}")
    copy = Copy(root)
    copy.git("init", "--quiet", "--initial-branch=main")
    copy.set_versions(VERSIONS)
    copy.commit("The workspace")
    copy.git("gc", "--quiet")  # one file instead of hundreds: it is copied for each test
    return copy


def _leave_out_others(root: Path) -> None:
    """Leave three distributions: what holds for them holds for any number, and no test must count those of today."""
    project, lock = root / "pyproject.toml", root / "package-lock.json"
    packages = json.loads(lock.read_text())
    for it in read_workspace(root):
        if it.name not in VERSIONS:
            shutil.rmtree(root / it.folder)
            project.write_text(
                project.read_text()
                .replace(f'    "{it.name}",\n', "")
                .replace(f"{it.name} = {{ workspace = true }}\n", "")
            )
            del packages["packages"][str(it.folder)], packages["packages"][f"node_modules/{it.name}"]
    lock.write_text(json.dumps(packages, indent=2) + "\n")


def _released(paths: Sequence[str]) -> Sequence[str]:
    """Return those files that are there and a release looks at, without changesets and changelogs."""
    gone = {str(path.relative_to(ROOT)) for path in ROOT.glob(".changeset/**/*")}
    gone -= {".changeset/README.md", ".changeset/config.json"}
    gone |= {path for path in paths if path.startswith(NO_PART) or path.endswith("CHANGELOG.md")}
    return [path for path in paths if path not in gone and (ROOT / path).exists()]
