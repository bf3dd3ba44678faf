"""The pages on gateways and on Kubernetes say what the files say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from tests.project.deploy.files import DEPLOY, ROOT, manifest

HOW_TO = ROOT / "docs" / "how-to"


def quoted(page: Path, *languages: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_what_the_page_quotes_stands_in_a_file() -> None:
    files = [path.read_text() for path in DEPLOY.rglob("*.*")]
    quotes = quoted(HOW_TO / "gateways.md", "yaml", "nginx")
    assert len(quotes) == 3
    for quote in quotes:
        depths = [textwrap.indent(quote, " " * depth) for depth in range(0, 12, 2)]
        assert any(it in text for it in depths for text in files), quote


def test_the_page_names_every_file() -> None:
    linked = set(re.findall(r"\]\(\.\./\.\./(deploy/?[^)]*)\)", (HOW_TO / "gateways.md").read_text()))
    linked |= set(re.findall(r"\]\(\.\./\.\./(deploy/?[^)]*)\)", (HOW_TO / "monitoring.md").read_text()))
    for path in DEPLOY.rglob("*"):
        name = str(path.relative_to(ROOT))
        if path.is_file() and path.name != ".dockerignore":
            assert any(name == it or name.startswith(f"{it}/") for it in linked), name
    assert all((ROOT / it).exists() for it in linked)


def test_an_app_of_ones_own_rolls_as_gateways_do() -> None:
    text = (HOW_TO / "kubernetes.md").read_text()
    strategy: Any = manifest("deployment")["spec"]["strategy"]["rollingUpdate"]
    assert f"`maxSurge: {strategy['maxSurge']}, maxUnavailable: {strategy['maxUnavailable']}`" in text
    (shown,) = (yaml.safe_load(block) for block in quoted(HOW_TO / "kubernetes.md", "yaml"))
    (container,) = shown["spec"]["containers"]
    before_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    (server_s,) = (int(it.rpartition("=")[2]) for it in container["command"] if it.startswith("--timeout-graceful"))
    assert before_s + server_s + 5 < shown["spec"]["terminationGracePeriodSeconds"]
    assert f"{before_s} + {server_s} + 5 is below {shown['spec']['terminationGracePeriodSeconds']}" in text
