"""Checks on delivery: order, completeness, bytes, channels."""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

from backplane_core.testing._kit.index import link_check
from backplane_core.testing._kit.open_link import RECEIVE, SEND, OpenLink, expect_same, new_channel, open_links
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Proven, ProvingLink

PROVEN: Final = "ProvingLink.proven: it never says more than what the link has yielded, and never takes it back"
BATCH: Final = 250

PAYLOADS: Final = (
    b"{}",
    b"",
    bytes(range(256)),
    b"\0",
    b"\r\n",
    b"a\r\nb\nc\rd\0e",
    "ü🙂".encode(),
    b"\xff\xfe\xc3\x28",
    b"$-1\r\n+OK\r\nPING\r\nMSG x 1 2\r\n.\r\n",
    b" leading and trailing ",
    b"'\"\\;--%s{}",
)
"""What trips up text protocols, C strings, line readers and readers that trim."""

LARGEST_BYTES: Final = 2 * 1024 * 1024
"""An event of the largest size, and the rest of its envelope."""

LOOKALIKES: Final = (
    *("a", "A", "a:b", "a:B", "a:b:c", "ab", "a-b", "a_b", "axb", "a=b", "a@b", "a:bc", "b:a", "a:_", "a:@"),
    *("@1", "@10", "@user:u1", "@user:U1", "@user:u", "@user", "@users:u1", "=user:u1", "-", "_", "--", "0", "00"),
)
"""Prefixes, names that differ in case alone, one word more, one word less, and what may be a wildcard."""

WORDS: Final = (
    *("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "_@=-", "-_=@", "@", "=", "-", "_"),
    *("true", "null", "a:b:c:d:e:f:g:h", "@user:=0123456789abcdef0123456789abcdef", "-1", "00"),
)
CHANNEL_LENGTH: Final = 200
KIND_LENGTH: Final = 32
TOKEN_LENGTH: Final = 64
"""The longest name is the host's channel, then `:@`, a target's kind, `:` and its id's token: 299 characters."""

SINGLE_STREAM: Final = "Traits.single_stream: set it only if frames and confirmations come in one ordered stream"
CONFIRMS: Final = "Link.send: it waits until the broker confirms these frames; if none can, Traits(confirms=False)"
EQUALS: Final = (
    "Link.send: frames are counted, not compared; no table by frame or by payload, and no broker that merges"
)
NAMES: Final = "how the transport maps channels to the broker's names: no case folding, no truncation, no patterns"


@link_check
async def check_frames_arrive_in_order(harness: Harness) -> None:
    """Frames of a channel arrive in the order in which they were sent, none lost, none twice."""
    channels = [new_channel(), new_channel(), new_channel()]
    sent = [(channels[number % 3], b"%d" % number) for number in range(3_000)]
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(*channels)
        for start in range(0, len(sent), BATCH):
            await sender.send(*sent[start : start + BATCH])
        for channel in channels:
            got = await receiver.read_all(sender, channel)
            expect_same(got, [payload for name, payload in sent if name == channel], RECEIVE)


@link_check
async def check_payloads_arrive_unchanged(harness: Harness) -> None:
    """Payloads are bytes: every byte value, empty payloads and what looks like a protocol arrive unchanged."""
    channel = new_channel()
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(channel)
        await sender.send(*[(channel, payload) for payload in PAYLOADS])
        expect_same(await receiver.read_all(sender, channel), PAYLOADS, SEND)


@link_check
async def check_the_largest_payload_arrives(harness: Harness) -> None:
    """A payload of `Traits.max_payload_bytes`, or of 2 MiB if that is less, arrives unchanged."""
    channel = new_channel()
    async with open_links(harness, 2) as (sender, receiver):
        limit = sender.transport.traits.max_payload_bytes
        size = LARGEST_BYTES if limit is None else min(limit, LARGEST_BYTES)
        large = (bytes(range(256)) * (size // 256 + 1))[:size]
        await receiver.subscribe(channel)
        await sender.send((channel, b"before"), (channel, large), (channel, b"after"))
        expect_same(await receiver.read_all(sender, channel), [b"before", large, b"after"], SEND)


@link_check
async def check_equal_frames_all_arrive(harness: Harness) -> None:
    """Equal frames of one `send` are frames of their own: all arrive, in their places, and all are confirmed."""
    channel, twin = new_channel(), new_channel()
    pair = [b"same", b"same"]
    # Equal ones far apart: the broker has the last of them long after the first.
    apart = [b"same", *[b"%0500d" % number for number in range(2_000)], b"same", b"other", b"other", b"same"]
    async with open_links(harness, 3) as (sender, other, receiver):
        await receiver.subscribe(channel, twin)
        await sender.send(*[(name, payload) for payload in pair for name in (channel, twin)])
        expect_same(await receiver.read_all(sender, channel), pair, EQUALS)
        expect_same(await receiver.read_all(sender, twin), pair, EQUALS)
        await sender.send(*[(channel, payload) for payload in apart])
        # With confirmations nothing overtakes the last of them, unless the confirmation of an equal one stood for it.
        behind = other if sender.transport.traits.confirms else sender
        expect_same(await receiver.read_all(behind, channel), [*pair, *apart], EQUALS)


@link_check
async def check_own_frames_come_back(harness: Harness) -> None:
    """A link receives what it sends itself, each frame once: that is how core finds a deaf link."""
    channel = new_channel()
    async with open_links(harness, 1) as (link,):
        await link.subscribe(channel)
        await link.send((channel, b"1"), (channel, b"2"))
        expect_same(await link.read_all(link, channel), [b"1", b"2"], "Link: no option like 'no echo' is set")


@link_check
async def check_every_link_hears_every_frame(harness: Harness) -> None:
    """Every link that is subscribed to a channel receives all its frames, those of each sender in order."""
    channel = new_channel()
    async with open_links(harness, 3) as members:
        for member in members:
            await member.subscribe(channel)
        for number in range(20):
            for index, member in enumerate(members):
                await member.send((channel, b"%d:%d" % (index, number)))
        for member in members:
            await member.wait_for_frames(channel, 60)
            for index, sender in enumerate(members):
                got = [payload for payload in await member.read_all(sender, channel) if payload[:2] == b"%d:" % index]
                expect_same(
                    got,
                    [b"%d:%d" % (index, number) for number in range(20)],
                    "Link.subscribe: each gets every frame",
                )


@link_check
async def check_channels_never_mix(harness: Harness) -> None:
    """A frame arrives on the channel that it was sent to and on no other, however similar their names are."""
    base = new_channel()
    names = [base, *[f"{base}:{name}" for name in LOOKALIKES]]
    async with open_links(harness, 3) as (sender, one, other):
        # The other link alone is subscribed to each name's neighbours in the list.
        await one.subscribe(*names[0::2])
        await other.subscribe(*names[1::2])
        await sender.send(*[(name, name.encode()) for name in names])
        for receiver, heard in ((one, names[0::2]), (other, names[1::2])):
            for name in heard:
                expect_same(await receiver.read_all(sender, name), [name.encode()], NAMES)
            _expect_only(receiver, heard)


@link_check
async def check_every_legal_name_works(harness: Harness) -> None:
    """Channel names with every allowed character, and as long as core makes them, work and are kept apart."""
    base = new_channel()
    long = f"{base}:{'x' * (CHANNEL_LENGTH - len(base) - 1)}:@{'k' * KIND_LENGTH}:{'i' * (TOKEN_LENGTH - 1)}"
    names = [f"{base}:{word}" for word in WORDS] + [f"{long}a", f"{long}b", long]
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(*names[:-1])
        await sender.send(*[(name, b"%d" % number) for number, name in enumerate(names)])
        for number, name in enumerate(names[:-1]):
            expect_same(await receiver.read_all(sender, name), [b"%d" % number], NAMES)
        _expect_only(receiver, names[:-1])


@link_check
async def check_a_batch_arrives_in_few_lists(harness: Harness) -> None:
    """What was sent in one call arrives as one list per read from the socket, not one list per frame."""
    channel = new_channel()
    sent = [b"%0100d" % number for number in range(1_000)]
    async with open_links(harness, 2) as (sender, receiver):
        await receiver.subscribe(channel)
        await sender.send(*[(channel, payload) for payload in sent])
        expect_same((await receiver.wait_for_frames(channel, len(sent)))[: len(sent)], sent, RECEIVE)
        if receiver.batches > len(sent) // 4:
            expected = f"{len(sent)} frames in at most {len(sent) // 4} lists"
            raise ContractError(
                expected, f"{receiver.batches} lists", "Link.receive: it yields everything that one read brought"
            )


@link_check
async def check_send_returns_once_the_broker_has_it(harness: Harness) -> None:
    """With `Traits.confirms`, no frame that is sent after `send` returned overtakes the frames of that `send`."""
    channel = new_channel()
    sent: list[bytes] = []
    async with open_links(harness, 3) as (sender, other, receiver):
        if not sender.transport.traits.confirms:
            return
        await receiver.subscribe(channel)
        for number in range(4):
            # So much that the broker is still busy with it once it is written.
            batch = [b"%d:%0500d" % (number, count) for count in range(2_000)]
            await sender.send(*[(channel, payload) for payload in batch])
            sent += batch
            expect_same(await receiver.read_all(other, channel), sent, CONFIRMS)


@link_check
async def check_a_confirmation_follows_earlier_frames(harness: Harness) -> None:
    """With `Traits.single_stream`, frames that the broker had before a `send` are yielded by the time it returns."""
    channel = new_channel()
    sent: list[bytes] = []
    async with open_links(harness, 2) as (sender, receiver):
        if not receiver.transport.traits.single_stream:
            return
        await receiver.subscribe(channel)
        for number in range(20):
            batch = [b"%d:%0200d" % (number, count) for count in range(100)]
            await sender.send(*[(channel, payload) for payload in batch])
            sent += batch
            await receiver.send((new_channel(), b"?"))
            await asyncio.sleep(0)  # what the link holds by now is in its next list
            expect_same(receiver.payloads[channel], sent, SINGLE_STREAM)


@link_check
async def check_what_is_proven_was_yielded(harness: Harness) -> None:
    """With `Traits.nodes="several"`, what the broker had before `received_until` was yielded; no moment goes back."""
    channel = new_channel()
    confirmed_at: dict[bytes, float] = {}
    async with open_links(harness, 2) as (sender, receiver):
        if receiver.transport.traits.nodes != "several":
            return
        watched = WatchedProof(cast("ProvingLink", receiver.link))
        await receiver.subscribe(channel)
        for number in range(5):
            receiver.gate.clear()  # the consumer is busy with the list that this brings, and the rest waits in the link
            for count in range(20):
                payload = b"%d:%d" % (number, count)
                await sender.send((channel, payload))
                confirmed_at[payload] = time.monotonic()
            # A time to have every node answer. It need not return before the consumer goes on.
            asking = asyncio.create_task(receiver.send((new_channel(), b"?")))
            for _ in range(20):
                await asyncio.sleep(0)
            received_until = watched.ask().received_until
            yielded = set(receiver.payloads[channel])
            late = [payload for payload in confirmed_at if payload not in yielded]
            if received_until is not None and late and confirmed_at[late[0]] < received_until:
                asking.cancel()
                raise ContractError(
                    "what the broker had before received_until was yielded",
                    f"{len(late)} frames were not, the first of them confirmed "
                    f"{received_until - confirmed_at[late[0]]:.3f} s before it",
                    PROVEN,
                )
            receiver.gate.set()
            await asking
            await receiver.wait_for_frames(channel, len(confirmed_at))
            watched.ask()


class WatchedProof:
    """Asks a link how far it has proven what it received and sent, and compares each answer with the one before."""

    def __init__(self, link: ProvingLink) -> None:
        self._link = link
        self._before = link.proven()

    def ask(self) -> Proven:
        """Return the link's answer.

        Raises:
            ContractError: It takes back what it said before.
        """
        before, self._before = self._before, self._link.proven()
        for name in ("received_until", "replicated_until"):
            old, new = getattr(before, name), getattr(self._before, name)
            if old is not None and new is not None and new < old:
                raise ContractError(f"{name} only grows", f"it went back by {old - new:.3f} s", PROVEN)
        return self._before


@link_check
async def check_a_send_that_nobody_hears_is_confirmed(harness: Harness) -> None:
    """A send to a channel without subscribers returns like any other."""
    async with open_links(harness, 1) as (link,):
        for number in range(3):
            await link.send(*[(new_channel(), b"%d" % number) for _ in range(10)])


def _expect_only(receiver: OpenLink, names: list[str]) -> None:
    foreign = [name for name in receiver.payloads if name not in names]
    if foreign:
        raise ContractError("frames of subscribed channels only", f"frames on {foreign[0]!r}", NAMES)
