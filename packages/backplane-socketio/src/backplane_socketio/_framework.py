"""What this package builds on in python-socketio, which has no types of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backplane_socketio.json_module import JsonModule

__all__ = ["AsyncPubSubManager", "AsyncRedisManager", "BaseManager", "PubSubManager", "RedisManager"]


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from logging import Logger

    class BaseManager:
        """What a server keeps of its clients."""

        json: JsonModule
        server: Any
        logger: Logger | None
        channel: str
        write_only: bool
        host_id: str
        rooms: dict[str, dict[str | None, Any]]

        def __init__(self, *, channel: str, write_only: bool, logger: Any, json: Any) -> None: ...  # noqa: ANN401
        def initialize(self) -> None: ...
        def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]: ...  # noqa: ANN401
        def basic_enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None: ...  # noqa: ANN401
        def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None: ...  # noqa: ANN401
        def basic_disconnect(self, sid: str, namespace: str) -> None: ...
        def _get_logger(self) -> Logger: ...
        # What they return is awaited in a loop.
        def _handle_emit(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401
        def _handle_callback(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401
        def _handle_disconnect(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401
        def _handle_enter_room(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401
        def _handle_leave_room(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401
        def _handle_close_room(self, message: dict[str, Any]) -> Any: ...  # noqa: ANN401

    class AsyncPubSubManager(BaseManager):
        """Shares the events of servers in event loops."""

        async def emit(self, event: str, data: Any, namespace: str | None = None, **options: Any) -> None: ...  # noqa: ANN401
        async def pre_connect(self, eio_sid: str, namespace: str) -> str | None: ...
        async def connect(self, sid: str, namespace: str) -> str | None: ...
        async def enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None: ...  # noqa: ANN401
        async def leave_room(self, sid: str, namespace: str, room: Any) -> None: ...  # noqa: ANN401
        async def _publish(self, data: dict[str, Any]) -> None: ...
        def _listen(self) -> AsyncGenerator[dict[str, Any]]: ...
        async def _thread(self) -> None: ...
        async def _handle_emit(self, message: dict[str, Any]) -> None: ...
        async def _handle_callback(self, message: dict[str, Any]) -> None: ...
        async def _handle_disconnect(self, message: dict[str, Any]) -> None: ...
        async def _handle_enter_room(self, message: dict[str, Any]) -> None: ...
        async def _handle_leave_room(self, message: dict[str, Any]) -> None: ...
        async def _handle_close_room(self, message: dict[str, Any]) -> None: ...

    class PubSubManager(BaseManager):
        """Shares the events of servers in threads and greenlets."""

        def emit(self, event: str, data: Any, namespace: str | None = None, **options: Any) -> None: ...  # noqa: ANN401
        def pre_connect(self, eio_sid: str, namespace: str) -> str | None: ...
        def connect(self, sid: str, namespace: str) -> str | None: ...
        def enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None: ...  # noqa: ANN401
        def leave_room(self, sid: str, namespace: str, room: Any) -> None: ...  # noqa: ANN401
        def _publish(self, data: dict[str, Any]) -> None: ...
        def _listen(self) -> Iterator[dict[str, Any]]: ...
        def _thread(self) -> None: ...
        def _handle_emit(self, message: dict[str, Any]) -> None: ...
        def _handle_callback(self, message: dict[str, Any]) -> None: ...
        def _handle_disconnect(self, message: dict[str, Any]) -> None: ...
        def _handle_enter_room(self, message: dict[str, Any]) -> None: ...
        def _handle_leave_room(self, message: dict[str, Any]) -> None: ...
        def _handle_close_room(self, message: dict[str, Any]) -> None: ...

    class AsyncRedisManager(AsyncPubSubManager):
        """Shares them over Redis."""

        redis: Any
        pubsub: Any

        def __init__(self, url: str, *, channel: str, redis_options: dict[str, Any]) -> None: ...
        def _redis_connect(self) -> None: ...

    class RedisManager(PubSubManager):
        """Shares them over Redis."""

        redis: Any
        pubsub: Any
        connected: bool

        def __init__(
            self, url: str, *, channel: str, write_only: bool = False, redis_options: dict[str, Any]
        ) -> None: ...
        def _redis_connect(self) -> None: ...
else:
    from socketio import AsyncRedisManager, PubSubManager, RedisManager
    from socketio.async_pubsub_manager import AsyncPubSubManager
    from socketio.base_manager import BaseManager
