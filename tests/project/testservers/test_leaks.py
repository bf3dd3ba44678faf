"""The test that leaves a socket open is the one that fails."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.leaks import find_leaks, opens_connections
from tests.support.selection import TESTS


def leave_a_socket() -> None:
    left = [socket.socket()]
    left.append(left)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- a cycle, which only the collector ends


def test_a_socket_that_only_the_collector_closes_is_found() -> None:
    find_leaks()
    leave_a_socket()
    (leak,) = find_leaks()
    assert "unclosed <socket.socket" in leak
    assert find_leaks() == []


def test_tests_that_open_connections_are_known_by_their_folder() -> None:
    assert opens_connections(TESTS / "product" / "pods" / "test_close.py")
    assert not opens_connections(TESTS / "product" / "core" / "test_target.py")
    assert not opens_connections(Path("/elsewhere/test_it.py"))
