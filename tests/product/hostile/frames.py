"""Frames, good and hostile: seeds, the parts that break readers, and seeded mutations of both."""

from __future__ import annotations

from random import Random
from typing import Final

from backplane_core import BackplaneEnvelope, Target, encode_envelope
from backplane_core._protocol.frame import build_frame, frame_prefix

__all__ = ["GOOD", "SECRET", "TOKENS", "VALUES", "compose", "fill", "frame", "hostile", "mutate", "nested"]

SECRET: Final = "pay-load"
"""What stands in the good frames' events, and must be seen in no error. No kind of a target can look like it."""


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + closing * levels


def frame(**members: bytes) -> bytes:
    """A good frame with these members' JSON put in or replaced."""
    parts = {"origin": b'"o"', "target": b'{"User":"u1"}', "event": b"1", **members}
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in parts.items()) + b"}"


_BEAT: Final = build_frame(
    frame_prefix("pod"), [Target.connection("pod")], b"null", 9, 8, None, b',"routing":"broadcast","lanes":1'
)

GOOD: Final[tuple[bytes, ...]] = (
    encode_envelope(BackplaneEnvelope("6f1c", Target.session("s1"), {"kind": SECRET}, seq=42)),
    encode_envelope(
        BackplaneEnvelope(
            "0123456789abcdef0123456789abcdef",
            Target.user("ü🙂"),
            [SECRET, None, True, -1, 1.5e300, {"a": {"b": []}}],
            seq=3,
            prev=2,
            also=(Target.everyone(), Target("chat_room", "4")),
            exclude=("c1", "c2"),
            trace={"traceparent": SECRET},
        )
    ),
    encode_envelope(BackplaneEnvelope("rust", Target.agent("a"), SECRET)),
    encode_envelope(
        BackplaneEnvelope(
            "p",
            Target.connection("p"),
            SECRET,
            seq=7,
            exclude=("c1",),
            to=(Target.user("ü") & Target("app", "web"), Target.org("acme")),
            to_exclude=(Target("room", "1"), Target("room", "2") & Target("app", "web")),
        )
    ),
    encode_envelope(BackplaneEnvelope("p", Target.everyone(), 2**64, seq=1)),
    _BEAT,
    b'\n{ "target": {"Org": "acme"},\r\n "later": [1e999], "event": {"text":"%b"}, "origin": "o" }\n' % SECRET.encode(),
)

NUMBERS: Final = (
    b"0", b"-1", b"1.5", b"1e2", b"true", b"null", b'"1"', b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400",
    b"01", b"9223372036854775807", b"18446744073709551615", b"18446744073709551616", b"9" * 5_000, b"1" + b"0" * 4_000,
)  # fmt: skip
TEXTS: Final = (
    b'""', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"', b'"\xed\xa0\x80"',
    b'"\xc0\xaf"', b'"\n"', b'"\\x41"', b'"%b"' % (b"x" * 1_024), b'"%b"' % (b"x" * 1_025), b'"\xe2\x80\xa8"',
    b'"%b"' % (b"\\u0041" * 1_024),
)  # fmt: skip
DEEP: Final = (
    nested(200), nested(960), nested(1_000), nested(100_000), b"[" * 100_000, b'{"a":' * 100_000,
    nested(50_000, b'{"a":[', b"]}"), b"\n" + nested(980), b"\n" + nested(990) + b"\r\n",
)  # fmt: skip
SHAPES: Final = (b"[]", b"{}", b"[[]]", b'{"":""}', b'{"a":1,"a":2}', b"[1,]", b"{1:1}", b"", b"'a'", b"nul")
TARGETS: Final = (
    b'"Everyone"', b'"User"', b'{"User":"a","Org":"b"}', b'{"User":"a","User":"b"}', b'{"user":"a"}',
    b'{"Everyone":"x"}', b'{"User":1}', b'{"User":""}', b'{"User":"\\u0000"}', b'{"%b":"x"}' % (b"A" * 33),
    b'{"%b":"x"}' % (b"Aa" * 50_000), b'{"User":%b"a"}' % (b" " * 10_000), b'{"User":"%b"}' % (b"x" * 1_025),
)  # fmt: skip
LISTS: Final = (
    b"[%b]" % b",".join(b'{"User":"%d"}' % number for number in range(10_000)),
    b"[%b]" % b",".join(b'{"User":"%d"}' % number for number in range(300)),
    b'["Everyone","Everyone"]', b'["c1","c1"]', b"[%b]" % b",".join(b'"%d"' % number for number in range(70_000)),
    b"[1]", b"[{}]", b'[""]', b"[null]",
    b'{"any":[["Everyone",{"User":"a"}]]}', b'{"any":[{"User":"a"}],"not":[{"User":"a"}]}', b'{"any":[[]],"not":[[]]}',
    b'{"any":[[{"User":"a"},{"User":"a"}]]}', b'{"any":[[[{"User":"a"},{"User":"b"}]]]}', b'{"not":["Everyone"]}',
    b'{"any":[[%b]]}' % b",".join(b'{"User":"%d"}' % number for number in range(10_000)),
)  # fmt: skip
VALUES: Final = NUMBERS + TEXTS + DEEP + SHAPES + TARGETS + LISTS
"""JSON, and what is nearly JSON, to stand where any member's value stands."""

NAMES: Final = (
    "origin", "target", "to", "event", "seq", "prev", "also", "exclude", "trace", "routing", "lanes", "later", "",
)  # fmt: skip
TOKENS: Final = (
    *NUMBERS, *TEXTS, *SHAPES, *TARGETS[:6], *[b'"%b":' % name.encode() for name in NAMES], b"\xef\xbb\xbf", b"\0",
    b"\\", b"\r", b"\n", b",", b":", b"{", b"}", b"[", b"]", b'"', nested(3_000),
)  # fmt: skip
_RARE: Final = frozenset(value for value in VALUES if len(value) > 2_000)


def hostile(chance: Random) -> bytes:
    """A frame of one of the kinds below."""
    kind = chance.random()
    if kind < 0.2:
        return compose(chance)
    if kind < 0.5:
        return fill(chance)
    return mutate(chance, chance.choice(GOOD))


def fill(chance: Random) -> bytes:
    """A frame that is good but for what stands where anything may stand, or nearly so."""
    name = chance.choice(("event", "event", "event", "trace", "later", *NAMES[:-1]))
    value = b",".join([_value(chance) for _ in range(chance.choice((1, 1, 2, 3)))])
    around = chance.choice((b"%b", b"[%b]", b'{"%b":%%b}' % SECRET.encode(), b"\n[ %b ]", b'[[],{"a":[%b]}]'))
    return frame(**{name: around % value})


def compose(chance: Random) -> bytes:
    """An object of an envelope's members, some of them with values that they can't have, some twice or away."""
    members = [
        (b"origin", b'"o%d"' % chance.randrange(9)),
        (b"target", b'{"User":"u1"}'),
        (b"event", b'{"kind":"%b"}' % SECRET.encode()),
    ]
    for _ in range(chance.randrange(1, 4)):
        value = _value(chance)
        if chance.random() < 0.5:
            members[chance.randrange(3)] = (members[chance.randrange(3)][0], value)
        else:
            members.append((chance.choice(NAMES).encode(), value))
    chance.shuffle(members)
    return b"{" + b",".join([b'"%b":%b' % member for member in members]) + b"}"


def mutate(chance: Random, data: bytes) -> bytes:
    """The frame after one to four edits."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        data = chance.choice(_EDITS)(chance, data)
    return data


def _value(chance: Random) -> bytes:
    value = chance.choice(VALUES)
    # Those of 100 KB are worth a hundred of the others in time, and find the same few things.
    return chance.choice(VALUES) if value in _RARE and chance.random() < 0.9 else value


def _place(chance: Random, data: bytes) -> int:
    return chance.randrange(len(data) + 1)


def _flip_bit(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + bytes([byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]]) + data[at + 1 :]


def _set_byte(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _truncate(chance: Random, data: bytes) -> bytes:
    return data[: _place(chance, data)] if chance.random() < 0.5 else data[_place(chance, data) :]


def _cut_out(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + data[at + chance.randrange(1, 9) :]


def _repeat(chance: Random, data: bytes) -> bytes:
    start, end = sorted((_place(chance, data), _place(chance, data)))
    return data[:end] + data[start:end] * chance.randrange(1, 4) + data[end:]


def _splice(chance: Random, data: bytes) -> bytes:
    other = chance.choice(GOOD)
    return data[: _place(chance, data)] + other[_place(chance, other) :]


def _insert(chance: Random, data: bytes) -> bytes:
    at = _place(chance, data)
    return data[:at] + chance.choice(TOKENS) + data[at:]


def _replace_value(chance: Random, data: bytes) -> bytes:
    """Put a value where one stands: after a colon, up to what ends it."""
    starts = [at + 1 for at, byte in enumerate(data) if byte == 58]
    if not starts:
        return data
    start = chance.choice(starts)
    ends = [end for end in (data.find(b",", start), data.find(b"}", start)) if end >= 0]
    return data[:start] + _value(chance) + data[min(ends, default=len(data)) :]


_EDITS: Final = (_flip_bit, _set_byte, _truncate, _cut_out, _repeat, _splice, _insert, _insert, _replace_value)
