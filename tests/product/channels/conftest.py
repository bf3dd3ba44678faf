from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from backplane_channels import BackplaneChannelLayer
from backplane_testservers import Broker

MakeLayer: TypeAlias = Callable[..., BackplaneChannelLayer]


@pytest.fixture
def url(shared_broker: Broker) -> str:
    return shared_broker.url


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def layers(leaves_nothing: None, url: str, routing: str) -> AsyncIterator[MakeLayer]:
    """Makes layers that hear each other, each as in a process of its own; closes them."""
    prefix = f"t-{uuid.uuid4().hex}"
    async with AsyncExitStack() as stack:

        def make(**config: Any) -> BackplaneChannelLayer:
            options: dict[str, Any] = {"url": url, "prefix": prefix, "routing": routing, **config}
            layer = BackplaneChannelLayer(**options)
            stack.push_async_callback(layer.close)
            return layer

        yield make


@pytest.fixture
def here(layers: MakeLayer) -> BackplaneChannelLayer:
    return layers()


@pytest.fixture
def there(layers: MakeLayer) -> BackplaneChannelLayer:
    return layers()
