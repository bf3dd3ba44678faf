"""`--http tests.product.asgi.on_h11:PreparedHttpProtocol`: the protocol as it is where httptools is not installed."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final, cast

sys.modules["httptools"] = cast("Any", None)  # Python's way to say that there is none

PreparedHttpProtocol: Final[Any] = import_module("backplane_asgi.uvicorn").PreparedHttpProtocol
assert PreparedHttpProtocol.__mro__[1].__name__ == "H11Protocol"
