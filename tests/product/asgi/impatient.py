"""`--http tests.product.asgi.impatient:PreparedHttpProtocol`: with so little patience that a test sees it."""

from __future__ import annotations

from typing import ClassVar

from backplane_asgi.uvicorn import PreparedHttpProtocol as Patient


class PreparedHttpProtocol(Patient):
    head_s: ClassVar = 0.5
