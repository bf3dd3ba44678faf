"""Signed frames: exact, bound to channel and time, refused when anything is changed; and keys are seen nowhere."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import hashlib
import hmac
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
    decode_envelope,
    encode_envelope,
)
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, SignatureError, Signer, SigningKeys
from backplane_core._runtime.system import System
from backplane_core.options import Settings
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_core.transport import Frame
from hypothesis import example, given
from hypothesis import strategies as st

from tests.product.core.test_envelope import envelopes
from tests.support.fleets import MemoryFleet
from tests.support.inside import beat_from, channel_of, frame_from, members_of, shared_channel_of, tracker_of
from tests.support.texts import error_texts
from tests.support.waiting import until

KEY, OLD = b"k3y-of-32-bytes-that-nobody-sees", b"0ld-key-of-32-bytes-nobody-sees."
KID = hmac.digest(KEY, b"backplane key id", "sha256").hex()[:16]
NOW = 1_764_000_000.0
FRAME = b'{"origin":"6f1c","target":{"User":"u1"},"event":"a\\"b\\u0000\xc3\xbc","seq":7,"prev":6}'
USER = Target.user("u1")


def signer(*keys: bytes, now: float = NOW, window_s: float = 300.0) -> Signer:
    return Signer(SigningKeys(keys or (KEY,)), window_s, System(wall=lambda: now))


def by_hand(
    frame: bytes = FRAME,
    *,
    key: bytes = KEY,
    channel: str = "backplane",
    at: bytes = b"1764000000",
    version: bytes = b"backplane-signed-1",
) -> bytes:
    """A signed frame as another language would write it: all in one piece, by the page alone."""
    kid = hmac.digest(key, b"backplane key id", "sha256").hex()[:16].encode()
    name = channel.encode()
    signed = b"%b %b %b %d %b\n%b" % (version, kid, at, len(name), name, frame)
    return b"%b %b %b %b\n%b" % (version, kid, at, hmac.digest(key, signed, "sha256").hex().encode(), frame)


SIGNED = by_hand()


@given(st.text(alphabet="abz09:@-_=", min_size=1, max_size=300), st.binary(max_size=2_000))
def test_a_signed_frame_is_a_head_of_112_bytes_and_the_plain_frame_to_the_byte(channel: str, frame: bytes) -> None:
    signed = signer().sign(channel, frame)
    assert signed == by_hand(frame, channel=channel)
    head, _, rest = signed.partition(b"\n")
    assert head.isascii()
    assert rest == signed[SIGNED_HEAD_BYTES:] == frame
    assert len(head) + 1 == SIGNED_HEAD_BYTES == 112
    assert signer().verify(channel, signed) == frame


@given(envelopes.filter(lambda envelope: envelope.seq is not None))
def test_an_envelope_comes_back_as_it_was_signed(envelope: BackplaneEnvelope) -> None:
    frame = encode_envelope(envelope)
    assert decode_envelope(signer().verify("a:@user:u1", signer().sign("a:@user:u1", frame))) == envelope


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
@example(b"k" * 64, b"a key of exactly one block")
@example(b"k" * 65, b"a key that is hashed first")
@example(b"Jefe", b"what do ya want for nothing?")
def test_the_signature_is_an_hmac_whatever_the_length_of_the_key(key: bytes, frame: bytes) -> None:
    assert signer(key).sign("backplane", frame) == by_hand(frame, key=key)


def test_a_batch_is_signed_as_its_frames_one_by_one() -> None:
    batch = [("a", FRAME), ("b", b"{}"), ("a", FRAME)]
    assert signer().sign_all(batch) == [(channel, signer().sign(channel, frame)) for channel, frame in batch]


@given(st.data(), envelopes.filter(lambda envelope: envelope.seq is not None))
def test_a_frame_with_any_one_bit_flipped_is_refused(data: st.DataObject, envelope: BackplaneEnvelope) -> None:
    signed = bytearray(signer(KEY, OLD).sign("backplane", encode_envelope(envelope)))
    bit = data.draw(st.integers(0, 8 * len(signed) - 1))
    signed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        signer(KEY, OLD).verify("backplane", bytes(signed))


def test_every_single_bit_of_one_frame_counts() -> None:
    verifier = signer()
    for bit in range(8 * len(SIGNED)):
        flipped = bytearray(SIGNED)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verifier.verify("backplane", bytes(flipped))
    assert verifier.verify("backplane", SIGNED) == FRAME


@pytest.mark.parametrize(
    "other", [b"\0", b"\n", b"\r", b" ", b"0", b"A", b"f", b'"', b"\x80", b"\xff", b"", b"00", b"\r\n"]
)
def test_a_frame_with_anything_else_at_any_place_is_refused(other: bytes) -> None:
    verifier = signer()
    for place in range(len(SIGNED)):
        altered = SIGNED[:place] + other + SIGNED[place + 1 :]
        if altered != SIGNED:
            with pytest.raises(SignatureError):
                verifier.verify("backplane", altered)


def test_a_frame_that_is_cut_or_longer_is_refused() -> None:
    verifier = signer()
    for place in range(len(SIGNED)):
        for altered in (SIGNED[:place], SIGNED[place + 1 :], SIGNED + SIGNED[place:], SIGNED[:place] + SIGNED):
            if altered != SIGNED:
                with pytest.raises(SignatureError):
                    verifier.verify("backplane", altered)


@given(st.text(max_size=30), st.binary(max_size=60), st.integers(0, 90))
def test_no_bytes_move_from_the_channel_to_the_frame_or_back(channel: str, frame: bytes, place: int) -> None:
    # A channel of ours has neither a space nor a line feed; the signature does not rely on that.
    whole = channel.encode() + b"\n" + frame
    name, _, rest = whole[: place + 1], b"", whole[place + 1 :]
    try:
        other = name.decode()
    except UnicodeDecodeError:
        return
    signed = by_hand(frame, channel=channel)
    if other != channel:
        with pytest.raises(SignatureError):
            signer().verify(other, signed[:SIGNED_HEAD_BYTES] + rest)
        with pytest.raises(SignatureError):
            signer().verify(other, signed)


def head(text: str) -> bytes:
    """The good frame with this head, where KID and SIG stand for the right ones."""
    return text.replace("KID", KID).replace("SIG", SIGNED[47:111].decode()).encode() + FRAME


UNSIGNED, UNKNOWN_WAY, HEAD, STRANGE_KEY, WRONG, LATE = (
    "it is not signed, and this pod has signing_keys: give all pods the same ones",
    "it is signed in a way that this pod does not know, which knows backplane-signed-1: update it",
    "its head is not backplane-signed-1, KID, AT and SIG, with one space between and a line feed behind",
    "it is signed with a key that this pod does not have: add that to its signing_keys",
    "its signature is wrong: forged, altered, or made for another channel",
    (
        "it was signed more than 300 s ago (or ahead): sent again by somebody, or the clocks of two pods differ: "
        "set them by NTP"
    ),
)

REFUSED: dict[str, tuple[bytes, str]] = {
    "a plain frame": (FRAME, UNSIGNED),
    "nothing": (b"", UNSIGNED),
    "deep": (b"[" * 100_000, UNSIGNED),
    "no text": (b"\xff" * 200, UNSIGNED),
    "NULs": (b"\0" * 200, UNSIGNED),
    "JSON in JSON": (b'{"sig":"%b","kid":"%b","env":"{}"}' % (b"0" * 64, KID.encode()), UNSIGNED),
    "a space before": (b" " + SIGNED, UNSIGNED),
    "a byte order mark": (b"\xef\xbb\xbf" + SIGNED, UNSIGNED),
    "an upper-case name": (b"B" + SIGNED[1:], UNSIGNED),
    "version 0": (by_hand(version=b"backplane-signed-0"), UNKNOWN_WAY),
    "version 2": (by_hand(version=b"backplane-signed-2"), UNKNOWN_WAY),
    "version 10": (by_hand(version=b"backplane-signed-10"), UNKNOWN_WAY),
    "version 1.1": (by_hand(version=b"backplane-signed-1.1"), UNKNOWN_WAY),
    "half a name": (b"backplane-sig", UNSIGNED),
    "the name alone": (b"backplane-signed-", HEAD),
    "the name and version alone": (b"backplane-signed-1", HEAD),
    "no KID": (b"backplane-signed-1 ", HEAD),
    "half a KID": (SIGNED[:25], HEAD),
    "no AT": (SIGNED[:36], HEAD),
    "half an AT": (SIGNED[:40], HEAD),
    "no SIG": (SIGNED[:47], HEAD),
    "half a SIG": (SIGNED[:100], HEAD),
    "no line feed": (SIGNED[:111], HEAD),
    "a head alone": (SIGNED[:112], WRONG),
    "CR LF": (head("backplane-signed-1 KID 1764000000 SIG\r\n"), HEAD),
    "CR": (head("backplane-signed-1 KID 1764000000 SIG\r"), HEAD),
    "NUL for LF": (head("backplane-signed-1 KID 1764000000 SIG\0"), HEAD),
    "NUL for a space": (head("backplane-signed-1 KID\x001764000000 SIG\n"), HEAD),
    "a NUL in AT": (head("backplane-signed-1 KID 17640\x0000000 SIG\n"), HEAD),
    "two spaces": (head("backplane-signed-1  KID 1764000000 SIG\n"), HEAD),
    "a tab": (head("backplane-signed-1\tKID 1764000000 SIG\n"), UNKNOWN_WAY),
    "a space at the end": (head("backplane-signed-1 KID 1764000000 SIG \n"), HEAD),
    "more fields": (head("backplane-signed-1 KID 1764000000 SIG more\n"), HEAD),
    "KID in upper case": (SIGNED.replace(KID.encode(), KID.upper().encode()), HEAD),
    "SIG in upper case": (SIGNED[:47] + SIGNED[47:111].upper() + SIGNED[111:], HEAD),
    "KID too short": (head(f"backplane-signed-1 {KID[:15]} 1764000000 SIG\n"), HEAD),
    "KID of other digits": (head("backplane-signed-1 {} 1764000000 SIG\n".format("\u0663" * 8)), HEAD),
    "no KID's value": (head("backplane-signed-1 {} 1764000000 SIG\n".format("0" * 16)), STRANGE_KEY),
    "AT of 9 digits": (by_hand(at=b"999999999"), HEAD),
    "AT of 11 digits": (by_hand(at=b"17640000000"), HEAD),
    "AT of 400 digits": (by_hand(at=b"1" + b"0" * 399), HEAD),
    "AT of 9,000 digits": (by_hand(at=b"1" + b"0" * 8_999), HEAD),
    "AT with a zero before": (by_hand(at=b"0764000000"), HEAD),
    "AT with a sign": (by_hand(at=b"-764000000"), HEAD),
    "AT with a plus": (by_hand(at=b"+764000000"), HEAD),
    "AT with a space": (by_hand(at=b" 764000000"), HEAD),
    "AT with an underscore": (by_hand(at=b"1_76400000"), HEAD),
    "AT with a fraction": (by_hand(at=b"17640000.0"), HEAD),
    "AT of other digits": (by_hand(at="\u0661\u0661\u0661\u0661\u0661".encode()), HEAD),
    "AT in milliseconds": (by_hand(at=b"1764000000000"), HEAD),
    "another AT": (head("backplane-signed-1 KID 1764000001 SIG\n"), WRONG),
    "another key": (by_hand(key=OLD), STRANGE_KEY),
    "another key by our key's name": (
        by_hand(key=OLD)[:19] + KID.encode() + by_hand(key=OLD)[35:],
        STRANGE_KEY[:0] + WRONG,
    ),
    "another channel": (by_hand(channel="backplane2"), WRONG),
    "a channel in upper case": (by_hand(channel="Backplane"), WRONG),
    "no signature's value": (SIGNED[:47] + b"0" * 64 + SIGNED[111:], WRONG),
    "a MAC of the frame alone": (SIGNED[:47] + hmac.digest(KEY, FRAME, "sha256").hex().encode() + SIGNED[111:], WRONG),
    "a plain hash": (SIGNED[:47] + hashlib.sha256(FRAME).hexdigest().encode() + SIGNED[111:], WRONG),
    "more behind": (SIGNED + b" ", WRONG),
    "another frame": (SIGNED[:112] + FRAME.replace(b"u1", b"u2"), WRONG),
    "signed twice": (by_hand(SIGNED)[:112] + FRAME, WRONG),
    "302 s ago": (signer(now=NOW - 302).sign("backplane", FRAME), LATE),
    "in 302 s": (signer(now=NOW + 302).sign("backplane", FRAME), LATE),
    "in 2001": (signer(now=0).sign("backplane", FRAME), LATE),
    "in 2286": (signer(now=1e12).sign("backplane", FRAME), LATE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_why_and_shows_nothing(what: str) -> None:
    payload, reason = REFUSED[what]
    with pytest.raises(SignatureError) as error:
        signer().verify("backplane", payload)
    assert str(error.value) == f"not taken: {reason}"
    seen = error_texts(error.value)
    assert KID not in seen
    assert "6f1c" not in seen
    assert error.value.__context__ is None


@pytest.mark.parametrize("what", REFUSED)
async def test_a_pod_with_keys_drops_counts_and_reports_what_is_refused(what: str) -> None:
    payload, reason = REFUSED[what]
    records: list[Record] = []
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.stack.enter_async_context(frozen(fleet, observer=records.append))
        socket = await fleet.socket(pod, "c1", USER)
        fleet.broker.publish(("backplane", payload))
        fleet.broker.publish(("backplane", by_hand(b'{"origin":"end","target":"Everyone","event":"end","seq":1}')))
        assert await socket.has(1) == ["end"]
        stats = pod.stats()
    assert (stats.signature_errors, stats.decode_errors, stats.gaps) == (1, 0, {})
    rejected = [record for record in records if isinstance(record, EnvelopeRejected)]
    assert rejected == [EnvelopeRejected(channel="backplane", reason=f"not taken: {reason}")]


def frozen(fleet: MemoryFleet, now: float = NOW, **options: Any) -> DistributedBackplane:
    """A pod with keys whose wall clock stands."""

    class Frozen(DistributedBackplane):
        def _make_system(self) -> Any:
            return evolve(super()._make_system(), wall=lambda: now)

    chosen: dict[str, Any] = {"signing_keys": [KEY], **options}
    return Frozen(MemoryTransport(fleet.broker), **chosen)


# Signed as it should be, and no frame that may be.
BAD_FRAMES: dict[str, tuple[bytes, str]] = {
    "no seq": (b'{"origin":"x","target":{"User":"u1"},"event":1}', "a signed frame has seq"),
    "seq null": (b'{"origin":"x","target":{"User":"u1"},"event":1,"seq":null}', "a signed frame has seq"),
    "seq in the event": (b'{"origin":"x","target":{"User":"u1"},"event":{"seq":7}}', "a signed frame has seq"),
    "a beat without seq": (b'{"origin":"x","target":{"User":"u1"},"event":null,"routing":"broadcast"}', "has seq"),
    "seq as text": (b'{"origin":"x","target":{"User":"u1"},"event":1,"seq":"7"}', "seq"),
    "seq of many digits": (b'{"origin":"x","target":{"User":"u1"},"event":1,"seq":1%b}' % (b"0" * 9_000), "seq"),
    "a list": (b"[]", "not an envelope"),
    "nothing": (b"", "not an envelope"),
    "deep": (b"[" * 100_000, "not an envelope"),
    "no text": (b"\xff", "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + FRAME, "not an envelope"),
    "too large": (b" " * (2 << 20) + FRAME, "the limit is 2097264"),  # before anything of it is hashed
}


@pytest.mark.parametrize("what", BAD_FRAMES)
async def test_a_signed_frame_that_is_no_envelope_with_a_number_is_dropped_counted_and_reported(what: str) -> None:
    frame, reason = BAD_FRAMES[what]
    records: list[Record] = []
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.stack.enter_async_context(frozen(fleet, observer=records.append))
        socket = await fleet.socket(pod, "c1", USER)
        fleet.broker.publish(("backplane", by_hand(frame)))
        fleet.broker.publish(("backplane", by_hand(b'{"origin":"end","target":"Everyone","event":"end","seq":1}')))
        assert await socket.has(1) == ["end"]
        stats = pod.stats()
    assert (stats.signature_errors, stats.decode_errors, stats.foreign) == (0, 1, 0)
    (rejected,) = [record for record in records if isinstance(record, EnvelopeRejected)]
    assert reason in rejected.reason


async def test_a_pod_without_keys_takes_a_signed_frame_for_nothing_and_says_that_it_is_signed() -> None:
    records: list[Record] = []
    fleet = MemoryFleet()
    signed = [
        SIGNED,
        by_hand(version=b"backplane-signed-2"),
        by_hand(b'{"origin":"x","target":"Everyone","event":1}'),
        by_hand(b"\xff"),
        SIGNED[:30],
        b"backplane-signed-",
    ]
    async with fleet.stack:
        pod = await fleet.pod(observer=records.append)
        socket = await fleet.socket(pod, "c1", USER)
        for payload in signed:
            fleet.broker.publish(("backplane", payload))
        fleet.broker.publish(("backplane", b'{"origin":"end","target":"Everyone","event":"end"}'))
        assert await socket.has(1) == ["end"]
        stats = pod.stats()
    assert (stats.signature_errors, stats.decode_errors) == (0, len(signed))
    reasons = [record.reason for record in records if isinstance(record, EnvelopeRejected)]
    assert reasons == [
        "not an envelope: it is signed, and this pod has no signing_keys: give it those of the fleet"
    ] * len(signed)


@pytest.mark.parametrize("payload", [SIGNED, by_hand(b"\xff"), SIGNED[:20]])
def test_the_public_decoder_says_that_a_frame_is_signed(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="it is signed"):
        decode_envelope(payload)


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_frame_is_taken_as_long_as_its_time_is_within_the_window(off: int) -> None:
    assert signer().verify("backplane", signer(now=NOW + off).sign("backplane", FRAME)) == FRAME


def test_all_keys_verify_and_the_first_signs() -> None:
    both, turned, old, new = signer(OLD, KEY), signer(KEY, OLD), signer(OLD), signer(KEY)
    for sender, takers in [(both, (both, turned, old)), (turned, (both, turned, new))]:
        signed = sender.sign("backplane", FRAME)
        for taker in takers:
            assert taker.verify("backplane", signed) == FRAME
    with pytest.raises(SignatureError):
        new.verify("backplane", both.sign("backplane", FRAME))


@pytest.mark.parametrize("now", [-5.0, 0.0, 999_999_999.9, 1e9, 9_999_999_999.9, 1e10, 1e11, 1e300])
def test_a_clock_that_is_far_off_makes_no_frame_of_another_size(now: float) -> None:
    signed = signer(now=now).sign("backplane", FRAME)
    assert len(signed) == len(FRAME) + SIGNED_HEAD_BYTES
    assert 10**9 <= int(signed[36:46]) < 10**10


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    assert signer().verify("backplane", SIGNED) == FRAME
    assert compared == [(SIGNED[:112], SIGNED[:112])]


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
    inner = f"{pod._sender._signer!r} {pod._receiver._verifier!r}"
    shown = f"{settings!r} {settings.signing_keys!r} {pod!r} {inner} {pod.stats()!r}"
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
    await until(lambda: here.stats().beats > 0 and here.stats().echoed >= 100, "own beats and echoes")
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
        await until(lambda: members_of(pod).is_settled, "its own first frames are heard")
        beats, echoed = pod.stats().beats, pod.stats().echoed
        thief = signer(OLD, now=pod._system.wall())
        beat = beat_from(pod, b'{"User":"u1"},"event":null,"seq":9')
        forged = thief.sign("backplane", beat).replace(thief._kid, KID.encode())
        fleet.broker.publish(("backplane", forged))
        await until(lambda: pod.stats().signature_errors == 1, "the forged beat to be refused")
        event = frame_from(pod, b'{"User":"u1"},"event":1,"seq":9}')
        fleet.broker.publish(("backplane", thief.sign("backplane", event)))
        await until(lambda: pod.stats().echoed == echoed + 1, "the forged echo to be skipped")
        assert (pod.stats().beats, pod.stats().signature_errors) == (beats, 1)
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
        "signed": {"not taken: it is not signed, and this pod has signing_keys: give all pods the same ones"},
        "plain": {"not an envelope: it is signed, and this pod has no signing_keys: give it those of the fleet"},
    }
    for secret in ("s3cr3t", KEY.decode(), KID):
        assert secret not in caplog.text
        assert secret not in repr(seen)


class Narrow(MemoryTransport):
    """A broker that takes little in one message."""

    @property
    def traits(self) -> Traits:
        return Traits(max_payload_bytes=20_000, announces_leave=True)


class Measuring(MemoryBroker):
    """A broker that notes the size of all that is published."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def publish(self, frame: Frame) -> None:
        self.sizes.add(len(frame[1]))
        super().publish(frame)


@pytest.mark.parametrize("filler", ["x", '"', "\\", "ü", "\x01", "🙂"])
async def test_the_largest_event_that_fits_is_known_to_the_byte(filler: str) -> None:
    broker = Measuring()
    fleet = MemoryFleet("interest", broker)  # where no beat takes a number of the target's channel
    async with fleet.stack:
        pod = await fleet.pod(Narrow(broker), signing_keys=[KEY])
        other = await fleet.pod(signing_keys=[KEY])
        here, there = await fleet.socket(pod, "c1", USER), await fleet.socket(other, "c2", USER)
        with pytest.raises(EventTooLargeError) as error:
            await pod.publish(USER, "x" * 20_000 + filler)
        over = error.value.size - error.value.limit
        assert error.value.limit == 20_000
        most = "x" * (20_000 - over) + filler
        await pod.publish(USER, most)
        with pytest.raises(EventTooLargeError) as error:
            await pod.publish(USER, most + "x")
        # The frame before took a number: one digit more, and another one before it.
        assert error.value.size - error.value.limit == 1 + len(',"prev":1')
        assert here.events == [most]
        assert await there.has(1) == [most]
        assert max(broker.sizes) == 20_000
        assert pod.stats().dropped == {}


async def test_a_restarted_broker_that_takes_less_drops_what_would_not_fit_signed() -> None:
    async def sizes(**options: Any) -> tuple[int, dict[str, int]]:
        broker = Measuring()
        pod = MemoryFleet(broker=broker).make(Narrow(broker), **options)
        for letters in [1] * 100 + list(range(19_600, 20_000)):  # each size once: their numbers have three digits
            pod.publish_nowait(USER, "x" * letters)
        async with pod:
            await pod.flush(timeout_s=5)
            return max(broker.sizes), dict(pod.stats().dropped)

    (most, dropped), (most_plain, dropped_plain) = await sizes(signing_keys=[KEY]), await sizes()
    assert most == most_plain == 20_000
    assert dropped["too_large"] == dropped_plain["too_large"] + SIGNED_HEAD_BYTES


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


async def test_a_pod_that_left_a_target_and_came_back_knows_its_copies() -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY])
        socket = await fleet.socket(pod, "c1", USER)
        channel = channel_of(pod, USER)
        signed = signer(now=pod._system.wall()).sign(channel, FRAME)
        fleet.broker.publish((channel, signed))
        assert len(await socket.has(1)) == 1
        await pod.dissociate("c1", USER)
        await until(lambda: fleet.broker.subscriber_count(channel) == 0, "the channel to be left")
        assert await pod.associate("c1", USER)
        fleet.broker.publish((channel, signed))
        await until(lambda: pod.stats().duplicates == 1, "the copy to be dropped")
        assert len(socket.events) == 1


async def test_a_frame_that_is_sent_again_is_a_copy_on_its_channel_and_forged_on_any_other() -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY])
        other = Target.user("u2")
        socket, stranger = await fleet.socket(pod, "c1", USER), await fleet.socket(pod, "c2", other)
        channel, elsewhere = channel_of(pod, USER), channel_of(pod, other)
        signed = signer(now=pod._system.wall()).sign(channel, FRAME)
        for to in (channel, channel, elsewhere, shared_channel_of(pod)):
            fleet.broker.publish((to, signed))
        await until(lambda: pod.stats().signature_errors == 2, "both misplaced ones to be refused")
        assert pod.stats().duplicates == 1
        assert (len(socket.stream), len(stranger.stream)) == (1, 0)


async def test_a_frame_is_refused_by_its_time_before_its_number_is_forgotten(routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        pod = await fleet.pod(signing_keys=[KEY], origin_ttl_s=60, probe_interval_s=5)
        socket = await fleet.socket(pod, "c1", USER)
        wall, start = pod._system.wall(), pod._system.monotonic()
        # The worst that is taken: a sender whose clock is ahead by the whole window.
        signed = signer(now=wall + 55).sign("backplane", FRAME)
        fleet.broker.publish(("backplane", signed))
        await socket.has(1)
        tracker_of(pod).expire(start + 115)
        fleet.broker.publish(("backplane", signed))
        await until(lambda: pod.stats().duplicates == 1, "the copy to be dropped")
        stale = signer(now=wall - 65).sign("backplane", FRAME.replace(b"6f1c", b"6f1d"))
        fleet.broker.publish(("backplane", stale))
        await until(lambda: pod.stats().signature_errors == 1, "the stale one to be dropped")
        assert len(socket.events) == 1
