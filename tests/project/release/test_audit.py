"""`scripts/release.py audit`: what was not looked up is not called clean."""

from __future__ import annotations

from typing import Any

from scripts.releasing.auditing import Audit, read_report


def test_a_package_that_the_service_does_not_know_is_not_clean() -> None:
    report = {"dependencies": [{"name": "redis", "skip_reason": "redis (8.1.0) not found"}], "fixes": []}
    assert read_report(report) == Audit(packages=0, unknown=["redis (8.1.0) not found"], findings=[])


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    vulnerability = {"id": "PYSEC-1", "fix_versions": ["8.1.1", "9.0"], "aliases": [], "description": ""}
    report: dict[str, Any] = {
        "dependencies": [
            {"name": "redis", "version": "8.1.0", "vulns": [vulnerability]},
            {"name": "attrs", "version": "26.1.0", "vulns": []},
        ]
    }
    assert read_report(report) == Audit(packages=2, unknown=[], findings=["redis 8.1.0: PYSEC-1, fixed in 8.1.1, 9.0"])
