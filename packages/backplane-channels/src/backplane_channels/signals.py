"""Django signals of the channel layer: `gap_reported`."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal  # type: ignore[import-untyped]  # it has no py.typed

__all__ = ["gap_reported"]

gap_reported: Final = Signal()
"""Sent when this process may have missed messages: `sender` is the layer's class, `layer` the layer, `gap` the
`backplane_core.Gap`. A receiver must be a plain function that does not block: it is called in the event loop."""
