"""Grafana's board: it shows what pods serve, all of what a loss is counted in, and its panels lie side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts import lint_deploy
from scripts.releasing.shell import ReleaseError, run
from tests.project.deploy.files import ROOT, alerts, board, series, unknown


def panels() -> Sequence[Any]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, Any]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target


def expressions() -> Sequence[str]:
    return [target["expr"] for _, target in targets()]


async def test_every_series_of_a_panel_is_served() -> None:
    served = await series()
    assert [problem for expression in expressions() for problem in unknown(expression, served)] == []


async def test_every_series_of_an_alert_is_on_the_board() -> None:
    """The numbers of an eviction alone are left out: nobody looks at it without the alert."""
    named = {name for rule in alerts().values() for name in re.findall(r"\bbackplane_\w+", rule["expr"])}
    shown = set(re.findall(r"backplane_\w+", " ".join(expressions())))
    shown |= {name.replace("_bucket", end) for name in shown for end in ("_sum", "_count")}
    assert named - shown == {"backplane_evicted_numbers_total"}


async def test_every_label_of_a_legend_is_one_of_its_series() -> None:
    served = await series()
    for title, target in targets():
        names = re.findall(r"backplane_\w+", target["expr"])
        labels = {label for name in names for label in served[name]} | {"instance", "job"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, title


def test_every_expression_looks_at_the_chosen_pods_alone() -> None:
    for title, target in targets():
        for name, inside in re.findall(r"(backplane_\w+)(\{[^}]*\})?", target["expr"]):
            assert 'job=~"$job", instance=~"$instance"' in inside, f"{title}: {name}"


def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    try:
        promtool = lint_deploy.promtool()
    except (lint_deploy.AbsentError, ReleaseError) as error:
        pytest.skip(str(error))
    read = [
        {"record": f"board:panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "board.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": read}]}))  # which is YAML
    assert f"{len(read)} rules found" in run(promtool, "check", "rules", path, cwd=ROOT)


def test_every_panel_says_what_it_shows_in_which_unit() -> None:
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len({*ids})


def test_panels_lie_side_by_side() -> None:
    places = sorted((it["y"], it["x"], it["w"], it["h"]) for it in (panel["gridPos"] for panel in board()["panels"]))
    for (y, x, width, height), (next_y, next_x, _, _) in pairwise(places):
        assert x + width <= 24
        assert (next_y == y and next_x == x + width) or (next_y == y + height and next_x == 0)
