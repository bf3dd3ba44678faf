"""Whatever runs here may do nothing that it does not need, and what belongs together has the same names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.project.deploy.files import DEPLOY, compose, manifest

LABELS = {"app.kubernetes.io/name": "backplane"}
SERVICES: dict[str, Any] = compose()["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_of_compose_has_no_rights_and_has_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    for bound in ("mem_limit", "cpus", "pids_limit"):
        assert service[bound]
    assert service["logging"]["options"]["max-size"]
    if not name.startswith("gateway"):  # whose image says so
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "nobody is root"


def test_compose_shows_the_balancer_alone_and_only_to_this_machine() -> None:
    assert {name: it["ports"] for name, it in SERVICES.items() if "ports" in it} == {"nginx": ["127.0.0.1:8080:8080"]}
    assert compose()["networks"]["brokers"]["internal"] is True
    for name in ("redis", "nats"):
        assert SERVICES[name]["networks"] == ["brokers"]
    assert SERVICES["nginx"]["networks"] == ["clients"]


def test_compose_has_two_gateways_and_nginx_leads_to_both() -> None:
    upstream = re.findall(r"server (\S+):8001\b", (DEPLOY / "nginx.conf").read_text())
    assert upstream == [name for name in SERVICES if name.startswith("gateway")] == ["gateway-1", "gateway-2"]
    assert SERVICES["gateway-1"] == SERVICES["gateway-2"]


def test_no_secret_has_a_default() -> None:
    environment = SERVICES["gateway-1"]["environment"]
    assert environment["BACKPLANE_SERVE_JWT_SECRET"].startswith("${BACKPLANE_SERVE_JWT_SECRET:?")
    for path in DEPLOY.rglob("*.*"):
        assert "insecure" not in path.read_text(), path


def test_the_image_runs_as_a_number_and_without_a_shell() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (user,) = [line for line in lines if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d+:[1-9]\d+", user)
    assert 'ENTRYPOINT ["backplane"]' in lines
    assert 'CMD ["serve"]' in lines


def test_a_pod_has_no_rights_and_has_bounds() -> None:
    spec = manifest("deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    image_user = re.search(r"^USER (\d+):(\d+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert image_user is not None
    assert [spec["securityContext"][it] for it in ("runAsUser", "runAsGroup")] == [
        int(it) for it in image_user.groups()
    ]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])


def test_the_manifests_speak_of_the_same_pods() -> None:
    deployment = manifest("deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    assert manifest("service")["spec"]["selector"] == manifest("service")["metadata"]["labels"] == LABELS
    for name in ("pdb", "servicemonitor"):
        assert manifest(name)["spec"]["selector"]["matchLabels"] == LABELS, name
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    scaled = manifest("hpa")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"], "the autoscaler owns it"


def test_kustomize_has_every_manifest_and_the_image() -> None:
    kustomization = manifest("kustomization")
    files = {path.name for path in DEPLOY.glob("kubernetes/*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    (container,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    assert [it["name"] for it in kustomization["images"]] == [container["image"]]
    assert kustomization["labels"] == [{"pairs": LABELS}]


def test_the_network_lets_through_what_the_service_has_and_the_brokers() -> None:
    policy = manifest("networkpolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert ports == [it["targetPort"] for it in manifest("service")["spec"]["ports"]]
    assert all(rule["from"] for rule in policy["ingress"])
    assert all(rule["to"] for rule in policy["egress"])
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 6379, 4222}
