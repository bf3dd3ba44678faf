"""Imports point one way: adapters use core's public names, core knows no adapter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import backplane_asgi
import backplane_channels
import backplane_core
import backplane_core.otel
import backplane_core.sockets
import backplane_core.testing
import backplane_litestar
import backplane_nats
import backplane_redis
import backplane_server
import backplane_socketio
import pytest

ROOT = Path(__file__).parents[3]
CORE = sorted(ROOT.glob("packages/backplane-core/src/**/*.py"))
ADAPTERS = sorted(
    path
    for pattern in ("adapters/*/src/**/*.py", "packages/*/src/**/*.py")
    for path in ROOT.glob(pattern)
    if path not in CORE and "backplane-testservers" not in path.parts
)
"""Of whatever is built on core: adapters below its seam, and packages above it."""
FACES: dict[str, ModuleType] = {it.__name__: it for it in (backplane_core, backplane_core.otel, backplane_core.sockets)}


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each imported module, and the names taken from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or "", [alias.name for alias in node.names]


def test_there_is_something_to_look_at() -> None:
    assert len(CORE) > 20
    assert len(ADAPTERS) > 6


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_built_on_core_imports_only_public_names_of_core(path: Path) -> None:
    for module, names in imports(path):
        if module.split(".")[0] == "backplane_core":
            assert module in FACES, f"{module} is not a public face"
            assert set(names) <= set(FACES[module].__all__)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT / "packages/backplane-core/src")))
def test_core_imports_no_adapter_and_no_client(path: Path) -> None:
    for module, _ in imports(path):
        assert module.split(".")[0] not in {
            "backplane_redis",
            "backplane_nats",
            "backplane_asgi",
            "backplane_litestar",
            "backplane_server",
            "backplane_socketio",
            "redis",
            "nats",
            "hiredis",
        }


@pytest.mark.parametrize(
    "package",
    [
        *FACES.values(),
        backplane_core.testing,
        backplane_redis,
        backplane_nats,
        backplane_asgi,
        backplane_channels,
        backplane_litestar,
        backplane_server,
        backplane_socketio,
    ],
    ids=lambda it: it.__name__,
)
def test_public_names_are_listed_in_order_and_there(package: ModuleType) -> None:
    names: list[str] = package.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(package, name).__doc__ or name in {
            "ASGIApp",
            "Authenticate",
            "CloseCallback",
            "Conflate",
            "Excluded",
            "Frame",
            "GapCallback",
            "GapCause",
            "Message",
            "Observer",
            "OnGap",
            "OutboxOverflow",
            "Overflow",
            "Receive",
            "Record",
            "RoutingName",
            "Scope",
            "Send",
            "Sink",
            "SocketOverflow",
            "State",
        }
