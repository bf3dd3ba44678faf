"""Redis and Valkey transport for Backplane."""

from backplane_redis.backplane import RedisBackplane
from backplane_redis.cluster import ClusterTransport
from backplane_redis.sentinel import SentinelTransport
from backplane_redis.transport import RedisTransport

__all__ = ["ClusterTransport", "RedisBackplane", "RedisTransport", "SentinelTransport"]
