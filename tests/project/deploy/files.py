"""What is in deploy/, read: manifests, rules, the board; and the series of which they may speak."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from backplane_core import connect
from prometheus_client.parser import text_string_to_metric_families

from tests.product.asgi.test_metrics import scrape

__all__ = [
    "DEPLOY",
    "ROOT",
    "Series",
    "alerts",
    "board",
    "compose",
    "manifest",
    "read",
    "rules",
    "seconds",
    "series",
    "unknown",
]

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"

Series = Mapping[str, Mapping[str, set[str]]]
"""The series of a pod: by name, the values of each of its labels."""

_NAMED = re.compile(r"\b(backplane_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_SCRAPED = {"job", "instance", "namespace", "pod"}
"""Labels that the scrape adds."""


def read(name: str) -> Any:
    """Return a file of YAML."""
    return yaml.safe_load((DEPLOY / name).read_text())


def manifest(name: str) -> Any:
    """Return a manifest of Kubernetes."""
    return read(f"kubernetes/{name}.yaml")


def compose() -> Any:
    """Return what Compose runs."""
    return read("compose.yaml")


def rules() -> Sequence[Any]:
    """Return all rules of Prometheus."""
    return [rule for group in read("prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def alerts() -> Mapping[str, Any]:
    """Return the rules that are alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def board() -> Any:
    """Return the board of Grafana."""
    return json.loads((DEPLOY / "grafana" / "backplane.json").read_text())


def seconds(text: str | int) -> int:
    """Return the seconds of `60`, `60s` or `1m`."""
    number, unit = re.fullmatch(r"(\d+)([sm]?)", str(text)).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit == "m" else 1)


async def series() -> Series:
    """Return the series that a pod serves."""
    async with connect() as backplane:
        text = await scrape(backplane)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def unknown(expression: str, served: Series) -> Iterator[str]:
    """Yield a sentence for each series, label or value of an expression that no pod serves."""
    for name, inside in _NAMED.findall(expression):
        if name not in served:
            yield f"{name} is not served"
            continue
        for label, operator, value in _MATCHER.findall(inside):
            if label in _SCRAPED:
                continue
            if label not in served[name]:
                yield f"{name} has no label {label}"
            elif operator in {"=", "!="} and value not in served[name][label]:
                yield f"{name} has no {label} {value}"
