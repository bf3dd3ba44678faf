"""Mistakes to make in examples/own_transport.py: what stands there, and what stands there instead, by the check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

__all__ = ["MISTAKES", "Edit"]

Edit: TypeAlias = tuple[str, str]

MISTAKES: Final[Mapping[str, tuple[Edit, ...]]] = {
    "check_send_returns_once_the_broker_has_it": (("            if await pong:\n", "            if True:\n"),),
    "check_a_cut_ends_receive": (('            raise TransportError("the hub closed the connection")\n', ""),),
    "check_calls_pending_at_the_cut_end": (("        while self._waiting:\n", "        while False:\n"),),
    "check_equal_frames_all_arrive": (
        ("frame[0], frame[1]) for frame in frames])", "frame[0], frame[1]) for frame in dict.fromkeys(frames)])"),
    ),
    "check_a_late_confirmation_is_waited_for": (
        (
            """\
            if await pong:
                return
""",
            """\
            try:
                if await asyncio.wait_for(asyncio.shield(pong), 0.5):
                    return
            except TimeoutError:
                raise TransportError("the hub did not answer in time") from None
""",
        ),
    ),
    "check_a_cancelled_subscribe_confuses_nothing": (
        (
            """\
            if await pong:
                return
""",
            """\
            try:
                if await pong:
                    return
            except asyncio.CancelledError:
                self._waiting.remove(pong)
                raise
""",
        ),
    ),
    "check_open_without_a_broker_raises": (
        (
            """\
        except OSError as error:
            raise TransportError(f"no hub""",
            """\
        except EOFError as error:
            raise TransportError(f"no hub""",
        ),
    ),
    "check_aclose_leaves_nothing": (
        (
            """\
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()
""",
            """\
        LEFT_OPEN.append(self._writer)
""",
        ),
        ("class HubLink:", "LEFT_OPEN = []\n\n\nclass HubLink:"),
    ),
    "check_a_batch_arrives_in_few_lists": (
        (
            """\
                if frames:
                    yield frames
""",
            """\
                for frame in frames:
                    yield [frame]
""",
        ),
    ),
    "check_payloads_arrive_unchanged": (("rest[payload:start]))", "rest[payload:start].strip()))"),),
    "check_the_largest_payload_arrives": (
        ("            if size > MAX_PAYLOAD_BYTES:\n", "            if size > 1_000_000:\n"),
    ),
    "check_own_frames_come_back": (
        ("in self.hearers.get(channel, ()):", "in self.hearers.get(channel, set()) - {client}:"),
    ),
    "check_a_slow_consumer_is_not_skipped": (
        (
            """\
            # Skipping a frame loses it silently. Cutting the client kills its link, which
            # becomes a Gap.
            client.transport.abort()
""",
            """\
            return
""",
        ),
        ("MAX_BEHIND_BYTES: Final = 32 * 1024 * 1024", "MAX_BEHIND_BYTES: Final = 1024 * 1024"),
    ),
    "check_a_second_subscriber_changes_nothing_for_the_first": (
        ("        hearers.discard(client)\n", "        hearers.clear()\n"),
    ),
}
