"""Signed messages, golden ones and the page's: ours come out to the byte, and all are read or refused as is said."""

from __future__ import annotations

import re

import pytest
from backplane_core import EnvelopeError, EnvelopeRejected, Record, decode_envelope
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, SignatureError, Signer, SigningKeys
from backplane_core._runtime.system import System
from hypothesis import given
from hypothesis import strategies as st

from tests.product.core.test_signing import frozen
from tests.product.interop.golden_signed import HERE, KEYS, MESSAGES, Message
from tests.product.interop.test_wire_page import PAGE, read_envelope, read_signed, table
from tests.support.fleets import MemoryFleet

GOOD = [name for name, message in MESSAGES.items() if message.plain is not None]
REFUSED = [name for name, message in MESSAGES.items() if message.refused is not None]

# What a reader of ours says, and which counter it moves.
SAYS = {
    "unsigned": ("it is not signed", "signature_errors"),
    "version": ("in a way that this pod does not know", "signature_errors"),
    "head": ("its head is not", "signature_errors"),
    "key": ("a key that this pod does not have", "signature_errors"),
    "signature": ("its signature is wrong", "signature_errors"),
    "time": ("more than 300 s ago", "signature_errors"),
    "seq": ("has seq", "decode_errors"),
    "envelope": ("not an envelope", "decode_errors"),
}


def signer(message: Message, *keys: bytes) -> Signer:
    return Signer(SigningKeys(keys or KEYS), 300, System(wall=lambda: message.now))


def test_every_golden_message_is_good_or_refused_for_a_reason_that_readers_give() -> None:
    assert {path.stem for path in (HERE / "golden/signed").iterdir()} == {*GOOD, *REFUSED}
    assert len(GOOD) + len(REFUSED) == len(MESSAGES) >= 40
    assert {message.refused for message in MESSAGES.values()} == {None, *SAYS}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_golden_message_is_the_plain_frame_behind_its_head(name: str) -> None:
    message = MESSAGES[name]
    assert signer(message).verify(message.channel, message.payload) == message.plain
    assert message.payload[SIGNED_HEAD_BYTES:] == message.plain
    assert message.plain is not None
    assert read_signed(message.payload, message.channel, KEYS, message.now) == read_envelope(message.plain)


@pytest.mark.parametrize("name", GOOD)
def test_what_we_sign_is_the_golden_message_to_the_byte(name: str) -> None:
    message = MESSAGES[name]
    assert message.plain is not None
    signed_at = int(message.payload[36:46])
    for key in KEYS:
        signing = Signer(SigningKeys([key]), 300, System(wall=lambda: float(signed_at)))
        if signing.sign(message.channel, message.plain) == message.payload:
            return
    pytest.fail("no key of the fleet signs it so")


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_pod_takes_the_good_and_drops_counts_and_reports_the_others(name: str) -> None:
    message = MESSAGES[name]
    records: list[Record] = []
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = frozen(fleet, message.now, signing_keys=KEYS, channel="backplane", observer=records.append)
        await fleet.stack.enter_async_context(pod)
        heard = await fleet.socket(pod, "c1")
        payload = message.payload
        if message.channel != "backplane":  # the pod hears the shared channel alone
            assert message.plain is not None
            payload = signer(message).sign("backplane", message.plain)
        fleet.broker.publish(("backplane", payload))
        end = b'{"origin":"end","target":"Everyone","event":"end","seq":1}'
        fleet.broker.publish(("backplane", signer(message).sign("backplane", end)))
        assert (await heard.has(1))[-1] == "end"
        stats = pod.stats()
    reasons = [record.reason for record in records if isinstance(record, EnvelopeRejected)]
    if message.refused is None:
        assert (reasons, stats.signature_errors, stats.decode_errors) == ([], 0, 0)
    else:
        says, counter = SAYS[message.refused]
        (reason,) = reasons
        assert says in reason
        assert stats.signature_errors + stats.decode_errors == getattr(stats, counter) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_the_decoder_of_the_page_refuses_what_ours_refuses(name: str) -> None:
    message = MESSAGES[name]
    with pytest.raises(ValueError, match=r"not signed|key|signature|ago|seq|envelope") as error:
        read_signed(message.payload, message.channel, KEYS, message.now)
    assert error.value.__context__ is None


@pytest.mark.parametrize("name", [name for name in MESSAGES if MESSAGES[name].refused != "unsigned"])
def test_a_reader_without_keys_takes_no_signed_message_and_says_that_it_is_signed(name: str) -> None:
    message = MESSAGES[name]
    with pytest.raises(EnvelopeError, match="it is signed, and this pod has no signing_keys"):
        decode_envelope(message.payload)
    with pytest.raises(ValueError, match="not an envelope"):
        read_envelope(message.payload)


@pytest.mark.parametrize("row", table("key, in hex | channel"), ids=lambda row: row[1])
def test_signatures_are_made_as_the_page_says(row: list[str]) -> None:
    key, channel, at, frame, kid, sig = row
    signing = Signer(SigningKeys([bytes.fromhex(key)]), 300, System(wall=lambda: float(at)))
    message = f"backplane-signed-1 {kid} {at} {sig}\n{frame}".encode()
    assert signing.sign(channel, frame.encode()) == message
    assert signing.verify(channel, message) == frame.encode()
    assert read_signed(message, channel, [bytes.fromhex(key)], int(at)) == read_envelope(frame.encode())


def test_the_example_of_the_page_is_the_first_row_of_its_table() -> None:
    (example,) = re.findall(r"^```text\n(backplane-signed-1 [0-9a-f].*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    key, channel, at, *_ = table("key, in hex | channel")[0]
    read_signed(example.encode(), channel, [bytes.fromhex(key)], int(at))
    assert len(example.partition("\n")[0]) + 1 == SIGNED_HEAD_BYTES == 112
    assert "112 bytes" in PAGE


@given(st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=3))
def test_the_decoder_of_the_page_and_ours_agree_on_edited_messages(noise: bytes, place: int, edit: bytes) -> None:
    message = MESSAGES["first_key"]
    for payload in (noise, message.payload[:place] + edit + message.payload[place + len(edit) :]):
        try:
            plain = signer(message).verify(message.channel, payload)
        except SignatureError:
            with pytest.raises(ValueError, match=r"not signed|key|signature"):
                read_signed(payload, message.channel, KEYS, message.now)
        else:
            assert read_signed(payload, message.channel, KEYS, message.now) == read_envelope(plain)
