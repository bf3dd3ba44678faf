"""A batch is packed as frames would be one by one."""

from __future__ import annotations

import pytest
from backplane_core import Frame
from backplane_core.sockets import FramePacker


class Packer(FramePacker):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def head(self, channel: str) -> bytes:
        self.asked.append(channel)
        return f"PUB {channel} ".encode()


def one_by_one(frames: list[Frame]) -> bytes:
    return b"".join([f"PUB {frame[0]} {len(frame[1])}\r\n".encode() + frame[1] + b"\r\n" for frame in frames])


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, 70_000])
def test_a_payload_of_any_size_has_its_length_before_it_and_a_line_end_behind_it(size: int) -> None:
    frames: list[Frame] = [("a", b"x" * size), ("b", b"\r\n"), ("a", b"y" * size, "a cursor")]
    assert Packer().pack(frames) == one_by_one(frames)
    assert Packer().pack(frames, b"PING\r\n") == one_by_one(frames) + b"PING\r\n"


def test_of_no_frame_only_the_tail_is_left() -> None:
    assert Packer().pack([]) == b""
    assert Packer().pack([], b"PING\r\n") == b"PING\r\n"


def test_a_channels_head_is_asked_for_once_and_what_is_kept_is_bounded() -> None:
    packer = Packer()
    frames: list[Frame] = [(f"c{number}", b"1") for number in range(3_000)]
    for _ in range(2):
        assert packer.pack(frames) == one_by_one(frames)
    assert packer.asked == [frame[0] for frame in frames]
    more: list[Frame] = [(f"d{number}", b"1") for number in range(9_000)]
    assert packer.pack(more) == one_by_one(more)
    assert len(packer._heads) <= 4_096  # pyright: ignore[reportPrivateUsage] -- memory shows nowhere else
