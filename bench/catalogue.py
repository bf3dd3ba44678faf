"""All measurements, in the order of the page: `MEASURES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.measure import Measure
from bench.measures.broker import BrokerCost
from bench.measures.channels import Channels
from bench.measures.durable import Durable
from bench.measures.fanout import Fanout
from bench.measures.fleet import Fleet
from bench.measures.interest import Interest
from bench.measures.latency import Latency
from bench.measures.memory import Memory
from bench.measures.micro import Micro
from bench.measures.presence import Presence
from bench.measures.profile import Profile
from bench.measures.receiving import Receiving
from bench.measures.signing import Signing
from bench.measures.sockets import Sockets
from bench.measures.survey import Survey
from bench.measures.throughput import Throughput

__all__ = ["MEASURES"]

MEASURES: Final[Mapping[str, type[Measure[Any]]]] = {
    one.name: one
    for one in (
        Throughput,
        Micro,
        Receiving,
        Latency,
        Fanout,
        Sockets,
        Fleet,
        Memory,
        Interest,
        Survey,
        Presence,
        Channels,
        Durable,
        Signing,
        Profile,
        BrokerCost,
    )
}
