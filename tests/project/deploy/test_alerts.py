"""The alert rules: each one speaks of series that pods serve, is tested both ways, and stands on the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import lint_deploy
from scripts.releasing.shell import ReleaseError
from tests.project.deploy.files import DEPLOY, ROOT, alerts, read, rules, series, unknown

TESTS = "prometheus/alerts.test.yml"
PAGE = ROOT / "docs" / "how-to" / "monitoring.md"


async def test_every_series_of_a_rule_is_served() -> None:
    served = await series()
    assert [problem for rule in rules() for problem in unknown(rule["expr"], served)] == []
    assert [*unknown('rate(backplane_nothing[5m]) + backplane_gaps_total{cause="none"}', served)] == [
        "backplane_nothing is not served",
        "backplane_gaps_total has no cause none",
    ]


def test_every_alert_stands_on_the_page_with_its_expression() -> None:
    row = r"^\| `(Backplane\w+)` \| `([^|]+)`(?: for (\d+) min)? \|"
    rows = {
        name: (expression, f"{wait}m" if wait else None)
        for name, expression, wait in re.findall(row, PAGE.read_text(), re.MULTILINE)
    }
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    assert rows == {name: (rule["expr"], rule.get("for")) for name, rule in alerts().items()}
    for name, expression in recorded.items():
        assert f"`{name}` is `{expression}`" in PAGE.read_text()


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"warning", "critical"}, name
        assert set(rule["annotations"]) == {"summary", "description"}, name


def test_every_alert_is_tested_with_its_fault_and_without() -> None:
    tests = [check for group in read(TESTS)["tests"] for check in group["alert_rule_test"]]
    for name in alerts():
        expected = [bool(check["exp_alerts"]) for check in tests if check["alertname"] == name]
        assert True in expected, f"{name} never fires"
        assert False in expected, f"{name} always fires"


@pytest.mark.thorough
@pytest.mark.parametrize("expression", ["vector(1) > 2", "backplane_ready >= 0"], ids=["never", "always"])
def test_each_rule_that_fires_wrongly_fails_its_tests(
    expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, as no rule looks at another one, and promtool goes on after a failure."""
    absent_is_skipped()
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    monkeypatch.setattr(lint_deploy, "DEPLOY", tmp_path)
    lint_deploy.lint_alerts()
    path = tmp_path / "prometheus" / "alerts.yml"
    broken: Any = yaml.safe_load(path.read_text())
    for rule in broken["groups"][0]["rules"]:
        if "alert" in rule:
            rule["expr"] = expression
    path.write_text(json.dumps(broken))  # which is YAML
    with pytest.raises(ReleaseError) as failed:
        lint_deploy.lint_alerts()
    assert set(re.findall(r"alertname: (\w+)", str(failed.value))) == set(alerts())


def absent_is_skipped() -> None:
    try:
        lint_deploy.promtool()
    except (lint_deploy.AbsentError, ReleaseError) as error:
        pytest.skip(str(error))
