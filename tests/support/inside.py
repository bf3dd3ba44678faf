"""What a test must know of a pod that it shows to nobody: one place to change when core is wired anew."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from backplane_core import BaseBackplane, Frame, Intersection, Lost, Target
from backplane_core._fleet.members import Members
from backplane_core._log.mirror import Mirror
from backplane_core._presence.pod_presence import PodPresence
from backplane_core._protocol.sequence import Tracker

__all__ = [
    "beat",
    "beat_from",
    "channel_of",
    "confirm",
    "detach_now",
    "frame_from",
    "gaps_wait",
    "live_link",
    "members_of",
    "mute",
    "next_number",
    "origin_of",
    "presence_of",
    "questions_wait",
    "roll_calls_wait",
    "say",
    "shared_channel_of",
    "subscription_count",
    "sure_until",
    "take",
    "tracker_of",
    "what_it_says",
]


def origin_of(pod: BaseBackplane) -> str:
    """Return the id under which a pod publishes."""
    return str(json.loads(frame_from(pod, b"0}"))["origin"])


def frame_from(pod: Any, rest: bytes) -> bytes:
    """Return a frame as if from this pod, unsigned; `rest` begins with the target's value."""
    return bytes(pod._sender.frames._own.prefix + rest)


def beat_from(pod: Any, rest: bytes) -> bytes:
    """Return a frame that ends as a beat of this pod does."""
    return frame_from(pod, rest) + bytes(pod._sender.frames._own.beat_suffix)


def next_number(pod: Any, channel: str) -> int:
    """Return the number that the pod's next frame on a channel will take."""
    return int(pod._sender.frames.numbering.peek(channel)[0])


def channel_of(pod: Any, *targets: Target | Intersection) -> str:
    """Return the channel on which a pod publishes to these targets."""
    return str(pod._sender.frames._routing.channel(targets))


def shared_channel_of(pod: Any) -> str:
    """Return the channel that every pod of the fleet hears."""
    return str(pod._sender.frames._routing.shared)


def tracker_of(pod: Any) -> Tracker:
    """Return what a pod remembers of other pods' numbers."""
    tracker: Tracker = pod._receiver._tracker
    return tracker


def detach_now(attachment: Any) -> None:
    """Detach a sink where nothing can be awaited, as in a sink."""
    attachment.drop()


def gaps_wait(pod: Any) -> bool:
    """Return whether a gap waits to be reported: those of one socket come a second apart."""
    return bool(pod._receiver._gaps.waits)


def subscription_count(pod: Any) -> int:
    """Return how many channels a pod wants to hear."""
    return int(pod._subscriptions.count)


def live_link(pod: Any) -> Any:
    """Return the link of its transport on which a pod is live."""
    return pod._supervisor._proof._link


def sure_until(pod: Any, moment: float) -> float:
    """Return until when all was surely heard, as the node of the pod's link says of this moment."""
    ceiling: float | None = pod._watermark.ceiling
    return moment if ceiling is None else min(moment, ceiling)


async def take(pod: Any, batch: Sequence[Frame | Lost]) -> None:
    """Let a pod take a batch as if it came from its link."""
    await pod._receiver.take(batch)


def beat(pod: Any) -> None:
    """Have a pod send a beat, now."""
    pod._link_events.beat()


async def confirm(pod: Any, targets: Sequence[Target]) -> bool:
    """Wait until a pod hears all of these."""
    confirmed: bool = await pod._host.confirm(targets)
    return confirmed


def members_of(pod: Any) -> Members:
    """Return which other pods a pod knows."""
    members: Members = pod._fleet.members
    return members


def mirror_of(pod: Any) -> Mirror:
    mirror: Mirror = pod._pod_log.mirror
    return mirror


def awaited_places(pod: Any) -> int:
    """Return how many places in the logs somebody waits for."""
    return len(pod._pod_log.mirror._reached)


def log_link(pod: Any) -> Any:
    """Return the link over which a pod reads its logs."""
    return pod._pod_log.pages._link


def awaited_own(pod: Any) -> int:
    """Return on how many lanes somebody waits for a frame of this pod to come back."""
    return len(pod._pod_log.mirror.echoes.awaited)


def mute(pod: Any) -> None:
    """Let a pod take questions and never answer, as one that is frozen just then."""

    def ignore(question: Any, origin: str) -> None:
        pass

    pod._fleet.post._asked = ignore


def presence_of(pod: Any) -> PodPresence:
    """Return what a pod says and hears of who is present."""
    presence: PodPresence = pod._presence.presence
    return presence


def say(pod: Any, member: bytes) -> None:
    """Let a pod say something to the others, as the bytes of the member."""
    assert pod._sender.say(member)


def questions_wait(pod: Any) -> bool:
    """Return whether a question of a pod waits for answers."""
    return bool(pod._asker._pending)


def roll_calls_wait(pod: Any) -> bool:
    """Return whether a pod waits for what a roll call is about."""
    return bool(pod._fleet.post.roll_calls._waiting)


def what_it_says(pod: Any) -> list[bytes]:
    """Return a list that gets what a pod says to others from now on, as the bytes of the member."""
    said: list[bytes] = []
    say = pod._sender.say

    def noted(member: bytes, channel: str | None = None) -> bool:
        said.append(member)
        return bool(say(member, channel))

    pod._sender.say = noted
    return said
