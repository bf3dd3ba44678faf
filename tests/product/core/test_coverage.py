"""A gap covers every channel until that channel is heard: played against what really was not heard."""

from __future__ import annotations

import pytest
from attrs import define, field
from backplane_core._inbound.coverage import Coverage
from backplane_core._local.entry import Span
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "shared")
STEPS = ("lost", "ask", "ask in vain", "hear", "confirm", "frame", "settle", "forget")


@define
class Channel:
    """What the broker delivers of a channel, and what the pod was promised."""

    heard: bool = False
    confirmed: bool = False
    promised: bool = False


@define
class Socket:
    """A connection: what passed it by, and what it was notified of."""

    channels: dict[str, float]  # since when
    missed: set[tuple[str, float]] = field(factory=set[tuple[str, float]])
    # What passed by while somebody still waits for the confirmation, and was promised nothing.
    unpromised: set[tuple[str, float]] = field(factory=set[tuple[str, float]])
    covered: Span | None = None
    gaps: list[Span] = field(factory=list[Span])

    def notify(self, coverage: Coverage, heard_at: float, until: float) -> None:
        span = coverage.owes(self.covered, heard_at, until)
        if span is not None:
            self.gaps.append(span)
            self.covered = span

    def silently_missed(self, name: str) -> set[float]:
        missed = {at for channel, at in self.missed if channel == name}
        return {at for at in missed if not any(gap.since <= at <= gap.until for gap in self.gaps)}

    def leave_out(self, name: str) -> None:
        self.unpromised = {it for it in self.unpromised if it[0] != name}


@define
class World:
    """One pod and its connections, and what a broker really delivers."""

    now: float = 0.0
    proven: float = 0.0
    coverage: Coverage = field(factory=Coverage)
    channels: dict[str, Channel] = field(factory=lambda: {"shared": Channel(promised=True)})
    sockets: tuple[Socket, ...] = field(factory=lambda: tuple(Socket({"shared": 0.0}) for _ in range(3)))

    def __attrs_post_init__(self) -> None:
        self.coverage.begin(0.0)

    def pass_time(self) -> None:
        """An event on every channel: whoever does not hear it misses it."""
        at = self.now + 0.5
        for socket in self.sockets:
            for name in socket.channels:
                channel = self.channels[name]
                if not channel.heard and channel.promised:
                    socket.missed.add((name, at))
                elif not channel.heard:
                    socket.unpromised.add((name, at))
        self.now += 1.0

    def lost(self) -> None:
        for socket in self.sockets:
            for name, since in socket.channels.items():
                if self.channels[name].heard:  # what came since the last proof may have died with the link
                    began = int(max(since, self.proven))
                    socket.missed |= {(name, at + 0.5) for at in range(began, int(self.now))}
            socket.missed |= socket.unpromised
            socket.unpromised.clear()
        self.channels = {name: Channel(promised=True) for name in self.channels}
        self.coverage.lost(self.proven)

    def ask(self, name: str, *, owed: bool) -> None:
        """The socket of this channel, and the last one, associate."""
        if name not in self.channels:
            self.channels[name] = Channel(promised=owed)
            for socket in (self.sockets[NAMES.index(name)], self.sockets[-1]):
                socket.channels[name] = self.now
            self.coverage.ask(name, self.now, owed=owed)

    def forget(self, name: str) -> None:
        if name != "shared" and name in self.channels and not self.channels[name].heard:
            del self.channels[name]
            for socket in self.sockets:
                socket.channels.pop(name, None)
                socket.leave_out(name)
                # Who leaves a target no longer asks what passed by there.
                socket.missed = {it for it in socket.missed if it[0] != name}
            self.coverage.forget(name)

    def hear(self, name: str) -> None:
        if name in self.channels:
            self.channels[name].heard = True

    def confirm(self, name: str) -> None:
        channel = self.channels.get(name)
        if channel is not None and not channel.confirmed:
            channel.heard = channel.confirmed = channel.promised = True
            for socket in self.sockets:
                socket.leave_out(name)
            self.coverage.heard([name], self.now)

    def frame(self, name: str) -> None:
        if name not in self.channels or not self.channels[name].heard:
            return
        heard_at = self.coverage.heard_at(name, self.now) if self.coverage.since is not None else None
        for socket in self.sockets:
            if name in socket.channels:
                if heard_at is not None:
                    socket.notify(self.coverage, heard_at, self.now)
                assert not socket.silently_missed(name)

    def settle(self) -> None:
        if not all(channel.confirmed for channel in self.channels.values()):
            return
        owed = self.coverage.settled()
        if owed is not None:
            for socket in self.sockets:
                heard_at = self.coverage.last_heard(socket.channels)
                if owed.channels is None or socket.channels.keys() & owed.channels:
                    socket.notify(self.coverage, heard_at, self.now)
            self.coverage.close()
        assert self.coverage.since is None
        assert not any(socket.silently_missed(name) for socket in self.sockets for name in socket.channels)
        self.proven = self.now

    def prove(self) -> None:
        """All that was promised was heard up to now."""
        if self.coverage.since is None and all(it.confirmed for it in self.channels.values() if it.promised):
            self.proven = self.now

    def play(self, step: str, name: str) -> None:
        self.pass_time()
        if step in {"ask", "ask in vain"}:
            self.ask(name, owed=step == "ask in vain")
        elif step in {"lost", "settle"}:
            getattr(self, step)()
        else:
            getattr(self, step)(name)
        self.prove()


@pytest.mark.thorough
@settings(max_examples=1_000)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES)), min_size=8, max_size=30))
def test_no_event_follows_a_hole_that_its_connection_was_not_notified_of(plan: list[tuple[str, str]]) -> None:
    world = World()
    world.confirm("shared")
    world.settle()
    for step, channel in plan:
        world.play(step, channel)


def test_a_frame_on_one_channel_says_nothing_of_another() -> None:
    coverage = Coverage()
    coverage.lost(9.6)
    assert coverage.heard_at("shared", 10.2) == 10.2
    coverage.heard(["user:u1"], 11.1)
    assert coverage.heard_at("user:u1", 11.3) == 11.1
    coverage.heard(["shared", "user:u2"], 11.4)
    owed = coverage.settled()
    assert owed is not None
    assert (owed.since, owed.channels) == (9.6, None)
    assert coverage.last_heard(["shared"]) == 10.2
    assert coverage.last_heard(["shared", "user:u2"]) == 11.4
    coverage.close()
    assert coverage.since is None


def test_what_is_asked_for_while_a_gap_is_being_reported_stays_owed() -> None:
    coverage = Coverage()
    coverage.lost(1.0)
    coverage.heard(["shared"], 2.0)
    assert coverage.settled() is not None
    coverage.ask("user:late", 3.0, owed=True)
    coverage.close()
    assert coverage.since == 3.0
    assert coverage.heard_at("shared", 3.5) is None
    coverage.heard(["user:late"], 4.0)
    owed = coverage.settled()
    assert owed is not None
    assert (owed.since, owed.channels) == (3.0, ["user:late"])


def test_what_somebody_waits_for_is_owed_once_the_link_dies() -> None:
    coverage = Coverage()
    coverage.ask("user:u1", 1.0, owed=False)
    assert coverage.since is None
    coverage.lost(5.0)  # the others' channels are proven until then; this one was never heard
    assert coverage.since == 1.0


def test_what_was_confirmed_in_time_is_owed_nothing() -> None:
    coverage = Coverage()
    coverage.ask("user:u1", 1.0, owed=False)
    coverage.heard(["user:u1"], 2.0)
    assert coverage.settled() is None


def test_a_link_that_dies_before_all_is_heard_leaves_every_channel_unheard() -> None:
    coverage = Coverage()
    coverage.lost(1.0)
    heard_at = coverage.heard_at("shared", 3.0)
    assert heard_at is not None
    told = coverage.owes(None, heard_at, 3.0)
    assert told == Span(1.0, 3.0)
    coverage.lost(2.0)
    heard_at = coverage.heard_at("shared", 6.0)
    assert heard_at is not None
    assert coverage.owes(told, heard_at, 6.0) == Span(3.0, 6.0)
