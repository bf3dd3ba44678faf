"""docs/reference/wire-format.md tells the truth: its examples, tables and decoder are held against what our pods do."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from backplane_core import BackplaneEnvelope, EnvelopeError, Intersection, Target, decode_envelope, encode_envelope
from backplane_core._protocol.routing import make_routing
from backplane_core._protocol.sequence import DUPLICATE, Tracker
from backplane_core.target import targets_in
from hypothesis import given

from tests.product.core.test_envelope import HOSTILE, envelopes
from tests.product.interop.golden import FRAMES, is_for_pods, meaning
from tests.product.interop.test_schema import BAD, BEYOND_A_SCHEMA, SCHEMA, valid

PAGE = (Path(__file__).parents[3] / "docs/reference/wire-format.md").read_text()
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```json\n(.*?)^```\n\n?(.*?)$", PAGE, re.MULTILINE | re.DOTALL)
(DECODER,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


decoder: dict[str, Any] = {}
exec(compile(DECODER, "docs/reference/wire-format.md", "exec"), decoder)
read_envelope: Callable[[bytes], dict[str, Any]] = decoder["read_envelope"]
read_signed: Callable[[bytes, str, Sequence[bytes], float], dict[str, Any]] = decoder["read_signed"]


def table(heading: str) -> list[list[str]]:
    """The cells of the table with that first line, without their backticks."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].splitlines()[2:]
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    assert rows
    return rows


def name(target: Target) -> str:
    return f"{target.kind}:{target.id}"


def test_the_page_has_examples_that_are_read_and_examples_that_are_refused() -> None:
    assert len(EXAMPLES) == PAGE.count("```json") >= 10
    assert {said.partition(":")[0] for _, said in EXAMPLES} == {"Reads as", "Refused"}


@pytest.mark.parametrize(("example", "said"), EXAMPLES, ids=[said[:40] for _, said in EXAMPLES])
def test_an_example_is_what_the_page_says(example: str, said: str) -> None:
    data = example.encode()
    if said.startswith("Refused:"):
        with pytest.raises(EnvelopeError):
            decode_envelope(data)
        with pytest.raises(ValueError, match="not an envelope"):
            read_envelope(data)
        assert not valid(json.loads(data)) or '"seq": 1.0' in example  # which the page says no schema can tell
        return
    assert valid(json.loads(data))
    read = decode_envelope(data)
    members = {
        "origin": read.origin,
        "target": name(read.target),
        "seq": read.seq and str(read.seq),
        "prev": read.prev and str(read.prev),
        "also": " ".join(map(name, read.also)),
        "exclude": " ".join(read.exclude),
    }
    assert dict(re.findall(r"(\w+) `([^`]*)`", said)) == {key: value for key, value in members.items() if value}
    assert read.event == json.loads(data)["event"]


def test_the_table_of_members_is_that_of_the_schema() -> None:
    rows = table("member | type")
    assert [row[0] for row in rows] == list(SCHEMA["properties"])
    assert [row[0] for row in rows if row[2] == "yes"] == SCHEMA["required"]


@pytest.mark.parametrize(("kind", "wire"), table("kind | on the wire"))
def test_kinds_are_written_as_the_page_says(kind: str, wire: str) -> None:
    assert json.loads(Target(kind, "1").wire) == {wire: "1"}
    assert decode_envelope(b'{"origin":"o","target":{"%b":"1"},"event":1}' % wire.encode()).target.kind == kind


@pytest.mark.parametrize("row", table("kind | id, as JSON | CRC-32"), ids=lambda row: row[1])
def test_lanes_are_chosen_as_the_page_says(row: list[str]) -> None:
    kind, id_, checksum, *lane_of = row
    target = Target(kind, json.loads(id_))
    assert crc32(target.wire) == int(checksum)
    for lanes, lane in zip((2, 3, 8), lane_of, strict=True):
        assert make_routing("broadcast", "backplane", lanes).channel((target,)) == f"backplane:@{lane}"


@pytest.mark.parametrize(("kind", "id_", "channel"), table("kind | id, as JSON | channel"))
def test_targets_have_the_channels_that_the_page_says(kind: str, id_: str, channel: str) -> None:
    assert make_routing("interest", "backplane", 1).channel((Target(kind, json.loads(id_)),)) == channel


@pytest.mark.parametrize(("last", "seq", "prev", "does"), table("last heard")[1:])
def test_a_receiver_does_what_the_page_says(last: str, seq: str, prev: str, does: str) -> None:
    tracker = Tracker(300.0)
    if last != "nothing":
        assert tracker.accept("backplane", "o", int(last), None) == 0
    found = tracker.accept("backplane", "o", int(seq), None if prev == "absent" else int(prev))
    missing = re.search(r"(\d+) frames are missing", does)
    assert found == (DUPLICATE if does == "drops a copy" else int(missing[1]) if missing else 0)
    if found != DUPLICATE:
        assert f"remembers {seq}" in does
        assert tracker.accept("backplane", "o", int(seq), None) == DUPLICATE


@pytest.mark.parametrize("frame", FRAMES)
def test_the_decoder_of_the_page_reads_every_golden_frame(frame: str) -> None:
    read, meant = read_envelope(FRAMES[frame]), meaning(frame)
    assert read.pop("beat") is is_for_pods(frame)
    assert read == {
        "origin": meant.origin,
        "targets": [(target.kind, target.id) for target in (meant.target, *meant.also)],
        "event": meant.event,
        "seq": meant.seq,
        "prev": meant.prev,
        "exclude": list(meant.exclude),
        "trace": meant.trace,
        "key": meant.key,
        "event_id": meant.event_id,
        "to": {"any": [brief(term) for term in meant.to], "not": [brief(term) for term in meant.to_exclude]}
        if meant.to
        else None,
    }


@given(envelopes)
def test_the_decoder_of_the_page_agrees_with_ours(envelope: BackplaneEnvelope) -> None:
    read = read_envelope(encode_envelope(envelope))
    assert (read["origin"], read["event"], read["seq"]) == (envelope.origin, envelope.event, envelope.seq)
    assert read["targets"] == [(target.kind, target.id) for target in (envelope.target, *envelope.also)]


REFUSED = {
    **{bad: json.dumps(value).encode() for bad, value in BAD.items()},
    **BEYOND_A_SCHEMA,
    **HOSTILE,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=[bad[:40] for bad in REFUSED])
def test_the_decoder_of_the_page_refuses_what_ours_refuses(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an envelope") as error:
        read_envelope(data)
    assert error.value.__context__ is None


def brief(term: Target | Intersection) -> Any:
    """A target, or the list of those of an intersection, as the decoder of the page gives them."""
    targets = [(target.kind, target.id) for target in targets_in(term)]
    return targets if isinstance(term, Intersection) else targets[0]
