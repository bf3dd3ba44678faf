"""From a URL, or the environment, to the right backplane; or an error that says what to fix, without secrets."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from attrs import define, field
from backplane_core import (
    AdapterNotInstalledError,
    BaseBackplane,
    ConfigurationError,
    DistributedBackplane,
    InMemoryBackplane,
    TransportError,
    connect,
    connect_from_env,
)
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.texts import error_texts

SECRET = "hunter2"


@define
class Made:
    """What the factory of a made-up adapter was called with."""

    calls: list[tuple[str, dict[str, Any]]] = field(factory=list[tuple[str, dict[str, Any]]])


MADE = Made()


def make_redis(url: str, *, connection_kwargs: Mapping[str, Any] | None = None, tls: bool = False) -> MemoryTransport:
    MADE.calls.append((url, {"connection_kwargs": connection_kwargs, "tls": tls}))
    return MemoryTransport()


def make_nats(url: str) -> MemoryTransport:
    MADE.calls.append((url, {}))
    return MemoryTransport()


def make_dead(url: str) -> MemoryTransport:
    broker = MemoryBroker()
    broker.cut()
    return MemoryTransport(broker)


REDIS = f"{__name__}:make_redis"
NATS = f"{__name__}:make_nats"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The adapters that are installed, as far as core can see: entry point to value."""
    adapters = {"redis": REDIS, "rediss": REDIS, "valkey": REDIS, "nats": NATS, "dead": f"{__name__}:make_dead"}

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == "backplane.transports"
        return [EntryPoint(name, value, group) for name, value in adapters.items()]

    module = import_module("backplane_core.adapters")
    monkeypatch.setattr(module, "entry_points", entry_points)
    monkeypatch.setattr(module, "_found", {})
    MADE.calls.clear()
    return adapters


@pytest.mark.parametrize("url", [None, "memory://", "inmemory://", "MEMORY://x"])
async def test_without_a_broker_it_works_in_memory(url: str | None) -> None:
    async with connect(url) as backplane:
        assert type(backplane) is InMemoryBackplane
        assert backplane.ready()
    assert str(backplane.state) == "closed"


async def test_it_can_be_awaited_or_entered(installed: dict[str, str], leaves_nothing: None) -> None:
    backplane = await connect("redis://h")
    assert (type(backplane), backplane.state) == (DistributedBackplane, "live")
    await backplane.aclose()
    async with connect("redis://h") as entered:
        assert entered.ready()
    assert str(entered.state) == "closed"


@pytest.mark.parametrize("url", [None, "redis://h"])
def test_a_forgotten_await_says_so(installed: dict[str, str], url: str | None) -> None:
    forgotten: Any = connect(url)
    with pytest.raises(AttributeError, match=r"no attribute 'publish'.*await connect"):
        _ = forgotten.publish
    assert not hasattr(forgotten, "attach")


async def test_an_adapter_is_looked_for_until_it_is_found_and_no_longer(installed: dict[str, str]) -> None:
    later = installed.pop("redis")
    with pytest.raises(AdapterNotInstalledError):
        connect("redis://h")
    installed["redis"] = later
    async with connect("redis://h"):
        pass
    installed.clear()
    async with connect("redis://h") as backplane:
        assert backplane.ready()


async def test_the_whole_url_and_the_adapters_own_options_reach_it_and_the_rest_is_the_backplanes(
    installed: dict[str, str],
) -> None:
    url = f"redis://user:{SECRET}@a:1,b:2/0?x=1#y"
    kwargs = {"ssl": object()}
    async with connect(
        url, connection_kwargs=kwargs, transport_options={"tls": True}, channel="c:d", lanes=2
    ) as backplane:
        assert MADE.calls == [(url, {"connection_kwargs": kwargs, "tls": True})]
        assert backplane._settings.channel == "c:d"
        assert backplane._settings.lanes == 2


@pytest.mark.parametrize("url", ["redis://h", "memory://", None])
def test_an_unknown_option_lists_the_backplanes_and_where_the_adapters_own_go(
    installed: dict[str, str], url: str | None
) -> None:
    misspelt: dict[str, Any] = {"chanel": "x"}
    with pytest.raises(ConfigurationError) as error:
        connect(url, **misspelt)
    for name in ("'chanel'", "channel", "connection_kwargs", "transport_options", "probe_interval_s", "on_gap"):
        assert name in str(error.value)
    assert MADE.calls == []


def test_an_option_that_the_adapter_does_not_have_lists_those_that_it_has(installed: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"redis://.*'tsl'.*connection_kwargs, tls"):
        connect("redis://h", transport_options={"tsl": True})
    with pytest.raises(ConfigurationError, match=r"nats://.*'connection_kwargs'.*none"):
        connect("nats://h", connection_kwargs={})
    nothing: Any = "tls"
    with pytest.raises(ConfigurationError, match="transport_options is a mapping"):
        connect("redis://h", transport_options=nothing)
    assert MADE.calls == []


async def test_what_is_for_an_adapter_has_no_effect_in_memory(installed: dict[str, str]) -> None:
    async with connect(None, connection_kwargs={"ssl": object()}, transport_options={"tls": True}) as backplane:
        assert backplane.ready()


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", f"user:{SECRET}@host", "://host", "redis:/host", 5, b"redis://h"]
)
def test_what_is_no_url_is_a_configuration_error(installed: dict[str, str], url: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        connect(url)
    assert SECRET not in error_texts(error.value)


@pytest.mark.parametrize(
    ("scheme", "distribution"),
    [
        ("redis", "backplane-redis"),
        ("rediss", "backplane-redis"),
        ("valkey", "backplane-redis"),
        ("unix", "backplane-redis"),
        ("nats", "backplane-nats"),
        ("NATS", "backplane-nats"),
    ],
)
def test_a_missing_adapter_says_what_to_pip_install(installed: dict[str, str], scheme: str, distribution: str) -> None:
    installed.clear()
    with pytest.raises(AdapterNotInstalledError, match=f"pip install {distribution}") as error:
        connect(f"{scheme}://user:{SECRET}@host")
    assert SECRET not in error_texts(error.value)
    assert issubclass(AdapterNotInstalledError, ConfigurationError)


def test_a_scheme_that_nobody_knows_lists_those_that_are_installed(installed: dict[str, str]) -> None:
    with pytest.raises(AdapterNotInstalledError) as error:
        connect(f"amqp://user:{SECRET}@host")
    for scheme in ("amqp://", "redis://", "nats://", "memory://"):
        assert scheme in str(error.value)
    assert SECRET not in error_texts(error.value)


@pytest.mark.parametrize("value", ["no_such_module_here:make", f"{__name__}:no_such_name"])
def test_an_adapter_that_does_not_load_says_so(installed: dict[str, str], value: str) -> None:
    installed["redis"] = value
    with pytest.raises(AdapterNotInstalledError, match=r"redis://.*does not load") as error:
        connect(f"redis://user:{SECRET}@host")
    assert SECRET not in error_texts(error.value)


async def test_a_broker_that_is_away_is_told_within_the_timeout(
    installed: dict[str, str], leaves_nothing: None
) -> None:
    with pytest.raises(TransportError, match=r"0\.3 s") as error:
        await connect(f"dead://user:{SECRET}@host", connect_timeout_s=0.3)
    assert SECRET not in error_texts(error.value)


KINDS: list[tuple[dict[str, str], str | None]] = [
    ({}, None),
    ({"BACKPLANE": ""}, None),
    ({"BACKPLANE": "  "}, None),
    ({"BACKPLANE": "memory", "BACKPLANE_URL": ""}, None),
    ({"BACKPLANE": "redis", "BACKPLANE_URL": "", "BACKPLANE_REDIS_URL": "redis://r"}, "redis://r"),
    ({"BACKPLANE": "memory"}, None),
    ({"BACKPLANE": " InMemory "}, None),
    ({"BACKPLANE": "memory", "BACKPLANE_URL": "memory://"}, None),
    ({"BACKPLANE": "memory", "BACKPLANE_REDIS_URL": "redis://r"}, None),
    ({"BACKPLANE_URL": "redis://u"}, "redis://u"),
    ({"BACKPLANE_URL": " nats://u\n"}, "nats://u"),
    ({"BACKPLANE": "redis", "BACKPLANE_URL": "redis://u"}, "redis://u"),
    ({"BACKPLANE": " REDISS ", "BACKPLANE_URL": "rediss://u"}, "rediss://u"),
    ({"BACKPLANE": "redis", "BACKPLANE_REDIS_URL": "redis://r"}, "redis://r"),
    ({"BACKPLANE": "redis", "BACKPLANE_URL": "redis://u", "BACKPLANE_REDIS_URL": "redis://r"}, "redis://u"),
    ({"BACKPLANE": "redis", "BACKPLANE_NATS_URL": "nats://n", "BACKPLANE_REDIS_URL": "redis://r"}, "redis://r"),
    ({"BACKPLANE": "valkey", "BACKPLANE_REDIS_URL": "redis://r"}, "redis://r"),
    ({"BACKPLANE": "Nats", "BACKPLANE_NATS_URL": "nats://n", "BACKPLANE_REDIS_URL": "redis://r"}, "nats://n"),
]


@pytest.mark.parametrize(("env", "url"), KINDS, ids=[str(env) for env, _ in KINDS])
async def test_the_environment_picks_the_kind_and_the_url(
    installed: dict[str, str], env: dict[str, str], url: str | None
) -> None:
    async with connect_from_env(env) as backplane:
        assert isinstance(backplane, InMemoryBackplane if url is None else DistributedBackplane)
    assert [call[0] for call in MADE.calls] == ([] if url is None else [url])


WRONG: list[tuple[dict[str, str], list[str]]] = [
    ({"BACKPLANE_URL": ""}, ["BACKPLANE_URL is set and empty", "BACKPLANE=memory"]),
    ({"BACKPLANE": " ", "BACKPLANE_URL": " \n"}, ["BACKPLANE_URL is set and empty"]),
    ({"BACKPLANE_URL": "", "BACKPLANE_REDIS_URL": f"redis://:{SECRET}@r"}, ["BACKPLANE_URL is set and empty"]),
    ({"BACKPLANE": "redsi"}, ["BACKPLANE", "redis", "valkey", "nats", "memory"]),
    ({"BACKPLANE": "redis"}, ["BACKPLANE_URL", "BACKPLANE_REDIS_URL"]),
    ({"BACKPLANE": "nats"}, ["BACKPLANE_URL", "BACKPLANE_NATS_URL"]),
    ({"BACKPLANE": "redis", "BACKPLANE_NATS_URL": f"nats://:{SECRET}@n"}, ["BACKPLANE_REDIS_URL"]),
    ({"BACKPLANE": "redis", "BACKPLANE_URL": f"nats://:{SECRET}@n"}, ["disagree", "redis://", "nats://"]),
    ({"BACKPLANE": "redis", "BACKPLANE_REDIS_URL": f"nats://:{SECRET}@n"}, ["disagree", "BACKPLANE_REDIS_URL"]),
    ({"BACKPLANE": "memory", "BACKPLANE_URL": f"redis://:{SECRET}@n"}, ["disagree", "BACKPLANE_URL"]),
    ({"BACKPLANE": f"redis://:{SECRET}@cache:6379"}, ["BACKPLANE_URL", "redis", "nats", "memory"]),
    ({"BACKPLANE": SECRET}, ["BACKPLANE", "redis", "nats", "memory"]),
    ({"BACKPLANE": "rediss", "BACKPLANE_URL": f"redis://:{SECRET}@n"}, ["TLS", "disagree", "rediss"]),
    ({"BACKPLANE": "rediss", "BACKPLANE_REDIS_URL": f"redis://:{SECRET}@n"}, ["TLS", "disagree", "REDIS_URL"]),
    ({"BACKPLANE": "redis", "BACKPLANE_URL": f"default:{SECRET}@host:6379"}, ["scheme"]),
    ({"BACKPLANE_URL": f"default:{SECRET}@host:6379"}, ["scheme"]),
    ({"BACKPLANE_URL": f"amqp://:{SECRET}@host"}, ["amqp://"]),
    ({"BACKPLANE_URL": "redis://h", "BACKPLANE_ROUTING": "everywhere"}, ["routing", "interest"]),
    ({"BACKPLANE_URL": "redis://h", "BACKPLANE_CHANNEL": "a b"}, ["channel"]),
]


@pytest.mark.parametrize(("env", "named"), WRONG, ids=[str(env) for env, _ in WRONG])
def test_what_is_wrong_in_the_environment_is_told_and_never_means_memory(
    installed: dict[str, str], env: dict[str, str], named: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as error:
        connect_from_env(env)
    for word in named:
        assert word in str(error.value)
    assert SECRET not in error_texts(error.value)


TLS_AND_PLAIN = [
    ("rediss", "redis"),
    ("rediss", "valkey"),
    ("rediss", "redis+streams"),
    ("rediss", "redis+sentinel"),
    ("valkeys", "valkey"),
    ("rediss-cluster", "redis-cluster"),
    ("rediss+sentinel", "redis+sentinel"),
    ("rediss+streams", "redis+streams"),
    ("rediss", "redis+sentinel+streams"),
    ("rediss+sentinel+streams", "redis+sentinel+streams"),
    ("rediss-cluster+streams", "redis-cluster+streams"),
    ("tls", "nats"),
    ("tls", "nats+jetstream"),
    ("tls+jetstream", "nats+jetstream"),
]


@pytest.mark.parametrize(
    ("kind", "scheme"), [*TLS_AND_PLAIN, ("rediss", "unix"), *[(plain, tls) for tls, plain in TLS_AND_PLAIN]]
)
def test_a_kind_and_a_url_of_which_one_alone_asks_for_tls_disagree(kind: str, scheme: str) -> None:
    own = f"BACKPLANE_{re.sub('[^A-Z]', '_', kind.upper())}_URL"
    for name in ("BACKPLANE_URL", own):
        with pytest.raises(ConfigurationError, match=f"{name}.*disagree|disagree.*{name}") as error:
            connect_from_env({"BACKPLANE": kind, name: f"{scheme}://:{SECRET}@h"})
        assert SECRET not in error_texts(error.value)


def test_a_kind_asks_for_the_urls_that_it_takes_and_no_others() -> None:
    with pytest.raises(ConfigurationError, match="needs a URL") as error:
        connect_from_env({"BACKPLANE": "redis"})
    assert "REDISS" not in str(error.value)
    with pytest.raises(ConfigurationError, match="disagree") as error:
        connect_from_env({"BACKPLANE": "rediss", "BACKPLANE_URL": "nats://h"})
    assert "rediss://" in str(error.value)
    assert "redis://" not in str(error.value)


def test_a_scheme_with_a_suffix_belongs_to_the_family_of_what_it_begins_with(installed: dict[str, str]) -> None:
    installed["redis+sentinel"] = f"{__name__}:make_dead"
    connect_from_env({"BACKPLANE": "redis", "BACKPLANE_URL": "redis+sentinel://h1,h2/service"})
    with pytest.raises(ConfigurationError, match="BACKPLANE_URL or BACKPLANE_REDIS_URL") as error:
        connect_from_env({"BACKPLANE": "redis"})
    assert "or BACKPLANE_REDIS_SENTINEL_URL" in str(error.value), "no shell can set a name with a +"
    installed.clear()
    with pytest.raises(AdapterNotInstalledError, match="pip install backplane-redis"):
        connect("rediss+sentinel://h1,h2/service")


@pytest.mark.parametrize("kind", ["redis", "valkey", "nats"])
def test_a_kind_whose_adapter_is_missing_says_what_to_pip_install(installed: dict[str, str], kind: str) -> None:
    installed.clear()
    with pytest.raises(AdapterNotInstalledError, match="pip install backplane-"):
        connect_from_env({"BACKPLANE": kind, "BACKPLANE_URL": f"{kind}://h"})


async def test_channel_and_routing_come_from_the_environment_and_options_win(installed: dict[str, str]) -> None:
    env = {"BACKPLANE_URL": "redis://h", "BACKPLANE_CHANNEL": " a:b ", "BACKPLANE_ROUTING": " Interest "}
    async with connect_from_env(env) as backplane:
        assert chosen(backplane) == ("a:b", "interest")
    async with connect_from_env(env, channel="mine", routing="broadcast") as backplane:
        assert chosen(backplane) == ("mine", "broadcast")


def chosen(backplane: BaseBackplane) -> tuple[str, str]:
    return backplane._settings.channel, backplane._settings.routing


async def test_a_host_has_a_prefix_of_its_own(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    env = {
        "SMOOTH_AGENT_BACKPLANE": "redis",
        "SMOOTH_AGENT_BACKPLANE_REDIS_URL": "redis://smooth",
        "SMOOTH_AGENT_BACKPLANE_CHANNEL": "smooth",
        "BACKPLANE": "nats",
        "BACKPLANE_URL": "nats://other",
    }
    async with connect_from_env(env, prefix="SMOOTH_AGENT_BACKPLANE") as backplane:
        assert chosen(backplane)[0] == "smooth"
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    async with connect_from_env():
        pass
    assert [call[0] for call in MADE.calls] == ["redis://smooth", "nats://other"]
