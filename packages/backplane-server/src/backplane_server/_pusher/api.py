"""`/apps/ID/…`: the signed requests of servers, each to what answers it."""

from __future__ import annotations

import re
import time
from typing import Final

from attrs import frozen
from backplane_asgi import Receive, Request, Scope, Send
from backplane_core import BackplaneError, BaseBackplane

from backplane_server._pusher.answers import Asked, Problem, answer, read
from backplane_server._pusher.apps import Apps
from backplane_server._pusher.listing import Listing
from backplane_server._pusher.names import Channel, channel_named, user_target
from backplane_server._pusher.signatures import request_problem
from backplane_server._pusher.triggers import MOST_BATCHED, MOST_CHANNELS, Triggers

__all__ = ["Api"]

ESCAPED: Final = 6
"""Bytes that JSON may take for one of a text: a control character."""
BESIDES: Final = 64 * 1024 + MOST_CHANNELS * 256
"""Bytes of a body besides the data of its events: names, and white space."""
CHANNEL: Final = re.compile(r"channels/([^/]+)(/users)?")
TERMINATE: Final = re.compile(r"users/([^/]+)/terminate_connections")
SIGNED_OUT: Final = (4009, "the app has closed the connections of this user")


@frozen(kw_only=True)
class Api:
    """Answers servers.

    Args:
        apps: Who may ask.
        max_event_bytes: Bytes of the data of one event.
    """

    apps: Apps
    max_event_bytes: int

    async def serve(  # noqa: PLR0917 -- one caller
        self, backplane: BaseBackplane, app_id: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request.

        Args:
            backplane: Which is published to, and asked.
            app_id: As the path has it.
            path: What comes behind.
            scope: Of the request.
            receive: Of the request.
            send: Of the request.
        """
        try:
            status, value = 200, await self._answer(backplane, app_id, path, scope, receive)
        except Problem as problem:
            status, value = problem.status, {"error": problem.message}
        await answer(send, status, value)

    async def _answer(self, backplane: BaseBackplane, app_id: str, path: str, scope: Scope, receive: Receive) -> object:
        apps = self.apps.with_id(app_id)
        if not apps:
            raise Problem(404, "no app has this id")
        most = self.max_event_bytes * ESCAPED * (MOST_BATCHED if path == "batch_events" else 1) + BESIDES
        asked = await read(scope, receive, most)
        problems = [
            request_problem(apps, asked.method, signed, asked.query, asked.body, time.time()) for signed in asked.paths
        ]
        if None not in problems:
            raise Problem(401, str(problems[0]))
        listing = Listing(backplane=backplane, app_id=app_id)
        match asked.method:
            case "POST":
                triggers = Triggers(
                    backplane=backplane,
                    listing=listing,
                    app_id=app_id,
                    max_event_bytes=self.max_event_bytes,
                    trace=Request(scope).trace,
                )
                return await self._post(triggers, backplane, app_id, path, asked)
            case "GET":
                return await self._get(listing, app_id, path, asked)
            case _:
                raise Problem(405, "GET and POST alone")

    @staticmethod
    async def _post(triggers: Triggers, backplane: BaseBackplane, app_id: str, path: str, asked: Asked) -> object:
        if path == "events":
            return await triggers.trigger(asked.body)
        if path == "batch_events":
            return await triggers.trigger_batch(asked.body)
        user = TERMINATE.fullmatch(path)
        if user is None:
            raise Problem(404, "there is nothing to post to here")
        code, reason = SIGNED_OUT
        try:
            answers = await backplane.fleet.close(user_target(app_id, user[1]), code=code, reason=reason)
        except BackplaneError as error:
            raise Problem(503, str(error)) from None
        return {} if answers.complete else {"missing": [missing.pod for missing in answers.missing]}

    @staticmethod
    async def _get(listing: Listing, app_id: str, path: str, asked: Asked) -> object:
        info = asked.query.get("info", "")
        if path == "channels":
            return await listing.channels(asked.query.get("filter_by_prefix", ""), info)
        found = CHANNEL.fullmatch(path)
        if found is None:
            raise Problem(404, "there is nothing of this name")
        channel = _channel(app_id, found[1])
        return await (listing.users(channel) if found[2] else listing.channel(channel, info))


def _channel(app_id: str, name: str) -> Channel:
    channel = channel_named(app_id, name)
    if channel is None:
        raise Problem(400, "no channel has such a name")
    return channel
