"""A Django app, for those who want `manage.py check` to look at the layer's settings: add it to `INSTALLED_APPS`."""

from __future__ import annotations

from django.apps import AppConfig  # type: ignore[import-untyped]  # it has no py.typed
from django.core.checks import register  # type: ignore[import-untyped]

from backplane_channels.checks import check_layers

__all__ = ["BackplaneChannelsConfig"]


class BackplaneChannelsConfig(AppConfig):  # type: ignore[misc]  # Django is not typed
    """Registers the check."""

    name = "backplane_channels"
    verbose_name = "Backplane channel layers"

    def ready(self) -> None:
        """Register the check."""
        register(check_layers, "channels")
