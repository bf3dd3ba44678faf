"""What a connection yields: JSON on one line, and a value of one's own."""

from __future__ import annotations

import asyncio

import pytest
from backplane_core import (
    BaseBackplane,
    Target,
)

from tests.product.core.test_connection import read
from tests.support.fleets import MemoryFleet

USER = Target.user("u1")


async def test_an_event_has_its_json_its_text_and_a_new_value_on_each_read(backplane: BaseBackplane) -> None:
    async with backplane.connection(None, USER) as connection:
        await backplane.publish(USER, {"text": "s3cret\r\n", "list": [1]})
        event = await anext(connection)
    assert event.json == b'{"text":"s3cret\\r\\n","list":[1]}'
    assert event.text == event.json.decode()
    assert event.id is None
    event.value["list"].append(2)
    assert event.value == {"text": "s3cret\r\n", "list": [1]}
    assert "s3cret" not in repr(event)


async def test_a_foreign_pods_pretty_printed_event_is_one_line() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        got: list[bytes] = []
        await pod.attach("raw", got.append, raw=True)
        async with pod.connection("c1") as connection:
            event = b'{\r\n  "kind": "a \\n b",\n\t"list": [\n1,\r2 ]\n}'
            fleet.broker.publish(("backplane", b'{"origin":"rust","target":"Everyone","event":%b}' % event))
            async with asyncio.timeout(5):
                yielded = await anext(connection)
    assert yielded.text == '{"kind":"a \\n b","list":[1,2]}'
    assert got == [yielded.json]


async def test_a_number_that_no_double_holds_breaks_only_who_reads_its_value() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        async with pod.connection("c1") as connection:
            fleet.broker.publish(("backplane", b'{"origin":"rust","target":"Everyone","event":1e999}'))
            fleet.broker.publish(("backplane", b'{"origin":"rust","target":"Everyone","event":2}'))
            async with asyncio.timeout(5):
                event = await anext(connection)
            assert event.text == "1e999"
            with pytest.raises(ValueError, match="no Python value"):
                _ = event.value
            assert await read(connection, 1) == [2]
