"""The check of the layers in the settings, for `manage.py check`."""

from __future__ import annotations

from typing import Any

from backplane_core import BackplaneError
from django.conf import settings  # type: ignore[import-untyped]  # it has no py.typed
from django.core.checks import CheckMessage, Error, Warning  # type: ignore[import-untyped]  # noqa: A004 -- Django's name
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from backplane_channels.config import IGNORED, ignored_text
from backplane_channels.layer import BackplaneChannelLayer

__all__ = ["check_layers"]


def check_layers(app_configs: object = None, **_: object) -> list[CheckMessage]:  # noqa: ARG001 -- Django passes it
    """Return what is wrong with the settings of each `BackplaneChannelLayer`; open no connection.

    Args:
        app_configs: Ignored.
    """
    found: list[CheckMessage] = []
    layers: dict[str, dict[str, Any]] = getattr(settings, "CHANNEL_LAYERS", {})
    for alias, layer in layers.items():
        try:
            backend = import_string(layer.get("BACKEND", ""))
        except ImportError:  # Channels reports it once the layer is used
            continue
        if isinstance(backend, type) and issubclass(backend, BackplaneChannelLayer):
            found += _check(alias, backend, layer.get("CONFIG", {}))
    return found


def _check(alias: str, backend: type[BackplaneChannelLayer], config: dict[str, Any]) -> list[CheckMessage]:
    where = f"CHANNEL_LAYERS[{alias!r}]"
    ignored = [name for name in IGNORED if name in config]
    found: list[CheckMessage] = []
    if ignored:
        found.append(Warning(f"{where}: {ignored_text(ignored)}", id="backplane_channels.W001"))
    try:
        backend(**{name: value for name, value in config.items() if name not in IGNORED})
    except (BackplaneError, TypeError) as error:
        found.append(Error(f"{where}: {error}", id="backplane_channels.E001"))
    return found
