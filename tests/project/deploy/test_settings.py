"""What the files set is what the gateway takes, and fits together: drain and grace, clients and descriptors."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from backplane_asgi import drain_on_signal, draining
from backplane_core import BaseBackplane
from backplane_server._gateway import server
from backplane_server._gateway.settings import PREFIX, ServeSettings

from tests.project.deploy.files import DEPLOY, ROOT, compose, manifest, read, seconds

CLOSE_BACKPLANE_S = float(inspect.signature(BaseBackplane.aclose).parameters["drain_s"].default)
"""What closing the backplane may take."""
FLUSH_S = float(inspect.signature(drain_on_signal).parameters["flush_s"].default)
"""What sending may take that was published before."""


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


def unit() -> Mapping[str, list[str]]:
    """Return the unit's directives: one may stand there several times."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / "backplane.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def given(arguments: Iterable[str], variables: Mapping[str, str]) -> ServeSettings:
    """Return the settings of a command line and its environment; fail if the gateway would."""
    texts = {name.removeprefix(PREFIX).lower(): text for name, text in variables.items() if name.startswith(PREFIX)}
    for argument in arguments:
        if argument.startswith("--"):
            name, _, text = argument.removeprefix("--").partition("=")
            texts["drain_delay_s" if name == "drain-delay" else name.replace("-", "_")] = text
    return ServeSettings.of(texts, {name: name for name in texts})


def gateways() -> Mapping[str, tuple[ServeSettings, float]]:
    """Return the settings of each way to run a gateway, and how long it is waited for until it is killed."""
    service = compose()["services"]["gateway-1"]
    variables = dict(line.split("=", 1) for line in unit()["Environment"])
    return {
        "kubernetes": (given(container()["args"], {}), pod()["terminationGracePeriodSeconds"]),
        "compose": (given([], service["environment"]), seconds(service["stop_grace_period"])),
        "systemd": (given(shlex.split(unit()["ExecStart"][0]), variables), seconds(unit()["TimeoutStopSec"][0])),
    }


def drain_takes_s(settings: ServeSettings) -> float:
    """Return the most that an orderly end may take."""
    last = FLUSH_S + draining.CLOSE_S + server.CLOSE_S + CLOSE_BACKPLANE_S
    return settings.drain_delay_s + settings.drain_s + last


@pytest.mark.parametrize("way", ["kubernetes", "compose", "systemd"])
def test_a_gateway_is_killed_only_after_its_drain_had_its_time(way: str) -> None:
    settings, grace_s = gateways()[way]
    assert drain_takes_s(settings) < grace_s


def test_the_comments_name_the_times_that_are_set() -> None:
    settings = ServeSettings()
    rest = drain_takes_s(settings) - settings.drain_delay_s - settings.drain_s
    text = f"{settings.drain_delay_s:g} s delay, {settings.drain_s:g} s closing, at most {rest:g} s for the rest"
    for name in ("kubernetes/deployment.yaml", "compose.yaml", "systemd/backplane.service"):
        assert text in " ".join((DEPLOY / name).read_text().replace("#", "").split()), name
    for at in (gateways()[way][0] for way in gateways()):
        assert (at.drain_delay_s, at.drain_s) == (settings.drain_delay_s, settings.drain_s)


def test_a_balancer_that_asks_notices_before_the_first_client_is_closed() -> None:
    probe = container()["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < gateways()["kubernetes"][0].drain_delay_s


def test_probes_and_metrics_are_asked_on_the_port_that_has_them() -> None:
    ports = {it["name"]: it["containerPort"] for it in container()["ports"]}
    assert ports == {"http": ServeSettings().port, "metrics": ServeSettings().metrics_port}
    asked = {it: container()[f"{it}Probe"]["httpGet"] for it in ("readiness", "liveness")}
    assert asked["readiness"] == {"path": "/readyz", "port": "metrics"}
    assert asked["liveness"] == {"path": "/healthz", "port": "metrics"}
    service = {it["name"]: it for it in manifest("service")["spec"]["ports"]}
    assert {name: it["port"] for name, it in service.items()} == ports
    assert {name: it["targetPort"] for name, it in service.items()} == {name: name for name in ports}
    (scraped,) = manifest("servicemonitor")["spec"]["endpoints"]
    assert (scraped["port"], scraped["path"]) == ("metrics", "/metrics")
    assert f"EXPOSE {ports['http']} {ports['metrics']}" in (DEPLOY / "Dockerfile").read_text()
    assert f"http://127.0.0.1:{ports['metrics']}/healthz" in (DEPLOY / "Dockerfile").read_text()


def test_what_runs_in_a_container_listens_for_others() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    variables = dict(re.findall(r"\b(BACKPLANE_\w+)=(\S+)", "\n".join(re.findall(r"^ENV .*", text, re.MULTILINE))))
    assert given([], variables).host == "0.0.0.0"


@pytest.mark.parametrize("way", ["compose", "systemd"])
def test_there_are_more_descriptors_than_clients(way: str) -> None:
    limit = {"compose": compose()["services"]["gateway-1"]["ulimits"]["nofile"], "systemd": unit()["LimitNOFILE"][0]}
    assert int(limit[way]) > gateways()[way][0].max_connections + 1000


def test_pods_are_added_before_they_refuse_clients() -> None:
    _, connections = manifest("hpa")["spec"]["metrics"]
    assert connections["pods"]["metric"]["name"] == "backplane_gateway_connections"
    average = int(connections["pods"]["target"]["averageValue"])
    full = gateways()["kubernetes"][0].max_connections
    minimum = manifest("hpa")["spec"]["minReplicas"]
    assert average * minimum <= full * (minimum - 1), "one that is lost leaves its clients to the others"


def test_the_clients_of_both_transports_count() -> None:
    (rule,) = read("prometheus/adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith("backplane_gateway_connections{")
    assert rule["metricsQuery"].startswith("sum by (<<.GroupBy>>)")


def test_nginx_takes_as_large_a_publish_as_the_gateway() -> None:
    assert "client_max_body_size 1m;" in (DEPLOY / "nginx.conf").read_text()
    assert ServeSettings().max_body_bytes == 1024 * 1024


def test_nginx_waits_longer_than_the_gateways_are_silent() -> None:
    (waits,) = re.findall(r"proxy_read_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    assert int(waits) > 2 * server.PING_S


def test_nginx_has_the_paths_of_the_gateway_that_clients_need_and_no_others() -> None:
    paths = set(re.findall(r"location = (\S+)", (DEPLOY / "nginx.conf").read_text()))
    app = (ROOT / "packages/backplane-server/src/backplane_server/_gateway/app.py").read_text()
    served = set(re.findall(r'Route\("(/[^"]+)"', app))
    assert paths == served - {"/healthz", "/readyz", "/metrics"}
