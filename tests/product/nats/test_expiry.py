"""Credentials that expire, and are rotated in their file: a gap, and the link after it has the new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backplane_core import AuthenticationError, Publisher, Target, connect
from backplane_testservers import NatsServer
from backplane_testservers.nats_keys import Operator

from tests.conftest import StartServer
from tests.support.sockets import attach
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

USER = Target.user("u1")


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_user_that_expires_is_cut_and_comes_back_with_what_is_in_the_file_by_then(
    start: StartServer, tmp_path: Path, routing: Any, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    monkeypatch.setattr("backplane_core._link.backoff.REFUSED_WAIT_S", (0.4, 0.6))
    operator = Operator()
    server = start(NatsServer(operator=operator))
    lasting, expiring = tmp_path / "lasting.creds", tmp_path / "expiring.creds"
    lasting.write_text(operator.new_credentials())
    expiring.write_text(operator.new_credentials(valid_s=6))
    url = f"nats://127.0.0.1:{server.port}?creds="
    async with (
        connect(f"{url}{expiring}", routing=routing) as here,
        Publisher(f"{url}{expiring}", routing=routing) as publisher,
        connect(f"{url}{lasting}", routing=routing) as there,
    ):
        socket, far = await attach(here, "c1", USER), await attach(there, "c2", USER)
        if not late:
            expiring.write_text(operator.new_credentials())
        await here.wait_for_state("degraded", timeout_s=30)
        if late:
            await until(lambda: "authentication expired" in (here.ready().reason or "").lower(), "the file has expired")
            with pytest.raises(AuthenticationError):
                await connect(f"{url}{expiring}")
            await publisher.publish(USER, "meanwhile")
            expiring.write_text(operator.new_credentials())
        await here.wait_for_state("live", timeout_s=60)
        await publisher.wait_for_state("live", timeout_s=60)
        await publisher.publish(USER, "after")
        await until(lambda: socket.events[-1:] == far.events[-1:] == ["after"], "the event behind the rotation", 60)
        assert far.events == [*["meanwhile"] * late, "after"]
        assert len(socket.gaps) == 1
        assert far.gaps == []
