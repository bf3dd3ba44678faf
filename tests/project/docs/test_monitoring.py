"""The page on monitoring: its test passes, and each metric that it names is one of the endpoint's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from backplane_core import connect

from tests.product.asgi.test_metrics import scrape
from tests.project.docs.pages import OPTIONS, ROOT
from tests.project.docs.projects import write_project
from tests.support.warm import run_pytest

PAGE = "docs/how-to/monitoring.md"

pytestmark = pytest.mark.xdist_group("warm")  # one warm interpreter for all that is forked from it


def test_the_pages_tests_pass(tmp_path: Path) -> None:
    project = write_project(PAGE, tmp_path)
    (project / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\naddopts = {OPTIONS}\n")
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    ran = run_pytest(project, *options)
    assert ran.code == 0, ran.output
    assert "2 passed" in ran.output


async def test_every_metric_of_an_expression_is_served() -> None:
    named = set(re.findall(r"\bbackplane_[a-z_]+(?=[\[{ `)]|$)", (ROOT / PAGE).read_text()))
    named -= {"backplane_core", "backplane_asgi"}
    assert len(named) > 8
    async with connect() as backplane:
        text = await scrape(backplane)
    # The name of a family may be without the ends of its series.
    served = set(re.findall(r"^(?:# TYPE )?(backplane_\w+)", text, re.MULTILINE))
    assert named <= served
