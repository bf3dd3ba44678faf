"""Builds wheels, sdists and SBOMs: the same bytes each time, and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.releasing.shell import ReleaseError, run, tools, uv
from scripts.releasing.workspace import Distribution, in_order, read_workspace

__all__ = ["build", "built_files", "locked_requirements"]


def build(root: Path, dist: Path) -> Sequence[Path]:
    """Build every distribution, check all of it, and return the wheels and sdists.

    Args:
        root: The workspace.
        dist: The folder that they go to; it is emptied first.

    Raises:
        ReleaseError: Something does not build, or an index or an installer would reject it.
    """
    distributions = in_order(read_workspace(root))
    with tempfile.TemporaryDirectory() as scratch:
        # The build backend is locked with its hash, like everything else that shapes the bytes.
        backend = Path(scratch) / "backend.txt"
        backend.write_text(run(uv(), "export", "--quiet", "--frozen", "--only-group", "release", cwd=root))
        for number, it in enumerate(distributions):  # not all packages: what starts servers for tests is not published
            run(
                *(uv(), "build", "--quiet", "--package", it.name, "--out-dir", str(dist)),
                *(() if number else ("--clear",)),
                *("--build-constraints", backend, "--require-hashes"),
                cwd=root,
            )
        files = [path for it in distributions for path in built_files(dist, it)]
        wheels = [path for path in files if path.suffix == ".whl"]
        run(tools("release", root) / "twine", "check", "--strict", *files, cwd=root)
        run(tools("release", root) / "check-wheel-contents", *wheels, cwd=root)
        for it in distributions:
            _write_sbom(root, dist, it, Path(scratch) / it.name)
    return files


def built_files(dist: Path, it: Distribution) -> Sequence[Path]:
    """Return the wheel and the sdist of a distribution's present version.

    Raises:
        ReleaseError: They are not there.
    """
    stem = f"{it.name.replace('-', '_')}-{it.version}"
    files = [dist / f"{stem}-py3-none-any.whl", dist / f"{stem}.tar.gz"]
    missing = [path.name for path in files if not path.exists()]
    if missing:
        raise ReleaseError(f"{dist} lacks {' and '.join(missing)}: run `uv run scripts/release.py build` first")
    return files


def locked_requirements(root: Path, it: Distribution) -> str:
    """Return the run-time dependencies of a distribution as `uv.lock` has them, with hashes, without our own."""
    return run(
        *(uv(), "export", "--quiet", "--frozen", "--package", it.name),
        *("--no-default-groups", "--no-emit-workspace", "--no-header", "--no-annotate"),
        cwd=root,
    )


def _write_sbom(root: Path, dist: Path, it: Distribution, environment: Path) -> None:
    """Write what a distribution installs, as CycloneDX, read from an environment that holds it as locked."""
    requirements = environment.with_suffix(".txt")
    requirements.write_text(locked_requirements(root, it))
    python = environment / "bin" / "python"
    run(uv(), "venv", "--quiet", environment, cwd=root)
    run(
        *(uv(), "pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-deps"),
        *("--requirements", requirements),
        cwd=root,
    )
    # By name, not by path: the path of the build is private, and differs each time.
    run(
        *(uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", "--prerelease=allow"),
        *("--no-index", "--find-links", str(dist), *it.requires, f"{it.name}=={it.version}"),
        cwd=root,
    )
    sbom = dist / f"{it.name.replace('-', '_')}-{it.version}.cdx.json"
    run(
        tools("release", root) / "cyclonedx-py",
        # Checking its own output against the schema takes it ten times as long as writing it.
        *("environment", "--no-validate", "--output-reproducible", "--output-file", str(sbom)),
        *("--pyproject", str(root / it.folder / "pyproject.toml"), str(python)),
        cwd=root,
    )
