from __future__ import annotations

from tests.product.core.conftest import fleet, routing

__all__ = ["fleet", "routing"]
