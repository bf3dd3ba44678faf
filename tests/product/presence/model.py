"""Several pods that say who is present, over a bus that fails by chance, without a loop and without a clock.

The rosters, the views, the registries and the members are the real ones. A pod's frames travel as bytes under numbers;
each receiver gets those of one sender in order, late, twice or not at all, and notices a hole by the next number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Final

from attrs import define, field
from backplane_core import Target
from backplane_core._fleet.members import Members
from backplane_core._local.presence import Presence
from backplane_core._local.registry import Registry
from backplane_core._presence.change_queue import ChangeQueue
from backplane_core._presence.pod_presence import PodPresence, PresenceSettings, Voice
from backplane_core._presence.view import Joined, View
from backplane_core._protocol.fleet_frame import LEVEL, Saying, decode_saying, encode_saying
from backplane_core._protocol.presence_frame import PresenceSaying

__all__ = ["FAULTS", "Account", "Plan", "play"]

TICK_S: Final = 0.25
TTL_S: Final = 3.0
BEAT_TICKS: Final = 2
QUIET_TICKS: Final = 80
"""What the slowest repair takes: a member is forgotten, a question is asked again, a lease is renewed."""

TARGETS: Final = (Target("room", "42"), Target("room", "43"), Target.everyone())
KEYS: Final = tuple("abcde")


@define
class Plan:
    """What is played.

    Args:
        seed: Of everything.
        steps: How many.
        calm: Whether nothing fails.
        linger_s: Seconds after which a key whose sockets ended leaves.
    """

    seed: int
    steps: int = 80
    calm: bool = False
    linger_s: float = 0.0


@define
class Account:
    """What came of it.

    Args:
        wrong: What must not be.
        faults: Which happened.
        steps: Changes that readers got.
        snapshots: Snapshots that they got.
        skipped: Those that say that changes were skipped.
        transitions: How often a key came or went in truth.
    """

    wrong: list[str] = field(factory=list[str])
    faults: set[str] = field(factory=set[str])
    steps: int = 0
    snapshots: int = 0
    skipped: int = 0
    transitions: int = 0


@define(eq=False)
class Reader:
    """One that watches, and what it believes."""

    pod: Pod
    queue: ChangeQueue
    account: Account
    present: dict[str, bytes] = field(factory=dict[str, bytes])
    seen: list[tuple[str, bool]] = field(factory=list[tuple[str, bool]])
    has_begun: bool = False

    @property
    def target(self) -> Target:
        return self.queue.view.target

    def read(self) -> None:
        while (item := self.queue.take()) is not None:
            if isinstance(item, View):
                self.present = dict(item.shown)
                self.account.snapshots += 1
                self.account.skipped += self.has_begun
                self.has_begun = True
                continue
            self.account.steps += 1
            if isinstance(item, Joined):
                if self.present.get(item.key) == item.value:
                    self.account.wrong.append(f"{item.key} joined twice")
                self.present[item.key] = item.value
            elif self.present.pop(item.key, None) is None:
                self.account.wrong.append(f"{item.key} left and was not there")
            self.seen.append((item.key, isinstance(item, Joined)))
        if not self.has_begun and self.seen:
            self.account.wrong.append("a change came before the first snapshot")


@define(eq=False)
class Pod(Voice):
    """One pod: its connections, and its way to the bus."""

    origin: str
    world: World
    registry: Registry = field(factory=Registry)
    members: Members = field(factory=lambda: Members(TTL_S, 1.0))
    presence: PodPresence = field(init=False)
    readers: list[Reader] = field(factory=list[Reader])
    outbox: deque[tuple[int, bytes]] = field(factory=deque[tuple[int, bytes]])
    number: int = 0
    is_up: bool = False
    is_crowded: bool = False
    must_flush: bool = False
    # By the origin of the sender: the last number, and whether a hole before the next one counts.
    heard: dict[str, int] = field(factory=dict[str, int])
    uncounted: set[str] = field(factory=set[str])
    # By the origin of the sender, what is on its way, and when it arrives.
    arriving: dict[str, deque[tuple[float, int, bytes]]] = field(factory=dict[str, deque[tuple[float, int, bytes]]])

    def __attrs_post_init__(self) -> None:
        settings = PresenceSettings(linger_s=self.world.plan.linger_s, lease_s=TTL_S, remote_control=True)
        self.presence = PodPresence(self.origin, self.registry, self, settings)

    def say(self, saying: PresenceSaying) -> bool:
        if self.is_crowded:
            return False
        self.put(Saying(LEVEL, presence=saying))
        return True

    def put(self, saying: Saying) -> None:
        self.number += 1
        self.outbox.append((self.number, b'{"x":1' + encode_saying(saying) + b"}"))

    def flush_soon(self) -> None:
        self.must_flush = True

    def up(self) -> None:
        if not self.is_up:
            self.is_up = True
            self.uncounted = set(self.heard)
            self.members.live()
            self.presence.live(self.world.now)
            self.put(Saying(LEVEL))

    def cut(self) -> None:
        if self.is_up:
            self.is_up = False
            self.arriving.clear()
            self.members.lost()
            self.presence.lost()

    def watch(self, target: Target) -> None:
        view = self.presence.views.watching(target)
        if view is None:
            members = {member.origin: True for member in self.members.present()}
            view = self.presence.open(
                target, members, self.world.now, settle_s=1.0, watch=True, is_settled=self.members.is_settled
            )
        reader = Reader(self, ChangeQueue(view), self.world.account)
        view.followers.append(reader.queue)
        if view.settles_at is None:
            reader.queue.start_over()
        self.readers.append(reader)

    def unwatch(self, reader: Reader) -> None:
        self.readers.remove(reader)
        view = reader.queue.view
        view.followers.remove(reader.queue)
        if not view.followers:
            self.presence.close(view)

    def take(self, origin: str, number: int, frame: bytes) -> None:
        """Take a frame as the reader does: no copy, and holes are noticed."""
        last = self.heard.get(origin)
        if last is not None and number <= last:
            return
        if last is not None and number > last + 1 and origin not in self.uncounted:
            self.presence.missed(self.world.now)
        self.uncounted.discard(origin)
        self.heard[origin] = number
        saying = decode_saying(frame)
        assert saying is not None
        if saying.presence is not None:
            self.presence.take(origin, saying.presence, self.world.now)
        self.members.heard(origin, saying.level)
        if saying.leaving:
            self.members.left(origin)
            self.presence.gone(origin, self.world.now)
        elif self.members.is_present(origin):
            self.presence.heard(origin, self.world.now, answers=True)

    def tick(self) -> None:
        self.members.tick(self.world.now, 2 * TICK_S)
        if self.presence.is_busy:
            origins = {member.origin for member in self.members.present()}
            self.presence.tick(self.world.now, origins)


@define(eq=False)
class World:
    """All of them, and what is true."""

    plan: Plan
    random: Random = field(init=False)
    account: Account = field(factory=Account)
    now: float = 0.0
    pods: dict[str, Pod] = field(factory=dict[str, Pod])
    truth: dict[Target, dict[str, bytes]] = field(factory=dict[Target, dict[str, bytes]])
    happened: dict[Target, list[tuple[str, bool]]] = field(factory=dict[Target, list[tuple[str, bool]]])
    _last_origin: int = 0
    _last_conn: int = 0

    def __attrs_post_init__(self) -> None:
        self.random = Random(self.plan.seed)
        for target in TARGETS:
            self.truth[target], self.happened[target] = {}, []

    # Time

    def step(self, seconds: float) -> None:
        """Let frames travel and pods tick for a while."""
        until = self.now + seconds
        while self.now < until:
            self.now += TICK_S
            ticks = round(self.now / TICK_S)
            for pod in list(self.pods.values()):
                pod.tick()
                if not ticks % BEAT_TICKS and pod.is_up:
                    pod.put(Saying(LEVEL))
            for _ in range(4):
                self.travel()
            for pod in self.pods.values():
                for reader in pod.readers:
                    if self.random.random() < 0.7:
                        reader.read()

    def travel(self) -> None:
        """Flush, send what may be sent, and deliver what has arrived."""
        for pod in list(self.pods.values()):
            if pod.must_flush:
                pod.must_flush = False
                pod.presence.flush(self.now)
            if pod.is_up:
                while pod.outbox:
                    self._broadcast(pod, *pod.outbox.popleft())
        for pod in list(self.pods.values()):
            senders = list(pod.arriving)
            self.random.shuffle(senders)
            for sender in senders:
                queue = pod.arriving[sender]
                while queue and queue[0][0] <= self.now:
                    _, number, frame = queue.popleft()
                    pod.take(sender, number, frame)

    def _broadcast(self, sender: Pod, number: int, frame: bytes) -> None:
        for pod in self.pods.values():
            if pod is not sender and pod.is_up:
                queue = pod.arriving.setdefault(sender.origin, deque())
                earliest = queue[-1][0] if queue else self.now
                delay = self.random.choice((0.0, 0.0, 0.0, 0.1, 0.6))
                queue.append((max(earliest, self.now + delay), number, frame))

    # What happens to connections

    def join(self) -> None:
        """A socket comes, visible in one target or two."""
        pod = self._some_pod()
        self._last_conn += 1
        key = self.random.choice(KEYS)
        value = key.upper().encode() if self.plan.calm or self.random.random() < 0.9 else b"1"
        pod.registry.attach(
            f"c{self._last_conn}",
            lambda _: None,
            raw=True,
            on_gap=None,
            now=0.0,
            presence=Presence(key, b'"%b"' % value),
        )
        for target in self.random.sample(TARGETS[:2], self.random.randint(0, 2)):
            pod.registry.associate(f"c{self._last_conn}", target)

    def leave(self) -> None:
        """A socket ends."""
        pod = self._some_pod()
        if pod.registry.connections:
            pod.registry.detach(self.random.choice(list(pod.registry.connections)))

    def move(self) -> None:
        """A socket is taken into a target, or out of it."""
        pod = self._some_pod()
        if pod.registry.connections:
            conn_id = self.random.choice(list(pod.registry.connections))
            change = self.random.choice((pod.registry.associate, pod.registry.dissociate))
            change(conn_id, self.random.choice(TARGETS[:2]))

    def watch(self) -> None:
        """Someone begins to watch, or ceases."""
        pod = self._some_pod()
        if pod.readers and self.random.random() < 0.5:
            pod.unwatch(self.random.choice(pod.readers))
        elif len(pod.readers) < 3:
            pod.watch(self.random.choice(TARGETS))

    def start(self) -> None:
        """A pod starts."""
        if len(self.pods) < 5:
            self._last_origin += 1
            pod = Pod(f"p{self._last_origin}", self)
            self.pods[pod.origin] = pod
            pod.up()

    def close(self) -> None:
        """A pod closes and says so, if it can."""
        if len(self.pods) > 2:
            pod = self._some_pod()
            if pod.is_up:
                pod.put(Saying(LEVEL, leaving=True))
                while pod.outbox:
                    self._broadcast(pod, *pod.outbox.popleft())
            del self.pods[pod.origin]

    # Faults

    def kill(self) -> None:
        """A pod is gone without a word; what it sent last may be as well."""
        if len(self.pods) > 2:
            pod = self._some_pod()
            if self.random.random() < 0.5:
                for other in self.pods.values():
                    other.arriving.pop(pod.origin, None)
            del self.pods[pod.origin]

    def cut(self) -> None:
        """A link dies, and what was on its way to it."""
        self._some_pod().cut()

    def mend(self) -> None:
        """The links of all pods are replaced."""
        for pod in self.pods.values():
            pod.up()

    def restart(self) -> None:
        """The broker restarts."""
        for pod in self.pods.values():
            pod.cut()
        self.step(self.random.choice((0.0, 0.5, 2 * TTL_S)))
        self.mend()

    def lose(self) -> None:
        """A frame that is on its way reaches one pod never."""
        pod = self._some_pod()
        for queue in pod.arriving.values():
            if queue:
                del queue[self.random.randrange(len(queue))]
                return

    def drop(self) -> None:
        """A sender gives up what waits longest."""
        pod = self._some_pod()
        if pod.outbox:
            pod.outbox.popleft()

    def repeat(self) -> None:
        """A frame comes twice."""
        pod = self._some_pod()
        for queue in pod.arriving.values():
            if queue:
                queue.append((queue[-1][0], *queue[self.random.randrange(len(queue))][1:]))
                return

    def crowd(self) -> None:
        """A pod's outbox is full for a while."""
        pod = self._some_pod()
        pod.is_crowded = not pod.is_crowded

    # The end

    def lose_last(self) -> None:
        """Some frames are lost that nothing follows."""
        for _ in range(3):
            self.random.choice((self.join, self.leave))()
            self.travel()
            self.lose()

    def heal(self) -> None:
        """Nothing fails from now on; all that happened comes to rest."""
        for pod in self.pods.values():
            pod.is_crowded = False
        self.mend()
        self.step(QUIET_TICKS * TICK_S)
        for pod in self.pods.values():
            for reader in pod.readers:
                reader.read()

    def look(self) -> None:
        """Note what is true now, and what has changed."""
        for target in TARGETS:
            present = dict(self._present(target))
            before, self.truth[target] = self.truth[target], present
            for key in sorted({*before, *present}):
                if (key in before) is not (key in present):
                    self.account.transitions += 1
                    self.happened[target].append((key, key in present))

    def _present(self, target: Target) -> Iterator[tuple[str, bytes]]:
        for pod in self.pods.values():
            for entry in pod.registry.entries(target):
                if entry.presence is not None:
                    yield entry.presence.key, entry.presence.value

    def values(self, target: Target) -> dict[str, set[bytes]]:
        """What may be shown of each key."""
        found: dict[str, set[bytes]] = {}
        for key, value in self._present(target):
            found.setdefault(key, set()).add(value)
        return found

    def _some_pod(self) -> Pod:
        return self.random.choice(list(self.pods.values()))


CALM: Final = ("join", "join", "join", "leave", "leave", "move", "move", "watch")
FAULTS: Final = ("start", "close", "kill", "cut", "mend", "mend", "restart", "lose", "drop", "repeat", "crowd")


def play(plan: Plan) -> Account:
    """Play a plan, and return what came of it."""
    world = World(plan)
    account, random = world.account, world.random
    for _ in range(random.randint(2, 4)):
        world.start()
    world.step(1.5)
    for pod in list(world.pods.values())[:2]:
        pod.watch(random.choice(TARGETS))
    world.step(1.5)
    for pod in world.pods.values():
        for reader in pod.readers:
            reader.read()  # what happens later is no part of its first snapshot
    watched = [(reader, len(world.happened[reader.target])) for pod in world.pods.values() for reader in pod.readers]
    for _ in range(plan.steps):
        what = random.choice(CALM[:-1] if plan.calm else (*CALM, *CALM, *FAULTS))
        getattr(world, what)()
        if what in FAULTS:
            account.faults.add(what)
        if plan.calm or random.random() < 0.5:
            world.look()
            world.step(TICK_S * (4 if plan.calm else random.randint(0, 2)))
    if not plan.calm:
        world.lose_last()
    world.heal()
    world.look()
    _judge_all(world, watched if plan.calm else [])
    return account


def _judge_all(world: World, watched: list[tuple[Reader, int]]) -> None:
    for pod in world.pods.values():
        for reader in pod.readers:
            _judge(world, reader)
    for reader, since in watched:
        _judge_calm(world, reader, since)


def _judge(world: World, reader: Reader) -> None:
    truth, who = world.values(reader.target), f"{reader.pod.origin} on {reader.target}"
    wrong = world.account.wrong
    if ghosts := set(reader.present) - set(truth):
        wrong.append(f"{who}: ghosts {sorted(ghosts)}")
    if missing := set(truth) - set(reader.present):
        wrong.append(f"{who}: missing {sorted(missing)}")
    if false := {key for key, value in reader.present.items() if value not in truth.get(key, {value})}:
        wrong.append(f"{who}: false values {sorted(false)}")
    if reader.present != reader.queue.view.shown:
        wrong.append(f"{who}: what it was given is not what is shown")


def _judge_calm(world: World, reader: Reader, since: int) -> None:
    """Where nothing fails, a reader has seen each change, once and in order for each key."""
    for key in KEYS:
        happened = [change for change in world.happened[reader.target][since:] if change[0] == key]
        seen = [change for change in reader.seen if change[0] == key]
        if happened != seen:
            world.account.wrong.append(f"{reader.pod.origin} on {reader.target}: {happened} was seen as {seen}")
    if world.account.skipped:
        world.account.wrong.append("changes were skipped although nothing failed")
