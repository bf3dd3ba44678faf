"""Clusters whose streams are used."""

from __future__ import annotations

from typing import Final

from backplane_testservers import RedisCluster

__all__ = ["DEADLINE_S", "over_streams"]

DEADLINE_S: Final = 90.0
"""A node is replaced two seconds after it died, unless the machine is busy."""


def over_streams(cluster: RedisCluster) -> str:
    """Return the URL of a cluster's streams."""
    return cluster.url.replace("://", "+streams://", 1)
