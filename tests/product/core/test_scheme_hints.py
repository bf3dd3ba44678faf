"""A URL's scheme as other libraries spell it: the error names the one that is meant."""

from __future__ import annotations

import pytest
from backplane_core import AdapterNotInstalledError, ConfigurationError, connect
from backplane_core._runtime.scheme_hints import nearest_scheme

SERVED = {
    *("memory", "nats", "tls", "redis", "rediss", "valkey", "valkeys", "unix"),
    *("redis-cluster", "rediss-cluster", "valkey-cluster", "valkeys-cluster"),
    *("redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel"),
}
MEANT = {
    "redis+socket": "unix",
    "redis+unix": "unix",
    "unix+redis": "unix",
    "valkey+socket": "unix",
    "socket": "unix",
    "redis+cluster": "redis-cluster",
    "rediscluster": "redis-cluster",
    "redisscluster": "rediss-cluster",
    "rediss+cluster": "rediss-cluster",
    "cluster+valkeys": "valkeys-cluster",
    "redis-sentinel": "redis+sentinel",
    "sentinel": "redis+sentinel",
    "valkeys.sentinel": "valkeys+sentinel",
    "redis+tls": "rediss",
    "ssl+valkey": "valkeys",
    "natss": "tls",
    "nats+tls": "tls",
    "radis": "redis",
    "memroy": "memory",
}


@pytest.mark.parametrize(("scheme", "meant"), MEANT.items(), ids=MEANT.keys())
def test_what_is_meant_is_found(scheme: str, meant: str) -> None:
    assert nearest_scheme(scheme, SERVED) == meant


@pytest.mark.parametrize("scheme", ["amqp", "kafka", "http", "postgres", "bus", "x"])
def test_what_is_like_nothing_is_left_alone(scheme: str) -> None:
    assert nearest_scheme(scheme, SERVED) is None


def test_what_nobody_serves_is_not_named() -> None:
    assert nearest_scheme("rediscluster", {"memory", "nats"}) is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+socket:///run/redis.sock", r"did you mean unix:///path/to/socket\?$"),
        ("redis+cluster://h1,h2", r"did you mean redis-cluster://\?$"),
        ("rediscluster://h", r"did you mean redis-cluster://\?$"),
        ("sentinel://h/orders", r"did you mean redis\+sentinel://\?$"),
        ("natss://h", r"did you mean tls://\?$"),
    ],
)
def test_the_error_of_connect_names_it(url: str, says: str) -> None:
    with pytest.raises(AdapterNotInstalledError, match=says):
        connect(url)


def test_a_missing_adapter_is_named_with_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_core.adapters.installed", dict)
    with pytest.raises(
        AdapterNotInstalledError, match=r"did you mean redis-cluster://\? \(pip install backplane-redis\)"
    ):
        connect("rediscluster://h")


@pytest.mark.parametrize("url", ["unix://run/redis.sock", "unix://localhost/run/redis.sock", "unix:/run/redis.sock"])
def test_a_unix_url_without_its_third_slash_is_told_so(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unix:///run/redis\.sock"):
        connect(url)
