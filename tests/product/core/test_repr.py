"""What a person at a prompt, or in a log at night, sees of a backplane and a connection: enough, and nothing secret."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import DistributedBackplane, InMemoryBackplane, Publisher, Target
from backplane_core._runtime.credentials import hide_credentials
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_nats import NatsTransport
from backplane_redis import ClusterTransport, RedisTransport, SentinelTransport

SECRET = "hunter2"
USER = Target.user("u1")


class Named(MemoryTransport):
    """Shows a URL, as another author's transport may."""

    def __repr__(self) -> str:
        return f"Named('hub://ann:{SECRET}@hub.example/app')"


async def test_a_backplane_in_memory_shows_its_state_and_its_connections() -> None:
    async with InMemoryBackplane() as backplane:
        assert repr(backplane) == "<InMemoryBackplane live, 0 connections>"
        await backplane.attach("c1", print)
        assert repr(backplane) == "<InMemoryBackplane live, 1 connection>"
    assert repr(backplane) == "<InMemoryBackplane closed, 0 connections>"


async def test_a_distributed_one_also_shows_its_broker_its_channel_and_what_is_not_confirmed() -> None:
    backplane = DistributedBackplane(Named(MemoryBroker()), channel="app:live")
    about = "'app:live' over Named('hub://***@hub.example/app'), 0 connections, 0 frames not confirmed"
    assert repr(backplane) == f"<DistributedBackplane connecting, {about}>"
    async with backplane:
        await backplane.flush(timeout_s=5)
        assert repr(backplane) == f"<DistributedBackplane live, {about}>"
        backplane.publish_nowait(USER, SECRET)
        assert repr(backplane) == f"<DistributedBackplane live, {about}>".replace("0 frames", "1 frames")


@pytest.mark.parametrize(
    ("transport", "url"),
    [
        (RedisTransport, f"redis://ann:{SECRET}@broker.example/1"),
        (ClusterTransport, f"redis-cluster://ann:{SECRET}@broker.example,other.example:7001"),
        (SentinelTransport, f"redis+sentinel://ann:{SECRET}@broker.example/service?sentinel_password={SECRET}"),
        (NatsTransport, f"nats://ann:{SECRET}@broker.example"),
        (NatsTransport, f"nats://{SECRET}@broker.example"),
    ],
)
async def test_no_secret_of_a_url_or_an_option_is_shown(transport: Any, url: str) -> None:
    shown = repr(DistributedBackplane(transport(url), signing_keys=[SECRET]))
    assert SECRET not in shown
    assert transport.__name__ in shown
    assert "broker.example" in shown


def test_a_publisher_is_shown_as_one_and_without_its_password() -> None:
    shown = repr(Publisher(f"redis://ann:{SECRET}@broker.example"))
    assert shown.startswith("<Publisher connecting, 'backplane' over RedisTransport(")
    assert SECRET not in shown


async def test_a_connection_shows_its_id_its_state_and_what_waits_but_no_event() -> None:
    async with InMemoryBackplane() as backplane:
        connection = backplane.connection("c1", USER)
        assert repr(connection) == "<Connection 'c1' not entered yet, 0 events of 0 bytes wait>"
        async with connection:
            await backplane.publish(USER, SECRET)
            assert repr(connection) == "<Connection 'c1' open, 1 events of 9 bytes wait>"
        assert repr(connection) == "<Connection 'c1' ended, 0 events of 0 bytes wait>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"redis://ann:{SECRET}@host:6379/0", "redis://***@host:6379/0"),
        (f"T('nats://{SECRET}@a,b:4223')", "T('nats://***@a,b:4223')"),
        (f"x://a:p@{SECRET}@host", "x://***@host"),
        ("unix:///run/app.sock", "unix:///run/app.sock"),
        ("redis://host/a@b", "redis://host/a@b"),
        ("<T object at 0x1>", "<T object at 0x1>"),
    ],
)
def test_urls_are_shown_without_who_they_are_for(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown
