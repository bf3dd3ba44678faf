"""One live NATS connection over which JetStream is asked: `JetStreamConnection`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, cast

from backplane_core import AuthenticationError, TransportError
from nats.aio.client import Client

from backplane_nats._client import is_clustered
from backplane_nats._jetstream.inbox import Answers, LogInbox
from backplane_nats._link import NatsLink
from backplane_nats._split_watch import SplitWatch
from backplane_nats._written import parse_denial

__all__ = ["ANSWER_S", "JetStreamConnection"]

_INBOXES: Final = "_INBOX.>"

ANSWER_S: Final = 5.0
"""How long JetStream may take to answer; a cluster elects a leader in less."""

ASKED_AT_ONCE: Final = 64
"""Questions that are answered within that time: to make a stream takes a busy server some milliseconds."""


class JetStreamConnection(NatsLink):
    """A connection that hears what streams stored, and on which questions are answered.

    Its frames have cursors, see `LogInbox`. What JetStream is asked is no different from what is published: each is a
    message with an address for the answer.

    Args:
        client: Not connected yet.
        where: The server, without secrets.
        watch: Notices that the server was cut off from its cluster; None: nobody does.
    """

    reads_headers: ClassVar[bool] = True

    def __init__(self, client: Client, where: str, watch: SplitWatch | None) -> None:
        self.inbox = LogInbox()
        super().__init__(client, where, watch, self.inbox)
        self._next = 0

    @property
    def where(self) -> str:
        """The server, without secrets."""
        return self._where

    @property
    def max_payload(self) -> int:
        """The most bytes that a message may have."""
        return self._client.max_payload

    @property
    def is_clustered(self) -> bool:
        """Whether the server is a node of a cluster."""
        return is_clustered(self._client)

    @property
    def has_jetstream(self) -> bool:
        """Whether the server says that it has JetStream; True if another node of its cluster may."""
        info: Any = getattr(self._client, "_server_info", None)
        if not isinstance(info, dict):
            return True
        said = cast("dict[str, Any]", info)
        return "cluster" in said or bool(said.get("jetstream"))

    async def connect(self, options: Mapping[str, Any]) -> None:
        """Connect the client, once, and hear answers from then on."""
        await super().connect(options)
        await self._io.listen_for_answers(self._client.new_inbox())

    async def ask(self, questions: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Return the answer to each question; see `request`."""
        return [message for message, _ in await self.request(questions)]

    async def request(
        self, questions: Sequence[tuple[str, bytes]], subject: str | None = None
    ) -> list[tuple[bytes, str]]:
        """Write all questions in one go; return the answer to each, its headers in front if it has any.

        Each comes with the address at which it is to be acknowledged; that is empty unless a consumer handed it out.

        Args:
            questions: Subjects and payloads.
            subject: What a consumer hands out of this subject is an answer; None: nothing is.

        Raises:
            TransportError: The link is dead.

        Cancellation: answers that come later are dropped.
        """
        self.raise_if_dead()
        if not questions:
            return []
        first = self._next
        self._next += len(questions)
        answers = Answers(first, len(questions), self.inbox.confirmation(), subject)
        self.inbox.asked.append(answers)
        self._unconfirmed.add(answers.all_there)
        try:
            await self._io.ask(questions, first)
            await answers.all_there
        finally:
            self._unconfirmed.discard(answers.all_there)
            self.inbox.asked.remove(answers)
        self.raise_if_dead()
        return [(message or b"", address) for message, address in zip(answers.messages, answers.addresses, strict=True)]

    async def ask_jetstream(self, questions: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Return the answers to questions that may be asked twice.

        Args:
            questions: Subjects and payloads.

        Raises:
            TransportError: The link is dead, or JetStream does not answer in time.
        """
        answers: list[bytes] = []
        while len(answers) < len(questions):
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    answers += await self.ask(questions[len(answers) : len(answers) + ASKED_AT_ONCE])
                    continue
            if not self.inbox.is_full:  # else nothing is read, as the reader is behind
                raise TransportError(f"JetStream at {self._where} does not answer: has it a leader?")
        return answers

    def fail(self, error: TransportError) -> None:
        """Be dead from now on, for this reason; a no-op if it is dead."""
        if self._failure is None:
            self._failure = error
        self._end(None)

    def _explain(self, error: BaseException | None) -> TransportError:
        denial = None if error is None else parse_denial(str(error))
        if denial is None:
            return super()._explain(error)
        command, subject = denial
        # nats-py puts it into lower case, except in the names that tell what it is.
        need = f'publish on "{subject}"' if command == "publish" else f'subscribe to "{subject}"'
        return AuthenticationError(
            f"this user may not {need} (here in lower case) at {self._where}: see the permissions that JetStream "
            f'needs, such as publish on "$JS.API.>" and subscribe to "{_INBOXES}"'
        )
