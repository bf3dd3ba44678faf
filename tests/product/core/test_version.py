"""Each distribution says which version of it is installed."""

from __future__ import annotations

from importlib.metadata import version
from types import ModuleType

import backplane_asgi
import backplane_channels
import backplane_core
import backplane_litestar
import backplane_nats
import backplane_redis
import backplane_server
import backplane_socketio
import pytest

DISTRIBUTIONS = {
    "backplane-core": backplane_core,
    "backplane-redis": backplane_redis,
    "backplane-nats": backplane_nats,
    "backplane-asgi": backplane_asgi,
    "backplane-channels": backplane_channels,
    "backplane-litestar": backplane_litestar,
    "backplane-server": backplane_server,
    "backplane-socketio": backplane_socketio,
}


@pytest.mark.parametrize(("name", "package"), DISTRIBUTIONS.items())
def test_the_version_is_that_of_the_installed_distribution(name: str, package: ModuleType) -> None:
    assert package.__version__ == version(name)
    assert "__version__" not in vars(package), "it is read when it is asked for, not by every import"


@pytest.mark.parametrize("package", DISTRIBUTIONS.values())
def test_any_other_name_that_is_not_there_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"{package.__name__}.*'versoin'"):
        _ = package.versoin
