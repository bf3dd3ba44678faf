"""The promises of the contract, one check each. Importing this package enters them into the index, simplest first."""
# ruff: noqa: I001 -- the order of the imports is that of the lists

from __future__ import annotations

from backplane_core.testing._checks import delivery, subscription, closing, cancel, lateness, load, outage, logs
from backplane_core.testing._checks import queues
from backplane_core.testing._checks import fleet, fleet_outage
from backplane_core.testing._kit.index import FLEET, LINK, OUTAGE

__all__ = [
    "FLEET",
    "LINK",
    "OUTAGE",
    "cancel",
    "closing",
    "delivery",
    "fleet",
    "fleet_outage",
    "lateness",
    "load",
    "logs",
    "outage",
    "queues",
    "subscription",
]
