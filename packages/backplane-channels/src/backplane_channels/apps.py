"""A Django app that adds the layer's settings to `manage.py check`: add it to `INSTALLED_APPS`."""

from __future__ import annotations

from django.apps import AppConfig  # type: ignore[import-untyped]  # it has no py.typed
from django.core.checks import register  # type: ignore[import-untyped]

from backplane_channels.checks import check_layers

__all__ = ["BackplaneChannelsConfig"]


class BackplaneChannelsConfig(AppConfig):  # type: ignore[misc]  # Django is not typed
    """Registers the check of the layer's settings."""

    name = "backplane_channels"
    verbose_name = "Backplane channel layers"

    def ready(self) -> None:
        """Register the check."""
        register(check_layers, "channels")
