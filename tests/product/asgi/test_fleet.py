"""An order to the fleet closes the sockets of a server in another process."""

from __future__ import annotations

import pytest
from backplane_core import Target, connect

from tests.product.asgi.servers import PREPARED, serve
from tests.product.asgi.test_websocket import closed, receive


@pytest.mark.parametrize("ws", [PREPARED, "websockets-sansio"], ids=["prepared", "plain"])
async def test_a_user_who_is_signed_out_loses_every_socket_with_the_code_of_the_order(redis_url: str, ws: str) -> None:
    channel = f"signed-out-{ws.partition(':')[0].replace('.', '-')}"
    async with (
        serve(redis_url, ws=ws, BACKPLANE_CHANNEL=channel) as server,
        server.websocket("/ws?user=ann") as one,
        server.websocket("/ws?user=ann") as other,
        server.websocket("/ws?user=bob") as bob,
        connect(redis_url, channel=channel) as worker,
    ):
        await worker.publish(Target.user("ann"), "before")
        answers = await worker.fleet.close(Target.user("ann"), code=4001, reason="signed out", timeout_s=10)
        assert (answers.total, answers.complete) == (2, True)
        for socket in (one, other):
            assert await receive(socket) == "before"
            assert await closed(socket) == (4001, "signed out")
        assert (await worker.fleet.publish(Target.everyone(), "after", timeout_s=10)).total == 1
        assert await receive(bob) == "after"
