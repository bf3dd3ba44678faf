"""Looks for known vulnerabilities in what users install: `audit`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from scripts.releasing.building import locked_requirements
from scripts.releasing.shell import ReleaseError, tools
from scripts.releasing.workspace import read_workspace

__all__ = ["Audit", "audit", "read_report"]

_UNREACHABLE = ("ConnectionError", "Max retries", "timed out", "ServiceError", "NameResolutionError", "ProxyError")


@frozen
class Audit:
    """What an audit found.

    Args:
        packages: How many packages the service knows; none where it can't be reached.
        unknown: Why each other one could not be looked up.
        findings: A sentence for each known vulnerability.
    """

    packages: int = 0
    unknown: Sequence[str] = ()
    findings: Sequence[str] = ()


def audit(root: Path, service: str = "pypi") -> Audit:
    """Ask about the locked run-time dependencies of every distribution.

    Args:
        root: The workspace.
        service: `pypi` or `osv`.

    Raises:
        ReleaseError: pip-audit failed for a reason other than an unreachable service.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lines = {it.name: locked_requirements(root, it) for it in read_workspace(root)}
        files = [Path(scratch) / f"{name}.txt" for name in lines]
        for path, text in zip(files, lines.values(), strict=True):
            path.write_text(text)
        report = Path(scratch) / "report.json"
        done = subprocess.run(
            [
                str(tools("release", root) / "pip-audit"),
                *("--disable-pip", "--require-hashes", "--progress-spinner=off", "--timeout=15"),
                *("--vulnerability-service", service, "--format=json", "--output", str(report)),
                *(word for path in files for word in ("--requirement", str(path))),
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if report.exists() and report.read_text():
            return read_report(json.loads(report.read_text()))
    if any(sign in done.stderr for sign in _UNREACHABLE):
        return Audit()
    raise ReleaseError(f"pip-audit failed with {done.returncode}\n{done.stdout}{done.stderr}")


def read_report(report: Mapping[str, Any]) -> Audit:
    """Return what pip-audit's JSON says."""
    known = [it for it in report["dependencies"] if "skip_reason" not in it]
    return Audit(
        packages=len(known),
        # An index that serves files and no data about them skips every package: that is no clean bill.
        unknown=[str(it["skip_reason"]) for it in report["dependencies"] if "skip_reason" in it],
        findings=[
            f"{package['name']} {package['version']}: {it['id']}, fixed in {', '.join(it['fix_versions']) or 'none'}"
            for package in known
            for it in package["vulns"]
        ],
    )
