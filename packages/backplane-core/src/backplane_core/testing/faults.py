"""What goes wrong with a broker on a bad day, and how often: `Faults`, which a `FaultyTransport` draws from."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from attrs.validators import and_, ge, le

__all__ = ["Faults"]

_chance: Final = and_(ge(0.0), le(1.0))


@frozen(kw_only=True)
class Faults:
    """What goes wrong, and how often. By default nothing does.

    A chance is from 0 to 1, per call. A time is the longest, in seconds; each one is drawn evenly from 0 to it.

    All of this happens with real brokers and networks. On one link frames stay in order, and none comes twice unless
    `copy` says so; but what a dead link still had on its way may arrive after what the next link sent (`straggle_s`).

    Args:
        open_s: Time to connect.
        refuse_open: Chance that the broker can't be reached.
        hang_open: Chance that connecting never ends.
        subscribe_s: Time until a subscription is confirmed; frames may arrive before.
        scatter_s: Time within which the broker subscribes the channels of one call, each at a moment of its own and in
            any order. It confirms the call once it has subscribed all of them.
        nodes: How many nodes the channels are spread over, each of which subscribes all of its own at one moment. 0:
            each channel has its own moment.
        hang_subscribe: Chance that the broker subscribes the link and never confirms it.
        cut_subscribe: Chance that the link dies instead of confirming, before or after the broker subscribed it.
        send_s: Time for frames to reach the broker.
        confirm_s: Time for their confirmation to come back.
        cut_before: Chance that the link dies with none of the frames at the broker.
        cut_within: Chance that it dies with some of them at the broker, the first ones.
        cut_after: Chance that it dies with all of them at the broker, and the confirmation lost.
        hang_confirm: Chance that the broker takes the frames and never confirms them.
        straggle_s: Time after which frames that a dead link did not bring to the broker arrive there nevertheless, in
            addition to the copies that the next link sends. 0: they never arrive.
        deliver_s: Time for frames from the broker to this link.
        lose: Chance that a frame is lost on the way to this link, which says so (`Lost`).
        copy: Chance that a frame comes twice in a row; none of the brokers that we support does that.
        reset: Chance that a link that dies loses what it had received and nobody had read yet, as well as what was on
            its way.
    """

    open_s: float = field(default=0.0, validator=ge(0.0))
    refuse_open: float = field(default=0.0, validator=_chance)
    hang_open: float = field(default=0.0, validator=_chance)
    subscribe_s: float = field(default=0.0, validator=ge(0.0))
    scatter_s: float = field(default=0.0, validator=ge(0.0))
    nodes: int = field(default=0, validator=ge(0))
    hang_subscribe: float = field(default=0.0, validator=_chance)
    cut_subscribe: float = field(default=0.0, validator=_chance)
    send_s: float = field(default=0.0, validator=ge(0.0))
    confirm_s: float = field(default=0.0, validator=ge(0.0))
    cut_before: float = field(default=0.0, validator=_chance)
    cut_within: float = field(default=0.0, validator=_chance)
    cut_after: float = field(default=0.0, validator=_chance)
    hang_confirm: float = field(default=0.0, validator=_chance)
    straggle_s: float = field(default=0.0, validator=ge(0.0))
    deliver_s: float = field(default=0.0, validator=ge(0.0))
    lose: float = field(default=0.0, validator=_chance)
    copy: float = field(default=0.0, validator=_chance)
    reset: float = field(default=0.0, validator=_chance)
