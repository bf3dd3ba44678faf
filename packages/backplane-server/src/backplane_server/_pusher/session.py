"""What one client says, and what it gets for it: `Session`."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from attrs import define, field
from backplane_asgi.sockets import ClientSocket
from backplane_core import (
    BackplaneError,
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    EventEncodeError,
    EventTooLargeError,
    InvalidTargetError,
)

from backplane_server._gateway.rates import Bucket
from backplane_server._pusher.apps import PusherApp
from backplane_server._pusher.door import Door
from backplane_server._pusher.form import PusherForm
from backplane_server._pusher.messages import (
    PONG,
    Member,
    Said,
    SignIn,
    Subscribe,
    decode_data,
    decode_said,
    error,
    event_json,
    refused,
    reply,
)
from backplane_server._pusher.names import MOST_CHARACTERS, Channel, channel_named, event_name_problem, user_target
from backplane_server._pusher.rooms import shown
from backplane_server._pusher.signatures import signer_of
from backplane_server._pusher.subscription import ChannelSink, Subscription, connection_ids

__all__ = ["Session"]

MOST_CHANNELS: Final = 256
"""Channels of one client."""
MOST_MEMBERS: Final = 100
"""Users of one presence channel, as Pusher has it: each of them hears of each."""
LONGEST_USER: Final = 128
"""Characters of a user's id, as Pusher has it."""
CLIENT_EVENTS_PER_S: Final = 10.0
"""As Pusher has it."""
MESSAGES_PER_S: Final = 20.0
AT_ONCE: Final = MOST_CHANNELS + 100.0
"""Messages that a client may send at once: it subscribes to all of its channels when it comes back."""
BAD: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What is raised by what is no JSON, or none of the expected kind."""


class RefusedError(Exception):
    """A client does not get a channel.

    Args:
        kind: `AuthError`, `LimitReached` or `ServerError`.
        message: For people.
        status: A status of HTTP, or a code of the protocol.
    """

    def __init__(self, kind: str, message: str, status: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status


@define(kw_only=True, eq=False)
class Session:
    """One client.

    Args:
        backplane: Where it is attached.
        door: What the clients of this pod share.
        app: Which it has connected to.
        socket: Its socket.
        socket_id: Its id, as apps know it.
        form: How events look to it.
        max_event_bytes: Bytes of the data of one event.
    """

    backplane: BaseBackplane
    door: Door
    app: PusherApp
    socket: ClientSocket
    socket_id: str
    form: PusherForm
    max_event_bytes: int
    _subscriptions: dict[str, Subscription] = field(factory=dict[str, Subscription], init=False)
    _user: Member | None = field(default=None, init=False)
    _said: Bucket = field(factory=lambda: Bucket(MESSAGES_PER_S, AT_ONCE), init=False)
    _sent: Bucket = field(factory=lambda: Bucket(CLIENT_EVENTS_PER_S, CLIENT_EVENTS_PER_S), init=False)

    async def take(self, text: str) -> None:
        """Do what a message says, and answer it.

        Args:
            text: The message.
        """
        if not self._said.admits(time.monotonic()):
            self.socket.finish(4100, "too many messages: come back more slowly")
            return
        try:
            said = decode_said(text)
            match said.event:
                case "pusher:ping":
                    self.socket.write(PONG)
                case "pusher:pong":
                    pass
                case "pusher:subscribe":
                    await self._subscribe(decode_data(said.data, Subscribe))
                case "pusher:unsubscribe":
                    await self._unsubscribe(decode_data(said.data, Subscribe).channel)
                case "pusher:signin":
                    await self._sign_in(decode_data(said.data, SignIn))
                case _:
                    await self._send(said)
        except BAD:
            self.socket.write(error("this is no message of the Pusher protocol"))
        except ClosedError:
            pass  # the end of the socket is near, and says why
        except BackplaneError:
            self.socket.write(error("not now"))

    async def leave_all(self) -> None:
        """Leave all channels: the client is gone, and may be back soon."""
        while self._subscriptions:
            self._release(self._subscriptions.popitem()[1])
        await self.door.wait_left()

    async def _subscribe(self, asked: Subscribe) -> None:
        if asked.channel in self._subscriptions:
            self.socket.write(error(f"there is a subscription to {asked.channel} already"))
            return
        try:
            await self._join(*self._check(asked))
        except RefusedError as no:
            kind, message, status = no.kind, no.message, no.status
        except ConfigurationError:  # what is shown of a member is too large, or too many channels are watched here
            kind, message, status = "LimitReached", "there is no room for this member, or this channel", 4004
        except (InvalidTargetError, EventEncodeError):
            kind, message, status = "AuthError", "channel_data is none that can be shown", 400
        except ClosedError:
            raise
        except BackplaneError:  # the broker does not let this pod hear it
            kind, message, status = "ServerError", "not now", 503
        else:
            return
        self.socket.write(refused(asked.channel[:MOST_CHARACTERS], kind, message, status))

    def _check(self, asked: Subscribe) -> tuple[Channel, Member | None]:
        """Return the channel that a client may have, and who it is in there."""
        channel = self._check_channel(asked.channel)
        member = self._check_auth(channel, asked)
        if len(self._subscriptions) >= MOST_CHANNELS:
            raise RefusedError("LimitReached", f"at most {MOST_CHANNELS} channels of one client", 4004)
        return channel, member

    def _check_channel(self, name: str) -> Channel:
        channel = channel_named(self.app.id, name)
        if channel is None:
            raise RefusedError("AuthError", "no channel has such a name", 400)
        if channel.user_id is not None and (self._user is None or channel.user_id != str(self._user.id)):
            raise RefusedError("AuthError", "this channel is of another user: sign in", 401)
        return channel

    def _check_auth(self, channel: Channel, asked: Subscribe) -> Member | None:
        """Return who the client is in a presence channel; None: nobody in particular, in any other."""
        if not channel.is_private:
            return None
        signed = f"{self.socket_id}:{channel.name}"
        if asked.channel_data is not None:
            signed = f"{signed}:{asked.channel_data}"
        if signer_of(self.door.apps.with_id(self.app.id), asked.auth or "", signed) is None:
            raise RefusedError("AuthError", "auth is no signature of this app for this socket and channel", 401)
        return self._member_of(asked) if channel.is_presence else None

    def _member_of(self, asked: Subscribe) -> Member:
        if asked.channel_data is None and self._user is not None:
            return Member(user_id=self._user.id, user_info=self._user.user_info)
        try:
            member = msgspec.json.decode(asked.channel_data or "", type=Member)
        except BAD:
            raise RefusedError("AuthError", "channel_data is no JSON with a user_id", 400) from None
        if not 0 < len(str(member.user_id)) <= LONGEST_USER:
            raise RefusedError("AuthError", f"user_id of channel_data has 1 to {LONGEST_USER} characters", 400)
        return member

    async def _join(self, channel: Channel, member: Member | None) -> None:
        subscription = Subscription(channel, None if member is None else str(member.user_id))
        self.door.directory.enter(channel)
        try:
            if member is not None or channel.is_cache:
                await self._join_apart(subscription, member)
            else:
                await self.backplane.associate(self.socket.conn_id, channel.target)
                self.socket.write(reply("pusher_internal:subscription_succeeded", {}, channel.name))
        except BaseException:
            self._release(subscription)
            raise
        self._subscriptions[channel.name] = subscription

    async def _join_apart(self, subscription: Subscription, member: Member | None) -> None:
        """Join a channel with a connection of its own, and send the client first what it has to know first."""
        channel, socket = subscription.channel, self.socket
        sink = ChannelSink(connection_ids(self.app.id, self.socket_id, channel)[1], socket)
        last, place = await self.door.last_of(channel) if channel.is_cache else (None, None)
        room = info = None
        if member is not None:
            room = subscription.room = self.door.rooms.enter(channel)
            await room.wait_known()
            if len(room.members) >= MOST_MEMBERS and subscription.user_id not in room.members:
                raise RefusedError("LimitReached", f"at most {MOST_MEMBERS} users of one presence channel", 4004)
            info = shown(member.user_info)
        subscription.attachment = await self.backplane.attach_events(
            sink,
            channel.target,
            direct=False,
            presence=info,
            presence_key=subscription.user_id,
            resume_from=place,
        )
        present: object = {}
        if room is not None and subscription.user_id is not None:
            await room.wait_seen(subscription.user_id)
            present = room.admit(socket, subscription.user_id, None if member is None else member.user_info)
        socket.write(reply("pusher_internal:subscription_succeeded", present, channel.name))
        if last is not None:
            socket.write(self.form.event_json(last))
        elif channel.is_cache:
            socket.write(reply("pusher:cache_miss", {}, channel.name))
        sink.release()

    async def _unsubscribe(self, name: str) -> None:
        subscription = self._subscriptions.pop(name, None)
        if subscription is None:
            return
        target = subscription.channel.target
        if subscription.attachment is None:
            await self.backplane.dissociate(self.socket.conn_id, target)
        else:  # it leaves now; one whose socket is gone may be back
            own = connection_ids(self.app.id, self.socket_id, subscription.channel)[1]
            await self.backplane.dissociate(own, target)
        self._release(subscription)
        await self.door.wait_left()

    def _release(self, subscription: Subscription) -> None:
        self.door.directory.leave(subscription.channel)
        if subscription.attachment is not None:
            subscription.attachment.detach_nowait()
        if subscription.room is not None:
            subscription.room.dismiss(self.socket)
            self.door.rooms.leave(subscription.room)

    async def _sign_in(self, asked: SignIn) -> None:
        signed = f"{self.socket_id}::user::{asked.user_data}"
        if signer_of(self.door.apps.with_id(self.app.id), asked.auth, signed) is None:
            self.socket.finish(4009, "auth is no signature of this app for this socket and user")
            return
        user = msgspec.json.decode(asked.user_data, type=Member)
        if self._user is not None or not 0 < len(str(user.id)) <= LONGEST_USER:
            self.socket.write(error(f"sign in once, as a user whose id has 1 to {LONGEST_USER} characters"))
            return
        await self.backplane.associate(self.socket.conn_id, user_target(self.app.id, str(user.id)))
        self._user = user
        self.socket.write(reply("pusher:signin_success", {"user_data": asked.user_data}))

    async def _send(self, said: Said) -> None:
        """Hand a client's event to the others of its channel."""
        problem, code = self._problem_of(said)
        if problem is not None:
            self.socket.write(error(problem, code))
            return
        subscription = self._subscriptions[said.channel]
        event = event_json(said.event, bytes(said.data), subscription.user_id)
        own = connection_ids(self.app.id, self.socket_id, subscription.channel)
        try:
            await self.backplane.publish_json(subscription.channel.target, event, exclude=own)
        except (EventEncodeError, EventTooLargeError):
            self.socket.write(error("the data of this event can't be sent"))

    def _problem_of(self, said: Said) -> tuple[str | None, int | None]:
        """Return why a client may not send an event, and with which code; None: it may."""
        subscription = self._subscriptions.get(said.channel)
        problem: str | None = None
        if not said.event.startswith("client-"):
            problem = "this is no message of the Pusher protocol"
        elif not self.app.client_events:
            problem = "client events are not enabled for this app"
        elif subscription is None or not subscription.channel.is_private or subscription.channel.is_encrypted:
            problem = "client events go to private and presence channels that the client is subscribed to"
        elif len(bytes(said.data)) > self.max_event_bytes:
            problem = f"the data of an event has at most {self.max_event_bytes} bytes"
        else:
            problem = event_name_problem(said.event)
        if problem is not None:
            return problem, None
        if not self._sent.admits(time.monotonic()):
            return f"at most {CLIENT_EVENTS_PER_S:g} client events a second", 4301
        return None, None
