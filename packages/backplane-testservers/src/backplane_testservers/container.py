"""A broker in a container, for machines that have a Docker engine and no server: `ContainerBroker`."""

from __future__ import annotations

import gc
import socket
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from backplane_testservers.broker import BrokerFailed, Kind, OwnBroker
from backplane_testservers.ports import free_port
from backplane_testservers.process import START_TIMEOUT_S

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

__all__ = ["ContainerBroker", "is_docker_available"]

_INNER_PORTS: dict[Kind, int] = {"redis": 6379, "nats": 4222}


def is_docker_available() -> bool:
    """Return whether a Docker engine responds within two seconds."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 -- untyped; 0.2 s, for the last resort alone

    with warnings.catch_warnings():
        # The client leaves its socket to the garbage collector when no engine responds.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client: Any = docker.from_env(timeout=2)
            try:
                return bool(client.ping())
            finally:
                client.close()
        except Exception:  # noqa: BLE001 -- no socket, no permission, a bad DOCKER_HOST: there is no engine
            return False
        finally:
            gc.collect()


@define(kw_only=True, eq=False)
class ContainerBroker(OwnBroker):
    """A broker in a container of its own, without options: those need a server on this machine."""

    _kind: Kind = field(alias="kind")
    image: str
    _container: DockerContainer | None = field(default=None, init=False, repr=False)
    _host: str | None = field(default=None, init=False, repr=False)
    _port: int | None = field(default=None, init=False, repr=False)

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def source(self) -> str:
        return f"container of {self.image}"

    @property
    def url(self) -> str:
        return f"{self.kind}://{self.host}:{self.port}"

    @property
    def host(self) -> str:
        if self._host is None:
            raise RuntimeError(f"the {self.kind} container has no host before its first start")
        return self._host

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"the {self.kind} container has no port before its first start")
        return self._port

    @property
    def pid(self) -> int:
        wrapped = self._wrapped()
        wrapped.reload()
        pid = int(wrapped.attrs["State"]["Pid"])
        if not pid:
            raise RuntimeError(f"the {self.kind} container is not running")
        return pid

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        wrapped = self._wrapped()
        wrapped.reload()
        return bool(wrapped.attrs["State"]["Running"])

    def start(self) -> None:
        try:
            with _quiet_testcontainers():
                self._start()
            self._keep_no_connection()
        except Exception as error:
            self.close()
            raise BrokerFailed(f"{self.image} did not start: {error}") from error

    def _start(self) -> None:
        inner = _INNER_PORTS[self.kind]
        if self._container is None:
            # A port that Docker chooses would be a different one after a restart.
            self._container = _new_container(self.kind, self.image)
            self._container.with_bind_ports(inner, free_port("0.0.0.0")).start()
        else:
            self._wrapped().start()
        self._host = self._container.get_container_host_ip()
        # Not the bound port where containers are reached by their own address.
        self._port = self._container.get_exposed_port(inner)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _replies(self._host, self._port):
            if time.monotonic() > deadline:
                raise BrokerFailed(f"it did not reply on port {self._port} within {START_TIMEOUT_S:g} s")
            time.sleep(0.02)

    def _keep_no_connection(self) -> None:
        """Keep no connection to the engine between calls: tests that look for leftovers would find it."""
        assert self._container is not None
        client = self._container.get_docker_client().client
        client.close()
        client.api.headers["Connection"] = "close"
        # testcontainers makes further clients, and leaves them in reference cycles.
        gc.collect()

    def stop(self) -> None:
        if self.running:
            self.thaw()
            self._wrapped().stop(timeout=5)

    def kill(self) -> None:
        if self.running:
            # A paused container may not handle a signal.
            self.thaw()
            self._wrapped().kill()
            self._wrapped().wait()

    def freeze(self) -> None:
        self._wrapped().pause()

    def thaw(self) -> None:
        wrapped = self._wrapped()
        wrapped.reload()
        if wrapped.attrs["State"]["Paused"]:
            wrapped.unpause()

    def close(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def _wrapped(self) -> Any:  # docker ships no types
        if self._container is None:
            raise RuntimeError(f"the {self.kind} container is not running")
        return self._container.get_wrapped_container()


def _replies(host: str, port: int) -> bool:
    # Docker's proxy accepts connections before the server does, so only bytes are proof. NATS greets by itself.
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return bool(probe.recv(1))
    except OSError:
        return False


def _new_container(kind: Kind, image: str) -> DockerContainer:
    if kind == "redis":
        from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 -- as above

        return RedisContainer(image)
    from testcontainers.community.nats import NatsContainer  # noqa: PLC0415 -- as above

    return NatsContainer(image)


@contextmanager
def _quiet_testcontainers() -> Generator[None]:
    # testcontainers 4.15 uses its own deprecated helpers, the NATS module on import already.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
