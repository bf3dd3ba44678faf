"""Signed frames: exact, bound to channel and time, refused when anything is changed; and keys are seen nowhere."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import Any

import pytest
from attrs import evolve
from backplane_core import (
    BackplaneEnvelope,
    ConfigurationError,
    DistributedBackplane,
    EnvelopeError,
    EnvelopeRejected,
    EventTooLargeError,
    InMemoryBackplane,
    OutboxFullError,
    Record,
    Target,
    Traits,
    connect,
    connect_from_env,
    encode_envelope,
)
from backplane_core._protocol.sequence import DUPLICATE, Tracker
from backplane_core._protocol.signing import SignatureError, Signer, SigningKeys, max_plain_bytes, max_signed_bytes
from backplane_core.options import Settings
from backplane_core.testing import MemoryTransport
from hypothesis import given
from hypothesis import strategies as st

from tests.product.core.test_envelope import envelopes
from tests.support.fleets import MemoryFleet
from tests.support.inside import channel_of, tracker_of
from tests.support.texts import error_texts
from tests.support.waiting import until

KEY, OLD = b"k3y-of-32-bytes-that-nobody-sees", b"0ld-key-of-32-bytes-nobody-sees."
KID = hmac.digest(KEY, b"backplane key id", "sha256").hex()[:16]
NOW = 1_764_000_000.0
FRAME = b'{"origin":"6f1c","target":{"User":"u1"},"event":"a\\"b\\u0000\xc3\xbc","seq":7,"prev":6}'
USER = Target.user("u1")


def signer(*keys: bytes, now: float = NOW, window_s: float = 300.0) -> Signer:
    return Signer(SigningKeys(keys or (KEY,)), window_s, lambda: now)


def by_hand(env: str, key: bytes = KEY, channel: str = "backplane", **members: Any) -> bytes:
    """A signed frame as another language would write it."""
    sig = hmac.digest(key, channel.encode() + b"\0" + env.encode(), "sha256").hex()
    kid = hmac.digest(key, b"backplane key id", "sha256").hex()[:16]
    return json.dumps({"env": env, "kid": kid, "sig": sig, **members}, indent=1).encode()


@given(envelopes.filter(lambda envelope: envelope.seq is not None))
def test_what_is_sealed_has_the_size_that_was_said_and_opens_to_the_same_bytes(envelope: BackplaneEnvelope) -> None:
    frame = encode_envelope(envelope)
    sealed = signer().seal("a:@user:u1", frame)
    assert signer().open("a:@user:u1", sealed) == frame
    assert len(sealed) == Signer.size(frame) <= max_signed_bytes(len(frame))
    assert max_plain_bytes(max_signed_bytes(len(frame))) == len(frame)
    sealed.decode()
    assert list(json.loads(sealed)) == ["sig", "kid", "env"]


@given(st.data(), envelopes.filter(lambda envelope: envelope.seq is not None))
def test_a_frame_with_any_one_bit_flipped_is_refused(data: st.DataObject, envelope: BackplaneEnvelope) -> None:
    sealed = bytearray(signer(KEY, OLD).seal("backplane", encode_envelope(envelope)))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        signer(KEY, OLD).open("backplane", bytes(sealed))


def test_every_single_bit_of_one_frame_counts() -> None:
    sealed = signer().seal("backplane", FRAME)
    opener = signer()
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            opener.open("backplane", bytes(flipped))
    assert opener.open("backplane", sealed) == FRAME


def test_a_frame_of_another_hand_is_taken_whatever_its_spaces_escapes_and_order() -> None:
    env = '{"event": "ü", "target": {"User": "u1"}, "seq": 7, "origin": "x"}'
    assert signer().open("backplane", by_hand(env, later=[1])) == env.encode()
    timed = '{"event": 1, "target": {"User": "u1"}, "seq": 7, "origin": "x", "at": 1764000000}'
    assert signer().open("backplane", by_hand(timed)) == timed.encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (FRAME, "not signed"),
        (b"", "not signed"),
        (b"[" * 100_000, "not signed"),
        (b'{"sig":"","kid":"","env":"\\ud800"}', "not signed"),
        (b'{"sig":"\xff","kid":"","env":""}', "not signed"),
        (b'{"sig":1,"kid":"","env":""}', "not signed"),
        (b'{"sig":"","kid":"","env":{}}', "not signed"),
        (b'{"sig":"","env":""}', "not signed"),
        (b'{"sig":"","kid":"","env":""}', "does not have"),
        (b'{"sig":"\xc3\xbc","kid":"%b","env":"{}"}' % KID.encode(), "wrong"),
        (b'{"sig":"","kid":"%b","env":"{}"}' % KID.encode(), "wrong"),
        (by_hand(FRAME.decode(), key=OLD), "does not have"),
        (by_hand(FRAME.decode(), channel="backplane2"), "wrong"),
        (by_hand(FRAME.decode(), sig="0" * 64), "wrong"),
        (by_hand(FRAME.decode(), sig=hmac.digest(KEY, FRAME, "sha256").hex()), "wrong"),
        (by_hand(FRAME.decode(), sig=hashlib.sha256(FRAME).hexdigest()), "wrong"),
        (signer(now=NOW - 302).seal("backplane", FRAME), "300 s ago"),
        (signer(now=NOW + 302).seal("backplane", FRAME), "300 s ago"),
        (signer(now=0).seal("backplane", FRAME), "300 s ago"),
        (signer(now=1e12).seal("backplane", FRAME), "300 s ago"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_refused_says_why_and_shows_nothing(payload: bytes, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason) as error:
        signer().open("backplane", payload)
    seen = error_texts(error.value)
    assert KID not in seen
    assert "6f1c" not in seen
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    "env",
    [
        '{"origin":"x","target":{"User":"u1"},"event":1}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":null}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":"7"}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":7,"at":"now"}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":7,"at":1.5}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":7,"at":-1}',
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":7,"at":1%s}' % ("0" * 400),
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":7,"at":1%s}' % ("0" * 9_000),
        '{"origin":"x","target":{"User":"u1"},"event":1,"seq":1%s}' % ("0" * 9_000),
        "[]",
        "",
        "[" * 100_000,
    ],
    ids=lambda env: env[:70],
)
def test_a_signed_frame_without_a_number_could_be_copied_and_is_refused(env: str) -> None:
    with pytest.raises(EnvelopeError, match="seq") as error:
        signer().open("backplane", by_hand(env))
    assert not isinstance(error.value, SignatureError)


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_frame_is_taken_as_long_as_its_time_is_within_the_window(off: int) -> None:
    assert signer().open("backplane", signer(now=NOW + off).seal("backplane", FRAME)) == FRAME


def test_all_keys_verify_and_the_first_signs() -> None:
    both, turned, old, new = signer(OLD, KEY), signer(KEY, OLD), signer(OLD), signer(KEY)
    for sender, takers in [(both, (both, turned, old)), (turned, (both, turned, new))]:
        sealed = sender.seal("backplane", FRAME)
        for taker in takers:
            assert taker.open("backplane", sealed) == FRAME
    with pytest.raises(SignatureError):
        new.open("backplane", both.seal("backplane", FRAME))


@pytest.mark.parametrize("now", [-5.0, 0.0, 999_999_999.9, 1e11])
def test_a_clock_that_is_far_off_makes_no_frame_of_another_size(now: float) -> None:
    assert len(signer(now=now).seal("backplane", FRAME)) == Signer.size(FRAME)


# Options


@pytest.mark.parametrize(
    "keys",
    ["secretkey", b"secretkey", [], (), [""], ["a" * 16, b""], [1], [None], {"secretkey": 1}, 7, [["secretkey"]]],
)
def test_wrong_keys_are_told_without_showing_them(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="signing_keys") as error:
        InMemoryBackplane(signing_keys=keys)
    assert "secretkey" not in error_texts(error.value)
    assert error.value.__context__ is None


@pytest.mark.parametrize("keys", [[KEY], [KEY.decode()], (KEY, OLD), [bytes(KEY)]])
def test_keys_are_text_or_bytes_and_nothing_shows_them(keys: Any) -> None:
    settings = Settings.of({"signing_keys": keys})
    assert settings.signing_keys is not None
    assert settings.signing_keys.secrets[0] == KEY
    pod = MemoryFleet().make(signing_keys=keys)
    shown = f"{settings!r} {settings.signing_keys!r} {pod!r} {pod._sender._signer!r} {pod._verifier!r} {pod.stats()!r}"
    assert KEY.decode() not in shown
    assert OLD.decode() not in shown
    assert KID not in shown


def test_the_environment_has_keys_and_one_without_any_is_an_error() -> None:
    def keys(env: dict[str, str], **options: Any) -> SigningKeys | None:
        return connect_from_env(env, prefix="P", **options)._backplane._settings.signing_keys

    found = keys({"P_SIGNING_KEYS": f" {KEY.decode()} ,{OLD.decode()},"})
    assert found is not None
    assert found.secrets == (KEY, OLD)
    given = keys({"P_SIGNING_KEYS": OLD.decode()}, signing_keys=[KEY])
    assert given is not None
    assert given.secrets == (KEY,)
    assert keys({}) is None
    for empty in ("", " ", ","):
        with pytest.raises(ConfigurationError, match="P_SIGNING_KEYS"):
            keys({"P_SIGNING_KEYS": empty})


@pytest.mark.parametrize("url", ["redis://localhost", "nats://localhost"])
def test_keys_do_not_stand_in_a_url(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        connect(f"{url}?signing_keys={KEY.decode()}")
    assert KEY.decode() not in error_texts(error.value)


def test_a_short_key_is_told(caplog: pytest.LogCaptureFixture) -> None:
    MemoryFleet().make(signing_keys=[KEY])
    assert caplog.text == ""
    MemoryFleet().make(signing_keys=[KEY, "hunter2"])
    assert "shorter than 16 bytes" in caplog.text
    assert "hunter2" not in caplog.text


# Pods


async def test_a_signed_fleet_delivers_hears_itself_and_counts_as_an_unsigned_one(fleet: MemoryFleet) -> None:
    here, there = await fleet.pod(signing_keys=[KEY]), await fleet.pod(signing_keys=[KEY])
    socket = await fleet.socket(there, "c1", USER)
    own = await fleet.socket(here, "c2", USER)
    for number in range(100):
        assert await here.publish(USER, number) == 1
    assert await socket.has(100) == list(range(100))
    assert own.events == list(range(100))
    await until(lambda: here.stats().beats > 0 and here.stats().echoed == 100, "own beats and echoes")
    assert here.ready().last_beat is not None
    for pod in (here, there):
        stats = pod.stats()
        assert (stats.signature_errors, stats.decode_errors, stats.collisions, stats.foreign) == (0, 0, 0, 0)
    assert there.stats().gaps == {}


async def test_a_forged_beat_of_ours_proves_nothing_and_a_forged_echo_reaches_nobody(routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY])
        socket = await fleet.socket(pod, "c1", USER)
        await until(lambda: pod.stats().beats > 0, "the first beat")
        beats, sender = pod.stats().beats, pod._sender
        thief = signer(OLD, now=pod._system.wall())
        beat = sender.prefix + b'{"User":"u1"},"event":null,"seq":9' + sender.beat_suffix
        forged = thief.seal("backplane", beat).replace(thief._kid.encode(), KID.encode())
        await pod._on_batch([("backplane", forged)])
        assert (pod.stats().beats, pod.stats().signature_errors) == (beats, 1)
        event = sender.prefix + b'{"User":"u1"},"event":1,"seq":9}'
        await pod._on_batch([("backplane", thief.seal("backplane", event))])
        assert (pod.stats().echoed, pod.stats().signature_errors) == (1, 1)
        assert socket.stream == []


async def test_signed_and_unsigned_pods_on_one_channel_say_so(routing: str, caplog: pytest.LogCaptureFixture) -> None:
    fleet = MemoryFleet(routing)
    caplog.set_level(logging.DEBUG)
    seen: dict[str, list[Record]] = {"signed": [], "plain": []}
    async with fleet.stack:
        signed = await fleet.pod(signing_keys=[KEY], observer=seen["signed"].append)
        plain = await fleet.pod(observer=seen["plain"].append)
        sockets = [await fleet.socket(pod, "c", USER) for pod in (signed, plain)]
        await signed.publish(USER, "s3cr3t-s")
        await plain.publish(USER, "s3cr3t-p")
        await until(lambda: min(signed.stats().signature_errors, plain.stats().decode_errors) > 0, "both say so")
        assert [socket.events for socket in sockets] == [["s3cr3t-s"], ["s3cr3t-p"]]
        assert (signed.stats().decode_errors, plain.stats().signature_errors) == (0, 0)
    reasons = {name: {one.reason for one in all_ if isinstance(one, EnvelopeRejected)} for name, all_ in seen.items()}
    assert reasons == {
        "signed": {"not taken: it is not signed, and this pod has signing_keys"},
        "plain": {"not an envelope: it is signed, and this pod has no signing_keys"},
    }
    for secret in ("s3cr3t", KEY.decode(), KID):
        assert secret not in caplog.text
        assert secret not in repr(seen)


class Narrow(MemoryTransport):
    """A broker that takes little in one message."""

    @property
    def traits(self) -> Traits:
        return Traits(max_payload_bytes=20_000)


async def fits(pod: DistributedBackplane, event: str) -> bool:
    try:
        await pod.publish(USER, event)
    except EventTooLargeError as error:
        return error.size <= error.limit  # never
    return True


@pytest.mark.parametrize("filler", ["x", '"', "\\", "ü", "\x01", "🙂"])
async def test_the_largest_event_that_fits_is_known_to_the_byte(filler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = MemoryFleet()
    sizes: list[int] = []
    seal = Signer.seal

    def measured(self: Signer, channel: str, frame: bytes) -> bytes:
        sealed = seal(self, channel, frame)
        sizes.append(len(sealed))
        return sealed

    monkeypatch.setattr(Signer, "seal", measured)
    async with fleet.stack:
        pod = await fleet.pod(Narrow(fleet.broker), signing_keys=[KEY])
        other = await fleet.pod(signing_keys=[KEY])
        here, there = await fleet.socket(pod, "c1", USER), await fleet.socket(other, "c2", USER)
        least, most = 0, 20_000  # by bisection
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if await fits(pod, "a" + filler * middle) else (least, middle)
        # To the byte: single letters fill what one more filler is too large for.
        letters = 0
        while await fits(pod, "a" + filler * least + "x" * letters):
            letters += 1
        assert 1 <= letters < 12
        await pod.flush(5)
        assert max(sizes) == 20_000
        await there.has(len(here.events))
        assert there.events == here.events
        assert pod.stats().dropped == {}
        assert pod.stats().sent > 0


async def test_a_restarted_broker_that_takes_less_drops_what_would_not_fit_sealed() -> None:
    fleet = MemoryFleet()
    pod = fleet.make(Narrow(fleet.broker), signing_keys=[KEY])
    for event in ("x" * 9_000, '"' * 9_000):  # as JSON 18,000 bytes and sealed 36,000: only the second is too large
        pod.publish_nowait(USER, event)
    async with pod:
        await pod.flush(5)
        assert pod.stats().dropped == {"too_large": 1}


async def test_a_full_outbox_still_raises_before_anybody_has_got_anything() -> None:
    pod = MemoryFleet().make(signing_keys=[KEY], outbox_max_bytes=1024, outbox_overflow="raise")
    got: list[Any] = []
    await pod.attach("c1", got.append)
    for _ in range(6):
        pod.publish_nowait(Target.connection("c1"), "x" * 50)
    with pytest.raises(OutboxFullError):
        pod.publish_nowait(Target.connection("c1"), "x" * 1_000)
    taken = len(got)
    assert pod.stats().outbox_messages == taken > 0
    await pod.aclose()


async def test_what_waited_longer_than_the_window_is_signed_when_it_is_sent() -> None:
    clock = [NOW]

    class Slow(DistributedBackplane):
        def _make_system(self) -> Any:
            return evolve(super()._make_system(), wall=lambda: clock[0])

    fleet = MemoryFleet()
    async with fleet.stack:
        late = Slow(MemoryTransport(fleet.broker), signing_keys=[KEY], origin_ttl_s=10)
        late.publish_nowait(USER, "waited")
        clock[0] += 3_600
        there = Slow(MemoryTransport(fleet.broker), signing_keys=[KEY], origin_ttl_s=10)
        await fleet.stack.enter_async_context(there)
        socket = await fleet.socket(there, "c1", USER)
        await fleet.stack.enter_async_context(late)
        assert await socket.has(1) == ["waited"]


# Replays


def test_a_channel_that_was_left_knows_copies_when_it_is_heard_again() -> None:
    for keeps, found in [(True, DUPLICATE), (False, 0)]:
        tracker = Tracker(300, keeps_left=keeps)
        tracker.accept("a", "o", 7, 6)
        tracker.forget_channel("a")
        tracker.forget_channel("a")
        assert tracker.accept("a", "o", 7, 6) == found
        assert tracker.accept("a", "o", 12, 11) == (0 if keeps else 4)
    tracker = Tracker(300, keeps_left=True)
    tracker.accept("a", "o", 7, 6)
    tracker.forget_channel("a")
    tracker.expire(301)
    assert (tracker._numbers, tracker._before_cut) == (0, {})


async def test_a_pod_that_left_a_target_and_came_back_knows_its_copies() -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY])
        socket = await fleet.socket(pod, "c1", USER)
        channel = channel_of(pod, USER)
        sealed = signer(now=pod._system.wall()).seal(channel, FRAME)
        await pod._on_batch([(channel, sealed)])
        await pod.dissociate("c1", USER)
        await until(lambda: channel in tracker_of(pod)._before_cut, "the channel to be left")
        assert await pod.associate("c1", USER)
        await pod._on_batch([(channel, sealed)])
        assert (len(socket.events), pod.stats().duplicates) == (1, 1)


async def test_a_frame_is_refused_by_its_time_before_its_number_is_forgotten(routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY], origin_ttl_s=60, probe_interval_s=5)
        socket = await fleet.socket(pod, "c1", USER)
        wall, start = pod._system.wall(), pod._system.monotonic()
        # The worst that is taken: a sender whose clock is ahead by the whole window.
        sealed = signer(now=wall + 55).seal("backplane", FRAME)
        await pod._on_batch([("backplane", sealed)])
        tracker_of(pod).expire(start + 115)
        await pod._on_batch([("backplane", sealed)])
        assert pod.stats().duplicates == 1
        stale = signer(now=wall - 65).seal("backplane", FRAME.replace(b"6f1c", b"6f1d"))
        await pod._on_batch([("backplane", stale)])
        assert pod.stats().signature_errors == 1
        assert len(socket.events) == 1
