"""What a layer's `CONFIG` may say: its own options, a backplane's, and those of channels_redis."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
from backplane_channels import BackplaneChannelLayer, config
from backplane_core import AdapterNotInstalledError, ConfigurationError

URL = "redis://localhost:1"

PROJECT = """
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["backplane_channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "backplane_channels.BackplaneChannelLayer",
            "CONFIG": {"hosts": [("localhost", 6379)], "group_expiry": 1},
        },
        "wrong": {"BACKEND": "backplane_channels.BackplaneChannelLayer", "CONFIG": {"url": "redis://h", "capcity": 1}},
        "other": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    },
)
import django
django.setup()
from django.core.checks import run_checks
print([(message.id, message.msg) for message in run_checks()])
from channels.layers import get_channel_layer
print(type(get_channel_layer()).__name__)
"""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("redis://h:1", "redis://h:1"),
        (b"redis://h", "redis://h"),
        (("h", 7), "redis://h:7"),
        ({"address": "rediss://h:1/3"}, "rediss://h:1/3"),
        ({"address": ("h", 7)}, "redis://h:7"),
        ({"host": "h", "port": 7, "db": 2}, "redis://h:7/2"),
        ({"host": "h", "password": "p@ss/1", "username": "u"}, "redis://u:p%40ss%2F1@h:6379/0"),
    ],
)
def test_one_host_of_channels_redis_is_read_as_a_url(host: Any, url: str) -> None:
    assert config.find_url(None, [host]) == url
    assert BackplaneChannelLayer(hosts=[host])


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["redis://a", "redis://b"],
        "redis://h",
        [7],
        [{"sentinels": [("h", 1)], "master_name": "m"}],
        [{"address": "redis://h", "password": "the secret"}],
    ],
)
def test_hosts_that_are_no_url_are_an_error_without_secrets(hosts: Any) -> None:
    with pytest.raises(ConfigurationError, match="host") as error:
        BackplaneChannelLayer(hosts=hosts)
    assert "the secret" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({}, 'CONFIG needs a url, such as {"url": "redis://localhost:6379"}'),
        ({"url": URL, "hosts": [URL]}, "url or hosts"),
        ({"url": 7}, "url must be text"),
        ({"url": URL, "capacity": 0}, "capacity=0"),
        ({"url": URL, "capacity_bytes": 1.5}, "capacity_bytes=1.5"),
        ({"url": URL, "expiry": 0}, "expiry=0"),
        ({"url": URL, "on_gap": ""}, "on_gap=''"),
        ({"url": URL, "on_gap": "_x"}, "on_gap='_x'"),
        ({"url": URL, "wait": True}, "wait is not an option"),
        ({"url": URL, "capcity": 1}, "unknown option 'capcity'"),
        ({"url": URL, "prefix": "a b"}, "channel='backplane:a b'"),
        ({"url": "memory://"}, "memory reaches no other process"),
    ],
)
def test_what_is_wrong_is_an_error_where_the_layer_is_made(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        BackplaneChannelLayer(**wrong)


def test_a_missing_adapter_says_what_to_install() -> None:
    with pytest.raises(AdapterNotInstalledError, match="kafka"):
        BackplaneChannelLayer(url="kafka://h")


def test_options_without_effect_are_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "_warned", set[str]())
    ignored: dict[str, Any] = {
        "group_expiry": 1,
        "symmetric_encryption_keys": ["the secret"],
        "serializer_format": "json",
    }
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert BackplaneChannelLayer(url=URL, **ignored)
    (record,) = caplog.records
    assert "group_expiry, serializer_format, symmetric_encryption_keys have no effect" in record.getMessage()
    assert "not encrypted" in record.getMessage()
    assert "the secret" not in record.getMessage()


def test_django_checks_the_settings() -> None:
    done = subprocess.run([sys.executable, "-c", PROJECT], capture_output=True, text=True, check=False)
    assert "backplane_channels.W001" in done.stdout, done.stderr
    assert "CHANNEL_LAYERS['default']: group_expiry has no effect" in done.stdout
    assert "backplane_channels.E001', \"CHANNEL_LAYERS['wrong']: unknown option 'capcity'" in done.stdout
    assert done.stdout.endswith("\nBackplaneChannelLayer\n")
