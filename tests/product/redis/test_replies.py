"""What Redis sends, cut anywhere and of any size, parses into the same replies."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from itertools import islice
from typing import Any

import hiredis
import pytest
from backplane_redis._replies import SLICE_BYTES, ReplyParser
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.one_of(st.integers(0, 300), st.integers(SLICE_BYTES - 50, SLICE_BYTES + 50), st.just(5 * SLICE_BYTES))


def message(size: int) -> bytes:
    return b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (size, b"x" * size)


@given(sizes=st.lists(SIZES, max_size=20), read_bytes=st.sampled_from([7, 1_000, SLICE_BYTES, 10 * SLICE_BYTES]))
def test_replies_come_once_and_in_order_however_reads_and_slices_cut_them(sizes: list[int], read_bytes: int) -> None:
    data = b"".join([message(size) + b":%d\r\n_\r\n#f\r\n" % size for size in sizes])
    parser, taken = ReplyParser(), list[Any]()
    for start in range(0, len(data), read_bytes):
        taken += parser.parse(data[start : start + read_bytes])
    expected = [[[b"message", b"c", b"x" * size], size, None, False] for size in sizes]
    assert taken == [reply for replies in expected for reply in replies]


def test_of_a_large_read_only_what_is_taken_is_parsed() -> None:
    data = message(200) * 1_000 + b"no RESP\r\n"
    replies = ReplyParser().parse(data)
    assert len([*islice(replies, 1_000)]) == 1_000
    with pytest.raises(hiredis.ProtocolError):
        next(replies)


def test_hiredis_never_has_more_than_a_slice_and_an_unfinished_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves all of it to the front again and again: what a read brings would cost its length squared."""
    fed: list[int] = []

    class Reader(hiredis.Reader):
        def feed(self, data: Any, start: int = 0, size: int = -1, /) -> None:
            fed.append(len(data) - start if size < 0 else size)
            super().feed(data, start, size)

    monkeypatch.setattr(hiredis, "Reader", Reader)
    data = message(200) * 2_000
    assert len([*ReplyParser().parse(data)]) == 2_000
    assert sum(fed) == len(data)
    assert max(fed) <= SLICE_BYTES
