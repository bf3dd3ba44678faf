"""Credentials that change while a pod runs: it keeps trying, seldom, and is back once they are right again."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import pytest
import redis
from backplane_core import AuthenticationError, connect
from backplane_testservers import NatsServer, ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.product.faults.rig import Rig
from tests.support.waiting import until

OLD, NEW = "the-old-secret", "the-new-secret"
BETWEEN_S = 5.0


def rotate(broker: ProcessBroker, password: str) -> None:
    """Change the password of the running broker; those who are logged in are put out."""
    if isinstance(broker, RedisServer):
        untyped: Any = redis  # as far as a strict checker sees
        with untyped.Redis.from_url(broker.url) as client:
            client.config_set("requirepass", password)
            client.client_kill_filter(_type="pubsub")
        broker.password = password
    elif isinstance(broker, NatsServer):
        broker.password = password
        broker.reload()


def pickled(thing: object) -> str:
    """What a pickle of it says; or the error, if it has none."""
    try:
        return repr(pickle.dumps(thing))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it may hold no secret
        return repr((error, error.args, error.__cause__, error.__context__))


@pytest.fixture
def broker(request: pytest.FixtureRequest, start: StartServer) -> ProcessBroker:
    return start(RedisServer(password=OLD) if request.param == "redis" else NatsServer(user="pod", password=OLD))


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
@pytest.mark.parametrize("routing", ["broadcast"], indirect=True)
async def test_a_password_that_is_changed_under_a_pod_is_tried_seldom_and_works_once_it_is_right(
    rig: Rig, broker: ProcessBroker, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = rig.proxy()
    here = await rig.pod(proxy)
    local = await rig.socket(here, "u0")
    rig.targets = 1
    assert len(proxy.accepted_at) == 1
    rotate(broker, NEW)
    await until(lambda: here.is_degraded, "the pod is put out")
    await rig.publish(here, 10)
    await until(lambda: len(proxy.accepted_at) >= 4, "it keeps trying", 60)
    tried = proxy.accepted_at[1:]
    # The first try follows the cut at once, and learns that the password is wrong.
    assert all(later - earlier >= BETWEEN_S - 0.05 for earlier, later in pairwise(tried))
    assert here.is_degraded
    assert "password" in (here.backplane.ready().reason or "") or "credentials" in (here.backplane.ready().reason or "")
    rotate(broker, OLD)
    await until(lambda: here.is_live, "the right password again", 60)
    await here.backplane.flush(timeout_s=10)
    rig.ledger.assert_clean()
    assert len(local.events) == 10
    assert here.backplane.stats().dropped == {}
    for secret in (OLD, NEW):
        assert secret not in caplog.text
        assert secret not in repr((here.backplane.stats(), here.backplane.ready(), here.records, here.gaps))
        assert secret not in pickled(here.backplane)


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)
async def test_a_pod_that_starts_with_the_wrong_password_is_told_at_once(
    leaves_nothing: None, broker: ProcessBroker
) -> None:
    with pytest.raises(AuthenticationError) as refused:
        await connect(broker.url.replace(OLD, NEW), connect_timeout_s=30)
    assert not refused.value.retryable
