"""A transport's links do what it declares, and it declares what they do: anything else is an error."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from attrs import evolve
from backplane_core import ConfigurationError, DistributedBackplane, Link, Proven, Target, Traits
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.links import LinkAround
from tests.support.waiting import until

USER = Target.user("u1")


class Silent(LinkAround):
    """A link that knows nothing of its end beforehand."""

    def __getattr__(self, name: str) -> Any:
        if name == "leaving":
            raise AttributeError(name)
        return super().__getattr__(name)


class Misspelt(Silent):
    """A link whose author meant `proven`."""

    def prooven(self) -> Proven:
        return Proven(received_until=None, replicated_until=0.0)


class Proving(Silent):
    def proven(self) -> Proven:
        return Proven(received_until=None, replicated_until=None)


class Declaring(MemoryTransport):
    """Declares and opens what a test wants; with None, links in memory, which know beforehand that they must leave."""

    def __init__(self, traits: Traits, kind: type[LinkAround] | None) -> None:
        super().__init__(MemoryBroker())
        self.declared = traits
        self.kind = kind
        self.opened: list[Any] = []

    @property
    def traits(self) -> Traits:
        return self.declared

    async def open(self) -> Link:
        link = await super().open()
        self.opened.append(link)
        around: Link = link if self.kind is None else cast("Any", self.kind(link))
        return around


@pytest.mark.parametrize(
    ("traits", "kind", "says"),
    [
        (Traits(nodes="several"), Silent, r"nodes='several', and its link has no method proven\(\)"),
        (Traits(nodes="several"), Misspelt, r"nodes='several', and its link has no method proven\(\)"),
        (Traits(), Proving, r"has a method proven\(\), and its traits do not say nodes='several'"),
        (Traits(announces_leave=True), Silent, r"announces_leave=True, and its link has no method leaving\(\)"),
        (Traits(queues=True), Silent, r"queues=True, and its link has no method open_queue\(\)"),
        (Traits(), None, r"has a method leaving\(\), and its traits do not say announces_leave=True"),
    ],
)
async def test_a_link_that_is_not_what_its_transport_declares_is_refused_at_the_start(
    traits: Traits, kind: type[LinkAround] | None, says: str
) -> None:
    transport = Declaring(traits, kind)
    backplane = DistributedBackplane(transport)
    with pytest.raises(ConfigurationError, match=says):
        await backplane.open()
    assert backplane.state == "closed"
    assert len(transport.opened) == 1, "trying again can't help"
    assert transport.broker.link_count == 0, "the link is closed"


@pytest.mark.parametrize(
    ("traits", "kind"),
    [
        (Traits(), Silent),
        (Traits(nodes="several"), Proving),
        (Traits(nodes="several", single_stream=True), Proving),
        (Traits(announces_leave=True), None),
    ],
)
async def test_a_link_that_is_what_its_transport_declares_is_used(
    traits: Traits, kind: type[LinkAround] | None
) -> None:
    async with DistributedBackplane(Declaring(traits, kind)) as backplane:
        await backplane.publish(USER, 1)
        await backplane.flush(timeout_s=5)
        assert backplane.stats().sent >= 1


async def test_a_link_that_stops_to_be_what_its_transport_declares_is_a_reason_and_not_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = Declaring(Traits(nodes="several"), Proving)
    with caplog.at_level(logging.ERROR, logger="backplane"):
        async with DistributedBackplane(transport) as backplane:
            transport.declared = evolve(transport.declared, nodes="one")
            transport.broker.drop_links()
            await until(lambda: "proven()" in str(backplane.ready().reason), "it says why")
            assert backplane.state == "degraded"
            assert await backplane.publish(USER, "here") == 0, "this pod's own connections are served"
            assert transport.broker.link_count == 0
    assert "declare it" in caplog.text


def test_traits_know_only_one_node_or_several() -> None:
    several: Any = "many"
    with pytest.raises(ValueError, match="nodes"):
        Traits(nodes=several)
