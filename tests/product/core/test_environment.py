"""What the environment can set, how text becomes a value, and what is said of variables that mean nothing."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import fields
from backplane_core import ConfigurationError, DistributedBackplane, connect_from_env
from backplane_core.options import Settings

from tests.product.core.test_connect import MADE, SECRET, installed
from tests.support.texts import error_texts

__all__ = ["installed"]

URL = {"BACKPLANE_URL": "redis://h"}

TEXTS: dict[str, tuple[str, Any]] = {
    "connect_timeout_s": ("2.5", 2.5),
    "wait": (" False ", False),
    "probe_interval_s": ("4", 4.0),
    "beat_s": ("0.5", 0.5),
    "resend_s": ("3", 3.0),
    "resend_max_bytes": ("4096", 4096),
    "resume_max_bytes": ("8192", 8192),
    "resume_concurrency": ("3", 3),
    "stale_after_s": ("9", 9.0),
    "outbox_max_messages": ("10", 10),
    "outbox_max_bytes": ("4096", 4096),
    "outbox_overflow": ("Drop_Oldest", "drop_oldest"),
    "publish_wait_s": ("0", 0.0),
    "max_event_bytes": ("5000", 5000),
    "origin_ttl_s": ("60", 60.0),
    "unnumbered_pods": ("yes", True),
    "event_id_window_s": ("30", 30.0),
    "event_ids_max": ("100", 100),
    "member_ttl_s": ("20", 20.0),
    "presence_linger_s": ("0", 0.0),
    "remote_control": ("off", False),
    "routing": ("BROADCAST", "broadcast"),
    "lanes": ("4", 4),
    "channel": ("a:b", "a:b"),
    "pod_name": ("web-3", "web-3"),
}


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "backplane")
    return caplog


def settings_of(env: dict[str, str], **options: Any) -> Settings:
    backplane = connect_from_env(env, **options)._backplane
    assert isinstance(backplane, DistributedBackplane)
    return backplane._settings


def test_every_option_that_is_text_has_a_variable(installed: dict[str, str], written: pytest.LogCaptureFixture) -> None:
    settings = settings_of({**URL, **{f"BACKPLANE_{name.upper()}": text for name, (text, _) in TEXTS.items()}})
    assert {name: getattr(settings, name) for name in TEXTS} == {name: value for name, (_, value) in TEXTS.items()}
    assert {attribute.name for attribute in fields(Settings)} == {*TEXTS, "signing_keys"}
    assert written.text == ""


@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_variable_counts_as_unset_and_an_option_wins(installed: dict[str, str], name: str) -> None:
    text, value = TEXTS[name]
    variable = f"BACKPLANE_{name.upper()}"
    default = getattr(Settings(), name)
    assert getattr(settings_of({**URL, variable: " "}), name) == default
    assert getattr(settings_of({**URL, variable: text}, **{name: default}), name) == default
    assert getattr(settings_of({**URL, variable: text}), name) == value


WRONG = {
    "connect_timeout_s": ("seconds, above 0", ["0", "-1", "5s", "nan", "inf", "five"]),
    "wait": ("True or False", ["maybe", "2", "nein"]),
    "outbox_max_messages": ("whole number", ["1.5", "0", "1e3", "many"]),
    "outbox_overflow": ("'drop_newest'", ["drop"]),
    "routing": ("'interest'", ["everywhere"]),
    "channel": ("words of", ["a b"]),
    "pod_name": ("1 to 128 printable", ["a\nb", "x" * 129]),
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, (_, texts) in WRONG.items() for text in texts])
def test_a_wrong_value_names_the_variable_and_what_is_allowed_and_never_the_value(
    installed: dict[str, str], name: str, text: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        connect_from_env({**URL, f"BACKPLANE_{name.upper()}": f"{text}"})
    assert f"BACKPLANE_{name.upper()} " in str(error.value)
    assert WRONG[name][0] in str(error.value)
    for secret in (SECRET, f"{SECRET} {SECRET}"):
        with pytest.raises(ConfigurationError) as error:
            connect_from_env({**URL, f"BACKPLANE_{name.upper()}": f"{secret}\n{text * 200}\x00"})
        assert SECRET not in error_texts(error.value)


def test_an_adapters_own_options_have_variables_too(installed: dict[str, str]) -> None:
    connect_from_env({**URL, "BACKPLANE_TLS": "x"})
    connect_from_env({**URL, "BACKPLANE_TLS": "x"}, transport_options={"tls": "mine"})
    assert [call[1]["tls"] for call in MADE.calls] == ["x", "mine"]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("BACKPLANE_URI", "BACKPLANE_URL"),
        ("BACKPLANE_LANE", "BACKPLANE_LANES"),
        ("BACKPLANE_CHANEL", "BACKPLANE_CHANNEL"),
        ("BACKPLANE_PROBE_INTERVAL", "BACKPLANE_PROBE_INTERVAL_S"),
        ("BACKPLANE_REDIS_URI", "BACKPLANE_REDIS_URL"),
        ("BACKPLANE_SIGNING_KEY", "BACKPLANE_SIGNING_KEYS"),
    ],
)
@pytest.mark.parametrize("prefix", ["BACKPLANE", "MY_APP"])
def test_an_unknown_variable_is_a_warning_that_names_the_nearest(
    installed: dict[str, str], written: pytest.LogCaptureFixture, variable: str, meant: str, prefix: str
) -> None:
    variable, meant = [name.replace("BACKPLANE", prefix) for name in (variable, meant)]
    connect_from_env({f"{prefix}_URL": "redis://h", variable: SECRET}, prefix=prefix)
    (line,) = [record.getMessage() for record in written.records]
    assert f"{variable} (did you mean {meant}?)" in line
    assert SECRET not in line


def test_variables_that_resemble_nothing_are_named_too_but_not_a_hosts_own(
    installed: dict[str, str], written: pytest.LogCaptureFixture
) -> None:
    connect_from_env({**URL, "BACKPLANE_XYZZY": SECRET})
    assert "BACKPLANE_XYZZY" in written.text
    written.clear()
    connect_from_env({"APP_URL": "redis://h", "APP_XYZZY": SECRET}, prefix="APP")
    assert written.text == ""


@pytest.mark.parametrize(
    "name",
    [
        "BACKPLANE_SERVICE_HOST",
        "BACKPLANE_SERVICE_PORT",
        "BACKPLANE_SERVICE_PORT_HTTP",
        "BACKPLANE_PORT",
        "BACKPLANE_PORT_80_TCP",
        "BACKPLANE_PORT_80_TCP_ADDR",
        "BACKPLANE_REDIS_PORT_6379_TCP_PROTO",
        "BACKPLANE_CONFIG",
        "BACKPLANE_SERVE_AUDIENCE",
        "BACKPLANE_TRACEBACKS",
        "BACKPLANE_REQUIRE_BROKERS",
        "BACKPLANE_NATS_URL",
        "BACKPLANE_REDIS_SENTINEL_URL",
        "BACKPLANEURL",
        "OTHER_BACKPLANE_URI",
    ],
)
def test_what_others_set_is_no_mistake(installed: dict[str, str], written: pytest.LogCaptureFixture, name: str) -> None:
    installed["redis+sentinel"] = installed["redis"]
    connect_from_env({**URL, name: "x"})
    assert written.text == ""


def test_a_page_of_unknown_variables_is_a_line(installed: dict[str, str], written: pytest.LogCaptureFixture) -> None:
    connect_from_env({**URL, **{f"BACKPLANE_QQ{number}": "x" for number in range(50)}})
    (line,) = [record.getMessage() for record in written.records]
    assert line.endswith(" and 40 more")


@pytest.mark.parametrize(
    "name", ["BACKPLANE_REDIS_URL", "BACKPLANE_NATS_URL", "BACKPLANE_REDIS_CLUSTER_URL", "BACKPLANE_DEAD_URL"]
)
def test_a_url_of_a_kind_that_is_not_chosen_is_a_warning(
    installed: dict[str, str], written: pytest.LogCaptureFixture, name: str
) -> None:
    installed["redis-cluster"] = installed["redis"]
    connect_from_env({name: f"redis://:{SECRET}@h"})
    warnings = [record.getMessage() for record in written.records]
    assert f"{name} is set but BACKPLANE is not: working in memory" in warnings
    assert SECRET not in written.text
