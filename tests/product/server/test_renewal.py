"""A client of a gateway renews its JWT on the open socket."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from tests.product.server.gateways import closed, gateway, token
from tests.support.waiting import DEADLINE_S


async def ask(websocket: Any, **message: Any) -> Any:
    await websocket.send(json.dumps(message))
    async with asyncio.timeout(DEADLINE_S):
        return json.loads(await websocket.recv())


async def test_claims_of_a_fresh_token_hold_on_the_open_socket_of_a_gateway_that_is_full(
    redis_url: str, channel: str
) -> None:
    wide = {"targets": ["room:1"], "subscribe": ["room:2"]}
    async with gateway("--max-connections", "1", url=redis_url, channel=channel) as served:
        async with served.websocket(token(backplane=wide)) as websocket:
            assert (await ask(websocket, backplane="subscribe", target="room:2"))["backplane"] == "subscribed"
            narrow = token(backplane={"targets": ["room:3"]})
            refused = await ask(websocket, backplane="renew", token=narrow)
            assert (refused["backplane"], refused["target"]) == ("refused", "room:2")
            assert 86_000 < json.loads(await websocket.recv())["expires_in_s"] <= 86_400
            publisher = token(backplane={"roles": ["publisher"]})
            for target, count in (("room:1", 0), ("room:2", 0), ("room:3", 1), ("user:ann", 1)):
                assert await served.publish(publisher, target, 1) == (200, {"delivered": count})
        async with served.websocket(token()) as websocket:
            forged = token("another-secret-of-thirty-two-bytes")
            await websocket.send(json.dumps({"backplane": "renew", "token": forged}))
            code, reason = await closed(websocket)
            assert (code, "not signed" in (reason or "")) == (4401, True)
        async with served.websocket(token()) as websocket:
            assert (await ask(websocket, backplane="renew", token=token(exp=time.time() + 0.3)))["expires_in_s"] < 1
            assert (await closed(websocket))[0] == 4401
        served.running.process.terminate()
        assert (await served.running.ended()).err == ""
