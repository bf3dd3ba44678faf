"""Redis and Valkey transport for Backplane."""

from typing import TYPE_CHECKING

from backplane_redis.backplane import RedisBackplane
from backplane_redis.cluster import ClusterTransport
from backplane_redis.cluster_streams import ClusterStreamsTransport
from backplane_redis.sentinel import SentinelTransport
from backplane_redis.sentinel_streams import SentinelStreamsTransport
from backplane_redis.streams import StreamsTransport
from backplane_redis.transport import RedisTransport

__all__ = [
    "ClusterStreamsTransport",
    "ClusterTransport",
    "RedisBackplane",
    "RedisTransport",
    "SentinelStreamsTransport",
    "SentinelTransport",
    "StreamsTransport",
]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-redis")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
