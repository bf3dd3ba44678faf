"""Up to where a stream is still the one that a pod has read: `find_common`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import hiredis

from backplane_redis._commands import pack_command
from backplane_redis._streams.entries import read_payload
from backplane_redis._streams.session import Session
from backplane_redis._streams.trail import Step

__all__ = ["find_common"]


async def find_common(session: Session, trails: Mapping[str, Sequence[Step]]) -> Mapping[str, Step]:
    """Return the last step of each stream that the server has; a stream that has none is left out.

    Each round halves what is left of every stream at once, so that a server that is far away costs six round trips.

    Args:
        session: Is asked.
        trails: The steps by channel, the oldest first.

    Raises:
        TransportError: The connection is dead, or a stream can't be read.
    """
    found: dict[str, Step] = {}
    left = {channel: (0, len(steps)) for channel, steps in trails.items() if steps}
    while left:
        middles = {channel: (low + high) // 2 for channel, (low, high) in left.items()}
        asked = [_ask_for(channel, trails[channel][middle]) for channel, middle in middles.items()]
        replies = await session.ask(*asked)
        for (channel, middle), reply in zip(middles.items(), replies, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                raise session.refusal("XRANGE", channel, str(reply))
            step, (low, high) = trails[channel][middle], left[channel]
            if step.is_of(read_payload(reply[0][1]) if reply else None):
                found[channel], low = step, middle + 1
            else:
                high = middle
            left[channel] = (low, high)
        left = {channel: (low, high) for channel, (low, high) in left.items() if low < high}
    return found


def _ask_for(channel: str, step: Step) -> bytes:
    id_ = step.place.redis_id
    return pack_command("XRANGE", channel, id_, id_, "COUNT", "1")
