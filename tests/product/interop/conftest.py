from __future__ import annotations

from tests.product.core.conftest import fleet, hypothesis_profile, routing

__all__ = ["fleet", "hypothesis_profile", "routing"]
