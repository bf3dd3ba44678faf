"""Sorts what a connection to JetStream brings, within the socket's callback: `LogInbox`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from backplane_core import Frame, Lost
from backplane_core.sockets import Confirmation, Inbox

from backplane_nats._jetstream.lane import Lane
from backplane_nats._jetstream.place import split_entry

__all__ = ["ANSWER", "Answers", "LogInbox"]

ANSWER = "."
"""What the channel of an answer begins with, as no other does; the number of its question follows. Of what a consumer
hands out its subject follows, a space, and where to acknowledge it."""


class Answers:
    """The answers to questions that were asked in one go.

    Args:
        first: The number of the first question.
        count: How many there are.
        all_there: Set once every one is answered.
        subject: What is handed out of this subject is an answer as well, to whichever question has none yet.
    """

    def __init__(self, first: int, count: int, all_there: Confirmation, subject: str | None = None) -> None:
        self.first = first
        self.subject = subject
        self.messages: list[bytes | None] = [None] * count
        self.addresses: list[str] = [""] * count
        self.all_there = all_there
        self._due = count

    def take_handed_out(self, subject: str, message: bytes, address: str) -> bool:
        """Take what a consumer hands out; return whether somebody asked for it."""
        if subject != self.subject or None not in self.messages:
            return False
        return self.take(self.first + self.messages.index(None), message, address)

    def take(self, number: int, message: bytes, address: str = "") -> bool:
        """Take the answer to a question; return whether it is one of these."""
        place = number - self.first
        if not 0 <= place < len(self.messages):
            return False
        if self.messages[place] is None:  # a second one is somebody else's
            self.messages[place] = message
            self.addresses[place] = address
            self._due -= 1
            if not self._due:
                self.all_there.set(True)
        return True


class LogInbox(Inbox):
    """An inbox whose frames have cursors; answers go to those who asked.

    What a lane can't take now it leaves alone, and reads it from its stream later. So however far the reader is behind,
    nothing is lost and nothing piles up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lanes: dict[str, Lane] = {}
        """What is read, by the channel on which it is heard."""
        self.asked: list[Answers] = []
        """What was asked and is not answered yet."""
        self.behind = asyncio.Event()
        """Set once a lane is behind."""
        self.taken = asyncio.Event()
        """Set while nothing waits to be taken."""
        self.taken.set()
        # A link that goes on where the one before it ended has yet to read what came since.
        self.received_until = float("-inf")
        """All that was in the streams by then was yielded, and taken: `time.monotonic()`, seconds."""
        # Frames that were sorted already.
        self._sorted = 0
        # Moments up to which all is in the inbox; and in what was taken from it last.
        self._complete_at: float | None = None
        self._handed_at: float | None = None

    def added(self, size: int) -> None:
        """Sort what was appended to `frames`; the reader may run before this returns."""
        raw = self.frames[self._sorted :]
        del self.frames[self._sorted :]
        for message in raw:
            if isinstance(message, Lost):
                self.frames.append(message)
            else:
                self._sort(message[0], message[1], has_room=True)
        self._sorted = len(self.frames)
        if self.frames:
            self.taken.clear()
            super().added(size)

    def put(self, channel: str, payload: bytes) -> None:
        """Sort one message from a source that can't be paused."""
        before = len(self.frames)
        self._sort(channel, payload, has_room=not self.is_full)
        self._sorted = len(self.frames)
        if self._sorted > before:
            self.taken.clear()
            super().added(len(payload))

    def _sort(self, channel: str, message: bytes, *, has_room: bool) -> None:
        if channel.startswith(ANSWER):
            self._answer(channel, message)
            return
        lane = self.lanes.get(channel)
        entry = split_entry(message)
        if lane is None or entry is None:
            return  # no longer read; or from somebody who is not the server
        if not has_room:
            lane.pass_over(entry)
        elif (frame := lane.hear(entry)) is not None:
            self.frames.append(frame)
            return
        if lane.is_behind:
            self.behind.set()

    def _answer(self, channel: str, message: bytes) -> None:
        number, _, address = channel.removeprefix(ANSWER).partition(" ")
        if address:
            _ = any(answers.take_handed_out(number, message, address) for answers in self.asked)
            return
        if number.isdecimal() and len(number) < 20:  # noqa: PLR2004 -- digits of the largest number
            for answers in self.asked:
                if answers.take(int(number), message):
                    return

    def deliver(self, frames: Sequence[Frame | Lost]) -> None:
        """Let the reader have frames that were read from a stream."""
        if not frames:
            return
        self.frames += frames
        self._sorted = len(self.frames)
        self.taken.clear()
        super().added(sum([len(frame[1]) for frame in frames if not isinstance(frame, Lost)]))

    def complete(self, at: float) -> None:
        """Note that all that was in the streams at some moment is in the inbox, or was taken from it."""
        if self.taken.is_set():
            self.received_until = at
        else:
            self._complete_at = at

    async def take(self) -> list[Frame | Lost]:
        """Wait for frames and return all of them; the last ones were handed over by now."""
        if self._handed_at is not None:
            self.received_until = self._handed_at
        self._handed_at, self._complete_at = self._complete_at, None
        if not self.frames:
            self.taken.set()
        batch = await super().take()
        self._sorted = 0
        return batch
