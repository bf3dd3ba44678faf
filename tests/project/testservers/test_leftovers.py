"""`no_leftovers` sees what stays behind, and waits for what is on its way out."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from contextlib import ExitStack

import pytest
from backplane_testservers import OwnBroker
from backplane_testservers.leftovers import no_leftovers


async def test_nothing_left_is_fine(leaves_nothing: None) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0), name="short")


async def test_a_task_that_goes_on_is_left() -> None:
    stop = asyncio.Event()
    tasks: list[asyncio.Task[object]] = []
    with pytest.raises(AssertionError, match="task forgotten"):
        async with no_leftovers(timeout_s=0.05):
            tasks.append(asyncio.create_task(stop.wait(), name="forgotten"))
    stop.set()
    await asyncio.gather(*tasks)


async def test_a_task_that_is_about_to_end_is_waited_for() -> None:
    async with no_leftovers():
        task = asyncio.create_task(asyncio.sleep(0.05))
    assert task.done()


async def test_an_open_socket_is_left_even_one_that_never_connected() -> None:
    with ExitStack() as kept, pytest.raises(AssertionError, match=r"left behind.*\n  socket"):
        async with no_leftovers(timeout_s=0.05):
            kept.enter_context(socket.socket())


@pytest.mark.every_loop
async def test_a_pair_of_sockets_is_left_though_the_loops_own_comes_and_goes(leaves_nothing: None) -> None:
    ends: list[socket.socket] = []
    with pytest.raises(AssertionError, match=r"left behind.*\n  socket.*\n  socket"):
        async with no_leftovers(timeout_s=0.05):
            ends += socket.socketpair()
    for end in ends:
        end.close()


async def test_a_connection_to_a_broker_is_left_until_it_is_closed(broker: OwnBroker) -> None:
    writer: asyncio.StreamWriter | None = None
    with pytest.raises(AssertionError, match=str(broker.port)):
        async with no_leftovers(timeout_s=0.05):
            _, writer = await asyncio.open_connection(broker.host, broker.port)
    assert writer is not None
    writer.close()
    await writer.wait_closed()


async def test_a_child_process_is_left() -> None:
    child = None
    with pytest.raises(AssertionError, match="child process"):
        async with no_leftovers(timeout_s=0.05):
            child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)  # noqa: ASYNC220 -- 1 ms
    assert child is not None
    with child:
        child.communicate()


async def test_a_restarted_server_belongs_to_its_fixture(broker: OwnBroker) -> None:
    async with no_leftovers():
        broker.restart()


async def test_an_error_in_the_block_is_not_hidden() -> None:
    with pytest.raises(LookupError):
        async with no_leftovers(timeout_s=0.05):
            raise LookupError
