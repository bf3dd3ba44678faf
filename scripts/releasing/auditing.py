"""Looks for known vulnerabilities in what users install: `audit`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from scripts.releasing.building import locked_requirements
from scripts.releasing.shell import ReleaseError, tool
from scripts.releasing.workspace import read_workspace

__all__ = ["Audit", "audit"]

_UNREACHABLE = ("ConnectionError", "Max retries", "timed out", "ServiceError", "NameResolutionError", "ProxyError")


@frozen
class Audit:
    """What an audit found.

    Args:
        asked: Whether the service could be asked at all.
        packages: How many packages it was asked about.
        findings: A sentence for each known vulnerability.
    """

    asked: bool
    packages: int = 0
    findings: Sequence[str] = ()


def audit(root: Path, service: str = "pypi") -> Audit:
    """Ask about the locked run-time dependencies of every distribution.

    Args:
        root: The workspace.
        service: `pypi` or `osv`.

    Raises:
        ReleaseError: pip-audit failed for another reason than an unreachable service.
    """
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        lines = {it.name: locked_requirements(root, it) for it in read_workspace(root)}
        files = [Path(scratch) / f"{name}.txt" for name in lines]
        for path, text in zip(files, lines.values(), strict=True):
            path.write_text(text)
        report = requirements.with_name("report.json")
        done = subprocess.run(
            [
                *tool("release", root),
                *("pip-audit", "--disable-pip", "--require-hashes", "--progress-spinner=off", "--timeout=15"),
                *("--vulnerability-service", service, "--format=json", "--output", str(report)),
                *(word for path in files for word in ("--requirement", str(path))),
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if report.exists() and report.read_text():
            return _read(json.loads(report.read_text()))
    if any(sign in done.stderr for sign in _UNREACHABLE):
        return Audit(asked=False)
    raise ReleaseError(f"pip-audit failed with {done.returncode}\n{done.stdout}{done.stderr}")


def _read(report: dict[str, list[dict[str, object]]]) -> Audit:
    findings: list[str] = []
    for package in report["dependencies"]:
        vulnerabilities = package.get("vulns", [])
        assert isinstance(vulnerabilities, list)
        for it in vulnerabilities:
            fixed = ", ".join(it["fix_versions"]) or "no version"
            findings.append(f"{package['name']} {package['version']}: {it['id']}, mended in {fixed}")
    return Audit(asked=True, packages=len(report["dependencies"]), findings=findings)
